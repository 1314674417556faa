"""One day of the book: its appointments, whom they wait for, and who works when."""

import datetime
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from clinic.appointments.appointment import Appointment
from clinic.appointments.listing import Sought, midnight, select_sought
from clinic.database import Connection
from clinic.events import subject_of
from clinic.messaging.following import select_latest
from clinic.registry.memory import Rules
from clinic.registry.records import AppointmentType, Resource
from clinic.registry.timetable import DAY, Hours, Place, Span

# More than this nobody can look at, nor a process show in good time.
MOST_APPOINTMENTS = 5000
# Statuses that somebody waits in: since when matters.
LASTING = {"arrived": "appointment.arrived", "in_room": "appointment.in_room"}


@dataclass(frozen=True, slots=True)
class Staff:
    """All that an appointment can name, in order of names: those in use, and those that were."""

    offices: Sequence[Resource]
    doctors: Sequence[Resource]
    types: Sequence[AppointmentType]


@dataclass(frozen=True, slots=True)
class Day:
    """A day as it stands in the book.

    ``since`` says of an appointment whose patient is here when they came to where they are now, as
    wall-clock time. ``usual`` are the clinic's hours on days for which it has none.
    """

    date: datetime.date
    appointments: Sequence[Appointment]
    since: Mapping[int, datetime.datetime]
    staff: Staff
    rules: Rules
    usual: Hours

    def opened(self, place: Place) -> list[Span]:
        """Return when an office or a doctor works on this day."""
        begins = midnight(self.date)
        return self.rules.timetable.open_spans(place, Span(begins, begins + DAY), self.usual)

    def closed_because(self, place: Place) -> str | None:
        """Return the reason of a closure on this day, if it has one."""
        begins = midnight(self.date)
        for one in self.rules.timetable.closed(place, Span(begins, begins + DAY)):
            if one.closure is not None and one.closure.reason:
                return one.closure.reason
        return None


async def select_day(connection: Connection, day: datetime.date) -> list[Appointment]:
    """Return the appointments that take up time on a day, in order of time."""
    return await select_sought(connection, Sought(first_day=day, last_day=day), MOST_APPOINTMENTS)


async def select_since(
    connection: Connection, appointments: Sequence[Appointment], zone: zoneinfo.ZoneInfo
) -> dict[int, datetime.datetime]:
    """Return when those whose patients are here came to where they are now."""
    here = {subject_of(one.id): one for one in appointments if one.status in LASTING}
    if not here:
        return {}
    found = await select_latest(connection, [*here], [*LASTING.values()])
    return {
        here[subject].id: _time(body, zone)
        for subject, (event_type, body) in found.items()
        if event_type == LASTING[here[subject].status]
    }


def _time(body: str, zone: zoneinfo.ZoneInfo) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(from_json(body)["time"])
    return moment.astimezone(zone).replace(tzinfo=None)
