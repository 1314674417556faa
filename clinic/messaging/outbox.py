"""The event log, which is also the outbox: events stay open here until a consumer has settled them.

An event is written in the transaction of the change it tells of, so there is never one without the
other. The relay publishes every open event that is due: at first at once, and again whenever one
was published and is not settled after a long while, for then the broker has lost it.

A relay holds what it publishes for a moment, and a consumer settles most of it before that moment
is over. Only what is still open then is marked as published, and put off for long: nearly every
event is written three times, when it is told, held and settled. A relay that dies in between
leaves events to be published again when its hold ends: at least once, never not at all.
"""

import asyncio
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio

from clinic.database import Connection, Database, Row, Sql, again_if_lost, as_row, utc_now
from clinic.messaging.broker import Broker, Publish
from clinic.messaging.message import Message
from clinic.supervisor import Lifecycle

# The next batch is fetched when all of this one is confirmed: of smaller ones the broker would wait
# for the next one more often (benchmarks/README.md).
BATCH = 400
# An event written by this process is relayed at once; this is how often to look for those that a
# relay elsewhere left behind, and whether the broker is still there.
LOOK_SECONDS = 1.0
# Nobody waits for an event as they do for an answer: for so long events are gathered, since one
# alone takes as many transactions as a hundred, and bookings wait behind those.
GATHER_SECONDS = 0.05
# How long a relay may take over a batch before others may have it: longer than a publish may take,
# and than it waits after that.
HOLD = datetime.timedelta(seconds=15)
# How long consumers have to settle what was published before it is marked.
MARK_AFTER = datetime.timedelta(seconds=2)
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

# The end of a PostgreSQL statement that writes what the events tell of, too: its ``told`` has them.
INSERT_TOLD = """
    insert into event (id, type, subject, body, relay_at)
    select id, type, subject, body, cast(:now as timestamptz) from told
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

# A relay may mark events while a consumer closes the same ones: on PostgreSQL both lock them in one
# order, for else they would wait for each other in a circle, a second at a time.
UPDATE_PUBLISHED = Sql(
    sqlite="""
        update event
        set published_at = published.value->>'published_at', publications = publications + 1,
            relay_at = published.value->>'again_at'
        from json_each(:published) as published
        where event.position = published.value->>'position' and settled_at is null
    """,
    postgresql="""
        with published as (
            select event.position, told.published_at, told.again_at
            from json_to_recordset(cast(:published as json))
                as told (position bigint, published_at timestamptz, again_at timestamptz)
            join event on event.position = told.position
            where event.settled_at is null
            order by event.position for update of event
        )
        update event
        set published_at = published.published_at, publications = publications + 1,
            relay_at = published.again_at
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


@dataclass(frozen=True, slots=True)
class _Published:
    """An event that the broker has, and when to publish it again if it is still open then."""

    position: int
    published_at: datetime.datetime
    again_at: datetime.datetime


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
        connection.after_commit(self.wake)

    def wake(self) -> None:
        """Have relayed at once what came into the log by ``INSERT_TOLD``, once it is committed."""
        self._appended.set()

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
            unmarked: list[_Published] = []
            try:
                while not lifecycle.stopping:
                    self._appended.clear()
                    batch = await self._claim()
                    unmarked += await self._publish(batch, publish)
                    lifecycle.up()
                    if unmarked and utc_now() - unmarked[0].published_at > MARK_AFTER:
                        await self._mark(unmarked)
                    if len(batch) < BATCH:
                        with lifecycle.until_stop():
                            await self._wait_for_company(batch)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._mark(unmarked)

    async def _wait_for_company(self, batch: Sequence[Row]) -> None:
        """Wait until there is something to publish, and then a moment for more."""
        if not batch:
            with anyio.move_on_after(LOOK_SECONDS):
                await self._appended.wait()
        await anyio.sleep(GATHER_SECONDS)

    async def _claim(self) -> list[Row]:
        now = utc_now()
        values = {"now": now, "held_until": now + HOLD, "limit": BATCH}
        rows = await again_if_lost(partial(self.database.at_once, CLAIM_EVENTS, values))
        return sorted(rows, key=lambda row: int(row["position"]))

    async def _publish(self, batch: Sequence[Row], publish: Publish) -> list[_Published]:
        """Publish a batch, and return what of it the broker has; an empty one asks if it is there.

        What the broker does not have is let go, to be published again at once.
        """
        stored: set[str] = set()
        try:
            stored = await publish(
                [Message(row["id"], row["type"], row["subject"], row["body"]) for row in batch]
            )
        finally:
            left = [row["position"] for row in batch if row["id"] not in stored]
            if left:
                values = {"positions": left, "now": utc_now()}
                with anyio.CancelScope(shield=True):
                    await again_if_lost(partial(self.database.at_once, UPDATE_LET_GO, values))
        now = utc_now()
        return [
            _Published(row["position"], now, now + self._again_after(row["publications"]))
            for row in batch
            if row["id"] in stored
        ]

    async def _mark(self, published: list[_Published]) -> None:
        """Mark what is still open as published, and forget all of it."""
        if published:
            values = {"published": [as_row(one) for one in published]}
            published.clear()
            # A consumer may close the same events at this very moment.
            await again_if_lost(partial(self.database.at_once, UPDATE_PUBLISHED, values))

    def _again_after(self, publications: int) -> datetime.timedelta:
        return self.again_after * (1 << min(publications, MOST_DOUBLINGS))
