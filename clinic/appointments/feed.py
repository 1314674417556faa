"""Appointments as a calendar feed (iCalendar, RFC 5545), to be subscribed to.

A feed says when an office or a doctor is taken, never by whom: calendars are kept by others.

Its times are UTC. A time with a zone needs the zone's rules beside it (VTIMEZONE): of these readers
take some and not others, and some zones, such as Africa/Casablanca, have none that the format could
say. A moment in UTC is the same for every reader. Should a zone's rules change, the feed tells the
new moments when it is read again.
"""

import datetime
import re
import zoneinfo
from collections.abc import AsyncIterator

from clinic.appointments.appointment import Appointment
from clinic.appointments.listing import Sought, pieces
from clinic.appointments.search import FeedSearch
from clinic.database import Database, ExpensiveReads, utc_now
from clinic.registry.timetable import Place
from clinic.registry.wall_clock import moment

# The days before and after today that a feed has unless a client says otherwise.
PAST, FUTURE = 31, 366
# In octets, without the line break (RFC 5545, 3.1).
LONGEST_LINE = 75
ESCAPES = {"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n"}
TO_ESCAPE = re.compile(r"[\\;,\n]")

END = "END:VCALENDAR\r\n"

SELECT_CLINIC = "select id from clinic"


async def feed(
    database: Database,
    reads: ExpensiveReads,
    wanted: FeedSearch,
    whose: Place | None,
    zone: zoneinfo.ZoneInfo,
) -> AsyncIterator[str]:
    """Yield the feed of an office or a doctor, piece by piece; an empty one of nobody's."""
    now = utc_now()
    stamp = utc(now)
    first_day, last_day = days(wanted, now.astimezone(zone).date())
    (clinic,) = await database.look(SELECT_CLINIC)
    opening = beginning(wanted, zone)
    if whose is None:
        yield opening + END
        return
    sought = Sought(first_day, last_day, whose.office_id, whose.doctor_id)
    async for piece in pieces(database, reads, sought):
        yield opening + "".join(entry(one, zone, clinic["id"], stamp) for one in piece)
        opening = ""
    yield END


def days(wanted: FeedSearch, today: datetime.date) -> tuple[datetime.date, datetime.date]:
    """Return the first and the last day of a feed, in this order whichever of them is given."""
    first = wanted.first_day or later(min(today, wanted.last_day or today), -PAST)
    last = wanted.last_day or later(max(today, wanted.first_day or today), FUTURE)
    return first, last


def later(day: datetime.date, count: int) -> datetime.date:
    """Return the day a number of days later, or the last one that there is on the way."""
    ordinal = max(1, min(day.toordinal() + count, datetime.date.max.toordinal()))
    return datetime.date.fromordinal(ordinal)


def beginning(wanted: FeedSearch, zone: zoneinfo.ZoneInfo) -> str:
    """Return what a feed begins with: what it is, and whose."""
    names = [name for name in (wanted.office_number, wanted.doctor_name) if name is not None]
    return "".join(
        (
            "BEGIN:VCALENDAR\r\n",
            "VERSION:2.0\r\n",
            "PRODID:-//clinic//appointments//EN\r\n",
            "METHOD:PUBLISH\r\n",
            line("X-WR-CALNAME", escaped(", ".join(names))),
            # In which zone to show it, for readers that ask for one.
            line("X-WR-TIMEZONE", escaped(zone.key)),
        )
    )


def entry(appointment: Appointment, zone: zoneinfo.ZoneInfo, clinic_id: str, stamp: str) -> str:
    """Return one appointment as an event of a calendar.

    ``clinic_id`` is no other clinic's, so that its UID is no other event's (RFC 5545, 3.8.4.7);
    ``stamp`` is when the feed was made, as ``utc`` writes it.
    """
    starts = moment(appointment.date_time, zone)
    ends = starts + datetime.timedelta(minutes=appointment.duration_minutes)
    doctor = f", {appointment.doctor_name}" if appointment.doctor_name else ""
    summary = f"Appointment {appointment.id} ({appointment.status}){doctor}"
    status = "CANCELLED" if appointment.status == "cancelled" else "CONFIRMED"
    return "".join(
        (
            "BEGIN:VEVENT\r\n",
            line("UID", f"appointment-{appointment.id}@{clinic_id}"),
            f"SEQUENCE:{appointment.version - 1}\r\n",
            f"DTSTAMP:{stamp}\r\n",
            f"DTSTART:{utc(starts)}\r\n",
            f"DTEND:{utc(ends)}\r\n",
            line("SUMMARY", escaped(summary)),
            line("LOCATION", escaped(appointment.office_number)),
            f"STATUS:{status}\r\n",
            "END:VEVENT\r\n",
        )
    )


def utc(time: datetime.datetime) -> str:
    """Return a moment in UTC in the form of RFC 5545, 3.3.5, in whole seconds."""
    return f"{time:%Y%m%dT%H%M%SZ}"


def escaped(text: str) -> str:
    """Return a text as a value of the type TEXT (RFC 5545, 3.3.11)."""
    return TO_ESCAPE.sub(lambda found: ESCAPES[found[0]], text)


def line(name: str, value: str) -> str:
    """Return a content line, folded between characters where it is too long (RFC 5545, 3.1)."""
    rest = f"{name}:{value}".encode()
    parts = []
    most = LONGEST_LINE
    while len(rest) > most:
        parts.append(rest[:most].decode(errors="ignore").encode())  # without half a character
        rest = rest[len(parts[-1]) :]
        most = LONGEST_LINE - 1  # the blank before it counts
    return b"\r\n ".join((*parts, rest)).decode() + "\r\n"
