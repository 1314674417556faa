"""What only RabbitMQ does: it goes away in many ways, and loses what it holds."""

import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiormq
import anyio
import anyio.to_thread
import pytest
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.channel import Channel

from clinic.database import Database, migrate, open_database
from clinic.messaging.broker import BrokerUnavailable
from clinic.messaging.message import Message
from clinic.messaging.outbox import Outbox
from clinic.messaging.rabbitmq import RabbitBroker, connection, consuming
from clinic.messaging.rabbitmq.address import HEARTBEAT_SECONDS
from clinic.messaging.rabbitmq.connection import (
    FAREWELL_SECONDS,
    STEP_SECONDS,
    close,
    open_channel,
    open_connection,
)
from clinic.messaging.rabbitmq.consuming import SILENCE_SECONDS, Session
from clinic.messaging.rabbitmq.declaring import LOOK_SECONDS, Standing
from clinic.messaging.rabbitmq.publishing import PUBLISH_SECONDS, Publisher
from clinic.messaging.rabbitmq.topology import QueueType
from clinic.messaging.relay import Relay
from clinic.supervisor import Service, Supervisor
from tests.conftest import start_or_skip
from tests.messaging.brokers import message, publish, set_aside_in_rabbit, take, topology
from tests.messaging.line import Line, line
from tests.servers import FaultyProxy, Rabbit
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

# A quorum queue that is declared less than some 3 s before a kill stays broken for good on 3.10.8
# (docs/libraries.md), and perhaps before a stop.
SETTLE_SECONDS = 5
# When the clinic says that it notices what does not end the connection.
UNCONFIRMED_SECONDS = PUBLISH_SECONDS + FAREWELL_SECONDS
SILENT_SECONDS = (HEARTBEAT_SECONDS + 1) * 3 + HEARTBEAT_SECONDS / 2


@pytest.fixture(scope="module")
def server() -> Iterator[Rabbit]:
    """A server of this module's own, to be killed."""
    server = Rabbit()
    start_or_skip(server)
    yield server
    server.close()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'clinic.db'}"
    migrate(url)
    async with open_database(url) as database:
        yield database


def kill(server: Rabbit) -> Callable[[], None]:
    server.kill()
    return server.start


def stop_app(server: Rabbit) -> Callable[[], None]:
    server.stop_app()
    return server.start_app


def freeze(server: Rabbit) -> Callable[[], None]:
    server.freeze()
    return server.thaw


def close_connections(server: Rabbit) -> Callable[[], None]:
    server.close_all_connections("test")
    return lambda: None


def alarm(server: Rabbit) -> Callable[[], None]:
    stack = ExitStack()
    stack.enter_context(server.memory_alarm())
    return stack.close


# Each with the seconds within which it is noticed, as the README has them; 0 is "at once".
FAULTS = [
    (kill, 0),
    (stop_app, 0),
    (close_connections, 0),
    (alarm, UNCONFIRMED_SECONDS),
    (freeze, SILENT_SECONDS),
]


@pytest.mark.parametrize(
    ("fault", "notice_seconds", "queue_type"),
    [
        *[(*fault, QueueType.QUORUM) for fault in FAULTS],
        (*FAULTS[0], QueueType.CLASSIC),
        *[pytest.param(*f, QueueType.CLASSIC, marks=pytest.mark.long) for f in FAULTS[1:]],
    ],
)
async def test_whatever_happens_to_the_broker_everything_is_recorded_once(  # noqa: PLR0913, PLR0917
    server: Rabbit,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[Rabbit], Callable[[], None]],
    notice_seconds: float,
    queue_type: QueueType,
) -> None:
    caplog.set_level(logging.INFO, "clinic")
    vhost = f"{fault.__name__}-{queue_type}"
    broker = RabbitBroker(server.create_vhost(vhost), topology(queue_type))
    async with line(database, broker, again_after=5) as running:
        await running.tell(100)
        await running.all_recorded()
        if queue_type is QueueType.QUORUM and fault in (kill, stop_app):
            await anyio.sleep(SETTLE_SECONDS)
        await running.tell(100)
        heal = await anyio.to_thread.run_sync(fault, server)
        with anyio.fail_after(notice_seconds + SLACK_SECONDS):
            while not relay_lines(caplog, "Trying again"):
                await running.tell(5)  # bookings go on
                await anyio.sleep(0.2)
        await anyio.to_thread.run_sync(heal)
        await running.tell(5)
        await running.all_recorded()
        with anyio.fail_after(PATIENCE_SECONDS):
            while not relay_lines(caplog, "working again"):
                await anyio.sleep(0.05)
    assert relay_lines(caplog, "Trying again") == relay_lines(caplog, "working again") == 1
    ours = [record for record in caplog.records if record.name.startswith("clinic")]
    assert not [record for record in ours if record.levelno >= logging.ERROR]
    server.delete_vhost(vhost)


