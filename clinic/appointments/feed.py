"""Appointments as a calendar feed (iCalendar, RFC 5545), to be subscribed to.

A feed says when an office or a doctor is taken, never by whom: calendars are kept by others.
"""

import datetime
import zoneinfo
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from clinic.appointments.appointment import Appointment
from clinic.appointments.listing import pieces
from clinic.appointments.search import FeedSearch, Search
from clinic.database import Database, utc_now

if TYPE_CHECKING:
    import icalendar

# Unless a client says otherwise, a feed goes from so long ago to so far ahead.
PAST = datetime.timedelta(days=31)
FUTURE = datetime.timedelta(days=366)
END = "END:VCALENDAR\r\n"


async def feed(
    database: Database, wanted: FeedSearch, zone: zoneinfo.ZoneInfo
) -> AsyncIterator[str]:
    """Yield the feed of an office or a doctor, piece by piece."""
    now = utc_now()
    today = now.astimezone(zone).date()
    search = Search.model_construct(
        office_number=wanted.office_number,
        doctor_name=wanted.doctor_name,
        first_day=wanted.first_day or today - PAST,
        last_day=wanted.last_day or today + FUTURE,
    )
    first = True
    async for piece in pieces(database, search):
        # The library takes a third of a millisecond for each, and others want to be served.
        text = await anyio.to_thread.run_sync(_entries, piece, zone, now)
        yield _beginning(wanted, zone, today.year) + text if first else text
        first = False
    yield END


def _beginning(wanted: FeedSearch, zone: zoneinfo.ZoneInfo, year: int) -> str:
    """Return what a feed begins with; it tells its zone's clock changes around a year."""
    import icalendar  # noqa: PLC0415 - it takes as long as a tenth of a start, and few ask for feeds

    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//clinic//appointments//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    names = [name for name in (wanted.office_number, wanted.doctor_name) if name is not None]
    calendar.add("x-wr-calname", ", ".join(names))
    first, last = datetime.date(year - 1, 1, 1), datetime.date(year + 3, 1, 1)
    calendar.add_component(icalendar.Timezone.from_tzinfo(zone, zone.key, first, last))
    return str(calendar.to_ical(), "utf-8").removesuffix(END)


def _entries(
    appointments: Sequence[Appointment], zone: zoneinfo.ZoneInfo, now: datetime.datetime
) -> str:
    return "".join(str(_entry(one, zone, now).to_ical(), "utf-8") for one in appointments)


def _entry(
    appointment: Appointment, zone: zoneinfo.ZoneInfo, now: datetime.datetime
) -> "icalendar.Event":
    import icalendar  # noqa: PLC0415 - see above

    entry = icalendar.Event()
    entry.add("uid", f"appointment-{appointment.id}@clinic")
    entry.add("sequence", appointment.version - 1)
    entry.add("dtstamp", now)
    entry.add("dtstart", appointment.date_time.replace(tzinfo=zone))
    entry.add("dtend", appointment.end_time.replace(tzinfo=zone))
    doctor = f", {appointment.doctor_name}" if appointment.doctor_name else ""
    entry.add("summary", f"Appointment {appointment.id} ({appointment.status}){doctor}")
    entry.add("location", appointment.office_number)
    entry.add("status", "CANCELLED" if appointment.status == "cancelled" else "CONFIRMED")
    return entry
