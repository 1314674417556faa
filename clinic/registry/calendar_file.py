"""Closures in an iCalendar file (RFC 5545), as public holidays are published.

An event is a closure: from DTSTART up to DTEND, or for a DURATION, or for the day; its SUMMARY is
the reason. Its UID says which one it is in a later version of the file.
"""

import contextlib
import datetime
import re
import warnings
import zoneinfo
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from clinic.registry.closure_file import (
    MOST_CLOSURES,
    MOST_WRONG,
    Contents,
    Entry,
    Origin,
    Wrong,
    WrongLine,
    check_number,
    check_span,
    decoded,
    midnight,
    read_reason,
    window_of,
)
from clinic.registry.timetable import DAY, Span
from clinic.registry.wall_clock import exists

KIND = "ics"
# A property's name, its parameters, and a colon: https://www.rfc-editor.org/rfc/rfc5545#section-3.1
PROPERTY = re.compile(r"([A-Za-z0-9-]+)([;:])")
# What is read of an event. The rest may be as wrong as it likes.
READ = (
    *("DTSTART", "DTEND", "DURATION", "RRULE", "EXDATE", "RDATE", "RECURRENCE-ID"),
    *("SUMMARY", "UID", "STATUS", "SEQUENCE"),
)
# To expand a rule that never comes true takes a third of a second.
MOST_RULES = 200
# In a rule they would make many times of one day.
TIMES_OF_DAY = {"BYHOUR", "BYMINUTE", "BYSECOND"}
# A UID is kept in the database, and looked up there.
LONGEST_UID = 300

Lines = list[tuple[int, str]]


@dataclass
class _Event:
    """An event of a file: its lines, and what they say."""

    line: int
    lines: Lines
    read: Any = None
    numbers: dict[str, int] = field(default_factory=dict)

    def of(self, name: str) -> int:
        """Return the line of a property, or of the event if it has none."""
        return self.numbers.get(name, self.line)

    def wrong(self, name: str, detail: str) -> WrongLine:
        """Return the refusal because of a property."""
        return WrongLine(self.of(name), detail)


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
            events = _events(data)
        except WrongLine as error:
            found.wrong.append(error.wrong)
            return found
        whole: list[_Event] = []
        for event in events:
            try:
                _parse(event)
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


def _read_those(events: Sequence[_Event], zone: zoneinfo.ZoneInfo, found: Contents) -> None:
    """Read the events of one UID."""
    uid = _text(events[0], "UID")
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


def _events(data: bytes) -> list[_Event]:
    """Return the events of a file, and let icalendar know the time zones that it defines.

    Raises:
        WrongLine: it is not whole, or has too many events.
    """
    events: list[_Event] = []
    zones: list[str] = []
    open_ones: list[tuple[int, str]] = []
    for number, line in _content_lines(data):
        name, _, value = line.upper().partition(":")
        within = [one for _, one in open_ones]
        if name == "BEGIN":
            open_ones.append((number, value.strip()))
            if value.strip() == "VEVENT":
                events.append(_Event(number, []))
        elif name == "END":
            _end(open_ones, number, value.strip())
        elif within[-1:] == ["VEVENT"]:
            events[-1].lines.append((number, line))
        if "VTIMEZONE" in (*within, value.strip()):
            zones.append(line)
    if open_ones:
        number, name = open_ones[-1]
        raise WrongLine(number, f"{name} begins and never ends: the file is cut off; get it again")
    if len(events) > MOST_CLOSURES:
        number = events[MOST_CLOSURES].line
        raise WrongLine(number, f"is one too many: divide the file, at {MOST_CLOSURES} events")
    _define(zones)
    return events


def _end(open_ones: list[tuple[int, str]], number: int, name: str) -> None:
    if not open_ones or open_ones.pop()[1] != name:
        raise WrongLine(number, f"ends {name}, which has not begun: get the file again")


