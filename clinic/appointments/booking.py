"""Book: what a batch of bookings does to the book and to the event log."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from clinic.access import audit
from clinic.appointments.appointment import Appointment, Occupancy
from clinic.appointments.idempotency import (
    IdempotencyKey,
    KeyReused,
    delete_old_keys,
    hold_named,
    insert_keys,
    select_keys,
)
from clinic.appointments.queries import insert_free, lock_resources, request_row, select_same
from clinic.database import Connection, Database, Row, utc_now
from clinic.messaging.message import Message
from clinic.messaging.outbox import Outbox
from clinic.registry.queries import delete_resources, hold_version, insert_resources
from clinic.registry.records import NewResource, RegistryChanged


class NotFree(Exception):
    """The time was not free when the booking's turn came; why is for the desk to find out."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """That a booking stands in the book; ``created`` is false if it stood there already."""

    appointment_id: int
    created: bool


@dataclass(eq=False, slots=True)
class Request:
    """A booking on its way into the book: the appointment, and the event that tells of it.

    It was judged by a ``version`` of the registry. ``new`` are the office and the doctor that are
    to be registered with it.
    """

    appointment: Appointment
    event: Message
    key: IdempotencyKey | None
    version: int
    new: tuple[NewResource, ...]
    row: Row

    @classmethod
    def of(
        cls,
        appointment: Appointment,
        event: Message,
        key: IdempotencyKey | None,
        version: int,
        new: tuple[NewResource, ...] = (),
    ) -> "Request":
        """Return the request for an appointment whose number was drawn for it."""
        row = request_row(
            appointment,
            {
                "event_id": event.id,
                "event_type": event.type,
                "event_subject": event.subject,
                "event_body": event.body,
            },
        )
        return cls(appointment, event, key, version, new, row)

    @property
    def overrides(self) -> bool:
        """Whether to book it over others."""
        return self.appointment.override_reason is not None

    @property
    def plain(self) -> bool:
        """Whether one statement can do all there is to do."""
        return self.key is None and not self.overrides and not self.new


Outcomes = dict[Request, Confirmation | Exception]


async def book_plain(database: Database, outbox: Outbox, batch: Sequence[Request]) -> Outcomes:
    """Book what is free of a batch of plain requests of one version, in one round trip.

    Raises:
        RegistryChanged: it has another version now, and nothing was booked.
        StatementRefused: the schema refuses one of them, and nothing was booked.
        DatabaseUnavailable: the database cannot do it now.
    """
    chosen = apart(batch)
    held_until = outbox.held_until()
    rows = [request.row for request in chosen]
    booked = await insert_free(database, rows, batch[0].version, held_until)
    made = [request for request in chosen if request.appointment.id in booked]
    outbox.hand_over([request.event for request in made], held_until)
    return _outcomes(batch, made)


async def book_in_transaction(
    database: Database, outbox: Outbox, batch: Sequence[Request]
) -> Outcomes:
    """Book what is free of a batch of one version, in which some are not plain.

    Raises:
        RegistryChanged: it has another version now, and nothing was booked.
        LostRace: another process has used one of the keys, or registered one of the names, at this
            moment.
        StatementRefused: the schema refuses one of them, and nothing was booked.
        DatabaseUnavailable: the database cannot do it now.
    """
    async with database.transaction() as connection:
        outcomes = await _answered_before(connection, batch)
        pending = [request for request in batch if request not in outcomes]
        if await hold_version(connection) != batch[0].version:
            raise RegistryChanged
        outcomes |= await _register(connection, pending)
        pending = [request for request in pending if request not in outcomes]
        overriding = [request for request in pending if request.overrides]
        if overriding:
            # Before anything is written that others would wait for meanwhile.
            await lock_resources(
                connection, [request.appointment.occupancy for request in overriding]
            )
            outcomes |= await _standing(connection, overriding)
        chosen = apart([request for request in pending if request not in outcomes])
        held_until = outbox.held_until()
        booked: set[int] = set()
        # Overrides come after what they override: the schema judges a statement as a whole.
        for over in (False, True):
            rows = [request.row for request in chosen if request.overrides is over]
            if rows:
                booked |= await insert_free(connection, rows, batch[0].version, held_until)
        made = [request for request in chosen if request.appointment.id in booked]
        outcomes |= _outcomes([one for one in pending if one not in outcomes], made)
        left = [one for one in pending if isinstance(outcomes[one], NotFree)]
        outcomes |= await _standing(connection, left)
        await _take_back(connection, pending, outcomes)
        for new in (one for request in made for one in request.new):
            await audit.write(connection, new.registered(), new.act)
        await _remember(connection, pending, outcomes)
        connection.after_commit(
            partial(outbox.hand_over, [request.event for request in made], held_until)
        )
    return outcomes


