"""What commands print: tables for people, JSON for programs, and questions."""

import os
import signal
import sys
import unicodedata
from collections.abc import Collection, Sequence

from pydantic_core import to_json

GAP = "  "


def say(text: str) -> None:
    """Print lines for whoever reads the result."""
    stream = sys.stdout
    encoding = stream.encoding or "utf-8"
    # A terminal of another encoding shows what it cannot write as \\u....
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    try:
        stream.flush()
    except BrokenPipeError:
        # `| head` has read enough. Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise SystemExit(1) from None


def complain(text: str) -> None:
    """Print what went wrong, apart from the result."""
    print(f"clinic: {text}", file=sys.stderr)  # noqa: T201 - for a person, not for the log


def tell(text: str) -> None:
    """Print what a person should know beside the result; who reads the result does not get it."""
    print(text, file=sys.stderr)  # noqa: T201 - for a person, not for the log


def say_json(value: object) -> None:
    """Print a result for programs: one JSON value, in UTF-8."""
    say(to_json(value, indent=2).decode())


def confirmed(question: str) -> bool:
    """Ask on standard error, and tell whether the answer was yes.

    At the end of the input, or after Ctrl-C, it was not.
    """
    # asyncio would take the first Ctrl-C for itself, and go on waiting for an answer.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def can_ask() -> bool:
    """Tell whether somebody is there to answer a question."""
    return sys.stdin.isatty()


def agreed(question: str, *, yes: bool) -> bool:
    """Tell whether a person agrees; ``yes`` says so in advance, as a script has to."""
    if yes:
        return True
    if not can_ask():
        complain(f"{question} Say --yes to do it; nothing was done.")
        return False
    if confirmed(question):
        return True
    tell("Nothing was done.")
    return False


def table(
    header: Sequence[str], rows: Sequence[Sequence[object]], numbers: Collection[str] = ()
) -> str:
    """Return rows as aligned columns below a header; None is an empty cell.

    ``numbers`` are the columns that are aligned to the right.
    """
    cells = [[str("" if cell is None else cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    right = [name in numbers for name in header]
    return "\n".join(
        GAP.join(
            padded(cell, most, right=aligned)
            for cell, most, aligned in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )


def padded(text: str, most: int, *, right: bool = False) -> str:
    """Return a text with as many blanks as it needs to be as wide as ``most``."""
    blanks = " " * (most - width(text))
    return blanks + text if right else text + blanks


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes up.

    Chinese, Japanese and Korean characters take two (https://www.unicode.org/reports/tr11/), marks
    and what nobody sees none.
    """
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 closure, 2 closures."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