def _define(zones: Sequence[str]) -> None:
    """Let icalendar know the time zones that a file defines."""
    import icalendar  # noqa: PLC0415 - takes as long as all else at a start, and is seldom needed

    if zones:
        # What is wrong there shows at the times that stand in such a zone.
        with contextlib.suppress(ValueError, KeyError, AttributeError):
            icalendar.Calendar.from_ical("\n".join(["BEGIN:VCALENDAR", *zones, "END:VCALENDAR"]))


def _content_lines(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield the unfolded lines, each with the number at which it begins.

    A line may be folded within a character: RFC 5545, 3.1.
    """
    begun, whole = 0, b""
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        text = line.removesuffix(b"\r")
        if text[:1] in (b" ", b"\t") and begun:
            whole += text[1:]
            continue
        if whole.strip():
            yield begun, decoded(whole, begun)
        begun, whole = number, text
    if whole.strip():
        yield begun, decoded(whole, begun)


def _parse(event: _Event) -> None:
    """Let icalendar read an event.

    Raises:
        WrongLine: a property that counts cannot be read, or stands there twice.
    """
    import icalendar  # noqa: PLC0415 - see above

    kept = []
    for number, line in event.lines:
        found = PROPERTY.match(line)
        if not found:
            raise WrongLine(number, "is no property of an event: NAME:value. Get the file again")
        if found[1].upper() in READ:
            event.numbers.setdefault(found[1].upper(), number)
            kept.append(line)
    event.read = icalendar.Event.from_ical("\n".join(["BEGIN:VEVENT", *kept, "END:VEVENT"]))
    for name, _ in event.read.errors:
        raise event.wrong(str(name), f"{name} cannot be read: correct it")
    for name in READ:
        if name not in ("EXDATE", "RDATE") and isinstance(event.read.get(name), list):
            raise event.wrong(name, f"{name} stands in this event twice: leave one of them")
    if "RDATE" in event.read:
        raise event.wrong("RDATE", "RDATE is not read: give each day an event of its own")
    if len(_text(event, "UID")) > LONGEST_UID:
        raise event.wrong("UID", f"UID has more than {LONGEST_UID} characters: take a shorter one")


def _by_uid(events: Sequence[_Event]) -> dict[str, list[_Event]]:
    """Return the events of each UID; one without a UID is alone."""
    found: defaultdict[str, list[_Event]] = defaultdict(list)
    for event in events:
        found[_text(event, "UID") or f"\n{event.line}"].append(event)
    return found


def _text(event: _Event, name: str) -> str:
    return str(event.read.get(name, "")).strip()


def _sequence(event: _Event) -> int:
    return int(event.read.get("SEQUENCE", 0))


def _cancelled(event: _Event) -> bool:
    return _text(event, "STATUS").upper() == "CANCELLED"


def _entries(
    event: _Event, uid: str, zone: zoneinfo.ZoneInfo, window: Span, *, alone: bool
) -> Iterator[Entry]:
    """Yield the closures that an event is: one, or each time that it recurs within the window."""
    if _cancelled(event):
        return
    start = _start(event)
    reason = _reason(event)
    uid = uid or f"{reason} {start}"[:LONGEST_UID]
    if "RRULE" not in event.read:
        occurrence = "" if alone else _name(start)
        yield Entry(event.line, Origin(KIND, uid, occurrence), _span(event, start, zone), reason)
        return
    for begins in _occurrences(event, start, window):
        span = _span(event, begins, zone)
        yield Entry(event.line, Origin(KIND, uid, _name(begins)), span, reason)


def _replace(
    event: _Event, uid: str, zone: zoneinfo.ZoneInfo, entries: dict[Origin, Entry]
) -> None:
    """Put an event in the place of one time that another one recurs (RECURRENCE-ID)."""
    start = _start(event)
    instead = event.read["RECURRENCE-ID"].dt
    if isinstance(start, datetime.datetime):
        instead = _naive(instead, start)
    origin = Origin(KIND, uid, _name(instead))
    entries.pop(origin, None)
    if not _cancelled(event):
        entries[origin] = Entry(event.line, origin, _span(event, start, zone), _reason(event))


def _reason(event: _Event) -> str:
    if "SUMMARY" not in event.read:
        raise event.wrong("SUMMARY", "this event has no SUMMARY, which is the closure's reason")
    return read_reason(_text(event, "SUMMARY"), event.of("SUMMARY"))


def _name(time: datetime.date) -> str:
    """Return what names one time that an event recurs; it is the same wherever it is read."""
    return (
        time.replace(tzinfo=None).isoformat()
        if isinstance(time, datetime.datetime)
        else time.isoformat()
    )


def _start(event: _Event) -> datetime.date:
    if "DTSTART" not in event.read:
        raise event.wrong("DTSTART", "this event has no DTSTART: say when it begins")
    return _known_zone(event, "DTSTART")


def _known_zone(event: _Event, name: str) -> datetime.date:
    """Return a day or a time, which has no zone only if the file says none."""
    read = event.read[name]
    value: object = getattr(read, "dt", None)
    if not isinstance(value, datetime.date):
        raise event.wrong(name, f"{name} must be a day or a time")
    zone = read.params.get("TZID")
    if isinstance(value, datetime.datetime) and value.tzinfo is None and zone:
        raise event.wrong(name, f"{zone!r} is no time zone: write one such as Europe/Berlin")
    return value


def _span(event: _Event, start: datetime.date, zone: zoneinfo.ZoneInfo) -> Span:
    """Return from when until when an event lasts that begins then, in the clinic's zone."""
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
    event: _Event, name: str, time: datetime.date, zone: zoneinfo.ZoneInfo
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


def _occurrences(event: _Event, start: datetime.date, window: Span) -> Iterator[datetime.date]:
    """Yield when an event recurs within the window.

    Raises:
        WrongLine: it does not recur yearly, or its rule means nothing.
    """
    from dateutil.rrule import rrulestr  # noqa: PLC0415 - see above

    rule = event.read["RRULE"].copy()
    yearly = [str(one).upper() for one in rule.get("FREQ", [])] == ["YEARLY"]
    if not yearly or rule.keys() & TIMES_OF_DAY:
        raise event.wrong(
            "RRULE",
            "only FREQ=YEARLY is read, without times of day: give each day an event of its own, or "
            "set weekly hours",
        )
    # dateutil wants it in UTC or not, as DTSTART is, and calendars do not keep to that.
    until = rule.pop("UNTIL", [None])[0]
    naive = _naive(start, start)
    try:
        recurring = rrulestr(rule.to_ical().decode(), dtstart=naive)
        times = recurring.between(window.begins, window.ends, inc=True)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise event.wrong("RRULE", f"RRULE cannot be read: {error}") from None
    excluded = {_naive(one, start) for one in _excluded(event)}
    for time in times:
        if time < window.ends and time not in excluded and not _is_over(time, until, start):
            if isinstance(start, datetime.datetime):
                yield time.replace(tzinfo=start.tzinfo)
            else:
                yield time.date()


def _excluded(event: _Event) -> Iterator[datetime.date]:
    found = event.read.get("EXDATE", [])
    for several in found if isinstance(found, list) else [found]:
        for one in several.dts:
            yield one.dt


def _naive(time: datetime.date, start: datetime.date) -> datetime.datetime:
    """Return a time as the clocks show it where an event begins."""
    if not isinstance(time, datetime.datetime):
        return midnight(time)
    if time.tzinfo is not None and isinstance(start, datetime.datetime) and start.tzinfo:
        time = time.astimezone(start.tzinfo)
    return time.replace(tzinfo=None)


def _is_over(time: datetime.datetime, until: datetime.date | None, start: datetime.date) -> bool:
    if until is None:
        return False
    if not isinstance(until, datetime.datetime):
        return time.date() > until
    return time > _naive(until, start)
