"""The event log, and the outbox: which of its events are open, and who may publish them when.

An event is written in the transaction of the change it tells of, so there is never one without the
other. The log is never altered. Each open event has a row beside it in the outbox:

=========  =====================  ==================================================================
an event   ``relay_at``           what comes next
=========  =====================  ==================================================================
held       the end of its hold    The relay of the process that wrote it has it in memory and
                                  publishes it at once. When the hold ends first, it is due.
due        past                   Any relay claims it, which holds it anew, and publishes it.
published  the end of its hold    A consumer closes it, nearly always at once. One that stays open
                                  is marked after a moment.
marked     long after             A consumer closes it late. Else the broker has lost it, and it is
                                  due again; each time the wait doubles.
closed     (the row is deleted)   It is recorded, or set aside for a person.
=========  =====================  ==================================================================

So nearly every event costs one insert with its row and one delete of the row. A hold or claim whose
process died ends by itself. Publication is at least once.

The database's clock decides what is due, so that the clocks of many hosts need not agree.
"""

import asyncio
import datetime
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from clinic.database import Connection, Database, Dialect, Row, Sql, again_if_lost, as_row, utc_now
from clinic.messaging.message import Message

# How long an event is left to the relay that has it: longer than its publication and the wait
# before its mark may take together.
HOLD = datetime.timedelta(seconds=15)
# How many events are kept in memory, at about 1 KB each, while the broker is slow. The others
# become due.
MOST_HELD = 10_000
# How often the wait doubles for an event that is published again: after days without consumers, the
# queue then has a few copies of each event, not thousands.
MOST_DOUBLINGS = 12

INSERT_EVENTS = Sql(
    sqlite=(
        """
        insert into event (id, type, subject, body)
        select value->>'id', value->>'type', value->>'subject', value->>'body'
        from json_each(:messages)
        """,
        # The events of the statement before: SQLite gives positions in a row
        # (https://sqlite.org/lang_corefunc.html#changes).
        """
        insert into outbox (position, relay_at)
        select position, :held_until from event
        where position > (select seq - changes() from sqlite_sequence where name = 'event')
        """,
    ),
    postgresql="""
        with told as (
            select * from json_to_recordset(cast(:messages as json))
                as message (id text, type text, subject text, body text)
        ),
        log as (
            insert into event (id, type, subject, body) select id, type, subject, body from told
            returning position
        )
        insert into outbox (position, relay_at)
        select position, cast(:held_until as timestamptz) from log
    """,
)

SELECT_BODIES = "select body from event where subject = :subject order by position"

# Here and below: not now(), which is when the transaction began, nor clock_timestamp(), which
# changes from row to row and so cannot be looked up in an index.
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
                select position from outbox where relay_at <= statement_timestamp()
                order by relay_at, position limit :limit
                for update skip locked
            ))
            returning position, publications
        )
        select id, type, subject, body, publications
        from claimed join event using (position) order by position
    """,
)

# Lock in the order of positions: relays mark or release events while a consumer closes the same
# ones, and in any other order PostgreSQL would find a deadlock, at one second (deadlock_timeout)
# each.
UPDATE_MARKED = Sql(
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

# The publication before, and this one.
INSERT_PUBLICATIONS = Sql(
    sqlite="""
        insert into publication (event_id, published_at)
        select value->>'event_id', value->>'published_at' from json_each(:published)
        union
        select event.id, outbox.published_at
        from json_each(:published) join event on event.id = value->>'event_id'
        join outbox on outbox.position = event.position
        where outbox.published_at is not null
        on conflict do nothing
    """,
    postgresql="""
        with told as (
            select event_id, published_at
            from json_to_recordset(cast(:published as json))
                as told (event_id text, published_at timestamptz)
        )
        insert into publication (event_id, published_at)
        select event_id, published_at from told
        union
        select event_id, outbox.published_at
        from told join event on id = event_id join outbox using (position)
        where outbox.published_at is not null
        order by event_id
        on conflict do nothing
    """,
)

SELECT_PUBLICATIONS = Sql(
    sqlite="""
        select event_id, published_at from publication
        where event_id in (select value from json_each(:ids)) order by published_at
    """,
    postgresql="""
        select event_id, published_at from publication
        where event_id in (select value from json_array_elements_text(cast(:ids as json)))
        order by published_at
    """,
)

_OLD = "select published_at from publication order by published_at limit :limit"
DELETE_OLD_PUBLICATIONS = f"""
    delete from publication
    where published_at < :before and published_at <= (select max(published_at) from ({_OLD}) old)
