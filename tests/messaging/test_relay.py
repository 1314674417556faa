"""The relay: nothing stays, nothing is skipped, everything is marked, and nothing kept for long."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta

import anyio
import pytest

from clinic.database import Database, Dialect, open_database, utc_now
from clinic.messaging.broker import BrokerUnavailable, NotSolved, Publish, Receive
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.message import Message
from clinic.messaging.outbox import Held, Outbox
from clinic.messaging.relay import Pace, Relay
from clinic.supervisor import Patience, Service, Supervisor
from tests.messaging.brokers import message, through_proxy
from tests.messaging.test_outbox import AGAIN_AFTER, NONE, append, close, open_events
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

PACE = Pace()


@pytest.fixture
def broker(database: Database) -> EmbeddedBroker:
    return EmbeddedBroker(database, ttl=timedelta(seconds=1), lease=timedelta(seconds=30))


async def unpublished(database: Database) -> int:
    async with database.snapshot() as connection:
        rows = await connection.fetch_all(
            "select count(*) as unpublished from outbox where published_at is null"
        )
    return int(rows[0]["unpublished"])


async def queued(database: Database) -> list[str]:
    async with database.snapshot() as connection:
        rows = await connection.fetch_all("select id from message order by position")
    return [row["id"] for row in rows]


@asynccontextmanager
async def relaying(*relays: Relay) -> AsyncIterator[None]:
    supervisor = Supervisor(
        [Service(f"relay {number}", relay.run) for number, relay in enumerate(relays)],
        grace_seconds=PATIENCE_SECONDS,
        patience=Patience(first_pause_seconds=0.001, longest_pause_seconds=0.01),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        yield
        supervisor.stop()


async def until_all_queued(database: Database, count: int) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(await queued(database)) < count:
            await anyio.sleep(0.005)


async def until_all_published(database: Database) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while await unpublished(database):
            await anyio.sleep(0.005)


@pytest.mark.parametrize("left_behind", [False, True])
async def test_events_are_published_in_order_and_marked(
    database: Database, broker: EmbeddedBroker, *, left_behind: bool
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    writer = Outbox(database, AGAIN_AFTER, hold=NONE) if left_behind else outbox
    await append(writer, *range(250))
    async with relaying(Relay(outbox, broker, Pace(mark_after_seconds=0.1))):
        await until_all_published(database)
    assert await queued(database) == [message(number).id for number in range(250)]


async def test_an_event_is_relayed_as_soon_as_it_is_committed(
    database: Database, broker: EmbeddedBroker
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    async with relaying(Relay(outbox, broker, Pace(poll_seconds=2 * PATIENCE_SECONDS))):
        await anyio.sleep(0.1)
        await append(outbox, 1)
        await until_all_queued(database, 1)


async def test_no_other_process_publishes_a_held_event_until_the_hold_ends(
    database: Database, broker: EmbeddedBroker
) -> None:
    dead = Outbox(database, AGAIN_AFTER, hold=timedelta(seconds=2.5 * PACE.poll_seconds))
    await append(dead, 1, 2)
    outbox = Outbox(database, AGAIN_AFTER)
    async with relaying(Relay(outbox, broker)):
        await append(outbox, 3)
        await until_all_queued(database, 1)
        await anyio.sleep(1.5 * PACE.poll_seconds)
        assert await queued(database) == ["id-3"]
        await until_all_queued(database, 3)
    assert await queued(database) == ["id-3", "id-1", "id-2"]


async def test_a_relay_that_is_asked_to_stop_publishes_what_is_held_first(
    database: Database, broker: EmbeddedBroker
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, *range(1000))
    async with relaying(Relay(outbox, broker)):
        await until_all_queued(database, 1)
    assert len(await queued(database)) == 1000
    assert await unpublished(database) == 0


async def test_an_event_closed_in_time_is_not_marked(
    database: Database, broker: EmbeddedBroker
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, *range(5))
    async with relaying(Relay(outbox, broker, Pace(mark_after_seconds=0.5))):
        await until_all_queued(database, 5)
        await close(outbox, 0, 1, 2)
        await until_all_published(database)
    assert await open_events(database) == {"id-3": 1, "id-4": 1}


async def test_an_idle_relay_marks_all_it_has_published_before_its_hold_ends(
    database: Database, broker: EmbeddedBroker
) -> None:
    """Otherwise the events would be published again."""
    outbox = Outbox(database, AGAIN_AFTER, hold=timedelta(seconds=20))
    await append(outbox, *range(500))
    # With one batch for each poll it would take 50 s.
    pace = Pace(batch=10, poll_seconds=1.0, mark_after_seconds=0.5)
    async with relaying(Relay(outbox, broker, pace)):
        with anyio.fail_after(SLACK_SECONDS + 20):
            await until_all_published(database)
        await anyio.sleep(1.5 * pace.poll_seconds)
    assert len(await queued(database)) == 500


async def test_a_stop_waits_for_held_events_and_not_for_a_backlog(
    database: Database, broker: EmbeddedBroker
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(Outbox(database, AGAIN_AFTER, hold=NONE), *range(3000))
    async with relaying(Relay(outbox, broker, Pace(batch=10))):
        await until_all_queued(database, 10)
        await append(outbox, 3000)
    found = await queued(database)
    assert "id-3000" in found
    assert len(found) < 3000


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_relay_stops_even_if_the_clock_is_set(
    database: Database, broker: EmbeddedBroker, hours: int
) -> None:
    error = timedelta(0)

    def clock() -> datetime:
        return utc_now() + error

    outbox = Outbox(database, AGAIN_AFTER, clock=clock)
    await append(outbox, *range(3))
    async with relaying(Relay(outbox, broker, Pace(mark_after_seconds=0.5, poll_seconds=0.1))):
        await until_all_queued(database, 3)
        error = timedelta(hours=hours)
        await anyio.sleep(1.5)
    assert await unpublished(database) == 0


async def test_two_relays_publish_each_event_once(
    database: Database, broker: EmbeddedBroker
) -> None:
    await append(Outbox(database, AGAIN_AFTER, hold=NONE), *range(500))  # and its process dies
    pace = Pace(mark_after_seconds=0.5)
    relays = [Relay(Outbox(database, AGAIN_AFTER), broker, pace) for _ in range(2)]
    async with relaying(*relays):
        await until_all_published(database)
    assert sorted(await queued(database)) == sorted(message(number).id for number in range(500))


class Unsteady:
    """A real broker, over a connection that fails when the test says so."""

    def __init__(self, broker: EmbeddedBroker, fails: Callable[[int], bool]) -> None:
        self._broker = broker
        self._fails = fails
        self.calls = 0

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[Publish]:
        async with self._broker.publishing() as publish:

            async def publish_some(messages: Sequence[Message]) -> set[str]:
                self.calls += 1
                if self._fails(self.calls):
                    raise BrokerUnavailable("the line broke")
                return await publish(messages[::2])

            yield publish_some

    def consuming(self, limit: int) -> AbstractAsyncContextManager[Receive]:
        return self._broker.consuming(limit)

    def set_aside(self) -> AbstractAsyncContextManager[NotSolved]:
        return self._broker.set_aside()


async def test_events_that_the_broker_did_not_store_are_published_again_at_once(
    database: Database, broker: EmbeddedBroker
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, *range(150))
    unsteady = Unsteady(broker, lambda calls: calls % 3 == 0)
    pace = Pace(poll_seconds=0.1, mark_after_seconds=0.1)
    async with relaying(Relay(outbox, unsteady, pace)):
        await until_all_published(database)
    assert sorted(await queued(database)) == sorted(message(number).id for number in range(150))


async def test_other_relays_publish_at_once_what_a_failed_one_held(
    database: Database, broker: EmbeddedBroker
) -> None:
    """Events that it had in hand, that waited in memory, and that are written while it fails."""
    outbox = Outbox(database, AGAIN_AFTER, hold=timedelta(minutes=5))
    await append(outbox, *range(50))
    failing = Relay(outbox, Unsteady(broker, lambda _calls: True), Pace(batch=10))
    other = Relay(Outbox(database, AGAIN_AFTER), broker, Pace(poll_seconds=0.1))
    async with relaying(failing, other):
        await until_all_queued(database, 50)
        await append(outbox, *range(50, 60))
        await until_all_queued(database, 60)
    assert len(await queued(database)) == 60


@pytest.mark.parametrize("database_url", [Dialect.POSTGRESQL], indirect=True)
async def test_events_are_released_once_the_database_answers(
    database_url: str, database: Database, broker: EmbeddedBroker
) -> None:
    """Database and broker go away at the same time, and only the database comes back."""
    with through_proxy(database_url) as (url, proxy):

        def fails(calls: int) -> bool:
            if calls == 1:
                proxy.mode("down")
            return True

        unsteady = Unsteady(broker, fails)
        other = Outbox(database, AGAIN_AFTER)
        async with open_database(url) as unsteady_database:
            outbox = Outbox(unsteady_database, AGAIN_AFTER, hold=timedelta(minutes=5))
            await append(outbox, *range(5))
            async with relaying(Relay(outbox, unsteady, Pace(batch=3))):
                with anyio.fail_after(PATIENCE_SECONDS):
                    while unsteady.calls < 1:
                        await anyio.sleep(0.01)
                await anyio.sleep(0.3)
                assert await other.claim(10) == []
                proxy.mode("pass")
                claimed: list[Held] = []
                with anyio.fail_after(SLACK_SECONDS):
                    while len(claimed) < 5:
                        claimed += await other.claim(10)
                        await anyio.sleep(0.01)
    assert sorted(one.message.id for one in claimed) == [f"id-{number}" for number in range(5)]


async def test_relay_and_consumer_do_not_deadlock(database: Database) -> None:
    """Each deadlock ends after a second, and only because PostgreSQL ends one of the two."""
    outbox = Outbox(database, AGAIN_AFTER, hold=NONE)
    for start in range(0, 4000, 400):
        await append(outbox, *range(start, start + 400))
    outbox = Outbox(database, AGAIN_AFTER)

    async def record() -> None:
        for start in range(0, 4000, 400):
            await close(outbox, *reversed(range(start, start + 400)))

    async def mark() -> None:
        while batch := await outbox.claim(PACE.batch):
            await outbox.release(batch[::2])
            await outbox.mark(outbox.published(batch))

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            for task in (record, mark, mark):
                tasks.start_soon(task)
    if database.dialect is Dialect.POSTGRESQL:
        await anyio.sleep(1.1)  # a session tells of its deadlocks once a second
        async with database.snapshot() as connection:
            rows = await connection.fetch_all(
                "select deadlocks from pg_stat_database where datname = current_database()"
            )
        assert rows[0]["deadlocks"] == 0
