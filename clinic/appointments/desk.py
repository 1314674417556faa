"""The desk: all that can be done with appointments, for HTTP, pages and commands alike."""

import datetime
import zoneinfo
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from functools import partial

from clinic.appointments.appointment import Appointment, NewAppointment, NoSuchAppointment
from clinic.appointments.availability import MOST_CONFLICTS, Availability, ClosedThen, TimeTaken
from clinic.appointments.booking import Confirmation, NotFree, Request, answered, keep
from clinic.appointments.changing import (
    Change,
    Conflicting,
    Precondition,
    change_appointment,
    understand,
)
from clinic.appointments.day import Day, Staff, select_day, select_since
from clinic.appointments.feed import feed
from clinic.appointments.free_time import DAY, Finder, FreeTime, Wanted
from clinic.appointments.idempotency import IdempotencyKey
from clinic.appointments.listing import PIECE, Sought, all_records, midnight, pieces, select_sought
from clinic.appointments.numbers import Numbers
from clinic.appointments.placing import (
    Placed,
    check_offered,
    closed,
    find_type,
    length_of,
    place,
)
from clinic.appointments.privacy import (
    Person,
    Spelling,
    erase_some,
    select_of_person,
    select_spellings,
)
from clinic.appointments.queries import phone_key, select_appointment, select_same
from clinic.appointments.reasons import select_reasons, with_reasons
from clinic.appointments.search import MOST_DAYS, FeedSearch, FreeTimeSearch, Search
from clinic.appointments.standing import (
    After,
    Cancellation,
    Cancelling,
    count_standing,
    select_standing,
)
from clinic.appointments.writer import Writer
from clinic.database import Database, ExpensiveReads, LostRace, again_if_lost, utc_now
from clinic.events import BOOKED, subject_of, tell
from clinic.messaging.outbox import Outbox
from clinic.metrics import BOOKINGS
from clinic.registry.memory import Memory, Rules
from clinic.registry.names import name_key, patient_key, words_of
from clinic.registry.queries import select_exceptional_by_id, select_resources
from clinic.registry.records import (
    Kind,
    NoSuchRecord,
    NotInUse,
    NotRegistered,
    RegistryChanged,
    Resource,
)
from clinic.registry.timetable import MINUTE, Hours, Place, Span
from clinic.web.refusals import WrongFields

# Rounds after which a booking is given up whose conflicts each time vanish before they are found.
MOST_ROUNDS = 10
# ... or that each time finds the registry changed: of a crowd that wants a new name one is answered
# in each round, and as many wait as the writer lets wait.
MOST_CHANGES = 1_000
# Lists, tables and calendars that are read from the database at a time; one list reads two pieces.
PLACES = 2
BOOKED_NOW, BOOKED_AGAIN, TAKEN, CLOSED = map(
    BOOKINGS.labels, ("booked", "again", "taken", "closed")
)
# Free times, and the days on which they are looked for, where a client does not say.
FREE_TIMES = 10
USUAL_DAYS = 28


