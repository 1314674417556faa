"""The embedded broker: queues in the clinic's own database.

A delivery holds a lease on its message. Nobody needs to look after dead consumers: a lease that is
not given back runs out, and the message is ready again.

The database's clock decides which messages are ready, so that the clocks of many hosts need not
agree. On PostgreSQL that is ``statement_timestamp()``: ``now()`` stands still while a transaction
waits, and ``clock_timestamp()`` changes from row to row, so that no index serves it. SQLite has no
clock but this host's, which is handed on as ``:now``.
"""

import asyncio
import contextlib
import datetime
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio

from clinic.database import (
    Connection,
    Database,
    DatabaseLost,
    DatabaseUnavailable,
    Row,
    Sql,
    again_if_lost,
    as_row,
    utc_now,
)
from clinic.messaging.broker import (
    LONGEST_REASON,
    Aside,
    BrokerUnavailable,
    NotSolved,
    Publish,
    Receive,
)
from clinic.messaging.message import Message

# A message that this process publishes is received at once; this is how often to look for those
# that other processes published, and for leases and TTLs that have run out.
LOOK_SECONDS = 0.2
# Messages set aside that are read at a time.
ASIDE_BATCH = 1000

INSERT_MESSAGES = Sql(
    sqlite="""
        insert into message (queue, id, type, subject, body, ready_at)
        select 'main', value->>'id', value->>'type', value->>'subject', value->>'body', :now
        from json_each(:messages)
    """,
    postgresql="""
        insert into message (queue, id, type, subject, body, ready_at)
        select 'main', id, type, subject, body, statement_timestamp()
        from json_to_recordset(cast(:messages as json))
            as published (id text, type text, subject text, body text)
    """,
)

# PostgreSQL's index holds no positions: to order by them as well would read and sort all that is
# ready, for each batch.
CLAIM_MESSAGES = Sql(
    sqlite="""
        update message set queue = 'main', lease = :lease, ready_at = :lease_ends_at
        where position in (
            select position from message
            where queue <> 'not_solved' and ready_at <= :now
            order by ready_at, position limit :limit
        )
        returning position, id, type, subject, body, deaths
    """,
    postgresql="""
        update message
        set queue = 'main', lease = :lease,
            ready_at = statement_timestamp() + cast(:lease_time as interval)
        where position = any (array(
            select position from message
            where queue <> 'not_solved' and ready_at <= statement_timestamp()
            order by ready_at limit :limit
            for update skip locked
        ))
        returning position, id, type, subject, body, deaths
    """,
)

DELETE_SOLVED = Sql(
    sqlite="""
        delete from message
        where lease = :lease and position in (select value from json_each(:positions))
    """,
    postgresql="""
        delete from message
        where lease = :lease and position in (
            select cast(value as bigint) from json_array_elements_text(cast(:positions as json))
        )
    """,
)

UPDATE_RETRIED = Sql(
    sqlite="""
        update message
        set queue = 'dead_letter', lease = null, deaths = deaths + 1, ready_at = :rested_at
        where lease = :lease and position in (select value from json_each(:positions))
    """,
    postgresql="""
        update message
        set queue = 'dead_letter', lease = null, deaths = deaths + 1,
            ready_at = statement_timestamp() + cast(:ttl as interval)
        where lease = :lease and position in (
            select cast(value as bigint) from json_array_elements_text(cast(:positions as json))
        )
    """,
)

UPDATE_NOT_SOLVED = Sql(
    sqlite="""
        update message set queue = 'not_solved', lease = null, reason = settled.value->>'reason'
        from json_each(:settled) as settled
        where message.lease = :lease and message.position = settled.value->>'position'
    """,
    postgresql="""
        update message set queue = 'not_solved', lease = null, reason = settled.reason
        from json_to_recordset(cast(:settled as json)) as settled (position bigint, reason text)
        where message.lease = :lease and message.position = settled.position
    """,
)

UPDATE_GIVEN_BACK = Sql(
    sqlite="""
        update message set lease = null, ready_at = :now where lease = :lease
    """,
    postgresql="""
        update message set lease = null, ready_at = statement_timestamp() where lease = :lease
    """,
)

SELECT_ASIDE = """
    select position, id, type, subject, body, reason, deaths from message
    where queue = 'not_solved' and position > :after order by position limit :limit
"""