def apart(batch: Sequence[Request]) -> list[Request]:
    """Return those of a batch of which no two overlap, first come first served, and overrides.

    They are in one order for all processes, so that two that write at once seldom deadlock.
    """
    chosen: list[Request] = []
    taken_of: defaultdict[int, list[Occupancy]] = defaultdict(list)
    seen: set[tuple[str, Occupancy]] = set()
    for request in batch:
        wanted = request.appointment.occupancy
        if request.overrides:
            # The very same twice is one, as when it stands in the book already.
            same = (request.appointment.patient_name, wanted)
            if same not in seen:
                seen.add(same)
                chosen.append(request)
            continue
        beside = [taken_of[wanted.office_id]]
        if wanted.doctor_id is not None:
            beside.append(taken_of[wanted.doctor_id])
        if any(wanted.overlaps(other) for taken in beside for other in taken):
            continue
        chosen.append(request)
        for taken in beside:
            taken.append(wanted)
    chosen.sort(key=_place)
    return chosen


def _place(request: Request) -> tuple[bool, int, object]:
    appointment = request.appointment
    return request.overrides, appointment.office_id, appointment.date_time


def _outcomes(batch: Sequence[Request], made: Sequence[Request]) -> Outcomes:
    outcomes: Outcomes = {request: NotFree() for request in batch}
    for request in made:
        outcomes[request] = Confirmation(request.appointment.id, created=True)
    return outcomes


async def _answered_before(connection: Connection, batch: Sequence[Request]) -> Outcomes:
    """Return the outcome for those whose key was used before."""
    keys = {request.key.key: request for request in batch if request.key is not None}
    if not keys:
        return {}
    outcomes: Outcomes = {}
    for kept in await select_keys(connection, list(keys)):
        request = keys[kept.key]
        same = request.key is not None and request.key.fingerprint == kept.fingerprint
        outcomes[request] = Confirmation(kept.appointment_id, kept.created) if same else KeyReused()
    return outcomes


async def answered(database: Database, key: IdempotencyKey) -> Confirmation | None:
    """Return what was answered to a request with this key, or None.

    Raises:
        KeyReused: the key was used for another booking.
        DatabaseUnavailable: the database cannot do it now.
    """
    for kept in await select_keys(database, [key.key]):
        if kept.fingerprint != key.fingerprint:
            raise KeyReused
        return Confirmation(kept.appointment_id, kept.created)
    return None


async def keep(database: Database, key: IdempotencyKey, confirmation: Confirmation) -> None:
    """Keep what was answered to a request with this key.

    Raises:
        LostRace: another process has used it at this very moment, or the patient was erased.
        DatabaseUnavailable: the database cannot do it now.
    """
    async with database.transaction() as connection:
        await _keep(connection, [(key, confirmation)])


async def _standing(connection: Connection, batch: Sequence[Request]) -> Outcomes:
    """Return the confirmation of those that stand in the book already."""
    if not batch:
        return {}
    same = await select_same(connection, [request.row for request in batch])
    return {
        request: Confirmation(same[request.appointment.id], created=False)
        for request in batch
        if request.appointment.id in same
    }


async def _register(connection: Connection, batch: Sequence[Request]) -> Outcomes:
    """Register the offices and doctors that are new; return the requests that have to come again.

    Those are requests whose names somebody has registered since they were looked up, or that come
    after another of the batch with the same.
    """
    first: dict[tuple[str, str], NewResource] = {}
    for request in batch:
        for one in request.new:
            first.setdefault((one.kind, one.key), one)
    if not first:
        return {}
    # In one order for all processes, so that no two deadlock.
    asked = [first[key] for key in sorted(first)]
    registered = await insert_resources(connection, asked)
    again: Outcomes = {
        request: RegistryChanged()
        for request in batch
        if any(one.id not in registered for one in request.new)
    }
    await _take_back(connection, list(again), again)
    return again


async def _take_back(connection: Connection, batch: Sequence[Request], outcomes: Outcomes) -> None:
    """Take back what was registered for bookings that were not made."""
    ids = [
        one.id
        for request in batch
        if isinstance(outcomes[request], Exception)
        for one in request.new
    ]
    if ids:
        await delete_resources(connection, ids)


async def _remember(connection: Connection, batch: Sequence[Request], outcomes: Outcomes) -> None:
    """Keep the confirmations of those that have a key, for as long as keys are kept."""
    used = [
        (request.key, outcome)
        for request in batch
        if request.key is not None and isinstance(outcome := outcomes[request], Confirmation)
    ]
    if used:
        await _keep(connection, used)


async def _keep(
    connection: Connection, used: Sequence[tuple[IdempotencyKey, Confirmation]]
) -> None:
    now = utc_now()
    stood = [one.appointment_id for _, one in used if not one.created]
    await hold_named(connection, stood)
    await delete_old_keys(connection, now)
    keys = [
        {
            "key": key.key,
            "fingerprint": key.fingerprint,
            "appointment_id": confirmation.appointment_id,
            "created": confirmation.created,
        }
        for key, confirmation in used
    ]
    await insert_keys(connection, keys, now)
