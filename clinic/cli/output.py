"""What commands print: for people, and as JSON for scripts."""

import sys
import unicodedata
from collections.abc import Iterable, Sequence

from pydantic_core import to_json


def say(text: str) -> None:
    """Print what was asked for."""
    print(text)  # noqa: T201 - for a person or a script, not for the log


def tell(text: str) -> None:
    """Print what a person should know beside it; scripts that read the output do not get it."""
    print(text, file=sys.stderr)  # noqa: T201 - for a person


def as_json(value: object) -> str:
    """Return a value as JSON, indented."""
    return to_json(value, indent=2).decode()


def as_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows with a head as aligned columns; what is None is empty."""
    lines = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )
