"""What stands in a closure: the appointments to move or cancel; and to cancel them together."""

import contextlib
import dataclasses
import datetime
import zoneinfo
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from clinic.appointments.appointment import (
    LONGEST_ON_CLOCKS,
    TRANSITIONS,
    Appointment,
    IllegalTransition,
)
from clinic.appointments.changing import steps
from clinic.appointments.queries import SELECT, appointment_of
from clinic.appointments.reasons import insert_reasons
from clinic.database import (
    Connection,
    Database,
    DatabaseUnavailable,
    OutcomeUnknown,
    Sql,
    again_if_lost,
    utc_now,
)
from clinic.events import Status, tell
from clinic.messaging.outbox import Outbox
from clinic.registry.queries import select_exceptional_by_id
from clinic.registry.records import NoSuchRecord
from clinic.registry.schedule import FIRST_PAGE
from clinic.registry.timetable import Exceptional

Result = TypeVar("Result")

# Appointments that are cancelled in one transaction: bookings wait for it on SQLite.
PIECE = 100
# ... and for one request, which is sent again for the rest.
MOST_CANCELLED = 1000

# In these an appointment takes up time that is still to come, or goes on just now.
OPEN: tuple[Status, ...] = ("booked", "arrived", "in_room")
CANCELLABLE: tuple[Status, ...] = tuple(
    status for status in OPEN if "cancelled" in TRANSITIONS[status]
)

UNDER_WAY: tuple[Status, ...] = tuple(status for status in OPEN if status not in CANCELLABLE)
CHANGED = "Somebody has changed it since: look at it again, then cancel it in its new version."

# Whose appointments stand in a closure, each by an index of its own.
WHOSE: dict[tuple[bool, bool], str] = {
    (False, False): "true",
    (True, False): "office_id = :office_id",
    (False, True): "doctor_id = :doctor_id",
    (True, True): "office_id = :office_id and doctor_id = :doctor_id",
}
WITHIN = """
    date_time < :ends and end_time > :begins and (date_time, appointment.id) > (:after, :after_id)
"""

After = tuple[datetime.datetime, int]
"""The time and the id after which a page begins."""


@dataclass(frozen=True, slots=True)
class NotCancelled:
    """An appointment that was not cancelled: why; ``status`` is None if it is not there."""

    id: int
    status: Status | None
    detail: str


@dataclass
class Cancellation:
    """What became of the appointments in a closure: ids, and why some were not cancelled.

    ``left`` are still to be cancelled, if somebody wants so.
    """

    cancelled: list[int] = field(default_factory=list)
    cancelled_before: list[int] = field(default_factory=list)
    not_cancelled: list[NotCancelled] = field(default_factory=list)
    left: int = 0


async def select_standing(  # noqa: PLR0913 - what is looked for
    connection: Connection,
    closure: Exceptional,
    limit: int,
    *,
    after: After | None = None,
    statuses: Sequence[Status] = OPEN,
    for_change: bool = False,
) -> list[Appointment]:
    """Return appointments that stand in a closure, in order of time and id.

    With ``for_change`` nobody else can change them until the transaction ends.
    """
    where, values = _where(closure, statuses, after)
    select = f"{SELECT} where {where} order by date_time, appointment.id limit :limit"
    lock = " for update of appointment" if for_change else ""
    # On SQLite a transaction that writes is alone anyway.
    statement = Sql(sqlite=select, postgresql=select + lock)
    rows = await connection.fetch_all(statement, {**values, "limit": limit})
    return [appointment_of(row) for row in rows]


async def count_standing(
    connection: Connection, closure: Exceptional, statuses: Sequence[Status] = OPEN
) -> int:
    """Return how many appointments stand in a closure."""
    where, values = _where(closure, statuses, None)
    (row,) = await connection.fetch_all(
        f"select count(*) as count from appointment where {where}",  # noqa: S608 - our own words
        values,
    )
    return int(row["count"])


