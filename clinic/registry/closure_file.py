"""What a file of closures says, whatever its form; and what is wrong with it, line by line."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic_core import PydanticCustomError

from clinic.registry.names import OneLine
from clinic.registry.timetable import DAY, Span
from clinic.registry.wall_clock import FIRST_YEAR, LAST_YEAR

# The public holidays of a country take some 10 KiB a year.
LARGEST_FILE = 2 * 1024 * 1024
# Each is looked through by every process for every booking of the days around it.
MOST_CLOSURES = 2000
# A file that is none has thousands of wrong lines; nobody reads more than these.
MOST_WRONG = 50
# What recurs is read for this year and the years after it, this many in all.
YEARS = 3

LONGEST_REASON = OneLine(500)
OUT_OF_RANGE = f"must be in the years {FIRST_YEAR} to {LAST_YEAR}"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A line that cannot be read, and what to do about it."""

    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What a closure is in its file: the same one in every later version of it.

    ``kind`` is the form of the file, ``uid`` the closure's name there, and ``occurrence`` which one
    of those that have this name.
    """

    kind: str
    uid: str
    occurrence: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A closure as a file says it; without office and doctor it is the clinic's."""

    line: int
    origin: Origin
    span: Span
    reason: str
    office_number: str | None = None
    doctor_name: str | None = None


@dataclass
class Contents:
    """All that a file says.

    Of each of ``uids`` the ``entries`` are all that begin within ``window``: another one that was
    imported from an earlier version of the file is gone. ``cancelled`` are events that are called
    off; ``recurs`` says that some recur, of which only those within the window are there.
    """

    window: Span
    entries: list[Entry] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)
    uids: set[str] = field(default_factory=set)
    cancelled: int = 0
    recurs: bool = False


class WrongLine(Exception):
    """A line cannot be read; the message says what to do."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(detail)
        self.wrong = Wrong(line, detail)


def window_of(today: datetime.date) -> Span:
    """Return the years for which a file's recurring closures are read."""
    first = datetime.datetime(today.year, 1, 1)  # noqa: DTZ001 - wall-clock time
    return Span(first, first.replace(year=today.year + YEARS))


def lines_of(data: bytes) -> list[str]:
    """Return the lines of a file in UTF-8, with or without a byte order mark.

    Raises:
        WrongLine: one is in another encoding.
    """
    found = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        found.append(decoded(line.removesuffix(b"\r"), number))
    return found


def decoded(line: bytes, number: int) -> str:
    """Return a line as text.

    Raises:
        WrongLine: it is no UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise WrongLine(number, "is not in UTF-8: save the file as UTF-8") from None


def read_reason(text: str, line: int) -> str:
    """Return a reason as it is stored: one line, with single blanks.

    Raises:
        WrongLine: it is empty, too long, or has characters that have no place in it.
    """
    try:
        return reason_of(text)
    except ValueError as error:
        raise WrongLine(line, f"the reason {error}") from None


def reason_of(text: str) -> str:
    """Return a reason as it is stored: one line, with single blanks.

    Raises:
        ValueError: it is empty, too long, or has characters that have no place in it.
    """
    try:
        return LONGEST_REASON.tidy(" ".join(text.split()))
    except PydanticCustomError as error:
        raise ValueError(error.message()) from None


def check_span(begins: datetime.datetime, ends: datetime.datetime, line: int) -> Span:
    """Return a span that ends after it begins, in years in which somebody books.

    Raises:
        WrongLine: it does not.
    """
    if begins >= ends:
        raise WrongLine(line, "ends before it begins, or just then: correct one of the two")
    if begins.year < FIRST_YEAR or ends - DAY >= datetime.datetime(LAST_YEAR + 1, 1, 1):  # noqa: DTZ001
        raise WrongLine(line, OUT_OF_RANGE)
    return Span(begins, ends)


def midnight(day: datetime.date) -> datetime.datetime:
    """Return the wall-clock time at which a day begins, also where the clocks skip it."""
    return datetime.datetime.combine(day, datetime.time())


def check_number(entries: Sequence[Entry]) -> None:
    """Check that a file has no more closures than can be imported at once.

    Raises:
        WrongLine: it has.
    """
    if len(entries) > MOST_CLOSURES:
        detail = f"is one too many: divide the file, at {MOST_CLOSURES} closures"
        raise WrongLine(entries[MOST_CLOSURES].line, detail)
