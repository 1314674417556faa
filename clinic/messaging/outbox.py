"""The event log, which is also the outbox: events stay open here until a consumer has settled them.

An event is written in the transaction of the change it tells of, so there is never one without the
other. The relay publishes every open event that is due: at first at once, and again whenever one
was published and is not settled after a long while, for then the broker has lost it. A relay that
dies in between leaves the event to be published again: at least once, never not at all. Therefore
its own marks are written in passing: what a crash of the database undoes is done again.
"""

import asyncio
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from clinic.database import Connection, Database, Row, Sql, again_if_lost, as_row, utc_now
from clinic.messaging.broker import Broker, Publish
from clinic.messaging.message import Message
from clinic.supervisor import Lifecycle

# Nothing is gained past this number (STACK 1.2: 6,273 confirms/s at 100 in flight).
BATCH = 100
# An event written by this process is relayed at once; this is how often to look for those that a
# relay elsewhere left behind, and whether the broker is still there.
LOOK_SECONDS = 1.0
# Nobody waits for an event as they do for an answer: for so long events are gathered, since one
# alone takes as many transactions as a hundred, and bookings wait behind those.
GATHER_SECONDS = 0.05
# How long a relay may take over a batch before others may have it: longer than a publish may take.
HOLD = datetime.timedelta(seconds=15)
# Each time an event is published again the wait doubles, up to so many times: while all consumers
# are away for days, what they find is a few copies of each event, not thousands.
MOST_DOUBLINGS = 12

INSERT_EVENTS = Sql(
    sqlite="""
        insert into event (id, type, subject, body, relay_at)
        select value->>'id', value->>'type', value->>'subject', value->>'body', :now
        from json_each(:messages)
    """,
    postgresql="""
        insert into event (id, type, subject, body, relay_at)
        select id, type, subject, body, cast(:now as timestamptz)
        from json_to_recordset(cast(:messages as json))
            as told (id text, type text, subject text, body text)
    """,
)

SELECT_ANY_DUE = """
    select position from event where settled_at is null and relay_at <= :now limit 1
"""

CLAIM_EVENTS = Sql(
    sqlite="""
        update event set relay_at = :held_until
        where position in (
            select position from event
            where settled_at is null and relay_at <= :now
            order by relay_at, position limit :limit
        )
        returning position, id, type, subject, body, publications
    """,
    postgresql="""
        update event set relay_at = :held_until
        where position in (
            select position from event
            where settled_at is null and relay_at <= :now
            order by relay_at, position limit :limit
            for update skip locked
        )
        returning position, id, type, subject, body, publications
    """,
)

# A relay marks events as published while a consumer closes the same ones: on PostgreSQL both lock
# them in one order, for else they would wait for each other in a circle, a second at a time.
UPDATE_PUBLISHED = Sql(
    sqlite="""
        update event
        set published_at = :now, publications = publications + 1,
            relay_at = published.value->>'again_at'
        from json_each(:published) as published
        where event.position = published.value->>'position'
    """,
    postgresql="""
        with published as (
            select event.position, again_at
            from json_to_recordset(cast(:published as json))
                as told (position bigint, again_at timestamptz)
            join event on event.position = told.position
            order by event.position for update of event
        )
        update event
        set published_at = :now, publications = publications + 1, relay_at = published.again_at
        from published
        where event.position = published.position
    """,
)

UPDATE_LET_GO = Sql(
    sqlite="""
        update event set relay_at = :now
        where position in (select value from json_each(:positions))
    """,
    postgresql="""
        with left_over as (
            select position from event
            where position in (
                select cast(value as bigint) from json_array_elements_text(cast(:positions as json))
            )
            order by position for update
        )
        update event set relay_at = :now
        from left_over
        where event.position = left_over.position
    """,
)

UPDATE_SETTLED = Sql(
    sqlite="""
        update event set settled_at = :now
        where settled_at is null and id in (select value from json_each(:ids))
    """,
    postgresql="""
        with ended as (
            select position from event
            where settled_at is null
                and id in (select value from json_array_elements_text(cast(:ids as json)))
            order by position for update
        )
        update event set settled_at = :now
        from ended
        where event.position = ended.position
    """,
)


