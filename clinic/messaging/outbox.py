"""The event log, and the outbox: which of its events no consumer has settled yet.

An event is written in the transaction of the change it tells of, so there is never one without the
other. The log is never altered. Beside each event a row in the outbox says when a relay may publish
it, and goes when a consumer has settled it.

Whoever writes an event holds it for the relay of its own process, which has it in memory and
publishes it at once: nearly every event is written with its row, and its row deleted, and that is
all. What is still open a moment after it was published is marked, and put off for long: should it
still be open then, the broker has lost it, and it is published again. What a process held that has
died, or that had too much to hold, becomes due when the hold ends, and whichever relay finds it
first publishes it: at least once, never not at all.
"""

import asyncio
import datetime
import itertools
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio

from clinic.database import Connection, Database, Sql, again_if_lost, as_row, utc_now
from clinic.messaging.broker import Broker, Publish
from clinic.messaging.message import Message
from clinic.supervisor import Lifecycle

# The next batch is fetched when all of this one is confirmed: of smaller ones the broker would wait
# for the next one more often (benchmarks/README.md).
BATCH = 400
# What this process has written is relayed at once; this is how often to look for what is due in the
# outbox besides, and whether the broker is still there.
LOOK_SECONDS = 1.0
# Nobody waits for an event as they do for an answer: for so long events are gathered, since one
# alone takes as many transactions as a hundred, and bookings wait behind those.
GATHER_SECONDS = 0.05
# How long an event is left to the relay that has it: longer than a publish may take, and than it
# waits after that.
HOLD = datetime.timedelta(seconds=15)
# So many are kept in memory, at about 1 KB each, while the broker is away. The others become due.
MOST_HELD = 10_000
# How long consumers have to settle what was published before it is marked.
MARK_AFTER = datetime.timedelta(seconds=2)
# Each time an event is published again the wait doubles, up to so many times: while all consumers
# are away for days, what they find is a few copies of each event, not thousands.
MOST_DOUBLINGS = 12

# What the statement before has logged: SQLite gives positions in a row
# (https://sqlite.org/lang_corefunc.html#changes).
HOLD_LOGGED_ON_SQLITE = """
    insert into outbox (position, relay_at)
    select position, :held_until from event
    where position > (select seq - changes() from sqlite_sequence where name = 'event')
"""
# Parts of a PostgreSQL statement: its ``told`` has the events, and it may write more.
LOG_TOLD_ON_POSTGRESQL = """
    log as (
        insert into event (id, type, subject, body) select id, type, subject, body from told
        returning position
    ),
    held as (
        insert into outbox (position, relay_at)
        select position, cast(:held_until as timestamptz) from log
    )
"""

INSERT_EVENTS = Sql(
    sqlite=(
        """
        insert into event (id, type, subject, body)
        select value->>'id', value->>'type', value->>'subject', value->>'body'
        from json_each(:messages)
        """,
        HOLD_LOGGED_ON_SQLITE,
    ),
    postgresql=f"""
        with told as (
            select * from json_to_recordset(cast(:messages as json))
                as message (id text, type text, subject text, body text)
        ),
        {LOG_TOLD_ON_POSTGRESQL}
        select 1 as written
    """,  # noqa: S608 - our own words, no input
)

CLAIM_EVENTS = Sql(
    sqlite=(
        """
        update outbox set relay_at = :held_until
        where position in (
            select position from outbox where relay_at <= :now
            order by relay_at, position limit :limit
        )
        """,
        # Should another's hold end at this very microsecond, its events are published twice.
        """
        select id, type, subject, body, publications
        from outbox join event using (position)
        where relay_at = :held_until order by position
        """,
    ),
    postgresql="""
        with claimed as (
            update outbox set relay_at = :held_until
            where position = any (array(
                select position from outbox where relay_at <= :now
                order by relay_at, position limit :limit
                for update skip locked
            ))
            returning position, publications
        )
        select id, type, subject, body, publications
        from claimed join event using (position) order by position
    """,
)