"""  # noqa: S608 - no input

UPDATE_DUE = Sql(
    sqlite="update outbox set relay_at = :now, published_at = null, publications = 0",
    postgresql="""
        update outbox set relay_at = statement_timestamp(), published_at = null, publications = 0
    """,
)

SELECT_ANY_OPEN = "select position from outbox where relay_at <= :until order by relay_at limit 1"

# Only what is still held: once its hold has ended, another relay may have published and marked it.
UPDATE_RELEASED = Sql(
    sqlite="""
        update outbox set relay_at = :now
        where relay_at between :now and :held_until and position in (
            select position from json_each(:ids) join event on event.id = json_each.value
        )
    """,
    postgresql="""
        with held as (
            select outbox.position
            from json_array_elements_text(cast(:ids as json)) as told (event_id)
            join event on id = event_id join outbox using (position)
            order by position for update of outbox
        )
        update outbox set relay_at = statement_timestamp()
        from held
        where outbox.position = held.position
            and relay_at between statement_timestamp() and :held_until
    """,
)

DELETE_CLOSED = Sql(
    sqlite="""
        delete from outbox
        where position in (
            select position from json_each(:ids) join event on event.id = json_each.value
        )
    """,
    postgresql="""
        with closed as (
            select outbox.position
            from json_array_elements_text(cast(:ids as json)) as told (event_id)
            join event on id = event_id join outbox using (position)
            order by position for update of outbox
        )
        delete from outbox using closed where outbox.position = closed.position
    """,
)

INSERT_OPENED = Sql(
    sqlite="""
        insert into outbox (position, relay_at, published_at, publications)
        select position, :again_at, :now, 1
        from json_each(:ids) join event on event.id = json_each.value
        where true
        on conflict do nothing
    """,
    postgresql="""
        insert into outbox (position, relay_at, published_at, publications)
        select position, cast(:again_at as timestamptz), cast(:now as timestamptz), 1
        from json_array_elements_text(cast(:ids as json)) as told (event_id)
        join event on id = event_id
        order by position
        on conflict do nothing
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

SELECT_TIME = "select statement_timestamp() as now"

SELECT_BACKLOG = """
    select (select count(*) from outbox) as open, body
    from (select 1 as one) as always
    left join event on position = (select min(position) from outbox)
"""


async def select_publications(connection: Connection, ids: Sequence[str]) -> list[Row]:
    """Return when events were published that were published more than once, oldest first."""
    return await connection.fetch_all(SELECT_PUBLICATIONS, {"ids": list(ids)})


async def delete_old_publications(
    connection: Connection, before: datetime.datetime, limit: int
) -> None:
    """Forget about as many publications before a moment as the limit says."""
    await connection.execute(DELETE_OLD_PUBLICATIONS, {"before": before, "limit": limit})


