"""The event log and its relay: nothing stays, nothing is skipped, everything is marked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial

import anyio
import pytest

from clinic.database import Database, Dialect, utc_now
from clinic.messaging.broker import BrokerUnavailable, Publish, Receive
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.message import Message
from clinic.messaging.outbox import LOOK_SECONDS, Outbox
from clinic.supervisor import Patience, Service, Supervisor
from tests.messaging.brokers import message
from tests.timing import PATIENCE_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

AGAIN_AFTER = timedelta(hours=1)
SELECT_UNPUBLISHED = "select count(*) as unpublished from outbox where published_at is null"
# As if time had passed.
HOLD_NOTHING = "update outbox set relay_at = '2025-01-01T00:00:00+00:00'"


@pytest.fixture
def broker(database: Database) -> EmbeddedBroker:
    return EmbeddedBroker(database, ttl=timedelta(seconds=1), lease=timedelta(seconds=30))


async def append(outbox: Outbox, *numbers: int) -> None:
    async with outbox.database.transaction() as connection:
        await outbox.append(connection, [message(number) for number in numbers])


async def unpublished(database: Database) -> int:
    async with database.snapshot() as connection:
        return int((await connection.fetch_all(SELECT_UNPUBLISHED))[0]["unpublished"])


async def queued(database: Database) -> list[str]:
    async with database.snapshot() as connection:
        rows = await connection.fetch_all("select id from message order by position")
    return [row["id"] for row in rows]


@asynccontextmanager
async def relaying(*relays: Service) -> AsyncIterator[None]:
    supervisor = Supervisor(
        relays,
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
    await append(outbox if not left_behind else Outbox(database, AGAIN_AFTER), *range(250))
    async with database.transaction() as connection:
        if left_behind:
            await connection.execute(HOLD_NOTHING)
    async with relaying(Service("relay", partial(outbox.relay, broker))):
        await until_all_published(database)
    assert await queued(database) == [message(number).id for number in range(250)]


async def test_an_event_is_relayed_as_soon_as_it_is_committed(
    database: Database, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinic.messaging.outbox.LOOK_SECONDS", 2 * PATIENCE_SECONDS)
    outbox = Outbox(database, AGAIN_AFTER)
    async with relaying(Service("relay", partial(outbox.relay, broker))):
        await anyio.sleep(0.1)
        await append(outbox, 1)
        await until_all_queued(database, 1)


async def test_what_one_process_holds_no_other_publishes_until_the_hold_ends(
    database: Database, broker: EmbeddedBroker
) -> None:
    here, there = Outbox(database, AGAIN_AFTER), Outbox(database, AGAIN_AFTER)
    await append(here, 1, 2)  # and its process dies
    async with relaying(Service("there", partial(there.relay, broker))):
        await append(there, 3)
        await until_all_queued(database, 1)
        await anyio.sleep(2 * LOOK_SECONDS)
        assert await queued(database) == ["id-3"]
        async with database.transaction() as connection:
            await connection.execute(HOLD_NOTHING + " where position < 3")
        await until_all_queued(database, 3)
    assert await queued(database) == ["id-3", "id-1", "id-2"]


async def test_what_is_more_than_can_be_held_becomes_due(
    database: Database, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinic.messaging.outbox.MOST_HELD", 3)
    monkeypatch.setattr("clinic.messaging.outbox.HOLD", timedelta(seconds=2))
    monkeypatch.setattr("clinic.messaging.outbox.MARK_AFTER", timedelta(seconds=0.1))
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, 1, 2)
    await append(outbox, 3, 4, 5)
    assert len(outbox._held) == 3
    async with relaying(Service("relay", partial(outbox.relay, broker))):
        await until_all_queued(database, 5)
    assert sorted(await queued(database)) == [message(number).id for number in range(1, 6)]


async def test_what_was_held_for_too_long_is_left_to_whoever_finds_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinic.messaging.outbox.HOLD", timedelta(seconds=-1))
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, 1)
    assert outbox._take_held(10) == []
    assert [one.id for one, _ in await outbox._claim()] == ["id-1"]


async def test_a_relay_that_is_asked_to_stop_publishes_what_is_held_first(
    database: Database, broker: EmbeddedBroker
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, *range(1000))
    async with relaying(Service("relay", partial(outbox.relay, broker))):
        await until_all_queued(database, 1)
    assert len(await queued(database)) == 1000


async def test_what_is_settled_in_time_is_not_marked(
    database: Database, broker: EmbeddedBroker
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, *range(5))
    async with relaying(Service("relay", partial(outbox.relay, broker))):
        await until_all_queued(database, 5)
        async with database.transaction() as connection:
            await outbox.settle(connection, [message(number).id for number in range(3)])
        with anyio.fail_after(PATIENCE_SECONDS):
            while await unpublished(database) > 3:
                await anyio.sleep(0.005)
    async with database.snapshot() as connection:
        rows = await connection.fetch_all(
            "select id, publications from outbox join event using (position) order by id"
        )
    assert [tuple(row.values()) for row in rows] == [("id-3", 1), ("id-4", 1)]


async def test_an_idle_relay_marks_all_it_has_published_before_its_hold_ends(
    database: Database, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would be published again."""
    monkeypatch.setattr("clinic.messaging.outbox.BATCH", 10)
    monkeypatch.setattr("clinic.messaging.outbox.HOLD", timedelta(seconds=8))
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, *range(500))
    async with relaying(Service("relay", partial(outbox.relay, broker))):
        await until_all_published(database)
        await anyio.sleep(2 * LOOK_SECONDS)
    assert len(await queued(database)) == 500


