"""Read the event log by position, as it grows: for those who show what happens.

On PostgreSQL positions are drawn before they are committed, by many processes at once: one may
become visible after a later one. So a position that is missing is asked for again, until nothing
that began before it was missed can still be running. SQLite has one writer, and gives them in
order.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clinic.database import Connection, Database, Sql

# A transaction has ended by then: the database breaks off what takes longer than a fraction of it.
GAP_SECONDS = 120.0
# After a restart PostgreSQL goes on 32 positions further on (SEQ_LOG_VALS); a batch that failed has
# drawn some hundreds. Of a gap larger than this the last positions are asked for again.
LONGEST_GAP = 10_000
# Who begins to follow looks back this far for positions that are missing.
LOOK_BACK = 1000
# Events that are read at a time.
BATCH = 1000

SELECT_END = """
    select last, (
        select count(*) from event where position > last - :back and position <= last
    ) as there
    from (select coalesce(max(position), 0) as last from event) as log
"""
SELECT_BETWEEN = """
    select position from event where position > :after and position <= :until order by position
"""
SELECT_NEWS = Sql(
    sqlite="""
        select position, type, body from event
        where position > :after or position in (select value from json_each(:missing))
        order by position limit :limit
    """,
    postgresql="""
        select position, type, body from (
            select position, type, body from event where position > :after
            order by position limit :limit
        ) as later
        union all
        select position, type, body from event
        where position in (
            select cast(value as bigint) from json_array_elements_text(cast(:missing as json))
        )
        order by position
    """,
)
SELECT_LATEST = Sql(
    sqlite="""
        select subject, type, body from event
        where subject in (select value from json_each(:subjects)) order by position
    """,
    postgresql="""
        select subject, type, body from event
        where subject in (select json_array_elements_text(cast(:subjects as json)))
        order by position
    """,
)


@dataclass(frozen=True, slots=True)
class Logged:
    """An event of the log."""

    position: int
    type: str
    body: str


@dataclass
class Follower:
    """Where a reader of the log is: ``last`` read, and which positions before it were not there.

    ``missing`` has them with the time, by ``time.monotonic``, at which each was first missed.
    """

    database: Database
    last: int = 0
    missing: dict[int, float] = field(default_factory=dict)

    @property
    def safe(self) -> int:
        """The position up to which nothing will become visible any more."""
        return min(self.missing, default=self.last + 1) - 1

    async def begin(self) -> None:
        """Begin at the end of the log.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        (row,) = await self.database.look(SELECT_END, {"back": LOOK_BACK})
        last, after = row["last"], max(0, row["last"] - LOOK_BACK)
        self.missing.clear()
        self.last = last
        if row["there"] < last - after:
            rows = await self.database.look(SELECT_BETWEEN, {"after": after, "until": last})
            self.last = after
            self._note([one["position"] for one in rows])

    async def news(self) -> list[Logged]:
        """Return the events that have become visible since; at most ``BATCH``, and late ones.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        found = await select_news(self.database, self.last, [*self.missing])
        self._note([one.position for one in found])
        return found

    def _note(self, positions: Sequence[int]) -> None:
        now = time.monotonic()
        for position in positions:
            if position <= self.last:
                self.missing.pop(position, None)
                continue
            first = max(self.last + 1, position - LONGEST_GAP)
            self.missing |= dict.fromkeys(range(first, position), now)
            self.last = position
        if self.missing:
            self.missing = {
                position: since
                for position, since in self.missing.items()
                if now - since < GAP_SECONDS
            }


async def select_news(
    database: Database, after: int, missing: Sequence[int] = (), limit: int = BATCH
) -> list[Logged]:
    """Return the first events after a position, and those of the missing that are there now.

    Raises:
        DatabaseUnavailable: the database cannot do it now.
    """
    rows = await database.look(
        SELECT_NEWS, {"after": after, "missing": list(missing), "limit": limit}
    )
    return [Logged(row["position"], row["type"], row["body"]) for row in rows]


async def select_latest(
    connection: Connection, subjects: Sequence[str], types: Sequence[str]
) -> Mapping[str, tuple[str, str]]:
    """Return of each subject the type and the body of its last event of one of the types."""
    rows = await connection.fetch_all(SELECT_LATEST, {"subjects": list(subjects)})
    return {row["subject"]: (row["type"], row["body"]) for row in rows if row["type"] in types}
