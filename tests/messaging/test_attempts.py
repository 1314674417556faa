"""What is kept of deliveries that failed, and the index of what was set aside."""

import datetime
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import anyio
import pytest

from clinic.analytics.recording import recognise, record
from clinic.database import Connection, Database, Row, utc_now
from clinic.events import describe
from clinic.messaging import journal as journals
from clinic.messaging.attempts import (
    LONGEST_TEXT,
    LONGEST_TRACEBACK,
    attempt,
    delete_old_attempts,
    insert_attempts,
)
from clinic.messaging.broker import Broker
from clinic.messaging.consumer import Consumer
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.journal import Journal
from clinic.messaging.message import Message, Unreadable
from clinic.messaging.outbox import Outbox
from clinic.messaging.set_aside import unpacked
from tests.messaging.test_consumer import consume_until, hand_over, log_events, none_waits

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

NAME = "Иван Иванов"


@pytest.fixture
def broker(database: Database) -> EmbeddedBroker:
    return EmbeddedBroker(
        database, ttl=datetime.timedelta(seconds=0.05), lease=datetime.timedelta(minutes=5)
    )


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database, datetime.timedelta(minutes=1))


@pytest.fixture
def consumer(broker: Broker, outbox: Outbox, database: Database) -> Consumer:
    return Consumer(
        broker, outbox, record, recognise, death_limit=2, journal=Journal(database, describe)
    )


async def attempts(database: Database) -> list[Row]:
    return await database.look("select * from attempt order by id")


async def index(database: Database) -> list[Row]:
    return await database.look("select * from set_aside order by position")


async def fail_over_a_name(_connection: Connection, messages: Sequence[Message]) -> list[None]:
    try:
        dict[str, str]()[NAME]
    except KeyError as error:
        raise ValueError(f"{NAME} of {messages[0].body}") from error
    return []


async def test_each_failed_delivery_is_kept(
    consumer: Consumer, broker: Broker, outbox: Outbox, database: Database
) -> None:
    (event,) = await log_events(database, outbox, 1)
    await hand_over(broker, [event])
    before = utc_now()
    failing = replace(consumer, handle=fail_over_a_name)
    await consume_until(partial(none_waits, database), failing)
    kept = await attempts(database)
    assert [one["delivery"] for one in kept] == [1, 2, 3]
    for one in kept:
        assert (one["event_id"], one["event_type"]) == (event.id, event.type)
        assert one["kind"] == "ValueError"
        assert one["pid"] == os.getpid()
        assert one["host"]
        assert str(one["failed_at"])[:10] >= before.date().isoformat()
        assert "test_attempts.py" in one["traceback"]
        assert "because of:\nKeyError" in one["traceback"]
    told = str(kept)
    assert NAME not in told
    assert event.body not in told

    (row,) = await index(database)
    assert (row["event_id"], row["event_type"]) == (event.id, event.type)
    assert row["office_id"] == describe(event).office_id
    assert (row["kind"], row["deliveries"], row["state"]) == ("ValueError", 3, "waiting")
    assert row["reason"] == "failed 3 times, at last with ValueError"
    assert row["message"] is None
    async with broker.set_aside() as session:
        (found,) = await session.look()
    assert found.key == row["key"]


async def test_a_message_that_is_no_event_of_ours_is_kept_whole_and_its_attempt_has_none_of_it(
    consumer: Consumer, broker: Broker, database: Database
) -> None:
    older = Message(
        "", NAME, NAME, f'{{"patient_name": "{NAME}", "office_number": "1", "date_time": ""}}'
    )
    await hand_over(broker, [older])
    await consume_until(partial(none_waits, database), consumer)
    (kept,) = await attempts(database)
    assert (kept["event_id"], kept["event_type"]) == (None, None)
    assert kept["kind"] == "OlderMessage"
    assert "cannot be counted exactly once" in kept["text"]
    assert NAME not in str(kept)
    (row,) = await index(database)
    assert (row["kind"], row["event_id"], row["office_id"]) == ("OlderMessage", None, None)
    assert unpacked(row["message"]) == older


async def test_a_copy_of_a_recorded_event_is_no_attempt(
    consumer: Consumer, broker: Broker, outbox: Outbox, database: Database
) -> None:
    messages = await log_events(database, outbox, 5)
    await hand_over(broker, messages)
    await consume_until(partial(none_waits, database), consumer)
    await hand_over(broker, messages)
    await consume_until(partial(none_waits, database), replace(consumer, error_probability=1.0))
    assert await attempts(database) == []
    assert await index(database) == []


async def test_the_consumer_goes_on_where_nothing_can_be_kept(
    consumer: Consumer,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(journals, "WRITE_SECONDS", 0.05)
    ways = iter([anyio.sleep(60), None])

    async def cannot(*_: object) -> None:
        way = next(ways, None)
        if way is not None:
            await way
        raise RuntimeError(NAME)

    monkeypatch.setattr(journals, "insert_attempts", cannot)
    monkeypatch.setattr(journals, "insert_set_aside", cannot)
    events = await log_events(database, consumer.outbox, 3)
    await hand_over(consumer.broker, events)
    failing = replace(consumer, error_probability=1.0, death_limit=1)
    await consume_until(partial(none_waits, database), failing)
    assert await attempts(database) == []
    assert "attempts were not kept: it took too long" in caplog.text
    assert "attempts were not kept: RuntimeError" in caplog.text
    assert "3 messages were set aside and are missing in the index" in caplog.text
    assert NAME not in caplog.text
    assert await database.look("select position from outbox") == []
    rows = await database.look("select id from message where queue = 'not_solved'")
    assert len(rows) == 3


async def test_an_attempt_is_bounded_and_fits_every_database() -> None:
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise Unreadable("\0\ud800" + "ж" * 10_000)

    with pytest.raises(Unreadable) as caught:
        deep(100)
    kept = attempt(caught.value, utc_now(), None, None)
    assert len(kept.text) == LONGEST_TEXT
    assert len(kept.traceback) <= LONGEST_TRACEBACK
    assert "\0" not in kept.text
    kept.text.encode()
    kept.traceback.encode()


async def test_old_attempts_are_deleted_a_bounded_number_at_a_time(database: Database) -> None:
    now = utc_now()
    old = [attempt(ValueError(), now - datetime.timedelta(days=2), None, 1)] * 25
    async with database.transaction() as connection:
        await insert_attempts(connection, [*old, attempt(ValueError(), now, None, 1)])
    before = now - datetime.timedelta(days=1)
    deleted = []
    for _ in range(4):
        async with database.transaction() as connection:
            deleted.append(await delete_old_attempts(connection, before, 10))
    assert deleted == [10, 10, 5, 0]
    assert len(await attempts(database)) == 1