COUNT_ASIDE = "select count(*) as messages from message where queue = 'not_solved'"

UPDATE_REPLAYED = Sql(
    sqlite="""
        update message set queue = 'main', deaths = 0, reason = null, ready_at = :now
        where queue = 'not_solved' and position in (select value from json_each(:positions))
    """,
    postgresql="""
        update message
        set queue = 'main', deaths = 0, reason = null, ready_at = statement_timestamp()
        where queue = 'not_solved' and position in (
            select cast(value as bigint) from json_array_elements_text(cast(:positions as json))
        )
    """,
)

DELETE_DISCARDED = Sql(
    sqlite="""
        delete from message
        where queue = 'not_solved' and position in (select value from json_each(:positions))
    """,
    postgresql="""
        delete from message
        where queue = 'not_solved' and position in (
            select cast(value as bigint) from json_array_elements_text(cast(:positions as json))
        )
    """,
)

# Positions are given in the order of the list.
INSERT_ASIDE = Sql(
    sqlite="""
        insert into message (queue, id, type, subject, body, ready_at, reason)
        select
            'not_solved', value->>'id', value->>'type', value->>'subject', value->>'body', :now,
            value->>'reason'
        from json_each(:messages)
        returning position
    """,
    postgresql="""
        insert into message (queue, id, type, subject, body, ready_at, reason)
        select 'not_solved', id, type, subject, body, statement_timestamp(), reason
        from json_to_recordset(cast(:messages as json))
            as restored (id text, type text, subject text, body text, reason text)
        returning position
    """,
)

SELECT_ANY_READY = Sql(
    sqlite="""
        select position from message where queue <> 'not_solved' and ready_at <= :now
        order by ready_at limit 1
    """,
    postgresql="""
        select position from message
        where queue <> 'not_solved' and ready_at <= statement_timestamp()
        order by ready_at limit 1
    """,
)


@dataclass
class EmbeddedBroker:
    """The broker kept in a database; see ``Broker`` for what it promises.

    ``ttl`` is how long a failed message rests, ``lease`` how long a consumer may take over a batch
    before others may have it, ``clock`` the clock of this host.
    """

    database: Database
    ttl: datetime.timedelta
    lease: datetime.timedelta
    clock: Callable[[], datetime.datetime] = utc_now
    published: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[Publish]:
        """Keep the promise of ``Broker.publishing``; there is nothing to open."""
        yield self._publish

    @asynccontextmanager
    async def consuming(self, limit: int) -> AsyncIterator[Receive]:
        """Keep the promise of ``Broker.consuming``."""
        session = _Session(self, limit)
        try:
            yield session.receive
        finally:
            with anyio.CancelScope(shield=True):
                await session.end()

    @asynccontextmanager
    async def set_aside(self) -> AsyncIterator[NotSolved]:
        """Keep the promise of ``Broker.set_aside``; there is nothing to open."""
        yield _NotSolved(self)

    async def _publish(self, messages: Sequence[Message]) -> set[str]:
        rows = [as_row(message) for message in messages]
        with database_errors_as_ours():
            await self.database.at_once(INSERT_MESSAGES, {"messages": rows, "now": self.clock()})
        self.published.set()
        return {message.id for message in messages}


