"""The events of an iCalendar file, each as icalendar reads it, and on which lines it stands.

icalendar names no lines, and refuses a file as a whole or passes over what is wrong in it
(docs/libraries.md). So lines are unfolded and events parted here, and it reads one at a time.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from clinic.registry.closure_file import MOST_CLOSURES, WrongLine, decoded

# A property's name, its parameters, and a colon: https://www.rfc-editor.org/rfc/rfc5545#section-3.1
PROPERTY = re.compile(r"([A-Za-z0-9-]+)([;:])")
# What is read of an event. The rest may be as wrong as it likes.
READ = (
    *("DTSTART", "DTEND", "DURATION", "RRULE", "EXDATE", "RDATE", "RECURRENCE-ID"),
    *("SUMMARY", "UID", "STATUS", "SEQUENCE"),
)
# A UID is kept in the database, and looked up there.
LONGEST_UID = 300


Lines = list[tuple[int, str]]


@dataclass
class Event:
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


def events_of(data: bytes) -> list[Event]:
    """Return the events of a file, and let icalendar know the time zones that it defines.

    Raises:
        WrongLine: it is not whole, or has too many events.
    """
    events: list[Event] = []
    zones: list[str] = []
    open_ones: list[tuple[int, str]] = []
    for number, line in _content_lines(data):
        name, _, value = line.upper().partition(":")
        within = [one for _, one in open_ones]
        if name == "BEGIN":
            open_ones.append((number, value.strip()))
            if value.strip() == "VEVENT":
                events.append(Event(number, []))
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


def parse(event: Event) -> None:
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
    if len(text_of(event, "UID")) > LONGEST_UID:
        raise event.wrong("UID", f"UID has more than {LONGEST_UID} characters: take a shorter one")


def text_of(event: Event, name: str) -> str:
    """Return a property of an event as text; a missing one is empty."""
    return str(event.read.get(name, "")).strip()
