"""Queues, exchanges and bindings on a RabbitMQ server: declared, checked, and declared again."""

import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import aiormq
import anyio
import pytest
from aiormq.abc import AbstractChannel
from anyio import to_thread

from clinic.analytics.recording import record
from clinic.database import Connection, migrate, open_database
from clinic.messaging.broker import BrokerUnavailable, Publish
from clinic.messaging.message import Message, Unreadable
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.rabbitmq.declaring import LOOK_SECONDS
from clinic.messaging.rabbitmq.topology import QueueType
from tests.messaging.brokers import message, publish, take, topology
from tests.messaging.line import line
from tests.servers import Rabbit
from tests.servers.rabbit import erlang_binary
from tests.timing import SLACK_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

MAIN, DEAD = "rmq-for-retries", "dlq-for-retries"
MAIN_EXCHANGE, DEAD_EXCHANGE = "rmx-for-retries", "dlx-for-retries"
ALL = {
    f">{MAIN}",
    f">{DEAD}",
    ">rmq-not-solved",
    f"{MAIN_EXCHANGE}>{MAIN}",
    f"{DEAD_EXCHANGE}>{DEAD}",
}
# RabbitMQ's own retry of a dead letter: rabbitmq/advanced.config.
DEAD_LETTER_SECONDS = 4
AGAIN_AFTER = 2.0

Delete = Callable[[AbstractChannel], Coroutine[Any, Any, Any]]
# What an administrator may delete while all sessions stay open, and how the log names it. Nobody
# can tell whether a binding was there.
DELETIONS: list[tuple[Delete, str]] = [
    (lambda channel: channel.queue_delete(DEAD), f"the queue {DEAD}"),
    (lambda channel: channel.exchange_delete(DEAD_EXCHANGE), f"the exchange {DEAD_EXCHANGE}"),
    (lambda channel: channel.queue_unbind(DEAD, DEAD_EXCHANGE, DEAD), ""),
    (lambda channel: channel.exchange_delete(MAIN_EXCHANGE), f"the exchange {MAIN_EXCHANGE}"),
    (lambda channel: channel.queue_unbind(MAIN, MAIN_EXCHANGE, MAIN), ""),
    (lambda channel: channel.queue_delete("rmq-not-solved"), "the queue rmq-not-solved"),
]