def _where(
    closure: Exceptional, statuses: Sequence[Status], after: After | None
) -> tuple[str, dict[str, object]]:
    place = closure.place
    whose = {"office_id": place.office_id, "doctor_id": place.doctor_id}
    named = ", ".join(f"'{status}'" for status in statuses)
    whose_words = WHOSE[place.office_id is not None, place.doctor_id is not None]
    # No appointment that begins before this lasts until then.
    earliest = closure.begins - LONGEST_ON_CLOCKS
    values = {
        "begins": closure.begins,
        "ends": closure.ends,
        "after": after[0] if after else earliest,
        "after_id": after[1] if after else 0,
        **{name: number for name, number in whose.items() if number is not None},
    }
    return f"{whose_words} and status in ({named}) and {WITHIN}", values


# In the order of ``select_standing``, so that no two who lock them deadlock.
SELECT_FOR_CHANGE = Sql(
    sqlite=SELECT  # noqa: S608 - our own words
    + """
        where appointment.id in (select value from json_each(:ids))
        order by date_time, appointment.id
    """,
    postgresql=SELECT  # noqa: S608
    + """
        where appointment.id in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        )
        order by date_time, appointment.id for update of appointment
    """,
)
UPDATE_CANCELLED = Sql(
    sqlite="""
        update appointment set status = 'cancelled', version = version + 1
        where id in (select value from json_each(:ids))
    """,
    postgresql="""
        update appointment set status = 'cancelled', version = version + 1
        where id in (select cast(value as bigint) from json_array_elements_text(cast(:ids as json)))
    """,
)


@dataclass(frozen=True)
class Cancelling:
    """Cancels what stands in a closure: each with its event, in transactions of bounded size."""

    database: Database
    outbox: Outbox
    zone: zoneinfo.ZoneInfo

    async def all(self, closure_id: int, reason: str) -> Cancellation:
        """Cancel what stands in a closure, up to ``MOST_CANCELLED``.

        Raises:
            NoSuchRecord: there is no closure with this id.
            OutcomeUnknown: some were cancelled; to ask again is safe.
            DatabaseUnavailable: the database cannot do it now, and none was.
        """
        done = Cancellation()

        async def piece() -> tuple[list[int], bool]:
            async with self.database.transaction() as connection:
                closure = await _closure(connection, closure_id)
                found = await select_standing(
                    connection, closure, PIECE, statuses=CANCELLABLE, for_change=True
                )
                await self._cancel(connection, found, reason)
                # Those that somebody else has cancelled while this waited are missing, too.
                more = len(found) == PIECE or await count_standing(connection, closure, CANCELLABLE)
                return [one.id for one in found], bool(more)

        with _until_it_is_gone(done):
            more = True
            while more and len(done.cancelled) < MOST_CANCELLED:
                cancelled, more = await self._one(piece, done)
                done.cancelled += cancelled
            await self._count(closure_id, done, others=True)
        return done

    async def some(self, closure_id: int, reason: str, versions: Mapping[int, int]) -> Cancellation:
        """Cancel those of some appointments that stand in a closure, each in the version given.

        Raises:
            NoSuchRecord: there is no closure with this id.
            OutcomeUnknown: some were cancelled; to ask again is safe.
            DatabaseUnavailable: the database cannot do it now, and none was.
        """
        done = Cancellation()
        ids = sorted(versions)
        with _until_it_is_gone(done):
            for first in range(0, len(ids), PIECE):
                those = {number: versions[number] for number in ids[first : first + PIECE]}
                piece = partial(self._piece, closure_id, reason, those)
                found = await self._one(piece, done)
                done.cancelled += found.cancelled
                done.cancelled_before += found.cancelled_before
                done.not_cancelled += found.not_cancelled
            await self._count(closure_id, done, others=False)
        return done

    async def _piece(
        self, closure_id: int, reason: str, versions: Mapping[int, int]
    ) -> Cancellation:
        async with self.database.transaction() as connection:
            closure = await _closure(connection, closure_id)
            rows = await connection.fetch_all(SELECT_FOR_CHANGE, {"ids": list(versions)})
            found = {one.id: one for one in map(appointment_of, rows)}
            done = Cancellation()
            for number, version in versions.items():
                judge(done, closure, number, found.get(number), version)
            await self._cancel(connection, [found[number] for number in done.cancelled], reason)
            return done

    async def _cancel(
        self, connection: Connection, appointments: Sequence[Appointment], reason: str
    ) -> None:
        if not appointments:
            return
        now, events, changed = utc_now(), [], []
        for current in appointments:
            target = dataclasses.replace(current, status="cancelled")
            for kind, made in steps(current, target):
                changed.append(made)
                events.append(tell(kind, made.facts(self.zone.key), now).message())
        await connection.execute(UPDATE_CANCELLED, {"ids": [one.id for one in appointments]})
        await self.outbox.append(connection, events)
        await insert_reasons(connection, changed, reason)

    async def _one(self, piece: Callable[[], Awaitable[Result]], done: Cancellation) -> Result:
        """Carry out one transaction of several.

        Raises:
            OutcomeUnknown: it was not done, but those before were.
            DatabaseUnavailable: the database cannot do it now, and there were none before.
        """
        try:
            return await again_if_lost(piece)
        except DatabaseUnavailable as error:
            if not done.cancelled:
                raise
            raise OutcomeUnknown(str(error)) from error

    async def _count(self, closure_id: int, done: Cancellation, *, others: bool) -> None:
        """Note how many are left, and with ``others`` which cannot be cancelled, and why."""

        async def count() -> None:
            async with self.database.snapshot() as connection:
                closure = await _closure(connection, closure_id)
                done.left = await count_standing(connection, closure, CANCELLABLE)
                if others:
                    under_way = await select_standing(
                        connection, closure, FIRST_PAGE, statuses=UNDER_WAY
                    )
                    done.not_cancelled = [_illegal(one) for one in under_way]

        await self._one(count, done)


