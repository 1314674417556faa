"""Carry out operations: walk through the queue, and deal with the messages in chunks.

Each chunk first writes down which messages it has in hand; then the broker takes them out; then
their ends are written down. So wherever a process dies, the next one finds out: a message that was
in hand and is still in the queue is taken out now; one that is not in the queue any more was taken
out. A message is never out of not solved before it is safely in main, or kept in the database.

Whoever holds the lease carries out operations, one at a time, since a walk holds what it has seen.
"""

import datetime
import logging
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import anyio

from clinic.analytics.queries import select_recorded
from clinic.database import Connection, Database, Row, again_if_lost, utc_now
from clinic.messaging.broker import Aside, Broker, NotSolved
from clinic.messaging.consumer import Recognise, Standing
from clinic.messaging.message import Message
from clinic.messaging.outbox import Outbox
from clinic.messaging.set_aside import (
    Describe,
    SetAside,
    insert_set_aside,
    kind_of,
    packed,
    packed_if_small,
    unpacked,
)
from clinic.operating.operations import Operation, Status, Verb, operation_from
from clinic.operating.queries import (
    claim_lease,
    give_back_lease,
    renew_lease,
    select_discarded,
    select_of_keys,
    select_planned,
    select_running,
    update_in_hand,
    update_missing,
    update_not_found,
    update_states,
    update_status,
    update_taken,
    update_trouble,
)
from clinic.operating.selection import Selection
from clinic.supervisor import Unavailable

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

# Messages that are taken out at a time. With smaller chunks a replay waits more for the database:
# those of 400 had a quarter of a relay's rate.
CHUNK = 1000
# How long a process may take over a chunk before another one goes on with the operation: longer
# than a broker may take to confirm it.
LEASE = datetime.timedelta(seconds=15)
# How long to try to give the lease back.
GIVE_BACK_SECONDS = 1.0
LONGEST_TROUBLE = 500
# A consumer writes its rows within some 10 ms.
JOURNAL_SECONDS = 0.3

NO_EVENT = "Nobody gave a reason; the clinic found it in the queue."


class Interrupted(Exception):
    """The operation is not to go on here: it was stopped, or another process goes on with it."""


@dataclass(frozen=True, slots=True)
class Matched:
    """A message in the queue, and its row of the index."""

    aside: Aside
    position: int
    event_id: str | None


@dataclass
class Walk:
    """One walk through the queue: which rows of the index were seen, how many are left to find.

    ``in_hand`` are those of which it is not known yet whether they were taken out: those of the
    chunk, and those that a process had in hand when it died.
    """

    operation: Operation
    left: int
    seen: set[int] = field(default_factory=set)
    in_hand: set[int] = field(default_factory=set)

    @property
    def selection(self) -> Selection:
        """What the operation is about."""
        return self.operation.selection

    @property
    def up_to(self) -> int:
        """The last row that it is about: a check deals with none."""
        return 0 if self.operation.verb is Verb.CHECK else self.operation.up_to


