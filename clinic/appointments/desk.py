"""The desk: the book, the log of what was done, and the house rules."""

import datetime
import itertools
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass

from clinic.appointments.appointment import Appointment, NoSuchAppointment
from clinic.appointments.occupancy import OFFERS, OpeningHours, Slot, SlotTaken, free_times
from clinic.appointments.queries import select_appointment, select_in_the_way, select_taken
from clinic.database import Connection, Database, utc_now
from clinic.events import BOOKED, AppointmentFacts, EventType, subject_of, tell
from clinic.messaging.message import Message
from clinic.messaging.outbox import Outbox

# Free times are looked for so far ahead: clinics plan no further.
HORIZON = datetime.timedelta(days=56)
# ... and among so many appointments, for a refusal to stay cheap.
MOST_TAKEN = 500


@dataclass(frozen=True)
class Desk:
    """What everyone who books or changes appointments works with.

    ``visit_minutes`` is the length of a visit for which none is given.
    """

    database: Database
    outbox: Outbox
    zone: zoneinfo.ZoneInfo
    visit_minutes: int
    hours: OpeningHours

    async def tell(
        self, connection: Connection, happened: Sequence[tuple[EventType, Appointment]]
    ) -> None:
        """Write into the log what happened to appointments, in the transaction in which it did."""
        now = utc_now()
        events = [tell(kind, made.facts(self.zone.key), now) for kind, made in happened]
        await self.outbox.append(connection, [event.message() for event in events])

    def told_unnumbered(self, slot: Slot) -> Message:
        """Return the event of a slot's booking, whose appointment's number is yet to come."""
        facts = AppointmentFacts(
            appointment_id=1,
            version=1,
            status="booked",
            office_number=slot.office_number,
            doctor_name=slot.doctor_name,
            date_time=slot.date_time,
            time_zone=self.zone.key,
            duration_minutes=slot.duration_minutes,
            override=False,
        )
        return tell(BOOKED, facts, utc_now()).unnumbered()

    async def told_of(self, appointment_id: int) -> list[str]:
        """Return all events of an appointment as JSON, oldest first.

        Raises:
            NoSuchAppointment: there is none with this id.
        """
        async with self.database.snapshot() as connection:
            if await select_appointment(connection, appointment_id) is None:
                raise NoSuchAppointment
            return await self.outbox.told_of(connection, subject_of(appointment_id))

    async def refuse(self, wanted: Slot, besides: int | None = None) -> SlotTaken:
        """Return the refusal of a slot: what is in the way, and when it would be free.

        The appointment ``besides`` is not in its own way.
        """
        horizon = wanted.date_time + HORIZON
        async with self.database.snapshot() as connection:
            found = await select_in_the_way(connection, [wanted])
            taken = await select_taken(connection, wanted, horizon, besides, MOST_TAKEN)
        if len(taken) == MOST_TAKEN:
            horizon = taken[-1][0]  # nothing is known of what comes later
        offers = free_times(wanted, taken, self.hours, self.zone)
        length = datetime.timedelta(minutes=wanted.duration_minutes)
        near = itertools.takewhile(lambda time: time + length <= horizon, offers)
        in_the_way = [one for _, one in found if one.id != besides]
        return SlotTaken(in_the_way, list(itertools.islice(near, OFFERS)))