# Relays may mark or let go of events while a consumer settles the same ones: on PostgreSQL all lock
# them in one order, for else they would wait for each other in a circle, a second at a time.
UPDATE_PUBLISHED = Sql(
    sqlite="""
        update outbox
        set published_at = published.value->>'published_at', publications = publications + 1,
            relay_at = published.value->>'again_at'
        from json_each(:published) as published
        join event on event.id = published.value->>'event_id'
        where outbox.position = event.position
    """,
    postgresql="""
        with published as (
            select outbox.position, told.published_at, told.again_at
            from json_to_recordset(cast(:published as json))
                as told (event_id text, published_at timestamptz, again_at timestamptz)
            join event on id = event_id join outbox using (position)
            order by position for update of outbox
        )
        update outbox
        set published_at = published.published_at, publications = publications + 1,
            relay_at = published.again_at
        from published
        where outbox.position = published.position
    """,
)

SELECT_ANY_OPEN = "select position from outbox where relay_at <= :until order by relay_at limit 1"

UPDATE_LET_GO = Sql(
    sqlite="""
        update outbox set relay_at = :now
        where position in (
            select position from json_each(:ids) join event on event.id = json_each.value
        )
    """,
    postgresql="""
        with left_over as (
            select outbox.position
            from json_array_elements_text(cast(:ids as json)) as told (event_id)
            join event on id = event_id join outbox using (position)
            order by position for update of outbox
        )
        update outbox set relay_at = :now
        from left_over
        where outbox.position = left_over.position
    """,
)

DELETE_SETTLED = Sql(
    sqlite="""
        delete from outbox
        where position in (
            select position from json_each(:ids) join event on event.id = json_each.value
        )
    """,
    postgresql="""
        with settled as (
            select outbox.position
            from json_array_elements_text(cast(:ids as json)) as told (event_id)
            join event on id = event_id join outbox using (position)
            order by position for update of outbox
        )
        delete from outbox using settled where outbox.position = settled.position
    """,
)

SELECT_EVENTS = Sql(
    sqlite="""
        select id, body from event where id in (select value from json_each(:ids))
    """,
    postgresql="""
        select id, body
        from json_array_elements_text(cast(:ids as json)) as asked (event_id)
        join event on id = event_id
    """,
)