def relay_lines(caplog: pytest.LogCaptureFixture, words: str) -> int:
    """Count what the supervisor has logged of the relay in such words."""
    return sum(text.startswith("relay: ") and words in text for text in caplog.messages)


@pytest.mark.parametrize("queue_type", list(QueueType))
async def test_a_queue_that_is_deleted_is_declared_again_and_what_was_in_it_published_again(
    server: Rabbit, database: Database, queue_type: QueueType
) -> None:
    url = server.create_vhost(f"deleted-{queue_type}")
    async with line(database, RabbitBroker(url, topology(queue_type)), again_after=2) as running:
        await running.tell(50)
        await running.all_recorded()
        await delete_queue(url)
        await running.tell(50)
        await running.all_recorded()
    server.delete_vhost(f"deleted-{queue_type}")


async def delete_queue(url: str) -> None:
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    await channel.queue_delete("rmq-for-retries")
    await connection.close()


@pytest.mark.parametrize("queue_type", list(QueueType))
async def test_a_consumer_that_is_forgotten_without_a_word_consumes_anew(
    vhost: str, database: Database, monkeypatch: pytest.MonkeyPatch, queue_type: QueueType
) -> None:
    monkeypatch.setattr(Session, "_on_cancel", lambda *_: None)
    async with line(database, RabbitBroker(vhost, topology(queue_type)), again_after=2) as running:
        await running.tell(50)
        await running.all_recorded()
        await delete_queue(vhost)
        began = time.monotonic()
        await running.tell(50)
        await running.all_recorded()
        assert time.monotonic() - began < SILENCE_SECONDS + LOOK_SECONDS + 2 + SLACK_SECONDS


