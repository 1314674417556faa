"""Book: the appointment and the event that tells of it, in one transaction."""

import zoneinfo
from dataclasses import dataclass

from clinic.appointments.appointment import Appointment, Booking
from clinic.appointments.queries import insert_appointment
from clinic.database import Database, utc_now
from clinic.events import AppointmentFacts, tell
from clinic.messaging.outbox import Outbox


@dataclass(frozen=True)
class Desk:
    """Where appointments are made: the book, the log of what was done, and the house rules."""

    database: Database
    outbox: Outbox
    zone: zoneinfo.ZoneInfo
    visit_minutes: int

    async def book(self, booking: Booking) -> Appointment:
        """Write an appointment into the book, and its event into the log: both or neither.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self.database.transaction() as connection:
            appointment = await insert_appointment(
                connection, booking, booking.duration_minutes or self.visit_minutes
            )
            event = tell("appointment.booked", self._facts(appointment), utc_now())
            await self.outbox.append(connection, [event.message()])
        return appointment

    def _facts(self, appointment: Appointment) -> AppointmentFacts:
        return AppointmentFacts(
            appointment_id=appointment.id,
            office_number=appointment.office_number,
            doctor_name=appointment.doctor_name,
            date_time=appointment.date_time,
            time_zone=self.zone.key,
            duration_minutes=appointment.duration_minutes,
        )