class _Session:
    """One consumer's session: what it holds, and what it has settled but not written down yet.

    Settling waits for the next receive, so that a batch costs one transaction, not one a message.
    """

    def __init__(self, broker: EmbeddedBroker, limit: int) -> None:
        self._broker = broker
        self._database = broker.database
        self._limit = limit
        self._name = str(uuid.uuid4())
        self.solved: list[int] = []
        self.retried: list[int] = []
        self.not_solved: list[dict[str, object]] = []

    async def receive(self) -> Sequence["_Delivery"]:
        while True:
            self._broker.published.clear()
            with database_errors_as_ours():
                rows = await self._settle_and_claim()
            if rows:
                return [
                    _Delivery(self, row["position"], message_from(row), row["deaths"])
                    for row in sorted(rows, key=lambda row: int(row["position"]))
                ]
            with anyio.move_on_after(LOOK_SECONDS):
                await self._broker.published.wait()

    async def end(self) -> None:
        with contextlib.suppress(DatabaseUnavailable):  # the leases run out by themselves
            async with self._database.transaction() as connection:
                await self._write_down(connection)
                values = {"lease": self._name, "now": self._broker.clock()}
                await connection.execute(UPDATE_GIVEN_BACK, values)
                connection.after_commit(self._broker.published.set)

    async def _settle_and_claim(self) -> list[Row]:
        if not (self.solved or self.retried or self.not_solved or await self._any_ready()):
            return []
        async with self._database.transaction() as connection:
            await self._write_down(connection)
            now, lease_time = self._broker.clock(), self._broker.lease
            rows = await connection.fetch_all(
                CLAIM_MESSAGES,
                {
                    "lease": self._name,
                    "lease_time": lease_time,
                    "lease_ends_at": now + lease_time,
                    "now": now,
                    "limit": self._limit,
                },
            )
            connection.after_commit(self._forget_settled)
        return rows

    async def _any_ready(self) -> bool:
        return bool(await self._database.look(SELECT_ANY_READY, {"now": self._broker.clock()}))

    async def _write_down(self, connection: Connection) -> None:
        if self.solved:
            await connection.execute(DELETE_SOLVED, {"lease": self._name, "positions": self.solved})
        if self.retried:
            await connection.execute(
                UPDATE_RETRIED,
                {
                    "lease": self._name,
                    "positions": self.retried,
                    "ttl": self._broker.ttl,
                    "rested_at": self._broker.clock() + self._broker.ttl,
                },
            )
        if self.not_solved:
            await connection.execute(
                UPDATE_NOT_SOLVED, {"lease": self._name, "settled": self.not_solved}
            )

    def _forget_settled(self) -> None:
        self.solved.clear()
        self.retried.clear()
        self.not_solved.clear()


class _NotSolved:
    """A session over what is set aside; each verb is one transaction."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self._broker = broker
        self._database = broker.database
        self._after = 0

    async def look(self) -> Sequence[Aside]:
        with database_errors_as_ours():
            values = {"after": self._after, "limit": ASIDE_BATCH}
            rows = await self._database.look(SELECT_ASIDE, values)
        if rows:
            self._after = rows[-1]["position"]
        return [
            Aside(
                str(row["position"]),
                message_from(row),
                row["reason"] or "",
                row["deaths"] + 1,
                row["position"],
            )
            for row in rows
        ]

    async def replay(self, messages: Sequence[Aside]) -> None:
        positions = [one.tag for one in messages]
        await self._write(UPDATE_REPLAYED, {"positions": positions, "now": self._broker.clock()})
        self._broker.published.set()

    async def discard(self, messages: Sequence[Aside]) -> None:
        await self._write(DELETE_DISCARDED, {"positions": [one.tag for one in messages]})

    async def restore(self, messages: Sequence[tuple[Message, str]]) -> Sequence[str]:
        rows = [
            {**as_row(message), "reason": reason[:LONGEST_REASON]} for message, reason in messages
        ]
        restored = await self._write(INSERT_ASIDE, {"messages": rows, "now": self._broker.clock()})
        return [str(position) for position in sorted(row["position"] for row in restored)]

    async def count(self) -> int:
        with database_errors_as_ours():
            (row,) = await self._database.look(COUNT_ASIDE)
        return int(row["messages"])

    async def _write(self, statement: Sql, values: Row) -> list[Row]:
        with database_errors_as_ours():
            return await again_if_lost(partial(self._database.at_once, statement, values))


@dataclass(frozen=True)
class _Delivery:
    """A leased message; see ``Delivery``."""

    session: _Session
    position: int
    message: Message
    deaths: int

    async def solved(self) -> None:
        self.session.solved.append(self.position)

    async def retry(self) -> None:
        self.session.retried.append(self.position)

    async def not_solved(self, reason: str) -> str:
        settled = {"position": self.position, "reason": reason[:LONGEST_REASON]}
        self.session.not_solved.append(settled)
        return str(self.position)


def message_from(row: Row) -> Message:
    """Return the message that a row of the table holds."""
    return Message(id=row["id"], type=row["type"], subject=row["subject"], body=row["body"])


@contextlib.contextmanager
def database_errors_as_ours() -> Iterator[None]:
    """Raise ``BrokerUnavailable`` when the broker's database is unavailable."""
    try:
        yield
    except DatabaseLost:
        raise
    except DatabaseUnavailable as error:
        raise BrokerUnavailable(str(error)) from error