async def select_events(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the bodies of the log's events among these ids, by id."""
    rows = await connection.fetch_all(SELECT_EVENTS, {"ids": list(ids)})
    return {row["id"]: row["body"] for row in rows}


@dataclass(slots=True)
class Held:
    """An event that this process's relay has to publish, and until when no other relay does."""

    message: Message
    held_until: datetime.datetime
    publications: int = 0


@dataclass(slots=True)
class Published:
    """An event that the broker has, and that is to be marked if it stays open.

    ``at`` is when it was published, by ``time.monotonic``; ``held_until`` stands in its row until
    it is marked; ``again_after`` is how long after that it is published again. ``again`` says that
    it had been published before.
    """

    event_id: str
    at: float
    held_until: datetime.datetime
    again_after: datetime.timedelta
    again: bool = False


@dataclass
class Outbox:
    """The event log of a database, its open events, and those that this process holds.

    ``again_after`` is how long after its publication an event that is still open is published
    again: well above the time that a message may spend on its way, retries included. ``hold`` is
    how long an event is left to one relay, ``clock`` the clock of this host.
    """

    database: Database
    again_after: datetime.timedelta
    hold: datetime.timedelta = HOLD
    most_held: int = MOST_HELD
    clock: Callable[[], datetime.datetime] = utc_now
    # Whether a relay of this process works; without one, no event is held.
    relaying: bool = True
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _held: deque[Held] = field(default_factory=deque)
    # The time of the database's clock when it was read, and ``time.monotonic`` at that moment.
    _read: tuple[datetime.datetime, float] | None = None

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
        return self.now() + self.hold if self.relaying else self.now()

    def hand_over(self, messages: Iterable[Message], held_until: datetime.datetime) -> None:
        """Hand committed events to our own relay, to publish at once, unless their hold is over."""
        if held_until > self.now():
            room = self.most_held - len(self._held)
            self._held.extend(
                Held(message, held_until) for message in itertools.islice(messages, room)
            )
            self.news.set()

    async def told_of(self, connection: Connection, subject: str) -> list[str]:
        """Return the bodies of all events of a subject, oldest first."""
        rows = await connection.fetch_all(SELECT_BODIES, {"subject": subject})
        return [row["body"] for row in rows]

    async def close(self, connection: Connection, ids: Sequence[str]) -> None:
        """Close events: they are recorded, or set aside for a person. Unknown ids are no error."""
        await connection.execute(DELETE_CLOSED, {"ids": list(ids)})

    async def backlog(self) -> tuple[int, str | None]:
        """Return how many events are open, and the body of the oldest of them.

        Raises:
            DatabaseUnavailable: the database is away.
        """
        (row,) = await self.database.look(SELECT_BACKLOG)
        return row["open"], row["body"]

    async def open_again(self, connection: Connection, ids: Sequence[str]) -> None:
        """Open closed events that are about to be published again, as if they had been just now.

        Unless a consumer closes them, they are due like every event that was published.
        """
        now = self.now()
        values = {"ids": list(ids), "now": now, "again_at": now + self.again_after}
        await connection.execute(INSERT_OPENED, values)

    @property
    def holds_any(self) -> bool:
        """Whether this process has events in memory that are to be published."""
        return bool(self._held)

    def take_held(self, limit: int) -> list[Held]:
        """Take from memory, oldest first, events that this process has written and still holds."""
        now = self.now()
        taken = [self._held.popleft() for _ in range(min(limit, len(self._held)))]
        return [one for one in taken if one.held_until > now]

    async def claim(self, limit: int) -> list[Held]:
        """Take events that are due from the database, and hold them.

        Raises:
            DatabaseUnavailable: the database is away.
        """
        now = self.now()
        held_until = now + self.hold
        rows = await again_if_lost(
            partial(
                self.database.at_once,
                CLAIM_EVENTS,
                {"now": now, "held_until": held_until, "limit": limit},
            )
        )
        return [
            Held(
                Message(row["id"], row["type"], row["subject"], row["body"]),
                held_until,
                row["publications"],
            )
            for row in rows
        ]

    async def publish_again(self, connection: Connection) -> None:
        """Make all open events due: whoever has them in hand or in a queue may be gone."""
        await connection.execute(UPDATE_DUE, {"now": self.now()})

    async def release(self, held: Sequence[Held]) -> None:
        """Make held events due that cannot be published here.

        Raises:
            DatabaseUnavailable: the database is away.
        """
        if held:
            values = {
                "ids": [one.message.id for one in held],
                "held_until": max(one.held_until for one in held),
                "now": self.now(),
            }
            await again_if_lost(partial(self.database.at_once, UPDATE_RELEASED, values))

    def published(self, held: Iterable[Held]) -> list[Published]:
        """Return events as published now."""
        now = time.monotonic()
        return [
            Published(
                one.message.id,
                now,
                one.held_until,
                self._again_after(one.publications),
                again=one.publications > 0,
            )
            for one in held
        ]

    def _again_after(self, publications: int) -> datetime.timedelta:
        return self.again_after * (1 << min(publications, MOST_DOUBLINGS))

    async def any_open(self, held_until: datetime.datetime) -> bool:
        """Tell whether any event is due by then.

        Raises:
            DatabaseUnavailable: the database is away.
        """
        return bool(await self.database.look(SELECT_ANY_OPEN, {"until": held_until}))

    async def mark(self, published: Sequence[Published]) -> None:
        """Mark those of the events that are still open, which makes them due only much later.

        Raises:
            DatabaseUnavailable: the database is away.
        """
        if not published:
            return
        # The time by the database's clock at which `time.monotonic` was 0.
        start = self.now() - datetime.timedelta(seconds=time.monotonic())
        rows = []
        for one in published:
            published_at = start + datetime.timedelta(seconds=one.at)
            again_at = published_at + one.again_after
            rows.append(
                {"event_id": one.event_id, "published_at": published_at, "again_at": again_at}
            )
        again = [row for row, one in zip(rows, published, strict=True) if one.again]
        if again:
            # The row of an event has room for its last publication only.
            keep = partial(self.database.at_once, INSERT_PUBLICATIONS, {"published": again})
            await again_if_lost(keep)
        # A consumer may close the same events at this very moment.
        mark = partial(self.database.at_once, UPDATE_MARKED, {"published": rows})
        await again_if_lost(mark)

    def now(self) -> datetime.datetime:
        """Return the time that the database's clock shows, within a round trip to it.

        SQLite has this host's clock. PostgreSQL's is calculated from when it was last read.
        """
        if self._read is None:
            return self.clock()
        shown, at = self._read
        return shown + datetime.timedelta(seconds=time.monotonic() - at)

    async def read_clock(self) -> None:
        """Read the database's clock, which goes a little faster or slower than ours.

        Raises:
            DatabaseUnavailable: the database is away.
        """
        if self.database.dialect is Dialect.POSTGRESQL:
            asked = time.monotonic()
            (row,) = await self.database.look(SELECT_TIME)
            self._read = row["now"], (asked + time.monotonic()) / 2