@dataclass
class Worker:
    """Carries out what is running, if nobody else does.

    ``recognise`` and ``describe`` tell what a message is that the index does not know.
    """

    database: Database
    broker: Broker
    outbox: Outbox
    recognise: Recognise
    describe: Describe
    clock: Callable[[], datetime.datetime] = utc_now
    name: str = field(default_factory=lambda: str(uuid.uuid4()))

    async def work(self, stopping: Callable[[], bool]) -> bool:
        """Carry out the oldest operation that is running; return whether there was any to do.

        It ends early, between two chunks, once ``stopping`` says so.

        Raises:
            Unavailable: the database or the broker is away. The operation goes on later.
        """
        if await select_running(self.database) is None or not await self._transact(self._claim):
            return False
        try:
            # Read anew: who held the lease before may have gone on with it meanwhile.
            row = await select_running(self.database)
            if row is None:
                return False
            await self._attempt(operation_from(row, {}), stopping)
        except Interrupted:
            return False
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(GIVE_BACK_SECONDS):
                await give_back_lease(self.database, self.name)
        return True

    async def _attempt(self, operation: Operation, stopping: Callable[[], bool]) -> None:
        try:
            await self._carry_out(operation, stopping)
        except Unavailable as error:
            await update_trouble(self.database, operation.id, str(error)[:LONGEST_TROUBLE])
            raise

    async def _carry_out(self, operation: Operation, stopping: Callable[[], bool]) -> None:
        async with self.broker.set_aside() as session:
            log.info("%s %d: begun or taken up again", operation.verb, operation.id)
            if operation.trouble:
                await update_trouble(self.database, operation.id, None)
            if operation.verb is Verb.RESTORE:
                await self._restore(operation, session, stopping)
            else:
                await self._walk(operation, session, stopping)
        log.info("%s %d: done", operation.verb, operation.id)

    async def _walk(
        self, operation: Operation, session: NotSolved, stopping: Callable[[], bool]
    ) -> None:
        left = await self._transact(partial(self._left, operation))
        walk = Walk(operation, left, in_hand=set(operation.in_hand))
        while walk.left > 0 or operation.verb is Verb.CHECK:
            found = await session.look()
            if not found:
                break
            matched = await self._rows(walk, found)
            for chunk in chunks(matched, chunk_size(operation)):
                check_stop(stopping)
                await self._take_out(walk, session, chunk)
                walk.left -= len(chunk)
                await self._keep_rate(operation, len(chunk))
            check_stop(stopping)
        await self._transact(partial(self._finish, walk))

    async def _left(self, operation: Operation, connection: Connection) -> int:
        """Return how many messages there are to be found."""
        await self._go_on(connection, operation)
        if operation.verb is Verb.CHECK:
            return 0
        planned = await select_planned(connection, "waiting", operation.selection, operation.up_to)
        return int(planned["messages"])

    async def _rows(self, walk: Walk, found: Sequence[Aside]) -> list[Matched]:
        """Find the row of each message; return those that the operation is about.

        A message without a row gets one, but not before a consumer that has only just set it aside
        has had the time to write it.
        """
        matched, seen, unknown = await self._transact(partial(self._match, walk, found))
        walk.seen |= seen
        if unknown:
            await anyio.sleep(JOURNAL_SECONDS)
            late, seen, unknown = await self._transact(partial(self._match, walk, unknown))
            walk.seen |= seen
            matched += late
        if unknown:
            walk.seen |= await self._transact(partial(self._adopt, unknown))
        return matched

    async def _match(
        self, walk: Walk, found: Sequence[Aside], connection: Connection
    ) -> tuple[list[Matched], set[int], list[Aside]]:
        """Find the row of each message; return what is selected, all rows, and what has none.

        Messages that are alike to the last byte are each other's equals, so any of their rows will
        do. A row that was missing is there again.
        """
        operation = walk.operation
        await self._go_on(connection, operation)
        keys = list(dict.fromkeys(one.key for one in found))
        rows: defaultdict[str, list[Row]] = defaultdict(list)
        for row in await select_of_keys(connection, keys, walk.selection, walk.up_to):
            if row["position"] not in walk.seen:
                rows[row["key"]].append(row)
        matched: list[Matched] = []
        seen: set[int] = set()
        unknown: list[Aside] = []
        back: list[int] = []
        for one in found:
            candidates = sorted(rows[one.key], key=lambda row: not row["selected"])
            if not candidates:
                unknown.append(one)
                continue
            row = candidates[0]
            rows[one.key].remove(row)
            seen.add(row["position"])
            if row["selected"]:
                matched.append(Matched(one, row["position"], row["event_id"]))
            elif row["state"] == "missing":
                back.append(row["position"])
        if back:
            states = [{"position": position, "state": "waiting"} for position in back]
            await update_states(connection, states, None, self.clock())
        return matched, seen, unknown

    async def _adopt(self, found: Sequence[Aside], connection: Connection) -> set[int]:
        """Write messages into the index that somebody else put into the queue."""
        now = self.clock()
        standings = await self.recognise(connection, [one.message for one in found])
        rows = []
        for one, standing in zip(found, standings, strict=True):
            known = standing is not Standing.FOREIGN
            about = self.describe(one.message)
            rows.append(
                SetAside(
                    key=one.key,
                    event_id=one.message.id if known else None,
                    event_type=about.event_type,
                    office_id=about.office_id,
                    kind=kind_of(one.reason),
                    reason=one.reason.replace("\0", "").encode("utf-8", "replace").decode()
                    or NO_EVENT,
                    deliveries=one.attempts,
                    set_aside_at=now,
                    message=None if known else packed_if_small(one.message),
                )
            )
        return await insert_set_aside(connection, rows)

    async def _take_out(self, walk: Walk, session: NotSolved, chunk: Sequence[Matched]) -> None:
        """Replay or discard a chunk; see this module."""
        walk.in_hand |= {one.position for one in chunk}
        if walk.operation.verb is Verb.REPLAY:
            recorded = await self._transact(partial(self._begin_replay, walk, chunk))
            drop = [one for one in chunk if one.event_id in recorded]
            await session.replay([one.aside for one in chunk if one.event_id not in recorded])
            await session.discard([one.aside for one in drop])
            ends = {one.position: "replayed" for one in chunk}
            ends |= {one.position: "dropped" for one in drop}
        else:
            await self._transact(partial(self._begin_discard, walk, chunk))
            await session.discard([one.aside for one in chunk])
            ends = {one.position: "discarded" for one in chunk}
        walk.in_hand -= ends.keys()
        await self._transact(partial(self._end, walk, ends))

    async def _begin_replay(
        self, walk: Walk, chunk: Sequence[Matched], connection: Connection
    ) -> set[str]:
        """Note that messages are being replayed; return the ids of events recorded already.

        Those that are not are open again: if the broker loses them, a relay publishes them.
        """
        await self._begin(walk, connection)
        known = [one.event_id for one in chunk if one.event_id is not None]
        recorded = await select_recorded(connection, known) if known else set()
        if opened := [one for one in known if one not in recorded]:
            await self.outbox.open_again(connection, opened)
        return recorded

    async def _begin_discard(
        self, walk: Walk, chunk: Sequence[Matched], connection: Connection
    ) -> None:
        """Keep messages whole, and note that they are being discarded."""
        await self._begin(walk, connection)
        kept = [
            {
                "position": one.position,
                "state": "waiting",
                "message": packed(one.aside.message),
            }
            for one in chunk
            if one.event_id is None
        ]
        if kept:
            await update_states(connection, kept, None, self.clock())

    async def _begin(self, walk: Walk, connection: Connection) -> None:
        await self._go_on(connection, walk.operation)
        await update_in_hand(connection, walk.operation.id, sorted(walk.in_hand))

    async def _end(self, walk: Walk, ends: dict[int, str], connection: Connection) -> None:
        if not await self._claim(connection):
            raise Interrupted  # whoever has the lease finds out what was in hand
        states = [{"position": position, "state": state} for position, state in ends.items()]
        await update_states(connection, states, walk.operation.id, self.clock())
        await update_in_hand(connection, walk.operation.id, sorted(walk.in_hand))

    async def _restore(
        self, operation: Operation, session: NotSolved, stopping: Callable[[], bool]
    ) -> None:
        """Set discarded messages aside again; after a crash one may be there twice."""
        while chunk := await self._transact(partial(self._discarded, operation)):
            check_stop(stopping)
            messages = [(message_of(row), row["reason"]) for row in chunk]
            keys = await session.restore(messages)
            states = [
                {"position": row["position"], "state": "waiting", "key": key}
                for row, key in zip(chunk, keys, strict=True)
            ]
            await self._transact(partial(self._restored, operation, states))
            await self._keep_rate(operation, len(chunk))
        await self._transact(partial(self._done, operation))

    async def _discarded(self, operation: Operation, connection: Connection) -> list[Row]:
        await self._go_on(connection, operation)
        return await select_discarded(
            connection, operation.selection, operation.up_to, chunk_size(operation)
        )

    async def _restored(
        self, operation: Operation, states: Sequence[dict[str, object]], connection: Connection
    ) -> None:
        await update_states(connection, states, operation.id, self.clock())

    async def _finish(self, walk: Walk, connection: Connection) -> None:
        """Write down the end of an operation whose messages have all been found, or were not."""
        operation, now = walk.operation, self.clock()
        await self._go_on(connection, operation)
        if operation.verb is Verb.CHECK:
            await update_missing(connection, operation.id, sorted(walk.seen), operation.up_to, now)
        else:
            taken = "replayed" if operation.verb is Verb.REPLAY else "discarded"
            await update_taken(connection, operation.id, taken, now)
            await update_not_found(
                connection, operation.id, operation.selection, operation.up_to, now
            )
        await self._done(operation, connection)

    async def _done(self, operation: Operation, connection: Connection) -> None:
        await update_status(connection, operation.id, [Status.RUNNING], Status.DONE, self.clock())

    async def _go_on(self, connection: Connection, operation: Operation) -> None:
        """Renew the lease, in the transaction of what it allows.

        Raises:
            Interrupted: the operation was stopped, or another process goes on with it.
        """
        if not await renew_lease(connection, self.name, operation.id, LEASE, self.clock()):
            raise Interrupted

    async def _claim(self, connection: Connection) -> bool:
        return await claim_lease(connection, self.name, LEASE, self.clock())

    async def _keep_rate(self, operation: Operation, count: int) -> None:
        if operation.rate:
            await anyio.sleep(count / operation.rate)

    async def _transact(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        async def transact() -> Result:
            async with self.database.transaction() as connection:
                return await work(connection)

        return await again_if_lost(transact)


def check_stop(stopping: Callable[[], bool]) -> None:
    """Raise ``Interrupted`` if this process is about to stop."""
    if stopping():
        raise Interrupted


def chunk_size(operation: Operation) -> int:
    """Return how many messages to take out at a time: with a rate, those of one second at most."""
    return min(CHUNK, operation.rate or CHUNK)


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Return a sequence in pieces."""
    return (items[start : start + size] for start in range(0, len(items), size))


def message_of(row: Row) -> Message:
    """Return the message of a discarded row: the event in the log, or what was kept."""
    if row["message"] is not None:
        return unpacked(row["message"])
    return Message(row["id"], row["type"], row["subject"], row["body"])