async def test_a_stop_waits_for_what_is_held_and_for_no_backlog(
    database: Database, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinic.messaging.outbox.BATCH", 10)
    here, there = Outbox(database, AGAIN_AFTER), Outbox(database, AGAIN_AFTER)
    await append(there, *range(3000))
    async with database.transaction() as connection:
        await connection.execute(HOLD_NOTHING)
    async with relaying(Service("here", partial(here.relay, broker))):
        await until_all_queued(database, 10)
        await append(here, 3000)
    found = await queued(database)
    assert "id-3000" in found
    assert len(found) < 3000


async def test_a_clock_that_is_set_back_keeps_no_relay_from_its_end(
    database: Database, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, *range(3))
    async with relaying(Service("relay", partial(outbox.relay, broker))):
        await until_all_queued(database, 3)
        await anyio.sleep(LOOK_SECONDS)
        earlier = utc_now() - timedelta(hours=1)
        monkeypatch.setattr("clinic.messaging.outbox.utc_now", lambda: earlier)
    assert await unpublished(database) == 0


async def test_an_event_of_a_change_that_is_rolled_back_does_not_exist(database: Database) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await outbox.append(connection, [message(1)])
            raise ZeroDivisionError
    assert await unpublished(database) == 0


async def test_two_relays_publish_each_event_once(
    database: Database, broker: EmbeddedBroker
) -> None:
    here, there = Outbox(database, AGAIN_AFTER), Outbox(database, AGAIN_AFTER)
    await append(Outbox(database, AGAIN_AFTER), *range(500))  # by a process that has died
    async with database.transaction() as connection:
        await connection.execute(HOLD_NOTHING)
    async with relaying(
        Service("here", partial(here.relay, broker)), Service("there", partial(there.relay, broker))
    ):
        await until_all_published(database)
    assert sorted(await queued(database)) == sorted(message(number).id for number in range(500))


class Unsteady:
    """A broker on a real one's shoulders, over a line that breaks now and then."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self._broker = broker
        self.calls = 0

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[Publish]:
        async with self._broker.publishing() as publish:

            async def publish_some(messages: Sequence[Message]) -> set[str]:
                self.calls += 1
                if self.calls % 3 == 0:
                    raise BrokerUnavailable("the line broke")
                return await publish(messages[::2])

            yield publish_some

    def consuming(self, limit: int) -> AbstractAsyncContextManager[Receive]:
        return self._broker.consuming(limit)


async def test_what_the_broker_did_not_store_is_published_again_at_once(
    database: Database, broker: EmbeddedBroker
) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, *range(150))
    async with relaying(Service("relay", partial(outbox.relay, Unsteady(broker)))):
        await until_all_published(database)
    assert sorted(await queued(database)) == sorted(message(number).id for number in range(150))


async def test_relay_and_consumer_do_not_wait_for_each_other_in_a_circle(
    database: Database,
) -> None:
    """Each such wait ends after a second, and only because PostgreSQL ends one of the two."""
    outbox = Outbox(database, AGAIN_AFTER)
    for start in range(0, 4000, 400):
        messages = [message(number) for number in range(start, start + 400)]
        async with database.transaction() as connection:
            await outbox.append(connection, messages)

    async def record() -> None:
        for start in range(0, 4000, 400):
            ids = [message(number).id for number in reversed(range(start, start + 400))]
            async with database.transaction() as connection:
                await outbox.settle(connection, ids)

    async def publish(messages: Sequence[Message]) -> set[str]:
        return {message.id for message in messages}

    async def mark() -> None:
        while batch := await outbox._claim():
            await outbox._mark(await outbox._publish(batch, publish))

    async with database.transaction() as connection:
        await connection.execute(HOLD_NOTHING)
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
