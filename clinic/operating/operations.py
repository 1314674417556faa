"""List what is not solved; plan what to do with it, start and stop that.

An operation is planned before it is carried out: that fixes what it is about, by a filter and by
the last position of the index at that moment. Whatever is set aside later is none of its business.
"""

import asyncio
import datetime
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from http import HTTPStatus

import anyio

from clinic.access import audit
from clinic.database import Connection, Database, Row, again_if_lost, utc_now
from clinic.events import OLDER_REASON
from clinic.messaging.attempts import select_attempts
from clinic.messaging.broker import Broker
from clinic.messaging.message import Message
from clinic.messaging.set_aside import unpacked
from clinic.operating.queries import (
    insert_operation,
    select_groups,
    select_last,
    select_of_operation,
    select_one,
    select_operation,
    select_operations,
    select_planned,
    select_results,
    select_waiting,
    update_status,
)
from clinic.operating.selection import EVERYTHING, Selection
from clinic.supervisor import Unavailable
from clinic.web.refusals import Refusal

# How long a list waits for the broker to say how many messages its queue has.
COUNT_SECONDS = 2.0
# How long what it said is told to others who ask.
COUNTED_SECONDS = 1.0


class Verb(StrEnum):
    """What an operation does with the messages that it is about."""

    REPLAY = "replay"
    """Send them round again; those whose events are recorded already are dropped."""
    DISCARD = "discard"
    """Take them out of not solved, and keep them in the database for the retention."""
    RESTORE = "restore"
    """Set discarded ones aside again."""
    CHECK = "check"
    """Walk through the queue, and correct the index by it."""


class Status(StrEnum):
    """How far an operation has come."""

    PLANNED = "planned"
    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"


# What a status may be changed to, and from which.
FROM = {
    Status.RUNNING: (Status.PLANNED, Status.STOPPED),
    Status.STOPPED: (Status.RUNNING,),
}


class NoSuchMessage(Refusal):
    """There is no message with this id."""

    status = HTTPStatus.NOT_FOUND
    slug = "no-such-message"
    title = "There is no such message"
    explanation = "No message that was set aside has this id, or it was forgotten long since."
    detail = "No message that was set aside has this id."


class NoSuchOperation(Refusal):
    """There is no operation with this id."""

    status = HTTPStatus.NOT_FOUND
    slug = "no-such-operation"
    title = "There is no such operation"
    explanation = "No operation has this id, or it was forgotten long since."
    detail = "No operation has this id."


class CannotBecome(Refusal):
    """The operation has another status."""

    status = HTTPStatus.CONFLICT
    slug = "operation-status"
    title = "The operation has another status"
    explanation = (
        "Only what is planned or stopped can be started, and only what is running can be stopped."
    )
    detail = explanation


@dataclass(frozen=True)
class Operation:
    """Something planned for messages that were set aside.

    ``messages`` is how many it was about when it was planned: ``recorded`` of them are recorded
    already, and ``foreign_messages`` are no events of this clinic. ``in_hand`` are the positions
    of those that are being taken out. ``results`` counts by state those that it has dealt with.
    """

    id: int
    verb: Verb
    selection: Selection
    up_to: int
    messages: int
    recorded: int
    foreign_messages: int
    reason: str | None
    rate: int | None
    status: Status
    planned_by: str
    planned_at: datetime.datetime
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    trouble: str | None
    in_hand: tuple[int, ...]
    results: dict[str, int] = field(default_factory=dict)

    @property
    def dealt_with(self) -> int:
        """How many messages it has dealt with."""
        return sum(self.results.values())


@dataclass(frozen=True)
class Shown:
    """A row of the index with all there is to it: the message, and the attempts at it."""

    row: Row
    message: Message | None
    attempts: Sequence[Row]


