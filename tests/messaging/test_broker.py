"""The broker's promises, one by one, over every broker."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial

import anyio
import pytest

from clinic.database import Dialect
from clinic.messaging.broker import (
    LONGEST_REASON,
    Aside,
    Broker,
    BrokerUnavailable,
    Delivery,
    NotSolved,
    Receive,
)
from clinic.messaging.rabbitmq.topology import QueueType
from tests.messaging import brokers
from tests.messaging.brokers import (
    A_WHILE,
    TTL,
    Tried,
    ids,
    message,
    nothing_comes,
    publish,
    set_aside_in_rabbit,
    take,
    topology,
)
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

__all__ = ["message", "publish", "set_aside_in_rabbit", "take", "topology"]

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


@pytest.fixture(params=[*Dialect, *QueueType])
async def tried(request: pytest.FixtureRequest) -> AsyncIterator[Tried]:
    """Every broker: embedded on each kind of database, RabbitMQ with each type of queue."""
    if isinstance(request.param, QueueType):
        opened = brokers.rabbit(request.getfixturevalue("vhost"), request.param)
    else:
        opened = brokers.embedded(request.getfixturevalue("make_database")(request.param))
    async with opened as tried:
        yield tried


@pytest.fixture
def broker(tried: Tried) -> Broker:
    return tried.broker


async def test_a_published_message_is_delivered_unchanged(broker: Broker) -> None:
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


async def test_a_retried_message_comes_back_after_the_ttl_with_one_more_death(
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


async def test_each_delivery_of_a_batch_is_settled_by_itself(tried: Tried) -> None:
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


async def test_unsettled_deliveries_go_back_at_once_without_a_death(broker: Broker) -> None:
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


async def test_settling_out_of_order_settles_no_other_delivery(broker: Broker) -> None:
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


async def test_the_last_settlements_count_although_the_session_ends(broker: Broker) -> None:
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


async def test_messages_of_a_process_that_dies_come_back_without_a_death(tried: Tried) -> None:
    """The message that it had solved comes back as well, because it did not receive again."""
    await publish(tried.broker, 1, 2, 3)
    await tried.die(3)
    async with tried.broker.consuming(10) as receive:
        back = await take(receive, 3)
        assert ids(back) == ["id-1", "id-2", "id-3"]
        assert [delivery.deaths for delivery in back] == [0, 0, 0]
        for delivery in back:
            await delivery.solved()
        assert await nothing_comes(receive, TTL + A_WHILE)


async def test_a_broker_that_goes_away_says_so_and_loses_nothing(tried: Tried) -> None:
    """On SQLite it takes five seconds: for so long a statement waits for another's lock."""
    await publish(tried.broker, 1)

    async def fails(act: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(BrokerUnavailable):
            await act()

    async def receive_on(receive: Receive) -> None:
        while True:
            await receive()

    async with (
        tried.open() as publishing,
        tried.open() as consuming,
        tried.open() as late,
        publishing.publishing() as hand_over,
        consuming.consuming(10) as receive,
    ):
        with tried.go_away(), anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fails, partial(hand_over, [message(2)]))
                tasks.start_soon(fails, partial(receive_on, receive))
                tasks.start_soon(fails, partial(publish, late, 3))
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            with suppress(BrokerUnavailable):  # of a connection that was cut, and not used since
                await publish(tried.broker, 4)
                break
    missing = {"id-1", "id-4"}
    async with tried.broker.consuming(10) as receive:
        while missing:
            missing -= set(ids(await take(receive, 1)))


async def put_aside(broker: Broker, *numbers: int) -> dict[str, str]:
    """Have messages set aside; return the key of each, by its id."""
    await publish(broker, *numbers)
    async with broker.consuming(100) as receive:
        deliveries = await take(receive, len(numbers))
        return {one.message.id: await one.not_solved("a reason") for one in deliveries}


async def look_through(session: NotSolved) -> list[Aside]:
    found: list[Aside] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while batch := await session.look():
            found += batch
    return found


async def test_what_is_set_aside_is_seen_once_unchanged_and_stays(broker: Broker) -> None:
    async with broker.set_aside() as session:
        assert not await session.look()
    keys = await put_aside(broker, *range(30))
    for _ in range(2):
        async with broker.set_aside() as session:
            found = await look_through(session)
            assert not await session.look()
        assert [one.message for one in found] == [message(number) for number in range(30)]
        assert {one.message.id: one.key for one in found} == keys
        assert {(one.reason, one.attempts) for one in found} == {("a reason", 1)}
    async with broker.consuming(10) as receive:
        assert await nothing_comes(receive)