async def select_events(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the bodies of the log's events among these ids, by id."""
    rows = await connection.fetch_all(SELECT_EVENTS, {"ids": list(ids)})
    return {row["id"]: row["body"] for row in rows}


@dataclass(frozen=True, slots=True)
class _Published:
    """An event that the broker has, and when to publish it again if it is still open then."""

    event_id: str
    published_at: datetime.datetime
    again_at: datetime.datetime


@dataclass
class Outbox:
    """The event log of a database, what is open of it, and the relay that carries it to a broker.

    ``again_after`` is how long after its publication an event that is still open is published
    again: well above the time that a message may spend on its way, retries included.
    """

    database: Database
    again_after: datetime.timedelta
    _held: deque[tuple[Message, datetime.datetime]] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, connection: Connection, messages: Sequence[Message]) -> None:
        """Write events into the log, in the transaction of the change that they tell of."""
        held_until = self.held_until()
        await connection.execute(
            INSERT_EVENTS,
            {"messages": [as_row(message) for message in messages], "held_until": held_until},
        )
        connection.after_commit(partial(self.hand_over, messages, held_until))

    def held_until(self) -> datetime.datetime:
        """Return until when an event that is written now is left to our own relay."""
        return utc_now() + HOLD

    def hand_over(self, messages: Iterable[Message], held_until: datetime.datetime) -> None:
        """Have our own relay publish at once what was written with this hold, and committed."""
        room = MOST_HELD - len(self._held)
        self._held.extend((message, held_until) for message in itertools.islice(messages, room))
        self._news.set()

    async def told_of(self, connection: Connection, subject: str) -> list[str]:
        """Return the bodies of all events of a subject, oldest first."""
        rows = await connection.fetch_all(
            "select body from event where subject = :subject order by position",
            {"subject": subject},
        )
        return [row["body"] for row in rows]

    async def settle(self, connection: Connection, ids: Sequence[str]) -> None:
        """Close events: they are recorded, or set aside for a person. Unknown ids are no error."""
        await connection.execute(DELETE_SETTLED, {"ids": list(ids)})

    async def relay(self, broker: Broker, lifecycle: Lifecycle) -> None:
        """Publish what is held and what is due until asked to stop, and then what is still held.

        A service; any number of relays may run over one outbox.

        Raises:
            Unavailable: the database or the broker is away; what was in hand is published again.
        """
        async with broker.publishing() as publish:
            unmarked: deque[_Published] = deque()
            look_at = time.monotonic()
            try:
                while self._held or not lifecycle.stopping:
                    self._news.clear()
                    batch: list[tuple[Message, int]] = []
                    if time.monotonic() >= look_at and not lifecycle.stopping:
                        batch = await self._claim()
                        look_at = time.monotonic() + (0 if len(batch) == BATCH else LOOK_SECONDS)
                    batch += self._take_held(BATCH - len(batch))
                    unmarked += await self._publish(batch, publish)
                    lifecycle.up()
                    await self._mark_in_passing(unmarked)
                    if len(batch) < BATCH:
                        with lifecycle.until_stop():
                            await self._wait_for_company(batch)
            finally:
                with anyio.CancelScope(shield=True):
                    while unmarked:
                        await self._mark(some_of(unmarked))

    async def _wait_for_company(self, batch: Sequence[object]) -> None:
        """Wait until there is something to publish, and then a moment for more."""
        if not batch:
            with anyio.move_on_after(LOOK_SECONDS):
                await self._news.wait()
        await anyio.sleep(GATHER_SECONDS)

    def _take_held(self, limit: int) -> list[tuple[Message, int]]:
        """Take from memory what this process has written and still holds."""
        now = utc_now()
        taken = [self._held.popleft() for _ in range(min(limit, len(self._held)))]
        return [(message, 0) for message, held_until in taken if held_until > now]

    async def _claim(self) -> list[tuple[Message, int]]:
        """Take from the outbox what is due, each with how often it was published before."""
        now = utc_now()
        values = {"now": now, "held_until": now + HOLD, "limit": BATCH}
        rows = await again_if_lost(partial(self.database.at_once, CLAIM_EVENTS, values))
        return [
            (Message(row["id"], row["type"], row["subject"], row["body"]), row["publications"])
            for row in rows
        ]

    async def _publish(
        self, batch: Sequence[tuple[Message, int]], publish: Publish
    ) -> list[_Published]:
        """Publish a batch, and return what of it the broker has; an empty one asks if it is there.

        What the broker does not have is let go, to be published again at once.
        """
        stored: set[str] = set()
        try:
            stored = await publish([message for message, _ in batch])
        finally:
            left = [message.id for message, _ in batch if message.id not in stored]
            if left:
                values = {"ids": left, "now": utc_now()}
                with anyio.CancelScope(shield=True):
                    await again_if_lost(partial(self.database.at_once, UPDATE_LET_GO, values))
        now = utc_now()
        return [
            _Published(message.id, now, now + self._again_after(publications))
            for message, publications in batch
            if message.id in stored
        ]

    async def _mark_in_passing(self, unmarked: deque[_Published]) -> None:
        """Mark what consumers have had the time to settle, if any of it is still open."""
        now = utc_now()
        if unmarked and unmarked[0].published_at < now - 2 * MARK_AFTER:
            # None of it was held for longer when it was published.
            any_open = await self.database.look(SELECT_ANY_OPEN, {"until": now - MARK_AFTER + HOLD})
            while ripe := some_of(unmarked, published_until=now - MARK_AFTER):
                if any_open:
                    await self._mark(ripe)

    async def _mark(self, published: Sequence[_Published]) -> None:
        """Mark what is still open as published, and put it off."""
        if published:
            values = {"published": [as_row(one) for one in published]}
            # A consumer may settle the same events at this very moment.
            await again_if_lost(partial(self.database.at_once, UPDATE_PUBLISHED, values))

    def _again_after(self, publications: int) -> datetime.timedelta:
        return self.again_after * (1 << min(publications, MOST_DOUBLINGS))


def some_of(
    unmarked: deque[_Published], published_until: datetime.datetime | None = None
) -> list[_Published]:
    """Take the first, or the first until then: a batch, for more would hold up bookings."""
    taken: list[_Published] = []
    while unmarked and len(taken) < BATCH:
        if published_until is not None and unmarked[0].published_at > published_until:
            break
        taken.append(unmarked.popleft())
    return taken