class FailsOnce:
    """Records each event when it comes for the second time."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    async def __call__(
        self, connection: Connection, messages: Sequence[Message]
    ) -> Sequence[Unreadable | None]:
        new = {one.id for one in messages} - self._seen
        self._seen |= new
        if new:
            raise ZeroDivisionError
        return await record(connection, messages)


async def on_channel(url: str, call: Delete) -> None:
    """Make a call as an administrator."""
    connection = await aiormq.connect(url)
    await call(await connection.channel())
    await connection.close()


def standing(server: Rabbit, vhost: str) -> set[str]:
    """Return each binding of a queue to an exchange; each queue has one to the default exchange."""
    found = server.evaluate(
        'lists:flatten([io_lib:format("~s>~s ", [X, Q]) || '
        "{binding, {resource, _, exchange, X}, _, {resource, _, queue, Q}, _} <- "
        f"rabbit_binding:list({erlang_binary(vhost)})])"
    )
    return set(found.strip('"').split())


@pytest.mark.parametrize("queue_type", list(QueueType))
async def test_a_piece_deleted_while_sessions_are_open_is_declared_again(
    rabbit: Rabbit, tmp_path: Path, caplog: pytest.LogCaptureFixture, queue_type: QueueType
) -> None:
    """All deletions side by side, each in a vhost of its own: one takes up to ten seconds."""
    caplog.set_level(logging.INFO, "clinic")

    one_at_a_time = anyio.CapacityLimiter(1)

    async def until_all_stands(vhost: str) -> None:
        while True:
            if await to_thread.run_sync(standing, rabbit, vhost, limiter=one_at_a_time) == ALL:
                return
            await anyio.sleep(0.3)

    async def delete_in(vhost: str, delete: Delete) -> None:
        url = await to_thread.run_sync(rabbit.create_vhost, vhost, limiter=one_at_a_time)
        database_url = f"sqlite:///{tmp_path / vhost}.db"
        migrate(database_url)
        broker = RabbitBroker(url, topology(queue_type))
        async with (
            open_database(database_url) as database,
            line(database, broker, AGAIN_AFTER, FailsOnce()) as running,
        ):
            await running.tell(10)
            await running.all_recorded()
            await until_all_stands(vhost)
            await running.tell(10)
            await on_channel(url, delete)
            began = time.monotonic()
            await running.tell(10)
            await until_all_stands(vhost)
            await running.all_recorded()
            took = time.monotonic() - began
            assert took < LOOK_SECONDS + DEAD_LETTER_SECONDS + AGAIN_AFTER + SLACK_SECONDS

    async with anyio.create_task_group() as tasks:
        for number, (delete, _) in enumerate(DELETIONS):
            tasks.start_soon(delete_in, f"deleted-{queue_type}-{number}", delete)
    said = [text for text in caplog.messages if text.startswith("RabbitMQ had lost")]
    assert sorted(said) == sorted(
        f"RabbitMQ had lost {name}: declared again" for _, name in DELETIONS if name
    )
    assert not [text for text in caplog.messages if "Trying again" in text]


async def look(hand_over: Publish) -> None:
    """Have a session do nothing until it fails, as a relay that is idle."""
    with anyio.fail_after(LOOK_SECONDS + SLACK_SECONDS):
        while True:
            await hand_over([])
            await anyio.sleep(0.1)


async def test_a_piece_that_cannot_be_declared_again_ends_the_session_and_is_named(
    rabbit: Rabbit, vhost: str
) -> None:
    """The relay then is down, and events wait, until an administrator has declared it again."""
    await publish(RabbitBroker(vhost, topology(QueueType.QUORUM)), 1)
    url = rabbit.create_user("looks", vhost.rsplit("/", 1)[1], "^$", ".*", ".*")
    async with RabbitBroker(url, topology(QueueType.QUORUM)).publishing() as hand_over:
        await on_channel(vhost, lambda channel: channel.exchange_delete(DEAD_EXCHANGE))
        with pytest.raises(BrokerUnavailable) as missing:
            await look(hand_over)
    assert str(missing.value).startswith(
        f"RabbitMQ has no exchange {DEAD_EXCHANGE}, and this user may not declare it: give the "
        "user the permissions configure, write and read for it"
    )
    await publish(RabbitBroker(vhost, topology(QueueType.QUORUM)), 2)
    await publish(RabbitBroker(url, topology(QueueType.QUORUM)), 3)


async def test_a_queue_that_was_declared_otherwise_meanwhile_is_explained(vhost: str) -> None:
    async with RabbitBroker(vhost, topology(QueueType.QUORUM)).publishing() as hand_over:

        async def replace(channel: AbstractChannel) -> None:
            await channel.exchange_delete(MAIN_EXCHANGE)
            await channel.exchange_delete(DEAD_EXCHANGE)
            await channel.exchange_declare(DEAD_EXCHANGE, exchange_type="topic")

        await on_channel(vhost, replace)
        with pytest.raises(BrokerUnavailable, match=f"the exchange {DEAD_EXCHANGE} with another"):
            await look(hand_over)


@pytest.mark.parametrize("queue_type", list(QueueType))
@pytest.mark.parametrize(
    ("write", "read"),
    [
        (".*", ".*"),
        # The least: RabbitMQ carries the dead letters itself.
        (r"^amq\.default$", f"^{MAIN}$"),
    ],
)
async def test_a_user_who_may_not_declare_uses_the_queues_of_an_administrator(
    rabbit: Rabbit, vhost: str, queue_type: QueueType, write: str, read: str
) -> None:
    await publish(RabbitBroker(vhost, topology(queue_type)))
    url = rabbit.create_user("uses", vhost.rsplit("/", 1)[1], "^$", write, read)
    broker = RabbitBroker(url, topology(queue_type))
    async with broker.publishing() as hand_over, broker.consuming(10) as receive:
        assert await hand_over([message(1)]) == {"id-1"}
        (delivery,) = await take(receive, 1)
        await delivery.retry()
        await anyio.sleep(LOOK_SECONDS)
        assert await hand_over([message(2)]) == {"id-2"}
        deaths = {delivery.message.id: delivery for delivery in await take(receive, 2)}
        assert (deaths["id-1"].deaths, deaths["id-2"].deaths) == (1, 0)
        await deaths["id-1"].not_solved("a reason")
        await deaths["id-2"].solved()


PERMISSIONS = [
    (
        "^$",
        ".*",
        ".*",
        "has no exchange rmx-for-retries, and this user may not declare it: .* conf",
    ),
    ("^rm[xq]|dlx", ".*", ".*", f"has no queue {DEAD}, and this user may not declare it: .* conf"),
    (".*", "^[^a]", ".*", "the user .* lacks the permission write for the exchange amq.default"),
    (".*", ".*", "^[^r]|rmx", f"has no queue {MAIN}, and this user may not declare it: .* read"),
]


@pytest.mark.parametrize(("configure", "write", "read", "said"), PERMISSIONS)
async def test_a_permission_that_is_missing_is_named_with_what_it_is_for(  # noqa: PLR0913, PLR0917
    rabbit: Rabbit, vhost: str, configure: str, write: str, read: str, said: str
) -> None:
    url = rabbit.create_user("lacks", vhost.rsplit("/", 1)[1], configure, write, read)
    with pytest.raises(BrokerUnavailable, match=said):
        await publish(RabbitBroker(url, topology(QueueType.QUORUM)), 1)


async def test_a_user_who_may_not_read_the_queue_is_told_so(rabbit: Rabbit, vhost: str) -> None:
    broker = RabbitBroker(vhost, topology(QueueType.QUORUM))
    await publish(broker)
    url = rabbit.create_user("deaf", vhost.rsplit("/", 1)[1], "^$", ".*", "^$")
    with pytest.raises(BrokerUnavailable, match=f"deaf lacks .* read for the queue {MAIN} "):
        async with RabbitBroker(url, topology(QueueType.QUORUM)).consuming(1):
            pass


async def test_a_login_that_is_refused_is_explained(rabbit: Rabbit, vhost: str) -> None:
    for url, said in (
        (vhost.replace("guest:guest", "guest:wrong"), "does not know this user with this password"),
        (vhost.rsplit("/", 1)[0] + "/elsewhere", "the vhost in AMQP_URL does not exist"),
        (f"{vhost}?auth=external", "AMQP_URL: auth=external is a login by certificate"),
    ):
        with pytest.raises(BrokerUnavailable, match=said) as refused:
            await publish(RabbitBroker(url, topology(QueueType.QUORUM)), 1)
        assert "wrong" not in str(refused.value)
    del rabbit


async def test_the_servers_under_test_run_with_what_users_are_given(rabbit: Rabbit) -> None:
    name = "dead_letter_worker_publisher_confirm_timeout"
    configured = rabbit.evaluate(f"application:get_env(rabbit, {name})")
    assert configured == f"{{ok, {DEAD_LETTER_SECONDS * 1000}}}"
