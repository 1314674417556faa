"""Book: one writer takes the bookings that wait, and writes them together.

A commit costs about the same for one appointment as for a hundred, so those who come while one is
being written share the next one (group commit): half of all who are here, for the other half to be
answered meanwhile. Nobody waits for company: a booking that comes alone is written at once.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from clinic.appointments.appointment import Appointment
from clinic.appointments.desk import Desk
from clinic.appointments.idempotency import (
    IdempotencyKey,
    KeyReused,
    delete_old_keys,
    insert_keys,
    select_keys,
)
from clinic.appointments.occupancy import TAKEN, Slot, SlotTaken, occupied_by, slot_of
from clinic.appointments.queries import (
    insert_free,
    insert_free_and_tell,
    insert_overriding,
    lock_places,
    select_in_the_way,
    wanted_and_told,
)
from clinic.appointments.requests import Booking
from clinic.database import Connection, LostRace, Row, StatementRefused, again_if_lost, utc_now
from clinic.events import BOOKED, numbered
from clinic.messaging.message import Message
from clinic.supervisor import Lifecycle, Unavailable

# More in one transaction make nobody faster, and those who come late wait longer.
BATCH = 128
# What was in the way may be gone when it is looked for, so often in a row at most.
MOST_VAIN_ROUNDS = 3
# Whoever comes when so many wait is asked to come again: 503.
MOST_WAITING = 512


_Outcomes = dict["_Waiting", "Confirmation | Exception"]


class Crowded(Unavailable):
    """More bookings wait than can be written in good time."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """That a booking stands in the book; ``created`` is false if it stood there already."""

    appointment_id: int
    created: bool


@dataclass(slots=True)
class _Ready:
    """A booking's event, to which the number is yet to come, and what is to be written of both."""

    told: Message
    row: Row


@dataclass(eq=False, slots=True)
class _Waiting:
    """A booking that waits to be written."""

    booking: Booking
    slot: Slot
    key: IdempotencyKey | None
    answer: asyncio.Future[Confirmation]
    ready: _Ready | None = None
    """What is to be written, of one that asks for nothing special."""

    @property
    def overriding(self) -> bool:
        return self.booking.override

    @property
    def ordinary(self) -> bool:
        return self.key is None and not self.overriding

    def is_booked_as(self, found: Appointment) -> bool:
        """Tell whether this very booking stands in the book."""
        return found.patient_name == self.booking.patient_name and occupied_by(found) == self.slot

    def made(self, appointment_id: int) -> Appointment:
        """Return the appointment that it has become."""
        return Appointment(
            id=appointment_id,
            version=1,
            status="booked",
            patient_name=self.booking.patient_name,
            office_number=self.slot.office_number,
            doctor_name=self.slot.doctor_name,
            date_time=self.slot.date_time,
            duration_minutes=self.slot.duration_minutes,
            override_reason=self.booking.reason,
        )

    def resolve(self, outcome: Confirmation | Exception) -> None:
        if self.answer.done():
            return  # the client has gone away; its appointment stands all the same
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