async def test_a_consumer_that_waits_for_long_misses_nothing(
    vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It consumes anew all the time while messages arrive."""
    monkeypatch.setattr(consuming, "SILENCE_SECONDS", 0.002)
    broker = RabbitBroker(vhost, topology(QueueType.QUORUM))
    received: list[str] = []

    async def consume() -> None:
        async with broker.consuming(10) as receive:
            while len(received) < 600:
                for delivery in await receive():
                    received.append(delivery.message.id)
                    await delivery.solved()

    async with broker.publishing() as hand_over:
        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consume)
                for number in range(600):
                    await hand_over([message(number)])
                    await anyio.sleep(0.004)
    assert received == [message(number).id for number in range(600)]


@pytest.fixture
def cluster() -> Iterator[list[Rabbit]]:
    """Three nodes."""
    with ExitStack() as stack:
        first = Rabbit()
        start_or_skip(first)
        stack.callback(first.close)
        others = [stack.enter_context(Rabbit(beside=first)) for _ in range(2)]
        yield [first, *others]


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_cluster_that_forgets_consumers_whose_queue_is_deleted_is_consumed_from(
    cluster: list[Rabbit], database: Database
) -> None:
    """A busy cluster forgets them one time in four, if another node than the leader is asked."""
    brokers = [RabbitBroker(node.url, topology(QueueType.QUORUM)) for node in cluster]
    async with (
        line(database, brokers[0], again_after=2) as running,
        line(database, brokers[1], again_after=2),
    ):
        for number in range(12):
            await running.tell(50)
            await running.all_recorded()
            leader = cluster[0].leader("rmq-for-retries")
            others = [node for node in cluster if node.node != leader]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(delete_queue, others[number % 2].url)
                for _ in range(30):
                    await running.tell(5)
                    await anyio.sleep(0.02)
        await running.all_recorded()


@pytest.mark.parametrize("queue_type", list(QueueType))
async def test_purged_messages_come_back(
    rabbit: Rabbit, vhost: str, database: Database, queue_type: QueueType
) -> None:
    del rabbit
    broker = RabbitBroker(vhost, topology(queue_type))
    outbox = Outbox(database, timedelta(seconds=2))
    supervisor = Supervisor([Service("relay", Relay(outbox, broker).run)], grace_seconds=5)
    async with broker.publishing():
        pass  # the queues are declared
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        await Line(database, outbox).tell(30)
        connection = await aiormq.connect(vhost)
        channel = await connection.channel()
        purged = 0
        with anyio.fail_after(PATIENCE_SECONDS):
            while purged < 30:
                await anyio.sleep(0.1)
                ok = await channel.queue_declare("rmq-for-retries", passive=True)
                if ok.message_count:
                    purged += (await channel.queue_purge("rmq-for-retries")).message_count or 0
        await connection.close()
        supervisor.stop()
    async with line(database, broker, again_after=2) as running:
        running.told = 30
        await running.all_recorded()


async def test_a_network_that_swallows_everything_is_noticed(
    server: Rabbit, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A partition: connections stay open, and nothing comes any more."""
    caplog.set_level(logging.INFO, "clinic")
    server.create_vhost("partition")
    with FaultyProxy(server.port) as proxy:
        url = server.vhost_url("partition").replace(str(server.port), str(proxy.port))
        async with line(database, RabbitBroker(url, topology(QueueType.CLASSIC))) as running:
            await running.tell(10)
            await running.all_recorded()
            proxy.mode("black_hole")
            with anyio.fail_after(SILENT_SECONDS + SLACK_SECONDS):
                while not {"relay", "consumer"} <= {
                    text.split(":")[0] for text in caplog.messages if "Trying again" in text
                }:
                    await anyio.sleep(0.1)
            await running.tell(10)
            proxy.mode("pass")
            await running.all_recorded()
    server.delete_vhost("partition")


@asynccontextmanager
async def publisher(vhost: str, queue: str) -> AsyncIterator[tuple[Publisher, Channel]]:
    """A session that publishes into a queue of the test's own choice."""
    async with open_connection(vhost, "test") as opened:
        await Standing(opened, topology(QueueType.QUORUM)).declare()
        channel = await open_channel(opened)
        assert isinstance(channel, Channel)
        yield Publisher(channel, queue), channel


async def test_a_session_that_stored_a_batch_in_part_says_so_and_is_over(vhost: str) -> None:
    """A broker that blocks amid a batch is thus noticed as soon as one that blocks before it."""
    async with publisher(vhost, "small") as (session, channel):
        full: dict[str, Any] = {"x-max-length": 2, "x-overflow": "reject-publish"}
        await channel.queue_declare("small", arguments=full)
        assert await session.publish([message(1)]) == {"id-1"}
        assert await session.publish([message(number) for number in (2, 3, 4)]) == {"id-2"}
        with pytest.raises(BrokerUnavailable, match="rejected a message"):
            await session.publish([message(5)])
    async with publisher(vhost, "small") as (session, _):
        with pytest.raises(BrokerUnavailable, match="rejected a message"):
            await session.publish([message(6)])


async def test_an_unroutable_message_is_not_stored(vhost: str) -> None:
    async with publisher(vhost, "nowhere") as (session, _):
        with pytest.raises(BrokerUnavailable, match="rejected a message"):
            await session.publish([message(number) for number in range(50)])


async def test_an_unroutable_message_without_an_id_is_not_lost(vhost: str) -> None:
    nameless = Message("", "", "", "{}")
    async with RabbitBroker(vhost, topology(QueueType.QUORUM)).publishing() as send:
        await send([nameless])
    connection = await aiormq.connect(vhost)
    channel = await connection.channel()
    async with RabbitBroker(vhost, topology(QueueType.QUORUM)).consuming(5) as receive:
        (delivery,) = await take(receive, 1)
        await channel.queue_delete("rmq-not-solved")
        with pytest.raises(BrokerUnavailable, match="rejected a message"):
            await delivery.not_solved("unreadable")
    async with RabbitBroker(vhost, topology(QueueType.QUORUM)).consuming(5) as receive:
        (delivery,) = await take(receive, 1)
        assert delivery.message.body == "{}"
    await connection.close()


async def test_a_channel_that_ends_takes_no_confirmation_for_granted(vhost: str) -> None:
    async with publisher(vhost, "rmq-for-retries") as (session, channel):

        async def publish_on() -> None:
            with pytest.raises(BrokerUnavailable):
                while True:
                    await session.publish([message(number) for number in range(500)])

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish_on)
                await anyio.sleep(0.1)
                with pytest.raises(aiormq.exceptions.ChannelClosed):
                    await channel.exchange_declare("rmx-for-retries", exchange_type="topic")


