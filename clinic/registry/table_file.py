"""Closures in a table (CSV), as a person makes it with a spreadsheet.

Its first line names the columns ``from``, ``to`` and ``reason``, and, if there are any, ``office``,
``doctor`` and ``id``, in any order. Days are both included; a time is the one up to which it lasts.
A row with an ``id`` is the same closure in every later version of the file; without one it is known
by whose it is, and by its ``from`` and ``to``.
"""

import csv
import datetime
import re
import zoneinfo
from collections.abc import Iterator, Mapping

from pydantic_core import PydanticCustomError

from clinic.database import wall_clock_text
from clinic.registry.closure_file import (
    MOST_WRONG,
    Contents,
    Entry,
    Origin,
    WrongLine,
    check_number,
    check_span,
    lines_of,
    midnight,
    read_reason,
    window_of,
)
from clinic.registry.names import OneLine
from clinic.registry.timetable import DAY, Span
from clinic.registry.wall_clock import read_wall_clock

KIND = "csv"
NEEDED = ("from", "to", "reason")
ALLOWED = (*NEEDED, "office", "doctor", "id")
DELIMITERS = ",;\t"
DAY_FORM = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
# A time without its seconds, as people write it.
TIME_FORM = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}.*")
ADVICE = "must be a day such as 2027-12-25, or a time such as 2027-12-24T14:00"
NAMES = {"office": OneLine(50), "doctor": OneLine(200), "id": OneLine(300)}

Row = Mapping[str, str]


def read_table(data: bytes, zone: zoneinfo.ZoneInfo, today: datetime.date) -> Contents:
    """Return the closures in a table, for a clinic in this zone; see ``closure_file``."""
    found = Contents(window_of(today))
    try:
        for line, row in _rows(lines_of(data)):
            try:
                found.entries.append(_entry(line, row, zone))
            except WrongLine as error:
                found.wrong.append(error.wrong)
            if len(found.wrong) == MOST_WRONG:
                break
            check_number(found.entries)
    except WrongLine as error:
        found.wrong.append(error.wrong)
    return found


def _rows(lines: list[str]) -> Iterator[tuple[int, Row]]:
    """Yield the rows with the numbers of their lines.

    Raises:
        WrongLine: the first line does not name the columns, or a row has others.
    """
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    header = lines[first] if lines else ""
    delimiter = max(DELIMITERS, key=header.count)
    names = [one.strip().strip('"').strip().lower() for one in header.split(delimiter)]
    missing = [one for one in NEEDED if one not in names]
    unknown = [one for one in names if one not in ALLOWED]
    if missing or unknown or len(set(names)) < len(names):
        raise WrongLine(
            first + 1,
            "must name the columns from, to and reason, and office, doctor and id if you like, "
            "each once, with commas, semicolons or tabs between them",
        )
    reader = csv.reader(
        [f"{line}\n" for line in lines[first + 1 :]], delimiter=delimiter, strict=True
    )
    before = first + 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise WrongLine(before + 1, f"cannot be read as CSV: {error}") from None
        line, before = before + 1, first + 1 + reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
            raise WrongLine(
                line,
                "has more columns than the first line: put quotation marks around a text "
                f"that has {NAMED[delimiter]} in it",
            )
        yield line, {name: cell.strip() for name, cell in zip(names, cells, strict=False)}


NAMED = {",": "commas", ";": "semicolons", "\t": "tabs"}


def _entry(line: int, row: Row, zone: zoneinfo.ZoneInfo) -> Entry:
    span = check_span(_time(line, "from", row, zone), _time(line, "to", row, zone), line)
    reason = read_reason(row.get("reason", ""), line)
    office, doctor, uid = (_name(line, one, row) for one in ("office", "doctor", "id"))
    return Entry(line, _origin(uid, span), span, reason, office, doctor)


def _origin(uid: str | None, span: Span) -> Origin:
    if uid is not None:
        return Origin(KIND, uid)
    return Origin(KIND, "", f"{wall_clock_text(span.begins)}/{wall_clock_text(span.ends)}")


def _time(line: int, column: str, row: Row, zone: zoneinfo.ZoneInfo) -> datetime.datetime:
    text = row.get(column, "")
    if not text:
        detail = "the day or time at which it ends" if column == "to" else "when it begins"
        raise WrongLine(line, f"{column} is empty: write {detail}")
    if DAY_FORM.fullmatch(text):
        try:
            day = midnight(datetime.date.fromisoformat(text))
        except ValueError:
            raise WrongLine(line, f"{column}: there is no such day") from None
        return day + DAY if column == "to" else day
    if not TIME_FORM.fullmatch(text):
        raise WrongLine(line, f"{column} {ADVICE}")
    try:
        return read_wall_clock(text, zone)
    except ValueError as error:
        raise WrongLine(line, f"{column} {error}") from None


def _name(line: int, column: str, row: Row) -> str | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        return NAMES[column].tidy(text)
    except PydanticCustomError as error:
        raise WrongLine(line, f"{column} {error.message()}") from None