class Desk:
    """The face of the clinic's book.

    ``appointment_minutes`` is the length of an appointment for which none is given; ``usual`` are
    the clinic's hours on days for which none are set.
    """

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        database: Database,
        outbox: Outbox,
        memory: Memory,
        *,
        zone: zoneinfo.ZoneInfo,
        appointment_minutes: int,
        usual: Hours,
    ) -> None:
        self.zone = zone
        self.writer = Writer(database, outbox)
        self._database = database
        self._outbox = outbox
        self._memory = memory
        self._appointment_minutes = appointment_minutes
        self._availability = Availability(database, zone, usual)
        self._numbers = Numbers(database)
        self._cancelling = Cancelling(database, outbox, zone)
        self._reads = ExpensiveReads(PLACES)
        self._free_reads = ExpensiveReads(PLACES)

    async def book(self, wanted: NewAppointment, key: IdempotencyKey | None = None) -> Confirmation:
        """Write an appointment into the book, and its event into the log: both or neither.

        To book again what stands in the book already is no conflict.

        Raises:
            TimeTaken: the office or the doctor is taken at that time.
            ClosedThen: the clinic, the office or the doctor is closed at that time.
            NotInUse: the office, the doctor or the type is booked no more.
            NotRegistered: there is no such office or doctor, and bookings register none.
            WrongFields: there is no such type, or office or doctor do not offer it.
            KeyReused: the key was used for another booking.
            Crowded: too many wait already.
            DatabaseUnavailable: the database cannot do it now.
        """
        try:
            confirmation = await self._book_once(wanted, key)
        except TimeTaken:
            TAKEN.inc()
            raise
        except ClosedThen:
            CLOSED.inc()
            raise
        (BOOKED_NOW if confirmation.created else BOOKED_AGAIN).inc()
        return confirmation

    async def _book_once(self, wanted: NewAppointment, key: IdempotencyKey | None) -> Confirmation:
        """Book by the registry as it is then; see ``book``."""
        if key is not None:
            # First of all: the answer must not change with what the clinic has closed since.
            before = await answered(self._database, key)
            if before is not None:
                return before
        number = await self._numbers.next()
        left = MOST_ROUNDS
        for _ in range(MOST_CHANGES):
            rules = await self._memory.rules()
            try:
                return await self._book(number, wanted, key, rules)
            except RegistryChanged:
                self._memory.forget(rules.version)
            except NotFree:
                # The conflicts have vanished, or the writer has to find the same for its key.
                left -= 1
            except (ClosedThen, NotInUse, NotRegistered, WrongFields):
                # Of a taken time the statement that did not write it has looked at the version.
                if await self._memory.is_current(rules):
                    raise
                left -= 1
            if not left:
                break
        raise LostRace("the conflicts of a booking vanished each time before they were found")

    async def _book(
        self, number: int, wanted: NewAppointment, key: IdempotencyKey | None, rules: Rules
    ) -> Confirmation:
        """Book by a version of the registry.

        Raises:
            RegistryChanged: it has another version now.
            NotFree: the time was taken and is free again, or the very same stands in the book and
                was sent with a key: try again.
        """
        placed = await place(wanted, self._memory, rules, self._appointment_minutes)
        request = self._request(number, wanted, placed, key, rules)
        found_closed = closed(request.appointment, rules.timetable)
        if not found_closed:
            try:
                return await self.writer.write(request)
            except NotFree:
                pass
        found = await self._availability.conflicts(
            request.appointment, placed.length, rules.timetable, new=True
        )
        # Looked up here and not by the writer, so that nobody else waits for it.
        same = await self._standing(request, found.appointments)
        if same is not None and (found_closed or key is None):
            return await self._confirm(same, key)
        if found_closed:
            raise ClosedThen(found_closed, found.free_times)
        if same is None and found.appointments:
            raise TimeTaken(found.appointments, found.free_times)
        raise NotFree

    async def _confirm(self, same: int, key: IdempotencyKey | None) -> Confirmation:
        """Confirm an appointment that stands in the book already, and keep the key, if any."""
        confirmation = Confirmation(same, created=False)
        if key is not None:
            await again_if_lost(partial(keep, self._database, key, confirmation))
        return confirmation

    def _request(
        self,
        number: int,
        wanted: NewAppointment,
        placed: Placed,
        key: IdempotencyKey | None,
        rules: Rules,
    ) -> Request:
        extent = placed.length.at(wanted.date_time, self.zone)
        doctor, kind = placed.doctor, placed.type
        appointment = Appointment(
            id=number,
            version=1,
            status="booked",
            patient_name=wanted.patient_name,
            patient_phone=wanted.patient_phone,
            note=wanted.note,
            office_id=placed.office.id,
            office_number=placed.office.name,
            doctor_id=doctor.id if doctor else None,
            doctor_name=doctor.name if doctor else None,
            type_id=kind.id if kind else None,
            appointment_type=kind.name if kind else None,
            date_time=wanted.date_time,
            duration_minutes=placed.length.minutes,
            end_time=extent.own.ends,
            occupied_from=extent.occupied.begins,
            occupied_until=extent.occupied.ends,
            override_reason=wanted.override_reason,
        )
        event = tell(BOOKED, appointment.facts(self.zone.key), utc_now())
        return Request.of(appointment, event.message(), key, rules.version, placed.new)

    async def _standing(self, request: Request, conflicts: Sequence[Appointment]) -> int | None:
        """Return the number of the very same appointment, if it stands in the book already."""
        for conflict in conflicts:
            if conflict.is_same(request.appointment):
                return conflict.id
        if len(conflicts) < MOST_CONFLICTS:
            return None
        same = await select_same(self._database, [request.row])
        return same.get(request.appointment.id)

    async def check(self, wanted: NewAppointment, besides: int = 0) -> None:
        """Refuse what could not be booked now, without booking it or registering a name.

        ``besides`` is the id of the appointment that is to become this one, if there is one.

        Raises:
            TimeTaken, ClosedThen, NotInUse, WrongFields: see ``book``.
            Crowded: too many ask for taken times.
            DatabaseUnavailable: the database cannot do it now.
        """
        rules = await self._memory.current()
        kind = find_type(wanted.appointment_type, rules)
        office = await self._memory.find("office", wanted.office_number)
        if office is None or wanted.override_reason is not None:
            return  # an office that nobody has booked yet is free
        name = wanted.doctor_name
        doctor = None if name is None else await self._memory.find("doctor", name)
        check_offered(kind, office.id, doctor.id if doctor else None)
        length = length_of(kind, wanted.duration_minutes, self._appointment_minutes)
        placed = Placed(office, doctor, kind, length)
        appointment = self._request(besides, wanted, placed, None, rules).appointment
        found_closed = closed(appointment, rules.timetable)
        found = await self._availability.conflicts(
            appointment, length, rules.timetable, new=not besides
        )
        if found_closed:
            raise ClosedThen(found_closed, found.free_times)
        if found.appointments:
            raise TimeTaken(found.appointments, found.free_times)

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
            ClosedThen: the clinic, the office or the doctor is closed at the time wanted.
            NotInUse, NotRegistered, WrongFields: see ``book``.
            DatabaseUnavailable: the database cannot do it now.
        """
        for _ in range(MOST_ROUNDS):
            rules = await self._memory.rules()
            try:
                meant = await understand(wanted, self._memory, rules)
                return await again_if_lost(
                    partial(
                        change_appointment,
                        self._database,
                        self._outbox,
                        self.zone,
                        appointment_id=appointment_id,
                        wanted=wanted,
                        meant=meant,
                        precondition=precondition,
                    )
                )
            except RegistryChanged:
                self._memory.forget(rules.version)
            except (NotInUse, NotRegistered, WrongFields):
                if await self._memory.is_current(rules):
                    raise
            except Conflicting as error:
                found = await self._availability.conflicts(
                    error.target, error.length, rules.timetable, new=False
                )
                if error.closed:
                    raise ClosedThen(error.closed, found.free_times) from None
                if found.appointments:
                    raise TimeTaken(found.appointments, found.free_times) from None
        raise LostRace("the conflicts of a change vanished each time before they were found")

    async def cancel(self, appointment_id: int, precondition: Precondition) -> Appointment:
        """Cancel an appointment; it stays in the book, and its time is free. See ``change``."""
        return await self.change(appointment_id, Change(status="cancelled"), precondition)

    async def standing(
        self, closure_id: int, limit: int, after: After | None = None
    ) -> list[Appointment]:
        """Return the first appointments after one that stand in a closure, in order of time.

        Raises:
            NoSuchRecord: there is no closure with this id.
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self._database.snapshot() as connection:
            closure = await select_exceptional_by_id(connection, closure_id, opens=False)
            if closure is None:
                raise NoSuchRecord
            return await select_standing(connection, closure, limit, after=after)

    async def count_standing(self, closure_id: int) -> int:
        """Return how many appointments stand in a closure; none in one that is not there.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self._database.snapshot() as connection:
            closure = await select_exceptional_by_id(connection, closure_id, opens=False)
            return 0 if closure is None else await count_standing(connection, closure)

    async def cancel_standing(
        self, closure_id: int, reason: str, versions: Mapping[int, int] | None = None
    ) -> Cancellation:
        """Cancel what stands in a closure: all, or some appointments, each in the version given.

        Each has its event, and the reason in its history. To ask again cancels nothing twice.

        Raises:
            NoSuchRecord: there is no closure with this id.
            OutcomeUnknown: some may have been cancelled.
            DatabaseUnavailable: the database cannot do it now, and none was cancelled.
        """
        if versions is None:
            return await self._cancelling.all(closure_id, reason)
        return await self._cancelling.some(closure_id, reason, versions)

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

    async def history(self, appointment_id: int, *, personal: bool = True) -> list[str]:
        """Return all events of an appointment as JSON, oldest first, with the reasons given.

        What is not ``personal`` is without these: they may hold a name.

        Raises:
            NoSuchAppointment: there is none with this id.
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self._database.snapshot() as connection:
            if await select_appointment(connection, appointment_id) is None:
                raise NoSuchAppointment
            events = await self._outbox.told_of(connection, subject_of(appointment_id))
            if not personal:
                return events
            return with_reasons(events, await select_reasons(connection, appointment_id))

    async def day(self, day: datetime.date) -> Day:
        """Return a day: its appointments in order of time, who waits, and who works when.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        rules = await self._memory.current()
        staff = await self._staff(rules)
        async with self._database.snapshot() as connection:
            appointments = await select_day(connection, day)
            since = await select_since(connection, appointments, self.zone)
        return Day(day, appointments, since, staff, rules, self._availability.usual)

    async def staff(self) -> Staff:
        """Return all offices, doctors and appointment types.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        return await self._staff(await self._memory.current())

    async def _staff(self, rules: Rules) -> Staff:
        return Staff(
            await select_resources(self._database, "office"),
            await select_resources(self._database, "doctor"),
            sorted(rules.types.values(), key=lambda one: one.name),
        )

    async def spellings(self, person: Person) -> list[Spelling]:
        """Return how a patient's name and phone are written in the book, and how often.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        return await select_spellings(self._database, person)

    async def all_of(self, person: Person) -> AsyncIterator[Appointment]:
        """Yield a patient's appointments in the order of ids.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        after = 0
        while found := await select_of_person(self._database, person, after, PIECE):
            for one in found:
                yield one
            after = found[-1].id

    async def erase(self, person: Person) -> int:
        """Erase a patient from the book; return from how many appointments.

        Whatever was confirmed before it is erased. What is booked at the same time may be; what is
        booked later stands. It may end in the middle: then what is done is done, and another
        erasure does the rest.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        total = 0
        while count := await again_if_lost(
            partial(erase_some, self._database, self._outbox, self.zone, person)
        ):
            total += count
        return total

    async def page(self, search: Search, limit: int) -> list[Appointment]:
        """Return the first appointments of a search, in order of time and number."""
        sought = await self._sought(search)
        if sought is None:
            return []
        async with self._database.snapshot() as connection:
            return await select_sought(connection, sought, limit)

    async def search(self, search: Search) -> AsyncIterator[Sequence[Appointment]]:
        """Yield what is sought in pieces, in order of time; at least one, which may be empty."""
        sought = await self._sought(search)
        if sought is None:
            yield []
            return
        async for piece in pieces(self._database, self._reads, sought):
            yield piece

    def everything(self, *, personal: bool = True) -> AsyncIterator[str]:
        """Yield a JSON list of every record in the order of numbers, piece by piece.

        What is not ``personal`` says nothing of the patients.
        """
        return all_records(self._database, self._reads, personal=personal)

    async def calendar(self, wanted: FeedSearch) -> AsyncIterator[str]:
        """Yield the calendar feed of an office or a doctor, piece by piece."""
        found = await self._known(wanted.office_number, wanted.doctor_name)
        async for piece in feed(self._database, self._reads, wanted, found, self.zone):
            yield piece

    async def free_times(self, search: FreeTimeSearch) -> list[FreeTime]:
        """Return the next free times, in order.

        Of any office or doctor that offers the type, unless they are named; with no doctor if none
        is registered. Times that are past are none.

        Raises:
            NotRegistered: there is no such office or doctor.
            NotInUse: the office, the doctor or the type is booked no more.
            WrongFields: there is no such type, or office or doctor do not offer it.
            Crowded: too many ask for free times.
            DatabaseUnavailable: the database cannot do it now.
        """
        for _ in range(MOST_ROUNDS):
            rules = await self._memory.rules()
            finder = Finder(self._database, rules, self.zone, self._availability.usual)
            try:
                wanted = await self._free_wanted(search, rules)
                return await self._free_reads.read(
                    object(), partial(finder.find, wanted, search.limit or FREE_TIMES)
                )
            except RegistryChanged:
                self._memory.forget(rules.version)
            except (NotInUse, NotRegistered, WrongFields):
                if await self._memory.is_current(rules):
                    raise
        raise LostRace("the registry changed each time before free times were found")

    async def _free_wanted(self, search: FreeTimeSearch, rules: Rules) -> Wanted:
        kind = find_type(search.appointment_type, rules)
        offices = await self._candidates(
            "office", search.office_number, kind.offices if kind else None
        )
        doctors = await self._candidates(
            "doctor", search.doctor_name, kind.doctors if kind else None
        )
        check_offered(
            kind,
            offices[0].id if search.office_number is not None else None,
            doctors[0].id if search.doctor_name is not None else None,
        )
        now = utc_now().astimezone(self.zone).replace(tzinfo=None, microsecond=0)
        begins = now + MINUTE - datetime.timedelta(seconds=now.second)
        if search.first_day is not None:
            begins = max(begins, midnight(search.first_day))
        ends = begins + datetime.timedelta(days=USUAL_DAYS)
        if search.last_day is not None:
            ends = midnight(search.last_day) + DAY
        elif search.first_day is not None:
            ends = midnight(search.first_day) + datetime.timedelta(days=USUAL_DAYS)
        ends = min(ends, begins + datetime.timedelta(days=MOST_DAYS))
        length = length_of(kind, search.duration_minutes, self._appointment_minutes)
        return Wanted(offices, doctors, length, Span(begins, ends), search.step_minutes)

    async def _candidates(
        self, kind: Kind, name: str | None, offering: Collection[int] | None
    ) -> list[Resource]:
        """Return the offices or doctors that would do."""
        if name is None:
            every = await select_resources(self._database, kind)
            return [one for one in every if one.active and (offering is None or one.id in offering)]
        found = await self._memory.find(kind, name)
        if found is None:
            raise NotRegistered(kind, await self._memory.nearest(kind, name))
        if not found.active:
            raise NotInUse(kind)
        return [found]

    async def _sought(self, search: Search) -> Sought | None:
        """Return what the names in a search stand for; None if one of them stands for nothing."""
        known = await self._known(search.office_number, search.doctor_name)
        if known is None:
            return None
        kind = None
        if search.appointment_type is not None:
            rules = await self._memory.current()
            kind = rules.types.get(name_key(search.appointment_type))
            if kind is None:
                return None
        words = words_of(patient_key(search.patient or ""))
        if search.patient is not None and not words:
            return None  # nothing but hyphens, which are in no word
        return Sought(
            first_day=search.first_day,
            last_day=search.last_day,
            office_id=known.office_id,
            doctor_id=known.doctor_id,
            type_id=kind.id if kind else None,
            patient_key=search.patient_name and patient_key(search.patient_name),
            words=tuple(words),
            phone_end=phone_key(search.patient_phone),
            status=search.status,
            after=search.after,
        )

    async def _known(self, office_number: str | None, doctor_name: str | None) -> Place | None:
        """Return the office and the doctor of these names; None if there is one of them not."""
        if office_number is not None or doctor_name is not None:
            await self._memory.current()
        ids: list[int | None] = []
        names: tuple[tuple[Kind, str | None], ...]
        names = (("office", office_number), ("doctor", doctor_name))
        for kind, name in names:
            found = None if name is None else await self._memory.find(kind, name)
            if name is not None and found is None:
                return None
            ids.append(found.id if found else None)
        return Place(*ids)