@dataclass
class Writer:
    """The service that writes bookings into the book, many in one transaction."""

    desk: Desk
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def book(self, booking: Booking, key: IdempotencyKey | None = None) -> Confirmation:
        """Have an appointment written into the book, and its event into the log: both or neither.

        Sending again what stands in the book already is no conflict.

        Raises:
            SlotTaken: the office or the doctor is taken at that time.
            KeyReused: the key was used for another booking.
            Crowded: too many wait already.
            DatabaseUnavailable: the database cannot do it now.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Crowded("too many bookings wait to be written")
        slot = slot_of(booking, self.desk.visit_minutes)
        answer: asyncio.Future[Confirmation] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(booking, slot, key, answer)
        if waiting.ordinary:
            # Now, while others are being written, and not when its own turn has come.
            told = self.desk.told_unnumbered(slot)
            waiting.ready = _Ready(told, wanted_and_told(booking, slot, told))
        self._waiting.append(waiting)
        self._news.set()
        try:
            return await answer
        except SlotTaken:
            # What to offer instead is looked up here, so that nobody else waits for it.
            raise await self.desk.refuse(slot) from None

    async def run(self, lifecycle: Lifecycle) -> None:
        """Write what waits until asked to stop, and then what still waits; a service.

        One batch at a time: those who come meanwhile make up the next ones. Several at once would
        each take what little there is, and gain nothing (benchmarks/README.md).
        """
        lifecycle.up()
        written = 0
        while True:
            while not self._waiting:
                if lifecycle.stopping:
                    return
                self._news.clear()
                with lifecycle.until_stop():
                    await self._news.wait()
            batch = self._next_batch(written)
            written = len(batch)
            try:
                await self._write(batch)
            except BaseException as error:
                # A bug of ours, or the end of the process: nobody may wait for ever.
                known = error if isinstance(error, Exception) else Unavailable("the clinic stops")
                for waiting in batch:
                    waiting.resolve(known)
                raise

    def _next_batch(self, written: int) -> list[_Waiting]:
        """Take what waits, up to half of all who are here, or up to a key that it has already.

        Those ``written`` last are taken to be here still: they are being answered, and come again
        while the other half is written. If all were taken, whoever comes first after them would be
        written alone, and everybody else together after that: the database and we would take turns.
        """
        batch: list[_Waiting] = []
        keys: set[str] = set()
        most = min(BATCH, (written + len(self._waiting) + 1) // 2)
        while self._waiting and len(batch) < most:
            key = self._waiting[0].key
            if key is not None:
                if key.key in keys:
                    break
                keys.add(key.key)
            batch.append(self._waiting.popleft())
        return batch

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        """Write a batch, and tell each who waits what became of it."""
        if all(one.ready for one in batch):
            batch = await self._write_as(self._book_at_once, batch)
        if batch:
            await self._write_as(self._transact, batch)

    async def _write_as(
        self, way: Callable[[Sequence[_Waiting]], Awaitable[_Outcomes]], batch: Sequence[_Waiting]
    ) -> Sequence[_Waiting]:
        """Write a batch in one way or the other; return those of whom nothing is known yet."""
        try:
            outcomes = await again_if_lost(partial(way, batch))
        except StatementRefused as error:
            if len(batch) > 1:
                # One that the schema refuses must not take its neighbours with it.
                for one in batch:
                    await self._write([one])
                return ()
            # An override that was committed after the statement began is seen by its trigger.
            taken = error.constraint in TAKEN
            outcomes = {batch[0]: SlotTaken([]) if taken else error}
        except Unavailable as error:
            # To whoever waits, and not to the supervisor: each who comes learns it at once, and
            # the next batch is the next try.
            outcomes = dict.fromkeys(batch, error)
        for one, outcome in outcomes.items():
            one.resolve(outcome)
        return [one for one in batch if one not in outcomes]

    async def _book_at_once(self, batch: Sequence[_Waiting]) -> _Outcomes:
        """Book what is free in one trip to the database; leave what something is in the way of."""
        chosen, _ = _apart(batch)
        ready = [one.ready for one in chosen if one.ready]
        held_until = self.desk.outbox.held_until()
        ids = await insert_free_and_tell(self.desk.database, [one.row for one in ready], held_until)
        self.desk.outbox.hand_over(
            (numbered(ready[place].told, appointment_id) for place, appointment_id in ids.items()),
            held_until,
        )
        return {
            chosen[place]: Confirmation(appointment_id, created=True)
            for place, appointment_id in ids.items()
        }

    async def _transact(self, batch: Sequence[_Waiting]) -> _Outcomes:
        async with self.desk.database.transaction() as connection:
            outcomes = await self._answered_before(connection, batch)
            pending = [one for one in batch if one not in outcomes]
            overriding = [one for one in pending if one.overriding]
            if overriding:
                # Before anything is written that others would wait for meanwhile.
                await lock_places(connection, [one.slot for one in overriding])
            outcomes |= await self._book(connection, [one for one in pending if not one.overriding])
            for one in overriding:
                outcomes[one] = await self._book_over(connection, one)
            await self._remember(connection, pending, outcomes)
        return outcomes

    async def _book(self, connection: Connection, pending: Sequence[_Waiting]) -> _Outcomes:
        """Book what is free, and refuse what is not.

        Each round writes what does not overlap within itself. What it leaves is in the way of
        something by then, or is free and comes with the next round. What comes to nothing in some
        rounds in a row must not take its neighbours with it.
        """
        outcomes: _Outcomes = {}
        made: list[Appointment] = []
        vain = 0
        while pending and vain < MOST_VAIN_ROUNDS:
            chosen, left = _apart(pending)
            ids = await insert_free(connection, [(one.booking, one.slot) for one in chosen])
            for place, one in enumerate(chosen):
                if place in ids:
                    outcomes[one] = Confirmation(ids[place], created=True)
                    made.append(one.made(ids[place]))
                else:
                    left.append(one)
            if left:
                outcomes |= await self._in_the_way_of(connection, left)
            before, pending = pending, [one for one in left if one not in outcomes]
            vain = vain + 1 if len(pending) == len(before) else 0
        outcomes |= dict.fromkeys(pending, LostRace("what was in the way went away in between"))
        if made:
            await self.desk.tell(connection, [(BOOKED, one) for one in made])
        return outcomes

    async def _in_the_way_of(self, connection: Connection, left: Sequence[_Waiting]) -> _Outcomes:
        """Return the outcome for those in whose way something is, be it the very same."""
        outcomes: _Outcomes = {}
        for place, found in await select_in_the_way(connection, [one.slot for one in left]):
            one = left[place]
            if one.is_booked_as(found):
                outcomes[one] = Confirmation(found.id, created=False)
            elif one not in outcomes:
                outcomes[one] = SlotTaken([found])
        return outcomes

    async def _book_over(self, connection: Connection, one: _Waiting) -> Confirmation:
        """Book whatever is in the way, unless it is the very same."""
        for _, found in await select_in_the_way(connection, [one.slot]):
            if one.is_booked_as(found):
                return Confirmation(found.id, created=False)
        made = one.made(await insert_overriding(connection, one.booking, one.slot))
        await self.desk.tell(connection, [(BOOKED, made)])
        return Confirmation(made.id, created=True)

    async def _answered_before(
        self, connection: Connection, batch: Sequence[_Waiting]
    ) -> _Outcomes:
        """Return the outcome for those whose key was used before."""
        keys = {one.key.key: one for one in batch if one.key is not None}
        if not keys:
            return {}
        outcomes: _Outcomes = {}
        for row in await select_keys(connection, list(keys)):
            one = keys[row["key"]]
            same = one.key is not None and one.key.fingerprint == row["fingerprint"]
            outcomes[one] = (
                Confirmation(row["appointment_id"], bool(row["created"])) if same else KeyReused()
            )
        return outcomes

    async def _remember(
        self, connection: Connection, batch: Sequence[_Waiting], outcomes: _Outcomes
    ) -> None:
        """Keep the confirmations of those that have a key, for as long as keys are kept."""
        used = [
            (one.key, outcome)
            for one in batch
            if one.key is not None and isinstance(outcome := outcomes[one], Confirmation)
        ]
        if used:
            now = utc_now()
            await delete_old_keys(connection, now)
            await insert_keys(
                connection,
                [
                    {
                        "key": key.key,
                        "fingerprint": key.fingerprint,
                        "appointment_id": confirmation.appointment_id,
                        "created": confirmation.created,
                    }
                    for key, confirmation in used
                ],
                now,
            )


def _apart(pending: Sequence[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
    """Divide into those of which no two overlap, first come first served, and the others.

    The former come in one order for all processes, so that two of them that write at once seldom
    wait for each other in a circle.
    """
    chosen: list[_Waiting] = []
    left: list[_Waiting] = []
    offices: defaultdict[str, list[Slot]] = defaultdict(list)
    doctors: defaultdict[str, list[Slot]] = defaultdict(list)
    for one in pending:
        slot = one.slot
        beside = [offices[slot.office_number]]
        if slot.doctor_name is not None:
            beside.append(doctors[slot.doctor_name])
        if any(slot.overlaps(other) for slots in beside for other in slots):
            left.append(one)
            continue
        chosen.append(one)
        for slots in beside:
            slots.append(slot)
    chosen.sort(key=lambda one: (one.slot.office_number, one.slot.date_time))
    return chosen, left