@dataclass
class Operations:
    """What can be done with the messages that are not solved."""

    database: Database
    broker: Broker
    clock: Callable[[], datetime.datetime] = utc_now
    _counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _counted: tuple[float, int | None] = (float("-inf"), None)

    async def groups(self, selection: Selection = EVERYTHING) -> list[Row]:
        """Return the kinds of error of what waits, the most frequent first."""
        return await select_groups(self.database, selection)

    async def waiting(self, selection: Selection, past: int, limit: int) -> list[Row]:
        """Return what waits, oldest first, after a position of the index."""
        return await select_waiting(self.database, selection, past, limit)

    async def dealt_with(self, operation_id: int, past: int, limit: int) -> list[Row]:
        """Return what an operation has dealt with, after a position of the index.

        Raises:
            NoSuchOperation: there is none with this id.
        """
        await self.show_operation(operation_id)
        return await select_of_operation(self.database, operation_id, past, limit)

    async def in_queue(self) -> int | None:
        """Return how many messages the broker has set aside, or None if it does not tell now.

        Messages that an operation holds at this moment are not among them. However many ask, the
        broker is asked once in ``COUNTED_SECONDS``: it takes connections.
        """
        async with self._counting:
            at, counted = self._counted
            if time.monotonic() >= at + COUNTED_SECONDS:
                counted = await self._count()
                self._counted = time.monotonic(), counted
            return counted

    async def _count(self) -> int | None:
        with anyio.move_on_after(COUNT_SECONDS):
            try:
                async with self.broker.set_aside() as session:
                    return await session.count()
            except Unavailable:
                return None
        return None

    async def show(self, position: int) -> Shown:
        """Return a message that was set aside.

        Raises:
            NoSuchMessage: there is none with this id.
        """
        row = await select_one(self.database, position)
        if row is None:
            raise NoSuchMessage
        message = None
        attempts: Sequence[Row] = ()
        if row["event_id"] is not None:
            message = Message(row["event_id"], row["logged_type"], row["subject"], row["body"])
            async with self.database.snapshot() as connection:
                attempts = await select_attempts(connection, [row["event_id"]])
        elif row["message"] is not None:
            message = unpacked(row["message"])
        return Shown(row, message, attempts)

    async def plan(
        self,
        verb: Verb,
        selection: Selection,
        by: str,
        reason: str | None = None,
        rate: int | None = None,
    ) -> Operation:
        """Fix what an operation is about, and return it; it does nothing until it is started."""

        async def transact() -> int:
            async with self.database.transaction() as connection:
                planned = await planned_of(connection, verb, selection)
                operation = {
                    **planned,
                    "verb": str(verb),
                    "selection": selection.packed(),
                    "reason": reason,
                    "rate": rate,
                    "planned_by": by,
                    "planned_at": self.clock(),
                }
                number = await insert_operation(connection, operation)
                detail = {"verb": str(verb), "messages": planned["messages"]}
                change = audit.Change("operation.planned", f"operation/{number}", detail)
                await audit.write(connection, change)
                return number

        return await self.show_operation(await again_if_lost(transact))

    async def show_operation(self, operation_id: int) -> Operation:
        """Return an operation, with what has come of it.

        Raises:
            NoSuchOperation: there is none with this id.
        """
        row = await select_operation(self.database, operation_id)
        if row is None:
            raise NoSuchOperation
        results = await select_results(self.database, [operation_id])
        return operation_from(row, results[operation_id])

    async def newest(self, limit: int) -> list[Operation]:
        """Return the newest operations, the newest first."""
        rows = await select_operations(self.database, limit)
        results = await select_results(self.database, [row["id"] for row in rows])
        return [operation_from(row, results[row["id"]]) for row in rows]

    async def bring_to(self, operation_id: int, status: Status) -> Operation:
        """Start an operation or stop it, and return it; it is no error if it is so already.

        Raises:
            NoSuchOperation: there is none with this id.
            CannotBecome: it is done, or was never started.
        """
        change = partial(self._change, operation_id, status)
        if not await again_if_lost(change):
            found = await self.show_operation(operation_id)
            if found.status is not status:
                raise CannotBecome
        return await self.show_operation(operation_id)

    async def _change(self, operation_id: int, status: Status) -> bool:
        async with self.database.transaction() as connection:
            changed = await update_status(
                connection, operation_id, FROM[status], status, self.clock()
            )
            if changed:
                change = audit.Change(f"operation.{status}", f"operation/{operation_id}")
                await audit.write(connection, change)
            return changed


async def planned_of(connection: Connection, verb: Verb, selection: Selection) -> Row:
    """Return how many messages an operation will be about, and the last position."""
    if verb is Verb.CHECK:
        up_to = await select_last(connection)
        return {"messages": 0, "recorded": 0, "foreign_messages": 0, "up_to": up_to}
    state = "discarded" if verb is Verb.RESTORE else "waiting"
    return await select_planned(connection, state, selection)


def operation_from(row: Row, results: dict[str, int]) -> Operation:
    """Return the operation that a row stands for."""
    told = {
        **row,
        "in_hand": tuple(json.loads(row["in_hand"])),
        "verb": Verb(row["verb"]),
        "selection": Selection.unpacked(row["selection"]),
        "status": Status(row["status"]),
        **{name: moment(row[name]) for name in ("planned_at", "started_at", "ended_at")},
    }
    return Operation(**told, results=results)


def moment(value: datetime.datetime | str | None) -> datetime.datetime | None:
    """Return a moment that was read from a row."""
    return datetime.datetime.fromisoformat(value) if isinstance(value, str) else value


def preview(operation: Operation) -> str:
    """Return in one sentence what an operation is about, and what will come of it."""
    if operation.verb is Verb.CHECK:
        return "Walk through the queue, and correct the index by it."
    about = (
        f"{operation.messages:,} messages, up to position {operation.up_to:,}, by this filter: "
        f"{operation.selection.words()}"
    )
    if operation.verb is not Verb.REPLAY:
        return f"{about}."
    fresh = operation.messages - operation.recorded - operation.foreign_messages
    said = [f"{fresh:,} will be recorded"]
    if operation.recorded:
        said.append(f"{operation.recorded:,} are recorded already and will be dropped")
    if operation.foreign_messages:
        said.append(
            f"{operation.foreign_messages:,} are no events of this clinic and will be set aside "
            "again"
        )
    return f"{about}: {', '.join(said)}."


def advice(row: Row) -> str:
    """Return what a person can do with a message that is not solved."""
    if row["kind"] == "OlderMessage":
        return f"This is {OLDER_REASON}."
    if row["event_id"] is None:
        return (
            "This is no event of this clinic, and a replay sets it aside again: find out who "
            "publishes to the main queue, and discard it."
        )
    return "This is an event of this clinic: replay it when the error is mended."
