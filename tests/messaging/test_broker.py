"""The broker's promises, one by one, over every broker."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import aiormq
import anyio
import pytest

from clinic.database import Database, Dialect, open_database
from clinic.messaging.broker import LONGEST_REASON, Broker, Delivery, Receive
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.message import Message
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.topology import QueueType, Topology
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

TTL = 0.4
# So long that no lease runs out under a test.
LEASE = 2 * PATIENCE_SECONDS
# Longer than any broker takes to hand over what is there, and shorter than the TTL.
A_WHILE = 0.3


@dataclass(frozen=True)
class Tried:
    """A broker under test, and a way to see what it has set aside, with the reasons."""

    broker: Broker
    set_aside: Callable[[], Awaitable[list[tuple[Message, str]]]]


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


@pytest.fixture(params=[*Dialect, *QueueType])
async def tried(request: pytest.FixtureRequest) -> AsyncIterator[Tried]:
    """Every broker: embedded on each kind of database, RabbitMQ with each type of queue."""
    if isinstance(request.param, QueueType):
        url = request.getfixturevalue("vhost")
        broker = RabbitBroker(url, topology(request.param))
        yield Tried(broker, lambda: set_aside_in_rabbit(url))
        return
    async with open_database(request.getfixturevalue("make_database")(request.param)) as database:
        embedded = EmbeddedBroker(
            database, ttl=timedelta(seconds=TTL), lease=timedelta(seconds=LEASE)
        )
        yield Tried(embedded, lambda: set_aside_in(database))


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
        headers = properties.headers or {}
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


@pytest.fixture
def broker(tried: Tried) -> Broker:
    return tried.broker


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


@asynccontextmanager
async def consuming(broker: Broker, limit: int = 10) -> AsyncIterator[Receive]:
    async with broker.consuming(limit) as receive:
        yield receive


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return sorted(delivery.message.id for delivery in deliveries)


async def test_what_was_published_is_delivered_unchanged(broker: Broker) -> None:
    await publish(broker, 1)
    async with broker.consuming(10) as receive:
        (delivery,) = await take(receive, 1)
        assert delivery.message == message(1)
        assert delivery.deaths == 0
        await delivery.solved()


async def test_a_message_published_while_someone_waits_is_delivered(broker: Broker) -> None:
    async with broker.consuming(10) as receive, anyio.create_task_group() as tasks:
        tasks.start_soon(publish, broker, 1)
        (delivery,) = await take(receive, 1)
        await delivery.solved()


async def test_a_solved_message_is_never_delivered_again(broker: Broker) -> None:
    await publish(broker, 1)
    async with broker.consuming(10) as receive:
        (delivery,) = await take(receive, 1)
        await delivery.solved()
        assert await nothing_comes(receive)
    async with broker.consuming(10) as receive:
        assert await nothing_comes(receive, TTL + A_WHILE)


async def test_a_retried_message_comes_back_after_the_ttl_with_a_death_more(
    broker: Broker,
) -> None:
    await publish(broker, 1)
    async with broker.consuming(10) as receive:
        (delivery,) = await take(receive, 1)
        for deaths in range(3):
            assert delivery.message == message(1)
            assert delivery.deaths == deaths
            died_at = time.monotonic()
            await delivery.retry()
            (delivery,) = await take(receive, 1)
            assert time.monotonic() - died_at > 0.95 * TTL  # clocks differ a little
        await delivery.solved()


async def test_a_message_set_aside_keeps_its_reason_and_is_not_delivered(tried: Tried) -> None:
    await publish(tried.broker, 1, 2)
    async with tried.broker.consuming(10) as receive:
        first, second = await take(receive, 2)
        await first.not_solved("a reason")
        await second.not_solved("ж" * (LONGEST_REASON + 1))
        assert await nothing_comes(receive, TTL + A_WHILE)
    assert sorted(await tried.set_aside(), key=lambda found: found[0].id) == [
        (first.message, "a reason"),
        (second.message, "ж" * LONGEST_REASON),
    ]


async def test_a_batch_has_at_most_the_limit(broker: Broker) -> None:
    await publish(broker, *range(5))
    async with broker.consuming(2) as receive:
        with anyio.fail_after(PATIENCE_SECONDS):
            seen: list[Delivery] = []
            while len(seen) < 5:
                batch = await receive()
                assert 1 <= len(batch) <= 2
                seen += batch
                for delivery in batch:
                    await delivery.solved()
    assert ids(seen) == [f"id-{number}" for number in range(5)]


async def test_each_of_a_batch_is_settled_for_itself(tried: Tried) -> None:
    await publish(tried.broker, 1, 2, 3)
    async with tried.broker.consuming(10) as receive:
        deliveries = {one.message.id: one for one in await take(receive, 3)}
        await deliveries["id-1"].solved()
        await deliveries["id-2"].retry()
        await deliveries["id-3"].not_solved("a reason")
        (again,) = await take(receive, 1)
        assert again.message == message(2)
        await again.solved()
    assert [found.id for found, _ in await tried.set_aside()] == ["id-3"]


async def test_what_was_not_settled_goes_back_at_once_without_a_death(broker: Broker) -> None:
    await publish(broker, 1, 2)
    async with broker.consuming(10) as receive:
        deliveries = await take(receive, 2)
        await deliveries[0].solved()
    async with broker.consuming(10) as receive:
        with anyio.fail_after(SLACK_SECONDS):
            (back,) = await take(receive, 1)
        assert back.message == deliveries[1].message
        assert back.deaths == 0
        await back.solved()


async def test_what_is_settled_out_of_order_takes_nothing_else_with_it(broker: Broker) -> None:
    await publish(broker, *range(6))
    async with broker.consuming(10) as receive:
        deliveries = await take(receive, 6)
        for place in (0, 2, 5):
            await deliveries[place].solved()
        await publish(broker, 6)
        await (await take(receive, 1))[0].solved()  # what was settled has taken effect
    async with broker.consuming(10) as receive:
        back = await take(receive, 3)
        assert {one.message for one in back} == {deliveries[place].message for place in (1, 3, 4)}
        assert await nothing_comes(receive, A_WHILE)
        for delivery in back:
            await delivery.solved()


async def test_what_was_settled_last_counts_although_the_session_ends(broker: Broker) -> None:
    await publish(broker, 1)
    async with broker.consuming(10) as receive:
        (delivery,) = await take(receive, 1)
        died_at = time.monotonic()
        await delivery.retry()
    async with broker.consuming(10) as receive:
        (back,) = await take(receive, 1)
        assert time.monotonic() - died_at > 0.95 * TTL  # clocks differ a little
        assert back.deaths == 1
        await back.solved()


async def test_no_two_sessions_are_given_the_same_message(broker: Broker) -> None:
    seen: list[str] = []

    async def consume() -> None:
        async with broker.consuming(3) as receive:
            while len(seen) < 100:
                with anyio.move_on_after(A_WHILE):
                    for delivery in await receive():
                        seen.append(delivery.message.id)
                        await delivery.solved()

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(consume)
            await publish(broker, *range(100))
    assert sorted(seen) == sorted(message(number).id for number in range(100))


async def test_cancelling_the_wait_loses_nothing(broker: Broker) -> None:
    seen: list[str] = []
    async with broker.consuming(1) as receive:
        for pause in range(30):
            await publish(broker, pause)
            with anyio.move_on_after(pause / 5000):
                for delivery in await receive():
                    seen.append(delivery.message.id)
                    await delivery.solved()
    async with broker.consuming(10) as receive:
        for delivery in await take(receive, 30 - len(seen)):
            seen.append(delivery.message.id)
            await delivery.solved()
    assert sorted(seen) == sorted(message(number).id for number in range(30))


async def test_publishing_nothing_is_no_error(broker: Broker) -> None:
    await publish(broker)
