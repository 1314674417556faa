"""The clinic's wall-clock time: 15:30 stays 15:30, whatever its zone does to its clocks.

The book holds a wall-clock time without an offset, so it holds each time of a day once. Of an hour
that the clocks repeat when they go back it holds the first pass only.
"""

import datetime
import re
import zoneinfo
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError


def _form(dash: str, colon: str) -> str:
    """Return the pattern of a date and time (ISO 8601-1) with these separators.

    Zeros beyond microseconds are taken, because .NET and Java write seven or nine digits; other
    digits there are not, because they would be lost.
    """
    return (
        f"([0-9]{{4}}){dash}(0[1-9]|1[0-2]){dash}([0-2][0-9]|3[01])"
        f"[Tt ]([01][0-9]|2[0-3]){colon}([0-5][0-9])"
        f"(?:{colon}([0-5][0-9])(?:[.,]([0-9]{{1,6}})0{{0,6}})?)?"
        "([Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?"
    )


EXTENDED = re.compile(_form("-", ":"))
BASIC = re.compile(_form("", ""))
ADVICE = (
    "must be a date and time such as 2025-12-01T15:30:00, from 00:00 to 23:59, or with an offset "
    "such as 2025-12-01T15:30:00+03:00"
)
# Nobody books outside of these years; a year far off is a slip of the finger.
FIRST_YEAR, LAST_YEAR = 1900, 2199

SECOND = datetime.timedelta(seconds=1)


def read_wall_clock(text: str, zone: zoneinfo.ZoneInfo) -> datetime.datetime:
    """Return a time that a client wrote as wall-clock time in the zone, without an offset.

    A text with an offset is converted to the zone; one without is wall-clock time already, and in
    an hour that the clocks repeat it means the first pass. ``datetime.fromisoformat`` gets one form
    only, because from one Python to the next it takes more (24:00 since 3.14).

    Raises:
        ValueError: it is no date and time, or none that the book can hold: one that the zone's
            clocks skip, or one of the second pass of an hour that they repeat.
    """
    found = EXTENDED.fullmatch(text) or BASIC.fullmatch(text)
    if not found:
        raise ValueError(ADVICE)
    year, month, day, hour, minute, second, fraction, offset = found.groups("00")
    try:
        time = datetime.datetime.fromisoformat(
            f"{year}-{month}-{day}T{hour}:{minute}:{second}.{fraction:0<6}"
        )
        if offset != "00":
            time = time.replace(tzinfo=_offset(offset)).astimezone(zone).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError("is no date and time that exists") from None
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        raise ValueError(f"must be in the years {FIRST_YEAR} to {LAST_YEAR}")
    if time.fold:
        raise ValueError(
            f"is the second {time:%H:%M} of that night in {zone.key}, whose clocks go back; the "
            "book holds only the first"
        )
    if not exists(time, zone):
        raise ValueError(f"is skipped by the clocks of {zone.key}, which go forward over it")
    return time


def exists(time: datetime.datetime, zone: zoneinfo.ZoneInfo) -> bool:
    """Tell whether the zone's clocks ever show a wall-clock time, whose ``fold`` is 0.

    See PEP 495, "Mind the Gap!": of the two offsets that a time may have, the one by the rule
    before the change is the smaller where clocks go forward, and the larger where they go back.
    """
    before, after = zone.utcoffset(time), zone.utcoffset(time.replace(fold=1))
    return before is None or after is None or before >= after


def moment(time: datetime.datetime, zone: zoneinfo.ZoneInfo) -> datetime.datetime:
    """Return the moment, as aware UTC, at which the zone's clocks first show a wall-clock time."""
    return time.replace(tzinfo=zone).astimezone(datetime.UTC)


def end_of(start: datetime.datetime, minutes: int, zone: zoneinfo.ZoneInfo) -> datetime.datetime:
    """Return the first wall-clock time, real minutes after the start, that can be booked again.

    It is what the clocks show then: an hour from 01:30 ends at 03:30 where they skip 02:00 to
    03:00. Only where they show the second pass of an hour, which the book does not hold, it is the
    time at which that pass ends: an hour from 01:30 ends at 02:00 where they repeat 01:00 to 02:00.
    So two appointments overlap by their wall-clock times just when they overlap in reality.

    It is after the start and at most ``minutes`` and the time that the clocks skip (a day, as in
    Pacific/Apia in 2011) later.
    """
    end = start + datetime.timedelta(minutes=minutes)
    if zone.utcoffset(start) == zone.utcoffset(end) and exists(end, zone):
        return end
    real_end = moment(start, zone) + datetime.timedelta(minutes=minutes)
    end = real_end.astimezone(zone)
    return (_end_of_pass(real_end, zone) if end.fold else end).replace(tzinfo=None)


def start_before(
    end: datetime.datetime, minutes: int, zone: zoneinfo.ZoneInfo
) -> datetime.datetime:
    """Return the wall-clock time ``minutes`` of real time before another, for a buffer.

    Where the clocks then show the second pass of an hour, which the book does not hold, it is the
    same time of the first pass: the buffer is longer, and nothing is lost.
    """
    start = end - datetime.timedelta(minutes=minutes)
    if zone.utcoffset(start) == zone.utcoffset(end) and exists(start, zone):
        return start
    real = moment(end, zone) - datetime.timedelta(minutes=minutes)
    return real.astimezone(zone).replace(tzinfo=None, fold=0)


def _end_of_pass(within: datetime.datetime, zone: zoneinfo.ZoneInfo) -> datetime.datetime:
    """Return when the second pass of an hour ends, given a moment of it, as time of the zone.

    By bisection, in whole seconds: no zone changes within one.
    """
    time = within.replace(microsecond=0)
    step = 1
    while (time + step * SECOND).astimezone(zone).fold:
        step *= 2
    while step:
        if (time + step * SECOND).astimezone(zone).fold:
            time += step * SECOND
        step //= 2
    return (time + SECOND).astimezone(zone)


def _offset(text: str) -> datetime.timezone:
    """Return the offset that is written as Z, +03, +0300 or +03:00."""
    if text in "Zz":
        return datetime.UTC
    digits = text.replace(":", "")
    length = datetime.timedelta(hours=int(digits[1:3]), minutes=int(digits[3:] or 0))
    return datetime.timezone(-length if digits[0] == "-" else length)


def _wall_clock(value: object, info: ValidationInfo) -> datetime.datetime:
    """Return the wall-clock time that a text stands for in the ``zone`` of the context."""
    if not isinstance(value, str):
        raise PydanticCustomError("time_type", "must be a date and time, as text")
    zone: zoneinfo.ZoneInfo = (info.context or {})["zone"]
    try:
        return read_wall_clock(value, zone)
    except ValueError as error:
        raise PydanticCustomError("time", "{reason}", {"reason": str(error)}) from None


# No format "date-time", which asks for an offset.
WallClock = Annotated[
    datetime.datetime,
    BeforeValidator(_wall_clock),
    WithJsonSchema(
        {
            "description": "Wall-clock time such as 2027-12-01T15:30:00; with an offset it is "
            "converted to the clinic's.",
            "type": "string",
            "pattern": f"^(?:{EXTENDED.pattern}|{BASIC.pattern})$",
        }
    ),
]
"""A time as clients write it, read as wall-clock time; needs the ``zone`` in the context."""
