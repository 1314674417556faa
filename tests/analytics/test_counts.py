"""The counts equal a recount whatever comes late, shuffled, twice or at once; and are compared."""

import datetime
import random
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import yoyo
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.analytics.counting import Counting
from clinic.analytics.counts import count_batches, hold_counts, recount
from clinic.analytics.differences import Difference, differences
from clinic.analytics.queries import FIRST_DAY, LAST_DAY, NEVER, Days, years_months_and_days
from clinic.analytics.report import middle
from clinic.analytics.report import report as report_of_counts
from clinic.database import Database, Dialect, migrate, open_database
from clinic.database.migration import MIGRATIONS
from clinic.events import Event
from clinic.supervisor import Service, Supervisor
from tests.analytics import test_report
from tests.analytics.test_report import (
    RANGES,
    USUAL,
    lives,
    log_events,
    messages,
    recording,
    report,
)
from tests.analytics.test_report import recount as recounted
from tests.timing import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio
database = test_report.database


async def different(database: Database) -> list[Difference]:
    async with database.snapshot() as connection:
        return await differences(connection)


async def counted(database: Database) -> None:
    """Count some batches, as the service does."""
    await Counting(database, USUAL).count(wait=False)


def torn(events: Sequence[Event], chance: random.Random) -> list[list[Event]]:
    """Return events in batches, shuffled, some of them twice."""
    shuffled = [*events, *chance.choices(events, k=len(events) // 3)]
    chance.shuffle(shuffled)
    size = chance.choice([1, 7, 40])
    return [shuffled[index : index + size] for index in range(0, len(shuffled), size)]


@pytest.mark.parametrize("seed", range(4))
async def test_two_consumers_and_all_who_count_end_with_what_is_recorded(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    events = lives(seed=seed, count=60)
    await log_events(database, events)

    async def consume(batches: Sequence[Sequence[Event]]) -> None:
        for batch in batches:
            await recording(database, messages(batch))
            if chance.random() < 0.3:
                await counted(database)
            if chance.random() < 0.1:
                await report(database, chance.choice(RANGES))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume, torn(events, chance))
        tasks.start_soon(consume, torn(events, chance))
    for days in RANGES:
        found = await report(database, days)
        assert found == found | recounted(events, days)
    assert await different(database) == []


async def test_all_is_right_at_every_moment(database: Database) -> None:
    """After each batch and each count, of what is recorded by then."""
    chance = random.Random(7)
    events = lives(seed=7, count=30)
    await log_events(database, events)
    known: dict[str, Event] = {}
    for batch in torn(events, chance):
        await recording(database, messages(batch))
        known |= {event.id: event for event in batch}
        if chance.random() < 0.5:
            await counted(database)
        assert await different(database) == []
        if chance.random() < 0.3:
            found = await report(database, RANGES[1])
            assert found == found | recounted(list(known.values()), RANGES[1])


async def test_a_recount_finds_the_same_and_leaves_what_is_uncounted(database: Database) -> None:
    events = lives(seed=8, count=80)
    await log_events(database, events)
    await recording(database, messages(events[:150]))
    before = await report(database, Days())
    await recording(database, messages(events[150:]))
    async with database.transaction() as connection:
        assert await recount(connection) == 150
    assert await different(database) == []
    (row,) = await database.look("select count(*) as batches from uncounted")
    assert row["batches"] == 1
    found = await report(database, Days())
    assert found == found | recounted(events, Days())
    assert found != before
    assert await different(database) == []


BREAKS = [
    "update tally set n = n + 1 where span = 'day' and measure = 'event'",
    "update tally set n = n - 1 where span = 'day' and measure = 'lead'",
    "update tally set n = n + 2 where span = 'day' and measure = 'waiting'",
    "delete from tally where measure = 'status'",
    "update tally set n = 0 where span = 'month' and measure = 'hour'",
    "delete from tally where span = 'year'",
    "update standing set status = 'no_show' where status = 'booked'",
    "delete from standing where appointment_id % 2 = 0",
    "update standing set version = version + 1, appointment_id = appointment_id + 100000",
    "update in_use set minutes = minutes + 5 where span = 'day' and kind = 'doctor'",
    "update in_use set minutes_in_hours = 0 where span = 'day' and minutes_in_hours > 0",
    "update in_use set booked = booked + 1 where span = 'month' and kind = 'office'",
    "delete from in_use where kind = 'office'",
    "delete from recorded where appointment_id % 3 = 0",
]


@pytest.mark.parametrize("broken", BREAKS)
async def test_what_somebody_breaks_is_found_and_mended(database: Database, broken: str) -> None:
    events = lives(seed=9, count=60)
    await log_events(database, events)
    await recording(database, messages(events))
    await report(database, Days())
    assert await different(database) == []
    async with database.transaction() as connection:
        await connection.execute(broken)
    assert await different(database) != []
    async with database.transaction() as connection:
        await recount(connection)
    await report(database, Days())
    assert await different(database) == []


async def test_the_service_counts_by_itself(database: Database) -> None:
    events = lives(seed=12, count=20)
    await log_events(database, events)
    service = Service("counting", Counting(database, USUAL).run)
    supervisor = Supervisor([service], grace_seconds=10)
    left = "select 1 from uncounted union all select 1 from in_use where days is null"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        for batch in (events[:30], events[30:]):
            await recording(database, messages(batch))
            with anyio.fail_after(PATIENCE_SECONDS):
                while await database.look(left):
                    await anyio.sleep(0.05)
        supervisor.stop()
    found = await report_of_counts(database, Days())
    assert found == found | recounted(events, Days())
    assert await different(database) == []


@pytest.mark.parametrize("database_url", [Dialect.POSTGRESQL], indirect=True)
async def test_who_counts_while_another_does_leaves_it_to_them(database: Database) -> None:
    events = lives(seed=10, count=10)
    await log_events(database, events)
    await recording(database, messages(events))
    counting = Counting(database, USUAL)
    async with database.transaction() as connection:
        assert await hold_counts(connection)
        assert await counting.count(wait=False) == 0
        assert await count_batches(connection) == len(events)
    assert await counting.count(wait=False) == 0
    assert await different(database) == []


@pytest.mark.parametrize("database_url", list(Dialect), indirect=True)
async def test_the_migration_counts_what_was_recorded_before(database_url: str) -> None:
    """Of events that have no minute and no override yet: the log tells these."""
    events = lives(seed=11, count=120)
    async with open_database(database_url) as database:
        await log_events(database, events)
        await recording(database, messages(events))
        before = await report(database, Days())
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    dialect = Dialect.SQLITE if url.startswith("sqlite") else Dialect.POSTGRESQL
    with yoyo.get_backend(url) as backend:
        migrations = yoyo.read_migrations(str(MIGRATIONS / dialect))
        backend.rollback_one(next(one for one in migrations if one.id == "0004.counts"))
    assert "0004.counts" in migrate(database_url)
    async with open_database(database_url) as database:
        assert await different(database) == []
        assert await report(database, Days()) == before
        assert await different(database) == []


DAYS = (
    st.dates()
    | st.sampled_from([FIRST_DAY, LAST_DAY])
    | st.dates(datetime.date(2023, 11, 1), datetime.date(2026, 2, 28))
)


@settings(max_examples=300)
@given(first=DAYS, last=DAYS)
def test_a_range_is_read_in_parts_that_are_all_of_it(
    first: datetime.date, last: datetime.date
) -> None:
    days = Days(min(first, last), max(first, last))
    limits: Any = years_months_and_days(days)
    names = {name.removeprefix("first_") for name in limits if name.startswith("first_")}
    length = 0
    for name in names:
        begins, ends = limits[f"first_{name}"], limits[f"last_{name}"]
        if begins > ends:
            assert Days(begins, ends) == NEVER
            continue
        # Of months and years it is the first days that are asked for: see that they are whole.
        assert days.first <= begins <= ends <= days.last
        if name.startswith("year"):
            assert (begins.month, begins.day) == (1, 1)
        if name.startswith(("month", "year")):
            assert begins.day == 1
        length += (ends - begins).days + 1
    assert length == (days.last - days.first).days + 1


@given(minutes=st.integers(-(2**31) + 1, 2**31 - 1))
def test_minutes_are_told_with_an_error_of_less_than_one_percent(minutes: int) -> None:
    shift = max(0, abs(minutes).bit_length() - 7)
    kept = (abs(minutes) >> shift << shift) * (-1 if minutes < 0 else 1)
    assert abs(middle(kept) - minutes) <= 0.008 * abs(minutes)
    assert abs(minutes) >= 128 or middle(kept) == minutes
