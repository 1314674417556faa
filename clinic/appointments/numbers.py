"""The numbers of appointments, drawn from the database before they are used.

With its number at hand an appointment and the event that tells of it are made at once, and both are
written by one statement. Numbers of bookings that are refused, or that were drawn when a process
ended, are left out: numbers grow, with gaps.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from clinic.database import Database, Sql

# Numbers of one draw: few for a desk where somebody books now and then, twice as many each time
# that the last ones lasted less than a second, so that a draw is rare under load.
LEAST, MOST = 16, 1024
LASTED_SECONDS = 1.0

DRAW_NUMBERS = Sql(
    sqlite=(
        # SQLite makes this row with the first appointment, which needs a number before.
        """
        insert into sqlite_sequence (name, seq)
        select 'appointment', (select coalesce(max(id), 0) from appointment)
        where not exists (select 1 from sqlite_sequence where name = 'appointment')
        """,
        "update sqlite_sequence set seq = seq + :count where name = 'appointment'",
        """
        with recursive drawn (number) as (
            select seq - :count + 1 from sqlite_sequence where name = 'appointment'
            union all
            select number + 1 from drawn limit :count
        )
        select number from drawn
        """,
    ),
    postgresql="""
        select nextval(pg_get_serial_sequence('appointment', 'id')) as number
        from generate_series(1, cast(:count as integer))
    """,
)


@dataclass
class Numbers:
    """Numbers for new appointments, drawn from a database as they are needed."""

    database: Database
    _drawn: deque[int] = field(default_factory=deque)
    _drawing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _count: int = LEAST
    _drawn_at: float = 0.0

    async def next(self) -> int:
        """Return a number that no appointment has.

        Raises:
            DatabaseUnavailable: there is none at hand, and the database cannot give any now.
        """
        while not self._drawn:
            async with self._drawing:
                if not self._drawn:
                    await self._draw()
        return self._drawn.popleft()

    async def _draw(self) -> None:
        now = time.monotonic()
        lasted = now - self._drawn_at >= LASTED_SECONDS
        self._count = LEAST if lasted else min(2 * self._count, MOST)
        self._drawn_at = now
        self._drawn.extend(await draw_numbers(self.database, self._count))


async def draw_numbers(database: Database, count: int) -> list[int]:
    """Return numbers that no appointment has and that nobody else is given.

    Raises:
        DatabaseUnavailable: the database cannot do it now.
    """
    rows = await database.at_once(DRAW_NUMBERS, {"count": count})
    return [int(row["number"]) for row in rows]
