"""When an event of an iCalendar file recurs."""

import contextlib
import datetime
from collections.abc import Iterator

from clinic.registry.calendar_events import Event
from clinic.registry.closure_file import midnight
from clinic.registry.timetable import Span

# To expand a rule that never comes true takes a third of a second.
MOST_RULES = 100
# dateutil would look for ever for what recurs after no time.
MOST_INTERVAL = 100
# In a rule they would make many times of one day.
TIMES_OF_DAY = {"BYHOUR", "BYMINUTE", "BYSECOND"}


def occurrences(event: Event, start: datetime.date, window: Span) -> Iterator[datetime.date]:
    """Yield when an event recurs within the window.

    Raises:
        WrongLine: it does not recur yearly, or its rule means nothing.
    """
    from dateutil.rrule import rrulestr  # noqa: PLC0415 - a start needs none of it

    rule = event.read["RRULE"].copy()
    yearly = [str(one).upper() for one in rule.get("FREQ", [])] == ["YEARLY"]
    if not yearly or rule.keys() & TIMES_OF_DAY:
        raise event.wrong(
            "RRULE",
            "only FREQ=YEARLY is read, without times of day: give each day an event of its own, or "
            "set weekly hours",
        )
    if not all(1 <= one <= MOST_INTERVAL for one in rule.get("INTERVAL", [1])):
        raise event.wrong("RRULE", f"INTERVAL must be a number of years from 1 to {MOST_INTERVAL}")
    # dateutil wants it in UTC or not, as DTSTART is, and calendars do not keep to that.
    until = rule.pop("UNTIL", [None])[0]
    first = naive(start, start)
    try:
        recurring = rrulestr(rule.to_ical().decode(), dtstart=first)
        times = recurring.between(window.begins, window.ends, inc=True)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise event.wrong("RRULE", f"RRULE cannot be read: {error}") from None
    excluded = {naive(one, start) for one in _excluded(event)}
    for time in times:
        if time < window.ends and time not in excluded and not _is_over(time, until, start):
            if isinstance(start, datetime.datetime):
                yield time.replace(tzinfo=start.tzinfo)
            else:
                yield time.date()


def _excluded(event: Event) -> Iterator[datetime.date]:
    found = event.read.get("EXDATE", [])
    for several in found if isinstance(found, list) else [found]:
        for one in several.dts:
            if not isinstance(one.dt, datetime.date):
                raise event.wrong("EXDATE", "EXDATE must be a day or a time")
            yield one.dt


def naive(time: datetime.date, start: datetime.date) -> datetime.datetime:
    """Return a time as the clocks show it where an event begins."""
    if not isinstance(time, datetime.datetime):
        return midnight(time)
    if time.tzinfo is not None and isinstance(start, datetime.datetime) and start.tzinfo:
        # The end of the year 9999, which some write for "always", has no later time.
        with contextlib.suppress(OverflowError):
            time = time.astimezone(start.tzinfo)
    return time.replace(tzinfo=None)


def _is_over(time: datetime.datetime, until: datetime.date | None, start: datetime.date) -> bool:
    if until is None:
        return False
    if not isinstance(until, datetime.datetime):
        return time.date() > until
    return time > naive(until, start)


def name_of(time: datetime.date) -> str:
    """Return what names one time that an event recurs; it is the same wherever it is read."""
    return (
        time.replace(tzinfo=None).isoformat()
        if isinstance(time, datetime.datetime)
        else time.isoformat()
    )
