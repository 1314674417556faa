"""The desk: all that can be done with appointments, for HTTP, pages and commands alike."""

import zoneinfo
from collections.abc import AsyncIterator, Sequence
from functools import partial

from clinic.appointments.appointment import Appointment, NewAppointment, NoSuchAppointment
from clinic.appointments.availability import (
    MOST_CONFLICTS,
    Availability,
    OpeningHours,
    TimeTaken,
)
from clinic.appointments.booking import Confirmation, NotFree, Request
from clinic.appointments.changing import (
    Change,
    Conflicting,
    Precondition,
    change_appointment,
)
from clinic.appointments.feed import feed
from clinic.appointments.idempotency import IdempotencyKey
from clinic.appointments.listing import all_records, pieces, select_sought
from clinic.appointments.numbers import Numbers
from clinic.appointments.queries import select_appointment, select_same
from clinic.appointments.search import FeedSearch, Search
from clinic.appointments.wall_clock import end_of
from clinic.appointments.writer import Writer
from clinic.database import Database, ExpensiveReads, LostRace, again_if_lost, utc_now
from clinic.events import BOOKED, subject_of, tell
from clinic.messaging.outbox import Outbox

# Rounds after which a booking is given up whose conflicts each time vanish before they are found.
MOST_ROUNDS = 10
# Lists, tables and calendars that are read from the database at a time; one list reads two pieces.
PLACES = 2


class Desk:
    """The face of the clinic's book.

    ``appointment_minutes`` is the length of an appointment for which none is given.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        *,
        zone: zoneinfo.ZoneInfo,
        appointment_minutes: int,
        hours: OpeningHours,
    ) -> None:
        self.zone = zone
        self.hours = hours
        self.writer = Writer(database, outbox)
        self._database = database
        self._outbox = outbox
        self._appointment_minutes = appointment_minutes
        self._availability = Availability(database, zone, hours)
        self._numbers = Numbers(database)
        self._reads = ExpensiveReads(PLACES)

    async def book(self, wanted: NewAppointment, key: IdempotencyKey | None = None) -> Confirmation:
        """Write an appointment into the book, and its event into the log: both or neither.

        To book again what stands in the book already is no conflict.

        Raises:
            TimeTaken: the office or the doctor is taken at that time.
            KeyReused: the key was used for another booking.
            Crowded: too many wait already.
            DatabaseUnavailable: the database cannot do it now.
        """
        request = await self._request(wanted, key)
        appointment = request.appointment
        for _ in range(MOST_ROUNDS):
            try:
                return await self.writer.write(request)
            except NotFree:
                # Looked up here and not by the writer, so that nobody else waits for it.
                found = await self._availability.conflicts(appointment, new=True)
                same = await self._standing(request, found.appointments)
                if same is None and found.appointments:
                    raise TimeTaken(found.appointments, found.free_times) from None
                # With a key the writer has to find it, for the key to be kept.
                if same is not None and key is None:
                    return Confirmation(same, created=False)
        raise LostRace("the conflicts of a booking vanished each time before they were found")

    async def _standing(self, request: Request, conflicts: Sequence[Appointment]) -> int | None:
        """Return the number of the very same appointment, if it stands in the book already."""
        for conflict in conflicts:
            if conflict.is_same(request.appointment):
                return conflict.id
        if len(conflicts) < MOST_CONFLICTS:
            return None
        same = await select_same(self._database, [request.row])
        return same.get(request.appointment.id)

    async def _request(self, wanted: NewAppointment, key: IdempotencyKey | None) -> Request:
        minutes = wanted.duration_minutes or self._appointment_minutes
        appointment = Appointment(
            id=await self._numbers.next(),
            version=1,
            status="booked",
            patient_name=wanted.patient_name,
            office_number=wanted.office_number,
            doctor_name=wanted.doctor_name,
            date_time=wanted.date_time,
            duration_minutes=minutes,
            end_time=end_of(wanted.date_time, minutes, self.zone),
            override_reason=wanted.override_reason,
        )
        event = tell(BOOKED, appointment.facts(self.zone.key), utc_now())
        return Request.of(appointment, event.message(), key)

    async def change(
        self, appointment_id: int, wanted: Change, precondition: Precondition
    ) -> Appointment:
        """Change an appointment, and write what happened into the log: all of it or nothing.

        What is so already is no change, and no event.

        Raises:
            NoSuchAppointment: there is none with this id.
            Stale: the precondition does not hold for its version.
            IllegalTransition: its status cannot become the one wanted.
            TimeTaken: the office or the doctor is taken at the time wanted.
            DatabaseUnavailable: the database cannot do it now.
        """
        for _ in range(MOST_ROUNDS):
            try:
                return await again_if_lost(
                    partial(
                        change_appointment,
                        self._database,
                        self._outbox,
                        self.zone,
                        appointment_id=appointment_id,
                        wanted=wanted,
                        precondition=precondition,
                    )
                )
            except Conflicting as error:
                found = await self._availability.conflicts(error.target, new=False)
                if found.appointments:
                    raise TimeTaken(found.appointments, found.free_times) from None
        raise LostRace("the conflicts of a change vanished each time before they were found")

    async def cancel(self, appointment_id: int, precondition: Precondition) -> Appointment:
        """Cancel an appointment; it stays in the book, and its time is free. See ``change``."""
        return await self.change(appointment_id, Change(status="cancelled"), precondition)

    async def show(self, appointment_id: int) -> Appointment:
        """Return an appointment.

        Raises:
            NoSuchAppointment: there is none with this id.
            DatabaseUnavailable: the database cannot do it now.
        """
        found = await select_appointment(self._database, appointment_id)
        if found is None:
            raise NoSuchAppointment
        return found

    async def history(self, appointment_id: int) -> list[str]:
        """Return all events of an appointment as JSON, oldest first.

        Raises:
            NoSuchAppointment: there is none with this id.
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self._database.snapshot() as connection:
            if await select_appointment(connection, appointment_id) is None:
                raise NoSuchAppointment
            return await self._outbox.told_of(connection, subject_of(appointment_id))

    async def page(self, search: Search, limit: int) -> list[Appointment]:
        """Return the first appointments of a search, in order of time and number."""
        async with self._database.snapshot() as connection:
            return await select_sought(connection, search, limit)

    def search(self, search: Search) -> AsyncIterator[Sequence[Appointment]]:
        """Yield what is sought in pieces, in order of time; at least one, which may be empty."""
        return pieces(self._database, self._reads, search)

    def everything(self) -> AsyncIterator[str]:
        """Yield a JSON list of every record in the order of numbers, piece by piece."""
        return all_records(self._database, self._reads)

    def calendar(self, wanted: FeedSearch) -> AsyncIterator[str]:
        """Yield the calendar feed of an office or a doctor, piece by piece."""
        return feed(self._database, self._reads, wanted, self.zone)