async def test_a_session_forgets_confirmed_messages(vhost: str) -> None:
    async with publisher(vhost, "rmq-for-retries") as (session, channel):
        for start in range(0, 3000, 1000):
            messages = [message(number) for number in range(start, start + 1000)]
            assert await session.publish(messages) == {one.id for one in messages}
        assert not channel.confirmations
        assert not channel.message_id_delivery_tag


async def test_a_body_of_many_frames_arrives_whole(vhost: str) -> None:
    broker = RabbitBroker(vhost, topology(QueueType.QUORUM))
    large = Message("large", "t", "s", "ж" * 300_000)
    empty = Message("empty", "t", "s", "")
    async with broker.publishing() as send:
        assert await send([large, empty, message(1)]) == {"large", "empty", "id-1"}
    async with broker.consuming(5) as receive:
        assert [one.message for one in await take(receive, 3)] == [large, empty, message(1)]


async def test_a_server_that_limits_no_frame_is_sent_whole_bodies(
    rabbit: Rabbit, vhost: str
) -> None:
    limit = rabbit.evaluate("application:get_env(rabbit, frame_max)")
    assert limit == "{ok, 131072}"
    rabbit.evaluate("application:set_env(rabbit, frame_max, 0)")
    try:
        broker = RabbitBroker(vhost, topology(QueueType.QUORUM))
        large = Message("large", "t", "s", "ж" * 300_000)
        async with broker.publishing() as send:
            assert await send([large, message(1)]) == {"large", "id-1"}
        async with broker.consuming(5) as receive:
            assert [one.message for one in await take(receive, 2)] == [large, message(1)]
    finally:
        rabbit.evaluate("application:set_env(rabbit, frame_max, 131072)")


