"""Expensive reads: few at a time, shared by those who ask for the same, and none that is stale."""

import asyncio
import time

import pytest

from clinic.database import Crowded, ExpensiveReads
from clinic.database.reads import MOST_WAITING
from tests.appointments.desks import outcomes

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


class Table:
    """Something to read that takes its time, and tells what it was asked for and how often."""

    def __init__(self) -> None:
        self.begun = 0
        self.under_way = 0
        self.most = 0
        self.open = asyncio.Event()

    async def read(self) -> int:
        self.begun += 1
        number = self.begun
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        return number


async def begin(reads: ExpensiveReads, table: Table, *asked: object) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(reads.read(one, table.read)) for one in asked]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_no_more_are_under_way_than_there_are_places() -> None:
    reads, table = ExpensiveReads(2), Table()
    tasks = await begin(reads, table, *range(10))
    assert table.begun == 2
    table.open.set()
    assert sorted(await outcomes(*tasks)) == list(range(1, 11))
    assert table.most == 2


async def test_a_read_serves_those_who_asked_for_the_same_before_it_began() -> None:
    reads, table = ExpensiveReads(1), Table()
    (first,) = await begin(reads, table, "a")
    crowd = await begin(reads, table, *["a"] * 20)  # the first has begun, and may be too old
    table.open.set()
    assert await first == 1
    assert set(await outcomes(*crowd)) == {2}


async def test_a_client_that_leaves_fails_no_other() -> None:
    reads, table = ExpensiveReads(1), Table()
    (first,) = await begin(reads, table, "first")
    crowd = await begin(reads, table, *["a"] * 6)
    for task in crowd[:3]:
        task.cancel()
    first.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert table.under_way == 1  # the work of the one who left has ended
    table.open.set()
    assert [type(one) for one in await outcomes(*crowd)] == [asyncio.CancelledError] * 3 + [int] * 3
    assert await outcomes(first) != []


async def test_a_failure_is_told_to_all_who_shared_it_and_frees_the_place() -> None:
    reads, table = ExpensiveReads(1), Table()

    async def fail() -> int:
        raise ValueError

    (first,) = await begin(reads, table, "first")
    crowd = [asyncio.create_task(reads.read("a", fail)) for _ in range(3)]
    await asyncio.sleep(0)
    table.open.set()
    await first
    assert [type(one) for one in await outcomes(*crowd)] == [ValueError] * 3
    assert await reads.read("b", table.read) == 2


async def test_those_who_would_wait_too_long_are_asked_to_come_again() -> None:
    reads, table = ExpensiveReads(1), Table()
    tasks = await begin(reads, table, *range(MOST_WAITING + 1))
    with pytest.raises(Crowded):
        await reads.read("one too many", table.read)
    late = asyncio.create_task(reads.read(3, table.read))  # shares a place in the queue
    patient = asyncio.create_task(reads.read("begun", table.read, wait_seconds=None))
    await asyncio.sleep(0)
    table.open.set()
    assert len(await outcomes(*tasks, late, patient)) == MOST_WAITING + 3
    table.open.clear()
    (busy,) = await begin(reads, table, "busy")
    with pytest.raises(Crowded):
        await reads.read("late", table.read, wait_seconds=0.01)
    table.open.set()
    await busy


@pytest.mark.alone
async def test_a_place_rests_while_others_wait() -> None:
    reads = ExpensiveReads(1, rest=1.0)

    async def work() -> None:
        await asyncio.sleep(0.1)

    began = time.monotonic()
    await outcomes(*(asyncio.create_task(reads.read(number, work)) for number in range(4)))
    assert time.monotonic() - began >= 0.65  # four reads, and a rest after each of the first three
    began = time.monotonic()
    await reads.read("alone", work)
    assert time.monotonic() - began < 0.5
