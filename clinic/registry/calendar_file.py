"""Closures in an iCalendar file (RFC 5545), as public holidays are published.

An event is a closure: from DTSTART up to DTEND, or for a DURATION, or for the day; its SUMMARY is
the reason. Its UID says which one it is in a later version of the file.
"""

import contextlib
import datetime
import warnings
import zoneinfo
from collections import defaultdict
from collections.abc import Iterator, Sequence

from clinic.registry.calendar_events import LONGEST_UID, Event, events_of, parse, text_of
from clinic.registry.closure_file import (
    MOST_CLOSURES,
    MOST_WRONG,
    OUT_OF_RANGE,
    Contents,
    Entry,
    Origin,
    Wrong,
    WrongLine,
    check_number,
    check_span,
    midnight,
    read_reason,
    window_of,
)
from clinic.registry.recurrence import MOST_RULES, naive, name_of, occurrences
from clinic.registry.timetable import DAY, Span
from clinic.registry.wall_clock import exists

KIND = "ics"


def is_calendar(data: bytes) -> bool:
    """Tell whether a file is an iCalendar file, by how it begins."""
    begin = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:15]
    return begin.upper() == b"BEGIN:VCALENDAR"


def read_calendar(data: bytes, zone: zoneinfo.ZoneInfo, today: datetime.date) -> Contents:
    """Return the closures in a calendar, for a clinic in this zone; see ``closure_file``."""
    found = Contents(window_of(today))
    with warnings.catch_warnings():
        # icalendar says so when it has to guess a time zone, and guesses right.
        warnings.simplefilter("ignore")
        try:
            events = events_of(data)
        except WrongLine as error:
            found.wrong.append(error.wrong)
            return found
        whole: list[Event] = []
        for event in events:
            try:
                parse(event)
            except WrongLine as error:
                found.wrong.append(error.wrong)
            else:
                whole.append(event)
        recurring = [event for event in whole if "RRULE" in event.read]
        if len(recurring) > MOST_RULES:
            detail = f"is one too many that recurs: divide the file, at {MOST_RULES} of them"
            found.wrong.append(Wrong(recurring[MOST_RULES].line, detail))
            return found
        found.recurs = bool(recurring)
        for those in _by_uid(whole).values():
            if len(found.entries) <= MOST_CLOSURES:
                _read_those(those, zone, found)
    found.entries.sort(key=lambda one: (one.span, one.line))
    found.wrong.sort(key=lambda one: one.line)
    del found.wrong[MOST_WRONG:]
    return found


def _read_those(events: Sequence[Event], zone: zoneinfo.ZoneInfo, found: Contents) -> None:
    """Read the events of one UID."""
    uid = text_of(events[0], "UID")
    if uid:
        found.uids.add(uid)
    masters = [event for event in events if "RECURRENCE-ID" not in event.read]
    # The same event again, in a later version: RFC 5545, 3.8.7.4.
    latest = max((_sequence(event) for event in masters), default=0)
    masters = [event for event in masters if _sequence(event) == latest]
    for event in events:
        found.cancelled += _cancelled(event)
    entries: dict[Origin, Entry] = {}
    for event in masters:
        with _noting(found.wrong):
            for entry in _entries(event, uid, zone, found.window, alone=len(masters) == 1):
                entries[entry.origin] = entry
    for event in events:
        if "RECURRENCE-ID" in event.read:
            with _noting(found.wrong):
                _replace(event, uid, zone, entries)
    found.entries += entries.values()
    with _noting(found.wrong):
        check_number(found.entries)


@contextlib.contextmanager
def _noting(wrong: list[Wrong]) -> Iterator[None]:
    try:
        yield
    except WrongLine as error:
        if error.wrong not in wrong:
            wrong.append(error.wrong)


