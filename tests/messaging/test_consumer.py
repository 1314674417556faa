"""The consumer: batches, three kinds of failure, copies, and the drain."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import anyio
import pytest

from clinic.analytics.recording import recognise, record
from clinic.database import Connection, Database, Sql
from clinic.messaging.broker import Broker
from clinic.messaging.consumer import BATCH, Consumer, Standing
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.message import Message, Unreadable
from clinic.messaging.outbox import Outbox
from clinic.supervisor import Patience, Service, Supervisor, Unavailable
from tests.analytics.test_report import booked
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

    async def __call__(
        self, _connection: Connection, messages: Sequence[Message]
    ) -> list[Unreadable | None]:
        self.tries += [one.id for one in messages]
        found: list[Unreadable | None] = []
        for one in messages:
            match self.failures.get(one.id):
                case Unreadable() | None as known:
                    found.append(known)
                case failure:
                    raise failure
        self.batches.append([one.id for one in messages if one.id not in self.failures])
        return found

    @property
    def seen(self) -> list[str]:
        return sorted(name for batch in self.batches for name in batch)


async def all_of_ours(_connection: Connection, messages: Sequence[Message]) -> list[Standing]:
    """Take every message for the event that it says it is."""
    return [Standing.OPEN] * len(messages)


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


async def test_waiting_messages_are_handled_in_one_batch(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    handled = Handled()
    await publish(broker, *range(20))
    consumer = Consumer(broker, outbox, handled, all_of_ours, death_limit=3)
    await consume_until(partial(none_waits, database), consumer)
    assert [len(batch) for batch in handled.batches] == [20]


async def test_one_bad_message_never_takes_its_neighbours_with_it(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    handled = Handled({"id-3": ValueError("a name"), "id-5": Unreadable("no JSON")})
    await publish(broker, *range(10))
    consumer = Consumer(broker, outbox, handled, all_of_ours, death_limit=2)
    await consume_until(partial(none_waits, database), consumer)
    assert handled.seen == [f"id-{number}" for number in range(10) if number not in (3, 5)]
    assert await reasons(database) == {
        "id-3": "failed 3 times, at last with ValueError",
        "id-5": "unreadable: no JSON",
    }


async def test_no_message_dies_in_an_outage(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    handled = Handled({"id-1": Unavailable("the database is away")})
    await publish(broker, 1)

    async def tried_again() -> bool:
        return len(handled.tries) > 3

    await consume_until(tried_again, Consumer(broker, outbox, handled, all_of_ours, death_limit=0))
    assert await reasons(database) == {}
    async with broker.consuming(1) as receive:
        (delivery,) = await take(receive, 1)
        assert delivery.deaths == 0


async def test_rehearsed_failures_go_the_way_of_real_ones(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    handled = Handled()
    await publish(broker, *range(50))
    consumer = Consumer(broker, outbox, handled, all_of_ours, death_limit=1, error_probability=0.5)
    await consume_until(partial(none_waits, database), consumer)
    set_aside = await reasons(database)
    assert sorted([*handled.seen, *set_aside]) == sorted(message(n).id for n in range(50))
    assert set(set_aside.values()) == {"failed 2 times, at last with RehearsedFailure"}


async def test_failing_messages_are_found_by_halving(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    """One transaction for each neighbour would delay the messages after them."""
    handled = Handled({"id-100": ValueError()})
    await publish(broker, *range(BATCH))
    consumer = Consumer(broker, outbox, handled, all_of_ours, death_limit=0)
    await consume_until(partial(none_waits, database), consumer)
    assert len(handled.seen) == BATCH - 1
    assert list(await reasons(database)) == ["id-100"]
    assert len(handled.batches) < 10


async def test_unreadable_messages_take_no_transaction_of_their_own(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    bad = {message(number).id: Unreadable("no JSON") for number in range(0, BATCH, 2)}
    handled = Handled(dict(bad))
    await publish(broker, *range(BATCH))
    consumer = Consumer(broker, outbox, handled, all_of_ours, death_limit=0)
    await consume_until(partial(none_waits, database), consumer)
    assert [len(batch) for batch in handled.batches] == [BATCH - len(bad)]
    assert (await reasons(database)).keys() == bad.keys()


async def test_values_that_the_database_refuses_are_not_tried_again(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    async def handle(connection: Connection, _messages: Sequence[Message]) -> list[None]:
        await connection.execute(
            Sql(
                sqlite="insert into outbox (position, relay_at) values ('no number', '')",
                postgresql="select cast('no number' as bigint)",
            )
        )
        return []

    await publish(broker, 1)
    consumer = Consumer(broker, outbox, handle, all_of_ours, death_limit=5)
    await consume_until(partial(none_waits, database), consumer)
    assert "the database does not accept its values" in (await reasons(database))["id-1"]


async def test_the_consumer_goes_on_when_copies_cannot_be_recognised(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    async def recognise(_connection: Connection, _messages: Sequence[Message]) -> list[Standing]:
        raise ValueError

    handled = Handled({"id-1": Unreadable("no JSON")})
    await publish(broker, 1, 2)
    consumer = Consumer(broker, outbox, handled, recognise, death_limit=0)
    await consume_until(partial(none_waits, database), consumer)
    assert handled.seen == ["id-2"]
    assert await reasons(database) == {"id-1": "unreadable: no JSON"}


async def log_events(database: Database, outbox: Outbox, count: int) -> list[Message]:
    """Write events into the log, and return their messages."""
    messages = [event.message() for event in booked(seed=1, count=count)]
    async with database.transaction() as connection:
        await outbox.append(connection, messages)
    return messages


async def hand_over(broker: Broker, messages: Sequence[Message]) -> None:
    async with broker.publishing() as send:
        await send(messages)


async def open_events(database: Database) -> set[str]:
    rows = await database.look("select id from outbox join event using (position)")
    return {row["id"] for row in rows}


async def test_a_copy_of_a_recorded_event_is_solved_whatever_fails(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    messages = await log_events(database, outbox, 20)
    await hand_over(broker, messages)
    consumer = Consumer(broker, outbox, record, recognise, death_limit=2)
    await consume_until(partial(none_waits, database), consumer)
    await hand_over(broker, [*messages, *messages])
    rehearsing = replace(consumer, error_probability=1.0)
    await consume_until(partial(none_waits, database), rehearsing)
    assert await reasons(database) == {}


async def test_an_event_that_is_set_aside_is_closed_and_garbage_closes_nothing(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    died, garbled, renamed = messages = await log_events(database, outbox, 3)
    await hand_over(broker, [died])
    failing = Consumer(broker, outbox, record, recognise, death_limit=0, error_probability=1.0)
    await consume_until(partial(none_waits, database), failing)
    assert await open_events(database) == {garbled.id, renamed.id}

    await hand_over(broker, [replace(garbled, body="{}"), replace(renamed, body=died.body)])
    consumer = replace(failing, error_probability=0.0)
    await consume_until(partial(none_waits, database), consumer)
    assert await open_events(database) == {garbled.id, renamed.id}
    assert (await reasons(database)).keys() == {one.id for one in messages}

    await hand_over(broker, [garbled, renamed])
    await consume_until(partial(none_waits, database), consumer)
    assert await open_events(database) == set()
    rows = await database.look("select event_id from recorded")
    assert {row["event_id"] for row in rows} == {garbled.id, renamed.id}


async def test_an_event_whose_delivery_failed_stays_open(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    """If its message is lost on its way round, the event is published again."""
    (failed,) = await log_events(database, outbox, 1)
    await hand_over(broker, [failed])

    async def has_died() -> bool:
        return bool(await database.look("select id from message where deaths > 0"))

    failing = Consumer(broker, outbox, record, recognise, death_limit=9999, error_probability=1.0)
    await consume_until(has_died, failing)
    assert await open_events(database) == {failed.id}


async def test_garbage_under_the_id_of_a_recorded_event_is_no_copy_of_it(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    messages = await log_events(database, outbox, 1)
    await hand_over(broker, messages)
    consumer = Consumer(broker, outbox, record, recognise, death_limit=2)
    await consume_until(partial(none_waits, database), consumer)
    await hand_over(broker, [replace(messages[0], body='{"other": 1}')])
    await consume_until(partial(none_waits, database), consumer)
    assert list(await reasons(database)) == [messages[0].id]


async def test_an_altered_event_is_recorded_as_the_log_has_it(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    (message,) = await log_events(database, outbox, 1)
    told = json.loads(message.body)
    told["data"]["office_number"] = "forged"
    await hand_over(broker, [replace(message, body=json.dumps(told))])
    consumer = Consumer(broker, outbox, record, recognise, death_limit=2)
    await consume_until(partial(none_waits, database), consumer)
    (row,) = await database.look("select office_number from recorded")
    assert row["office_number"] == json.loads(message.body)["data"]["office_number"]
    assert await reasons(database) == {}
    assert await open_events(database) == set()


async def test_at_a_drain_the_batch_in_hand_is_finished_and_the_rest_given_back(
    broker: Broker, outbox: Outbox, database: Database
) -> None:
    started = anyio.Event()
    finished: list[Message] = []

    async def slow(_connection: Connection, messages: Sequence[Message]) -> list[None]:
        started.set()
        await anyio.sleep(0.2)
        finished.extend(messages)
        return [None] * len(messages)

    await publish(broker, *range(3 * BATCH))
    supervisor = Supervisor(
        [Service("consumer", Consumer(broker, outbox, slow, all_of_ours, death_limit=0).run)],
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