async def test_a_connection_that_failed_gets_no_long_farewell(
    vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[float] = []

    async def closing(rabbit_connection: AbstractConnection, seconds: float) -> None:
        allowed.append(seconds)
        await close(rabbit_connection, seconds)

    monkeypatch.setattr(connection, "close", closing)
    broker = RabbitBroker(vhost, topology(QueueType.QUORUM))
    async with broker.publishing():
        pass
    with pytest.raises(BrokerUnavailable):
        async with broker.publishing():
            raise BrokerUnavailable("not confirmed")
    assert allowed == [STEP_SECONDS, FAREWELL_SECONDS]


async def test_a_queue_that_differs_is_explained_in_one_sentence(vhost: str) -> None:
    broker = RabbitBroker(vhost, topology(QueueType.QUORUM, ttl_ms=1000))
    async with broker.publishing():
        pass
    with pytest.raises(BrokerUnavailable) as misfit:
        async with RabbitBroker(vhost, topology(QueueType.QUORUM, ttl_ms=2000)).publishing():
            pass
    assert str(misfit.value).startswith(
        "RabbitMQ has the queue dlq-for-retries with another x-message-ttl: '1000', but the clinic "
        "wants '2000'."
    )
    with pytest.raises(BrokerUnavailable, match="CLINIC_QUEUE_TYPE=classic"):
        async with RabbitBroker(vhost, topology(QueueType.CLASSIC, ttl_ms=1000)).publishing():
            pass


OLDER = {
    "patient_name": "Иван Иванов",
    "office_number": "221B",
    "date_time": "2025-12-01T15:30:00",
}


async def declare_as_the_older_project(channel: AbstractChannel) -> None:
    await channel.exchange_declare("rmx-for-retries", exchange_type="direct", durable=True)
    await channel.exchange_declare("dlx-for-retries", exchange_type="fanout", durable=True)
    await channel.queue_declare(
        "rmq-for-retries", durable=True, arguments={"x-dead-letter-exchange": "dlx-for-retries"}
    )
    await channel.queue_declare(
        "dlq-for-retries",
        durable=True,
        arguments={
            "x-message-ttl": 400,
            "x-dead-letter-exchange": "rmx-for-retries",
            "x-dead-letter-queue": "rmq-for-retries",
        },
    )
    await channel.queue_declare("rmq-not-solved", durable=True)
    await channel.queue_bind("rmq-for-retries", "rmx-for-retries", routing_key="rmq-for-retries")
    await channel.queue_bind("dlq-for-retries", "dlx-for-retries", routing_key="dlq-for-retries")


async def test_the_queues_of_the_older_project_are_taken_over_with_their_messages(
    vhost: str, database: Database
) -> None:
    connection = await aiormq.connect(vhost)
    channel = await connection.channel()
    await declare_as_the_older_project(channel)
    bodies = [json.dumps(OLDER).encode(), json.dumps(OLDER, ensure_ascii=False).encode(), b"\xff{"]
    for body in bodies:
        await channel.basic_publish(
            body,
            routing_key="rmq-for-retries",
            properties=aiormq.spec.Basic.Properties(delivery_mode=2),
        )
    async with line(database, RabbitBroker(vhost, topology(QueueType.CLASSIC))) as running:
        await running.tell(5)
        await running.all_recorded()
    found: list[tuple[bytes, Any]] = []
    while (taken := await channel.basic_get("rmq-not-solved", no_ack=True)).body:
        headers = taken.header.properties.headers or {}
        assert taken.header.properties.delivery_mode == 2
        assert "x-death" not in headers
        found.append((taken.body, headers["x-reason"]))
    assert sorted(body for body, _ in found) == sorted(bodies)
    for body, reason in found:
        assert ("older project" in reason) == (body != b"\xff{")
        assert "Иван" not in reason
    await connection.close()


async def test_a_stranger_s_message_is_tried_and_set_aside_as_it_was(
    vhost: str, database: Database
) -> None:
    del database
    broker = RabbitBroker(vhost, topology(QueueType.QUORUM))
    await publish(broker, 1)
    async with broker.consuming(5) as receive:
        (delivery,) = await take(receive, 1)
        await delivery.retry()
        (delivery,) = await take(receive, 1)
        await delivery.not_solved("a reason")
    assert await set_aside_in_rabbit(vhost) == [(message(1), "a reason")]


async def test_certificates_are_verified() -> None:
    server = Rabbit(tls=True)
    start_or_skip(server)
    try:
        async with RabbitBroker(server.tls_url, topology(QueueType.QUORUM)).publishing() as send:
            assert await send([message(1)]) == {"id-1"}
        async with RabbitBroker(server.tls_url, topology(QueueType.QUORUM)).consuming(1) as receive:
            assert (await take(receive, 1))[0].message == message(1)
        stranger = server.tls_url.split("?", maxsplit=1)[0]
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            async with RabbitBroker(stranger, topology(QueueType.QUORUM)).publishing():
                pass
    finally:
        server.close()


async def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    with FaultyProxy(1) as proxy:
        proxy.mode("black_hole")
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            async with RabbitBroker(url, topology(QueueType.QUORUM)).publishing():
                pass
        assert time.monotonic() - began < STEP_SECONDS + SLACK_SECONDS
