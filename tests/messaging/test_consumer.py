"""The consumer: batches, three kinds of failure, and the drain."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial

import anyio
import pytest

from clinic.database import Connection, Database
from clinic.messaging.broker import Broker
from clinic.messaging.consumer import BATCH, Consumer
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.message import Message, Unreadable
from clinic.messaging.outbox import Outbox
from clinic.supervisor import Patience, Service, Supervisor, Unavailable
from tests.messaging.test_broker import message, publish, take
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


@pytest.fixture
def broker(database: Database) -> EmbeddedBroker:
    return EmbeddedBroker(database, ttl=timedelta(seconds=0.05), lease=timedelta(minutes=5))


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database, timedelta(minutes=1))


class Handled:
    """A handler that fails for some messages and remembers the others."""

    def __init__(self, failures: dict[str, Exception] | None = None) -> None:
        self.failures = failures or {}
        self.batches: list[list[str]] = []
        self.tries: list[str] = []

    async def __call__(self, _connection: Connection, messages: Sequence[Message]) -> None:
        self.tries += [one.id for one in messages]
        for one in messages:
            if one.id in self.failures:
                raise self.failures[one.id]
        self.batches.append([one.id for one in messages])

    @property
    def seen(self) -> list[str]:
        return sorted(name for batch in self.batches for name in batch)


async def consume_until(condition: Callable[[], Awaitable[bool]], consumer: Consumer) -> None:
    supervisor = Supervisor(
        [Service("consumer", consumer.run)],
        grace_seconds=PATIENCE_SECONDS,
        patience=Patience(first_pause_seconds=0.001, longest_pause_seconds=0.01),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        with anyio.fail_after(PATIENCE_SECONDS):
            while not await condition():
                await anyio.sleep(0.02)
        supervisor.stop()


async def reasons(database: Database) -> dict[str, str]:
    async with database.snapshot() as connection:
        rows = await connection.fetch_all(
            "select id, reason from message where queue = 'not_solved'"
        )
    return {row["id"]: row["reason"] for row in rows}


async def none_waits(database: Database) -> bool:
    return await waiting(database) == 0


async def waiting(database: Database) -> int:
    async with database.snapshot() as connection:
        rows = await connection.fetch_all(
            "select count(*) as waiting from message where queue <> 'not_solved'"
        )
    return int(rows[0]["waiting"])


async def test_what_waits_is_handled_in_one_batch(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    handled = Handled()
    await publish(broker, *range(20))
    consumer = Consumer(broker, outbox, handled, death_limit=3)
    await consume_until(partial(none_waits, database), consumer)
    assert [len(batch) for batch in handled.batches] == [20]


async def test_one_bad_message_never_takes_its_neighbours_with_it(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    handled = Handled({"id-3": ValueError("a name"), "id-5": Unreadable("no JSON")})
    await publish(broker, *range(10))
    consumer = Consumer(broker, outbox, handled, death_limit=2)
    await consume_until(partial(none_waits, database), consumer)
    assert handled.seen == [f"id-{number}" for number in range(10) if number not in (3, 5)]
    assert await reasons(database) == {
        "id-3": "failed 3 times, at last with ValueError",
        "id-5": "unreadable: no JSON",
    }


async def test_while_we_cannot_work_nothing_dies(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    handled = Handled({"id-1": Unavailable("the database is away")})
    await publish(broker, 1)

    async def tried_again() -> bool:
        return len(handled.tries) > 3

    await consume_until(tried_again, Consumer(broker, outbox, handled, death_limit=0))
    assert await reasons(database) == {}
    async with broker.consuming(1) as receive:
        (delivery,) = await take(receive, 1)
        assert delivery.deaths == 0


async def test_rehearsed_failures_go_the_way_of_real_ones(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    handled = Handled()
    await publish(broker, *range(50))
    consumer = Consumer(broker, outbox, handled, death_limit=1, error_probability=0.5)
    await consume_until(partial(none_waits, database), consumer)
    set_aside = await reasons(database)
    assert sorted([*handled.seen, *set_aside]) == sorted(message(n).id for n in range(50))
    assert set(set_aside.values()) == {"failed 2 times, at last with RehearsedFailure"}


async def test_at_a_drain_the_batch_in_hand_is_finished_and_the_rest_given_back(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    started = anyio.Event()
    finished: list[Message] = []

    async def slow(_connection: Connection, messages: Sequence[Message]) -> None:
        started.set()
        await anyio.sleep(0.2)
        finished.extend(messages)

    await publish(broker, *range(3 * BATCH))
    supervisor = Supervisor(
        [Service("consumer", Consumer(broker, outbox, slow, death_limit=0).run)],
        grace_seconds=PATIENCE_SECONDS,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        await started.wait()
        supervisor.stop()
    assert len(finished) == BATCH
    assert await waiting(database) == 2 * BATCH
    async with broker.consuming(2 * BATCH) as receive, anyio.create_task_group():
        with anyio.fail_after(SLACK_SECONDS):
            assert len(await receive()) == 2 * BATCH