async def test_a_replayed_message_goes_round_as_if_it_had_never_died(broker: Broker) -> None:
    await publish(broker, 1)
    async with broker.consuming(10) as receive:
        for _ in range(2):
            await (await take(receive, 1))[0].retry()
        (delivery,) = await take(receive, 1)
        assert delivery.deaths == 2
        key = await delivery.not_solved("a reason")
    async with broker.set_aside() as session:
        (found,) = await look_through(session)
        assert (found.key, found.attempts) == (key, 3)
        await session.replay([found])
    async with broker.set_aside() as session:
        assert not await session.look()
    async with broker.consuming(10) as receive:
        (delivery,) = await take(receive, 1)
        assert (delivery.message, delivery.deaths) == (message(1), 0)
        await delivery.retry()
        (delivery,) = await take(receive, 1)
        assert delivery.deaths == 1
        assert await delivery.not_solved("once more") != ""
    async with broker.set_aside() as session:
        assert [one.reason for one in await look_through(session)] == ["once more"]


async def test_verbs_take_out_what_they_are_given_and_nothing_else(tried: Tried) -> None:
    await put_aside(tried.broker, *range(9))
    async with tried.broker.set_aside() as session:
        found = {one.message.id: one for one in await look_through(session)}
        await session.replay([found["id-1"], found["id-7"]])
        await session.discard([found["id-4"]])
        await session.discard([])
        await session.replay([])
    async with tried.broker.consuming(10) as receive:
        back = await take(receive, 2)
        assert [one.message.id for one in back] == ["id-1", "id-7"]
        for delivery in back:
            await delivery.solved()
        assert await nothing_comes(receive)
    async with tried.broker.set_aside() as session:
        left = [one.message.id for one in await look_through(session)]
    assert left == [f"id-{number}" for number in (0, 2, 3, 5, 6, 8)]


async def test_what_is_restored_is_set_aside_again(broker: Broker) -> None:
    keys = await put_aside(broker, 1, 2)
    async with broker.set_aside() as session:
        found = await look_through(session)
        await session.discard(found)
        again = await session.restore([(one.message, "brought back") for one in found])
        assert len(set(again)) == 2
    async with broker.set_aside() as session:
        found = await look_through(session)
    assert [one.message for one in found] == [message(1), message(2)]
    assert [one.key for one in found] == list(again)
    assert {one.reason for one in found} == {"brought back"}
    assert keys.keys() == {one.message.id for one in found}


async def test_what_is_set_aside_during_a_session_is_seen_too(broker: Broker) -> None:
    await put_aside(broker, 1)
    async with broker.set_aside() as session:
        assert len(await look_through(session)) == 1
        await put_aside(broker, 2)
        (found,) = await look_through(session)
        assert found.message == message(2)
        await session.replay([found])
    async with broker.consuming(10) as receive:
        await (await take(receive, 1))[0].solved()


async def test_a_session_of_many_keeps_all_that_it_leaves(broker: Broker) -> None:
    """More than a broker hands over at a time."""
    many = 2300
    async with broker.set_aside() as session:
        keys = await session.restore([(message(number), "a reason") for number in range(many)])
    async with broker.set_aside() as session:
        found = await look_through(session)
        assert [one.key for one in found] == list(keys)
        await session.replay(found[::2])
    async with broker.set_aside() as session:
        assert await session.count() == many // 2
        found = await look_through(session)
        assert sorted(one.key for one in found) == sorted(keys[1::2])
        await session.discard(found)
    async with broker.set_aside() as session:
        assert await session.count() == 0


async def test_a_session_over_a_broker_that_goes_away_says_so_and_loses_nothing(
    tried: Tried,
) -> None:
    await put_aside(tried.broker, 1, 2)
    async with tried.open() as other, other.set_aside() as session:
        found = await look_through(session)
        with (
            tried.go_away(),
            anyio.fail_after(PATIENCE_SECONDS),
            pytest.raises(BrokerUnavailable),
        ):
            while True:
                await session.replay(found[:1])
                await session.look()
    seen: set[str] = set()
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(seen) < 2:
            with suppress(BrokerUnavailable):
                async with tried.broker.set_aside() as session:
                    seen |= {one.message.id for one in await look_through(session)}
                async with tried.broker.consuming(10) as receive:
                    with anyio.move_on_after(A_WHILE):
                        seen |= set(ids(await receive()))
