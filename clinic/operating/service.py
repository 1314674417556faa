"""Carry out operations in a process, and forget what was kept for long enough."""

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from clinic.database import Connection, again_if_lost, utc_now
from clinic.messaging.attempts import delete_old_attempts
from clinic.messaging.outbox import delete_old_publications
from clinic.operating.queries import delete_old_operations, delete_old_rows
from clinic.operating.walking import Worker
from clinic.supervisor import Lifecycle

# How often to look for an operation that is to go on.
LOOK_SECONDS = 1.0
# How often to look for what was kept for long enough.
CLEAN_SECONDS = 60.0
# What is deleted at a time: bookings wait meanwhile, some 10 ms.
MOST_DELETED = 1000


@dataclass
class Operating:
    """The service that carries out operations, if no other process does.

    ``kept`` is how long attempts, and messages that were dealt with, are kept.
    """

    worker: Worker
    kept: datetime.timedelta
    clock: Callable[[], datetime.datetime] = utc_now
    _clean_at: float = field(default=0.0)

    async def run(self, lifecycle: Lifecycle) -> None:
        """Work until asked to stop; a service.

        Raises:
            Unavailable: the database or the broker is away. Operations go on later.
        """
        while not lifecycle.stopping:
            more = await self.worker.work(lambda: lifecycle.stopping)
            lifecycle.up()
            if time.monotonic() >= self._clean_at:
                await self.clean()
            if not more:
                with lifecycle.until_stop():
                    await anyio.sleep(LOOK_SECONDS)

    async def clean(self) -> None:
        """Forget some of what was kept for long enough; come again soon if there is more."""

        async def transact() -> int:
            async with self.worker.database.transaction() as connection:
                return await self._delete(connection)

        deleted = await again_if_lost(transact)
        pause = LOOK_SECONDS if deleted >= MOST_DELETED else CLEAN_SECONDS
        self._clean_at = time.monotonic() + pause

    async def _delete(self, connection: Connection) -> int:
        before = self.clock() - self.kept
        deleted = await delete_old_attempts(connection, before, MOST_DELETED)
        deleted = max(deleted, await delete_old_rows(connection, before, MOST_DELETED))
        await delete_old_publications(connection, before, MOST_DELETED)
        await delete_old_operations(connection, before)
        return deleted