def _by_uid(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Return the events of each UID; one without a UID is alone."""
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[text_of(event, "UID") or f"\n{event.line}"].append(event)
    return found


def _sequence(event: Event) -> int:
    return int(event.read.get("SEQUENCE", 0))


def _cancelled(event: Event) -> bool:
    return text_of(event, "STATUS").upper() == "CANCELLED"


def _entries(
    event: Event, uid: str, zone: zoneinfo.ZoneInfo, window: Span, *, alone: bool
) -> Iterator[Entry]:
    """Yield the closures that an event is: one, or each time that it recurs within the window."""
    if _cancelled(event):
        return
    start = _start(event)
    reason = _reason(event)
    uid = uid or f"{reason} {start}"[:LONGEST_UID]
    if "RRULE" not in event.read:
        occurrence = "" if alone else name_of(start)
        yield Entry(event.line, Origin(KIND, uid, occurrence), _span(event, start, zone), reason)
        return
    for begins in occurrences(event, start, window):
        span = _span(event, begins, zone)
        yield Entry(event.line, Origin(KIND, uid, name_of(begins)), span, reason)


def _replace(event: Event, uid: str, zone: zoneinfo.ZoneInfo, entries: dict[Origin, Entry]) -> None:
    """Put an event in the place of one time that another one recurs (RECURRENCE-ID)."""
    start = _start(event)
    instead = _known_zone(event, "RECURRENCE-ID")
    if isinstance(start, datetime.datetime):
        instead = naive(instead, start)
    origin = Origin(KIND, uid, name_of(instead))
    entries.pop(origin, None)
    if not _cancelled(event):
        entries[origin] = Entry(event.line, origin, _span(event, start, zone), _reason(event))


def _reason(event: Event) -> str:
    if "SUMMARY" not in event.read:
        raise event.wrong("SUMMARY", "this event has no SUMMARY, which is the closure's reason")
    return read_reason(text_of(event, "SUMMARY"), event.of("SUMMARY"))


def _start(event: Event) -> datetime.date:
    if "DTSTART" not in event.read:
        raise event.wrong("DTSTART", "this event has no DTSTART: say when it begins")
    return _known_zone(event, "DTSTART")


def _known_zone(event: Event, name: str) -> datetime.date:
    """Return a day or a time, which has no zone only if the file says none."""
    read = event.read[name]
    value: object = getattr(read, "dt", None)
    if not isinstance(value, datetime.date):
        raise event.wrong(name, f"{name} must be a day or a time")
    zone = read.params.get("TZID")
    if isinstance(value, datetime.datetime) and value.tzinfo is None and zone:
        raise event.wrong(name, f"{zone!r} is no time zone: write one such as Europe/Berlin")
    return value


def _span(event: Event, start: datetime.date, zone: zoneinfo.ZoneInfo) -> Span:
    """Return from when until when an event lasts that begins then, in the clinic's zone.

    Raises:
        WrongLine: it has no such times.
    """
    try:
        return _lasting(event, start, zone)
    except OverflowError:
        raise event.wrong("DTSTART", OUT_OF_RANGE) from None


def _lasting(event: Event, start: datetime.date, zone: zoneinfo.ZoneInfo) -> Span:
    first = _known_zone(event, "DTSTART")
    if "DTEND" in event.read:
        last = _known_zone(event, "DTEND")
        if isinstance(first, datetime.datetime) != isinstance(last, datetime.datetime):
            raise event.wrong("DTEND", "DTEND must be a day where DTSTART is one, or else a time")
        # Some programs write the day itself as the end of a day.
        ends = start + DAY if last == first and not isinstance(first, datetime.datetime) else None
        if ends is None:
            ends = last if start == first else _later(start, _length(first, last))
        which = "DTEND"
    elif "DURATION" in event.read:
        which = "DURATION"
        length: object = getattr(event.read[which], "dt", None)
        if not isinstance(length, datetime.timedelta):
            raise event.wrong(which, "DURATION must be a length such as P1D or PT4H")
        ends = _later(start, length)
    elif isinstance(start, datetime.datetime):
        raise event.wrong("DTSTART", "this event has no end: give it a DTEND or a DURATION")
    else:
        ends, which = start + DAY, "DTSTART"
    return check_span(
        _wall_clock(event, "DTSTART", start, zone),
        _wall_clock(event, which, ends, zone),
        event.of(which),
    )


def _length(first: datetime.date, last: datetime.date) -> datetime.timedelta:
    if isinstance(first, datetime.datetime) and isinstance(last, datetime.datetime):
        if (first.tzinfo is None) == (last.tzinfo is None):
            return last - first
        return last.replace(tzinfo=None) - first.replace(tzinfo=None)
    return last - first


def _later(start: datetime.date, length: datetime.timedelta) -> datetime.date:
    """Return the time after a length: days on the clocks, the rest as it passes.

    See RFC 5545, 3.3.6.
    """
    days, rest = datetime.timedelta(length.days), datetime.timedelta(seconds=length.seconds)
    if not isinstance(start, datetime.datetime):
        # A part of a day is a day on which it is closed.
        return start + days + (DAY if rest else datetime.timedelta())
    if start.tzinfo is None:
        return start + length
    return ((start + days).astimezone(datetime.UTC) + rest).astimezone(start.tzinfo)


def _wall_clock(
    event: Event, name: str, time: datetime.date, zone: zoneinfo.ZoneInfo
) -> datetime.datetime:
    """Return a day or a time as wall-clock time of the clinic.

    Raises:
        WrongLine: the clinic's clocks skip it, or show it twice and it is the second.
    """
    if not isinstance(time, datetime.datetime):
        return midnight(time)
    if time.tzinfo is not None:
        time = time.astimezone(zone).replace(tzinfo=None)
    if time.fold:
        raise event.wrong(
            name,
            f"is the second {time:%H:%M} of that night in {zone.key}, whose clocks go back; take "
            "another time",
        )
    if not exists(time, zone):
        raise event.wrong(
            name,
            f"{time:%Y-%m-%d %H:%M} is skipped by the clocks of {zone.key}, which go forward over "
            "it: take another time",
        )
    return time
