"""Brokers to be tried: each kind, with ways to take it away and to kill who uses it."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiormq
import anyio
import anyio.to_thread

from clinic.database import Database, open_database
from clinic.messaging.broker import Broker, Delivery, Receive
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.message import Message
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.rabbitmq.topology import QueueType, Topology
from tests.servers import FaultyProxy
from tests.timing import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]

TTL = 0.4
# So long that no lease runs out under a test.
LEASE = 2 * PATIENCE_SECONDS
# Longer than any broker takes to hand over what is there, and shorter than the TTL.
A_WHILE = 0.3
# How long a process that dies may keep what it holds, where a lease says so.
DYING_LEASE = 0.5


def topology(queue_type: QueueType, ttl_ms: int = int(TTL * 1000)) -> Topology:
    return Topology(
        main="rmq-for-retries",
        main_exchange="rmx-for-retries",
        dead_letter="dlq-for-retries",
        dead_letter_exchange="dlx-for-retries",
        not_solved="rmq-not-solved",
        ttl_ms=ttl_ms,
        queue_type=queue_type,
    )


@asynccontextmanager
async def open_embedded(
    database_url: str, lease_seconds: float = LEASE
) -> AsyncIterator[EmbeddedBroker]:
    """Open the broker in a database, as a process does."""
    async with open_database(database_url) as database:
        yield EmbeddedBroker(
            database, ttl=timedelta(seconds=TTL), lease=timedelta(seconds=lease_seconds)
        )


@asynccontextmanager
async def open_rabbit(url: str, queue_type: QueueType) -> AsyncIterator[RabbitBroker]:
    """Open the broker on a RabbitMQ server, as a process does."""
    yield RabbitBroker(url, topology(queue_type))


@dataclass(frozen=True)
class Tried:
    """A broker under test, and what can be done to it.

    ``open`` opens it once more, as another process does. ``go_away`` takes it away from everybody
    while its body runs. ``die`` has a process take messages, settle the first of them, and be
    killed before it receives again. ``set_aside`` returns what is set aside, with the reasons.
    """

    broker: Broker
    open: Callable[[], AbstractAsyncContextManager[Broker]]
    go_away: Callable[[], AbstractContextManager[None]]
    process: dict[str, str]
    set_aside: Callable[[], Awaitable[list[tuple[Message, str]]]]

    async def die(self, count: int) -> None:
        await anyio.to_thread.run_sync(die_holding, self.process, count)


@asynccontextmanager
async def rabbit(url: str, queue_type: QueueType) -> AsyncIterator[Tried]:
    """RabbitMQ with a type of queue."""
    with through_proxy(url) as (proxied, proxy):
        yield Tried(
            RabbitBroker(proxied, topology(queue_type)),
            open=lambda: open_rabbit(proxied, queue_type),
            go_away=lambda: down(proxy),
            process={"url": url, "queue_type": queue_type},
            set_aside=lambda: set_aside_in_rabbit(url),
        )


@asynccontextmanager
async def embedded(database_url: str) -> AsyncIterator[Tried]:
    """The embedded broker, in a database of either kind."""
    process = {"url": database_url}
    if database_url.startswith("sqlite"):
        async with open_embedded(database_url) as broker:
            yield Tried(
                broker,
                open=lambda: open_embedded(database_url),
                go_away=lambda: locked(Path(database_url.removeprefix("sqlite:///"))),
                process=process,
                set_aside=lambda: set_aside_in(broker.database),
            )
        return
    with through_proxy(database_url) as (proxied, proxy):
        async with open_embedded(proxied) as broker:
            yield Tried(
                broker,
                open=lambda: open_embedded(proxied),
                go_away=lambda: down(proxy),
                process=process,
                set_aside=lambda: set_aside_in(broker.database),
            )


@contextmanager
def through_proxy(url: str) -> Iterator[tuple[str, FaultyProxy]]:
    """Put a proxy before a server, and return the URL that leads through it."""
    before, host_and_rest = url.rsplit("@", 1)
    host_and_port, rest = host_and_rest.split("/", 1)
    with FaultyProxy(int(host_and_port.rsplit(":", 1)[1])) as proxy:
        yield f"{before}@127.0.0.1:{proxy.port}/{rest}", proxy


@contextmanager
def down(proxy: FaultyProxy) -> Iterator[None]:
    proxy.mode("down")
    yield
    proxy.mode("pass")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as a program does that was left in a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("begin immediate")
    yield
    connection.close()


def die_holding(process: dict[str, str], count: int) -> None:
    """Start a process that takes so many messages, and kill it when it has them."""
    command = [sys.executable, "-m", "tests.messaging.brokers", json.dumps(process), str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"held\n"
        child.send_signal(signal.SIGKILL)


async def take_and_hold(process: dict[str, str], count: int) -> None:
    """Take messages, have the first of them solved, say so, and wait to be killed."""
    url = process["url"]
    opened: AbstractAsyncContextManager[Broker] = (
        open_rabbit(url, QueueType(process["queue_type"]))
        if "queue_type" in process
        else open_embedded(url, DYING_LEASE)
    )
    async with opened as broker, broker.consuming(count) as receive:
        await (await take(receive, count))[0].solved()
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


async def set_aside_in(database: Database) -> list[tuple[Message, str]]:
    async with database.snapshot() as connection:
        rows = await connection.fetch_all(
            "select id, type, subject, body, reason from message where queue = 'not_solved'"
        )
    return [
        (Message(row["id"], row["type"], row["subject"], row["body"]), row["reason"])
        for row in rows
    ]


async def set_aside_in_rabbit(url: str) -> list[tuple[Message, str]]:
    """Take everything out of the not-solved queue."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    found = []
    while (message := await channel.basic_get("rmq-not-solved", no_ack=True)).body:
        properties = message.header.properties
        headers: dict[str, Any] = properties.headers or {}
        assert "x-death" not in headers
        assert properties.delivery_mode == 2
        one = Message(
            str(properties.message_id),
            str(properties.message_type),
            str(headers["subject"]),
            message.body.decode(),
        )
        found.append((one, str(headers["x-reason"])))
    await connection.close()
    return found


def message(number: int) -> Message:
    body = f'{{"тело": {number}}}'
    return Message(f"id-{number}", "appointment.booked", f"appointment/{number}", body)


async def publish(broker: Broker, *numbers: int) -> None:
    async with broker.publishing() as hand_over:
        messages = [message(number) for number in numbers]
        assert await hand_over(messages) == {one.id for one in messages}


async def take(receive: Receive, count: int) -> list[Delivery]:
    """Receive until there are so many deliveries."""
    deliveries: list[Delivery] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(deliveries) < count:
            deliveries += await receive()
    return deliveries


async def nothing_comes(receive: Receive, seconds: float = A_WHILE) -> bool:
    with anyio.move_on_after(seconds):
        await receive()
        return False
    return True


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return sorted(delivery.message.id for delivery in deliveries)


if __name__ == "__main__":
    anyio.run(take_and_hold, json.loads(sys.argv[1]), int(sys.argv[2]))
