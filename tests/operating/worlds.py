"""A database and a broker, with events that were set aside."""

import datetime
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio
import pytest

from clinic.analytics.recording import recognise, record
from clinic.database import Connection, Database, Dialect, Row, open_database
from clinic.events import describe
from clinic.messaging.broker import Aside, Broker
from clinic.messaging.consumer import Consumer
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.journal import Journal
from clinic.messaging.message import Message
from clinic.messaging.outbox import Outbox
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.rabbitmq.topology import QueueType
from clinic.operating.operations import Operation, Operations, Status, Verb
from clinic.operating.selection import EVERYTHING, Selection
from clinic.operating.walking import Worker
from tests.messaging.brokers import TTL, topology
from tests.messaging.test_consumer import consume_until, hand_over, log_events
from tests.timing import PATIENCE_SECONDS

# Each kind of broker and of database.
KINDS = ["sqlite", "postgresql", "quorum over postgresql", "classic over sqlite"]


async def fail(_connection: Connection, _messages: Sequence[Message]) -> list[None]:
    raise ValueError


def never() -> bool:
    return False


@dataclass
class World:
    """What there is to operate."""

    database: Database
    broker: Broker

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.database, datetime.timedelta(minutes=1))

    @property
    def operations(self) -> Operations:
        return Operations(self.database, self.broker)

    def worker(self, broker: Broker | None = None) -> Worker:
        return Worker(self.database, broker or self.broker, self.outbox, recognise, describe)

    def consumer(self, **more: Any) -> Consumer:
        consumer = Consumer(
            self.broker,
            self.outbox,
            record,
            recognise,
            death_limit=0,
            journal=Journal(self.database, describe),
        )
        return replace(consumer, **more)

    async def tell(self, count: int) -> list[Message]:
        """Log events and publish them."""
        events = await log_events(self.database, self.outbox, count)
        await hand_over(self.broker, events)
        return events

    async def set_aside(self, count: int, **more: Any) -> list[Message]:
        """Have a number of new events set aside."""
        before = await self.count("set_aside")
        events = await self.tell(count)
        await self.consume(partial(self._has, "set_aside", before + count), handle=fail, **more)
        return events

    async def consume(self, until: Callable[[], Any], **more: Any) -> None:
        await consume_until(until, self.consumer(**more))

    async def _has(self, table: str, count: int) -> bool:
        return await self.count(table) == count

    async def count(self, table: str) -> int:
        (row,) = await self.database.look(f"select count(*) as found from {table}")
        return int(row["found"])

    async def record_all(self, count: int) -> None:
        """Consume until so many events are recorded."""
        await self.consume(partial(self._has, "recorded", count))

    async def states(self) -> dict[str, int]:
        rows = await self.database.look(
            "select state, count(*) as found from set_aside group by state"
        )
        return {row["state"]: row["found"] for row in rows}

    async def rows(self) -> list[Row]:
        return await self.database.look("select * from set_aside order by position")

    async def in_queue(self) -> list[Aside]:
        found: list[Aside] = []
        async with self.broker.set_aside() as session:
            while batch := await session.look():
                found += batch
        return found

    async def start(self, verb: Verb, selection: Selection = EVERYTHING, **more: Any) -> Operation:
        planned = await self.operations.plan(verb, selection, "a test", **more)
        return await self.operations.bring_to(planned.id, Status.RUNNING)

    async def run(self, verb: Verb, selection: Selection = EVERYTHING, **more: Any) -> Operation:
        """Plan an operation, start it, and carry it out."""
        operation = await self.start(verb, selection, **more)
        with anyio.fail_after(PATIENCE_SECONDS):
            assert await self.worker().work(never)
        done = await self.operations.show_operation(operation.id)
        assert done.status is Status.DONE
        return done


@asynccontextmanager
async def world(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    queues, _, dialect = kind.rpartition(" over ")
    make_database = request.getfixturevalue("make_database")
    async with open_database(make_database(Dialect(dialect))) as database:
        if queues:
            url = request.getfixturevalue("vhost")
            broker: Broker = RabbitBroker(url, topology(QueueType(queues)))
        else:
            broker = EmbeddedBroker(
                database,
                ttl=datetime.timedelta(seconds=TTL),
                lease=datetime.timedelta(minutes=5),
            )
        yield World(database, broker)