@dataclass
class Outbox:
    """The event log of a database, and the relay that carries it to a broker.

    ``again_after`` is how long after its publication an event that is still open is published
    again: well above the time that a message may spend on its way, retries included.
    """

    database: Database
    again_after: datetime.timedelta
    _appended: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, connection: Connection, messages: Sequence[Message]) -> None:
        """Write events into the log, in the transaction of the change that they tell of."""
        await connection.execute(
            INSERT_EVENTS,
            {"messages": [as_row(message) for message in messages], "now": utc_now()},
        )
        connection.after_commit(self._appended.set)

    async def told_of(self, connection: Connection, subject: str) -> list[str]:
        """Return the bodies of all events of a subject, oldest first."""
        rows = await connection.fetch_all(
            "select body from event where subject = :subject order by position",
            {"subject": subject},
        )
        return [row["body"] for row in rows]

    async def settle(self, connection: Connection, ids: Sequence[str]) -> None:
        """Close events: they are recorded, or set aside for a person. Unknown ids are no error."""
        await connection.execute(UPDATE_SETTLED, {"ids": list(ids), "now": utc_now()})

    async def relay(self, broker: Broker, lifecycle: Lifecycle) -> None:
        """Publish what is due until asked to stop; a service.

        Any number of relays may run over one log.

        Raises:
            Unavailable: the database or the broker is away; what was in hand is published again.
        """
        async with broker.publishing() as publish:
            while not lifecycle.stopping:
                self._appended.clear()
                batch = await self._claim()
                await self._publish(batch, publish)
                lifecycle.up()
                if len(batch) < BATCH:
                    with lifecycle.until_stop():
                        await self._wait_for_company(batch)

    async def _wait_for_company(self, batch: Sequence[Row]) -> None:
        """Wait until there is something to publish, and then a moment for more."""
        if not batch:
            with anyio.move_on_after(LOOK_SECONDS):
                await self._appended.wait()
        await anyio.sleep(GATHER_SECONDS)

    async def _claim(self) -> list[Row]:
        now = utc_now()
        async with self.database.snapshot() as connection:
            if not await connection.fetch_all(SELECT_ANY_DUE, {"now": now}):
                return []

        async def claim() -> list[Row]:
            async with self.database.transaction(in_passing=True) as connection:
                return await connection.fetch_all(
                    CLAIM_EVENTS, {"now": now, "held_until": now + HOLD, "limit": BATCH}
                )

        rows = await again_if_lost(claim)
        return sorted(rows, key=lambda row: int(row["position"]))

    async def _publish(self, batch: Sequence[Row], publish: Publish) -> None:
        """Publish a batch and write down what the broker has; an empty one asks if it is there."""
        stored: set[str] = set()
        try:
            stored = await publish(
                [Message(row["id"], row["type"], row["subject"], row["body"]) for row in batch]
            )
        finally:
            if batch:
                with anyio.CancelScope(shield=True):
                    await self._write_down(batch, stored)

    async def _write_down(self, batch: Sequence[Row], stored: set[str]) -> None:
        now = utc_now()
        published = [
            {"position": row["position"], "again_at": now + self._again_after(row["publications"])}
            for row in batch
            if row["id"] in stored
        ]
        left = [row["position"] for row in batch if row["id"] not in stored]

        async def write_down() -> None:
            async with self.database.transaction(in_passing=True) as connection:
                if published:
                    await connection.execute(UPDATE_PUBLISHED, {"published": published, "now": now})
                if left:
                    await connection.execute(UPDATE_LET_GO, {"positions": left, "now": now})

        # A consumer may close the same events at this very moment.
        await again_if_lost(write_down)

    def _again_after(self, publications: int) -> datetime.timedelta:
        return self.again_after * (1 << min(publications, MOST_DOUBLINGS))
