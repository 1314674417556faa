"""The event log and the outbox: what is open, who holds it, and by whose clock."""

from datetime import timedelta

import anyio
import pytest

from clinic.database import Database, Dialect, utc_now
from clinic.messaging.outbox import Held, Outbox
from tests.messaging.brokers import message
from tests.timing import PATIENCE_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

AGAIN_AFTER = timedelta(hours=1)
NONE = timedelta(0)


async def append(outbox: Outbox, *numbers: int) -> None:
    async with outbox.database.transaction() as connection:
        await outbox.append(connection, [message(number) for number in numbers])


async def close(outbox: Outbox, *numbers: int) -> None:
    async with outbox.database.transaction() as connection:
        await outbox.close(connection, [message(number).id for number in numbers])


async def open_events(database: Database) -> dict[str, int]:
    """Return how often each open event was published, as far as it was marked."""
    async with database.snapshot() as connection:
        rows = await connection.fetch_all(
            "select id, publications from outbox join event using (position) order by position"
        )
    return {row["id"]: row["publications"] for row in rows}


def ids(held: list[Held]) -> list[str]:
    return [one.message.id for one in held]


async def test_an_event_of_a_change_that_is_rolled_back_does_not_exist(database: Database) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await outbox.append(connection, [message(1)])
            raise ZeroDivisionError
    assert not outbox.holds_any
    assert await open_events(database) == {}


async def test_a_process_holds_its_events_and_no_other_may_claim_them(database: Database) -> None:
    here, there = Outbox(database, AGAIN_AFTER), Outbox(database, AGAIN_AFTER)
    await append(here, 1, 2)
    assert await there.claim(10) == await here.claim(10) == []
    assert ids(here.take_held(1)) == ["id-1"]
    assert ids(here.take_held(10)) == ["id-2"]


async def test_events_of_a_dead_process_are_claimed_once_in_order(database: Database) -> None:
    await append(Outbox(database, AGAIN_AFTER, hold=NONE), 1, 2, 3)
    outbox = Outbox(database, AGAIN_AFTER)
    assert ids(await outbox.claim(2)) == ["id-1", "id-2"]
    assert ids(await outbox.claim(2)) == ["id-3"]
    assert await outbox.claim(2) == []


async def test_an_event_held_for_too_long_is_left_to_any_relay(database: Database) -> None:
    outbox = Outbox(database, AGAIN_AFTER, hold=timedelta(seconds=0.2))
    await append(outbox, 1)
    await anyio.sleep(0.25)
    assert outbox.take_held(10) == []
    assert ids(await outbox.claim(10)) == ["id-1"]


async def test_events_beyond_the_limit_of_held_ones_become_due(database: Database) -> None:
    outbox = Outbox(database, AGAIN_AFTER, hold=timedelta(seconds=0.5), most_held=3)
    await append(outbox, 1, 2)
    await append(outbox, 3, 4, 5)
    assert ids(outbox.take_held(10)) == ["id-1", "id-2", "id-3"]
    await anyio.sleep(0.55)
    assert ids(await outbox.claim(10))[3:] == ["id-4", "id-5"]


async def test_without_a_relay_that_works_nothing_is_held(database: Database) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await outbox.read_clock()
    outbox.relaying = False
    await append(outbox, 1)
    assert not outbox.holds_any
    with anyio.fail_after(PATIENCE_SECONDS):
        while not (claimed := await Outbox(database, AGAIN_AFTER).claim(10)):
            await anyio.sleep(0.001)
    assert ids(claimed) == ["id-1"]


async def test_a_released_event_is_due_at_once_unless_another_relay_has_it(
    database: Database,
) -> None:
    here, there = Outbox(database, AGAIN_AFTER), Outbox(database, AGAIN_AFTER)
    await append(here, 1, 2)
    held = here.take_held(10)
    await here.release(held)
    assert ids(await there.claim(1)) == ["id-1"]
    await there.mark(there.published(held[:1]))
    await here.release(held)
    assert ids(await there.claim(10)) == ["id-2"]


async def test_a_closed_event_is_not_marked(database: Database) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, 1, 2, 3)
    published = outbox.published(outbox.take_held(10))
    await close(outbox, 1, 3, 77)
    await outbox.mark(published)
    assert await open_events(database) == {"id-2": 1}


async def test_a_marked_event_comes_again_and_each_time_later(database: Database) -> None:
    outbox = Outbox(database, again_after=timedelta(seconds=0.2), hold=NONE)
    await append(outbox, 1)
    waits = []
    held = await outbox.claim(1)
    for publications in range(3):
        assert held[0].publications == publications
        await outbox.mark(outbox.published(held))
        began = anyio.current_time()
        with anyio.fail_after(PATIENCE_SECONDS):
            while not (held := await outbox.claim(1)):
                await anyio.sleep(0.005)
        waits.append(anyio.current_time() - began)
    for least, wait in zip((0.2, 0.4, 0.8), waits, strict=True):
        assert wait > 0.95 * least  # clocks differ a little


async def test_any_open_tells_whether_an_event_is_open(database: Database) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, 1)
    (held,) = outbox.take_held(1)
    assert await outbox.any_open(held.held_until)
    assert not await outbox.any_open(held.held_until - timedelta(seconds=1))
    await close(outbox, 1)
    assert not await outbox.any_open(held.held_until)


async def test_events_are_told_by_their_subject_oldest_first(database: Database) -> None:
    outbox = Outbox(database, AGAIN_AFTER)
    await append(outbox, 2, 1)
    async with database.snapshot() as connection:
        assert await outbox.told_of(connection, "appointment/1") == [message(1).body]
        assert await outbox.told_of(connection, "appointment/3") == []


@pytest.mark.parametrize("database_url", [Dialect.POSTGRESQL], indirect=True)
@pytest.mark.parametrize("minutes", [-1, 1])
async def test_hosts_whose_clocks_differ_hold_for_the_same_time(
    database: Database, minutes: int
) -> None:
    """The database's clock decides, or a hold would last a minute more, or none at all."""
    hold = timedelta(seconds=1)
    wrong = Outbox(
        database, AGAIN_AFTER, hold, clock=lambda: utc_now() + timedelta(minutes=minutes)
    )
    right = Outbox(database, AGAIN_AFTER, hold)
    await wrong.read_clock()
    for writer, other in ((wrong, right), (right, wrong)):
        await append(writer, 1 if writer is wrong else 2)
        assert await other.claim(10) == []
        assert len(writer.take_held(10)) == 1
        await anyio.sleep(1.1)
        (claimed,) = await other.claim(10)
        assert await writer.claim(10) == []
        await other.mark(other.published([claimed]))
        await anyio.sleep(1.1)
        assert await writer.claim(10) == []  # it is put off by an hour, not due
