"""The whole line from the event log to what is recorded."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import anyio

from clinic.analytics.queries import Days
from clinic.analytics.recording import recognise, record
from clinic.database import Database
from clinic.messaging.broker import Broker
from clinic.messaging.consumer import Consumer, Handle
from clinic.messaging.outbox import Outbox
from clinic.messaging.relay import Relay
from clinic.supervisor import Patience, Service, Supervisor
from tests.analytics.test_report import booked, report
from tests.timing import PATIENCE_SECONDS


@dataclass
class Line:
    """The whole line from the event log to what is recorded, and what was told on it."""

    database: Database
    outbox: Outbox
    told: int = 0

    async def tell(self, count: int) -> None:
        """Tell of bookings, as the desk does."""
        events = booked(seed=self.told, count=count)
        async with self.database.transaction() as connection:
            await self.outbox.append(connection, [event.message() for event in events])
        self.told += count

    async def recorded(self) -> int:
        totals = (await report(self.database, Days()))["totals"]
        assert isinstance(totals, dict)
        return int(totals["booked"])

    async def all_recorded(self) -> None:
        """Wait until everything is recorded, and check that it is recorded once."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (recorded := await self.recorded()) < self.told:
            assert time.monotonic() < deadline, f"{recorded} of {self.told}"
            await anyio.sleep(0.05)
        await anyio.sleep(0.5)
        assert await self.recorded() == self.told


@asynccontextmanager
async def line(
    database: Database,
    broker: Broker,
    again_after: float = 10 * PATIENCE_SECONDS,
    handle: Handle = record,
) -> AsyncIterator[Line]:
    """Run a relay and a consumer."""
    outbox = Outbox(database, timedelta(seconds=again_after))
    consumer = Consumer(broker, outbox, handle, recognise, death_limit=3)
    supervisor = Supervisor(
        [Service("relay", Relay(outbox, broker).run), Service("consumer", consumer.run)],
        grace_seconds=10,
        patience=Patience(longest_pause_seconds=1),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        yield Line(database, outbox)
        supervisor.stop()