@contextlib.contextmanager
def _until_it_is_gone(done: Cancellation) -> Iterator[None]:
    """End early if somebody takes the closure back meanwhile: nothing stands in it any more.

    Raises:
        NoSuchRecord: it was not there from the beginning.
    """
    try:
        yield
    except NoSuchRecord:
        if not done.cancelled:
            raise


async def _closure(connection: Connection, closure_id: int) -> Exceptional:
    found = await select_exceptional_by_id(connection, closure_id, opens=False)
    if found is None:
        raise NoSuchRecord
    return found


def judge(
    done: Cancellation,
    closure: Exceptional,
    number: int,
    current: Appointment | None,
    version: int,
) -> None:
    """Note whether an appointment is to be cancelled, was before, or why it is not."""
    if current is not None and current.status == "cancelled":
        done.cancelled_before.append(number)
    elif current is None or not stands_in(current, closure):
        status = current.status if current else None
        done.not_cancelled.append(NotCancelled(number, status, "It does not stand in the closure."))
    elif current.status not in CANCELLABLE:
        done.not_cancelled.append(_illegal(current))
    elif current.version != version:
        done.not_cancelled.append(NotCancelled(number, current.status, CHANGED))
    else:
        done.cancelled.append(number)


def stands_in(appointment: Appointment, closure: Exceptional) -> bool:
    """Tell whether an appointment stands in a closure, as ``select_standing`` finds it."""
    place = closure.place
    return (
        appointment.status in OPEN
        and appointment.date_time < closure.ends
        and appointment.end_time > closure.begins
        and place.office_id in (None, appointment.office_id)
        and place.doctor_id in (None, appointment.doctor_id)
    )


def _illegal(appointment: Appointment) -> NotCancelled:
    detail = str(IllegalTransition(appointment.status, "cancelled"))
    return NotCancelled(appointment.id, appointment.status, detail)
