"""The clinic's wall-clock time: 15:30 stays 15:30, whatever its zone does to its clocks."""

import datetime
import re
import zoneinfo

# ISO 8601 as RFC 3339 profiles it, with the seconds and the offset left out if one likes.
FORM = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
# Nobody books outside of these years; a year far off is a slip of the finger.
FIRST_YEAR, LAST_YEAR = 1900, 2199


def read_wall_clock(text: str, zone: zoneinfo.ZoneInfo) -> datetime.datetime:
    """Return a time that a client wrote as wall-clock time in the zone, without an offset.

    A text with an offset is converted to the zone; one without is wall-clock time already. Of a
    time that stands twice when clocks go back, the first is meant.

    Raises:
        ValueError: it is no date and time, or one that the zone's clocks skip.
    """
    if not FORM.fullmatch(text):
        raise ValueError("must be a date and time such as 2025-12-01T15:30:00")
    try:
        time = datetime.datetime.fromisoformat(text.upper())
        if time.tzinfo is not None:
            time = time.astimezone(zone).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError("is no date and time that exists") from None
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        raise ValueError(f"must be in the years {FIRST_YEAR} to {LAST_YEAR}")
    if not exists(time, zone):
        raise ValueError(f"is skipped by the clocks of {zone.key}, which go forward over it")
    return time


def exists(time: datetime.datetime, zone: zoneinfo.ZoneInfo) -> bool:
    """Tell whether the zone's clocks ever show a wall-clock time: a skipped one does not come back.

    See PEP 495, "Mind the Gap!": of the two offsets that a time may have, the one by the rule
    before the change is the smaller where clocks go forward, and the larger where they go back.
    """
    before, after = zone.utcoffset(time.replace(fold=0)), zone.utcoffset(time.replace(fold=1))
    return before is None or after is None or before >= after


def end_of(start: datetime.datetime, minutes: int, zone: zoneinfo.ZoneInfo) -> datetime.datetime:
    """Return the wall-clock time that the zone's clocks show so many real minutes after a start.

    Of an hour that the clocks show twice the book holds the first pass only. An end within the
    second pass is therefore the time at which the hour is over: the next one that can be booked.
    """
    begins = start.replace(tzinfo=zone, fold=0).astimezone(datetime.UTC)
    end = (begins + datetime.timedelta(minutes=minutes)).astimezone(zone)
    if not end.fold:
        return end.replace(tzinfo=None)
    before, after = zone.utcoffset(end.replace(fold=0)), zone.utcoffset(end)
    # The end of the repeated hour lies between here and its whole length later.
    earliest, latest = end.replace(tzinfo=None, fold=0), end.replace(tzinfo=None, fold=0)
    if before is not None and after is not None:
        latest += before - after
    while latest - earliest > datetime.timedelta(seconds=1):
        middle = earliest + (latest - earliest) / 2
        if zone.utcoffset(middle) != zone.utcoffset(middle.replace(fold=1)):
            earliest = middle
        else:
            latest = middle
    return latest.replace(microsecond=0)
