"""Booking: many in one transaction, and none of them at another's cost."""

import asyncio
import contextlib
import dataclasses
import datetime
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from clinic.appointments.appointment import Appointment, NewAppointment
from clinic.appointments.availability import TimeTaken
from clinic.appointments.booking import Confirmation
from clinic.appointments.desk import Desk
from clinic.appointments.idempotency import IdempotencyKey, KeyReused
from clinic.appointments.requests import Change
from clinic.appointments.writer import MOST_WAITING
from clinic.database import (
    Connection,
    Crowded,
    Database,
    Dialect,
    LostRace,
    Row,
    Sql,
    StatementRefused,
    open_database,
)
from tests.appointments.desks import (
    OFFICES,
    OVERLAPS,
    WRITE,
    ZONE,
    booking,
    desk_on,
    numbers_at_hand,
    outcomes,
    resource_id,
    rows,
    told,
    writing,
)
from tests.timing import PATIENCE_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

Waiting = asyncio.Task[Confirmation]

# So long PostgreSQL lets transactions wait for each other in a circle before it ends one of them.
DEADLOCK_SECONDS = 1.0


class Counting(Database):
    """A database that counts its transactions, those of a single statement included."""

    begun = 0

    def __init__(self, database: Database) -> None:
        super().__init__(database._engine)
        self.sizes: list[int] = []
        """How many were booked with each statement of its own."""

    async def at_once(
        self, statement: str | Sql, values: Mapping[str, object] | None = None
    ) -> list[Row]:
        bookings = (values or {}).get("requests")
        if isinstance(bookings, list):
            self.begun += 1
            self.sizes.append(len(bookings))
        return await super().at_once(statement, values)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        self.begun += 1
        async with super().transaction() as connection:
            yield connection


def come(desk: Desk, one: NewAppointment, key: str | None = None) -> Waiting:
    """Have somebody come to the desk and wait."""
    used = IdempotencyKey.read(key, {"booking": repr(one)})
    return asyncio.create_task(desk.book(one, used))


def others(desk: Desk, count: int) -> list[Waiting]:
    """Have others come after as many: half of all are written together, and so those before."""
    return [come(desk, booking(office_number=f"other {number}")) for number in range(count)]


async def a_moment() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def confirmed(found: list[object]) -> list[Confirmation]:
    return [one for one in found if isinstance(one, Confirmation)]


async def test_a_lone_booking_is_begun_at_once(database: Database) -> None:
    """No timer may stand before it: within a few turns of the loop it is being written."""
    counting = Counting(database)
    desk = desk_on(counting)
    await numbers_at_hand(desk, 1, offices=["221B"])
    counting.begun = 0
    async with writing(desk):
        await a_moment()
        waiting = come(desk, booking())
        await a_moment()
        assert counting.begun == 1
        assert (await waiting).created
        assert len(desk._outbox._held) == 1  # a relay that waits need not look for it


async def test_many_that_wait_share_few_transactions(database: Database) -> None:
    counting = Counting(database)
    desk = desk_on(counting)
    await numbers_at_hand(desk, 300, offices=map(str, range(300)))
    counting.begun = 0
    async with writing(desk):
        waiting = [come(desk, booking(office_number=str(number))) for number in range(300)]
        found = await outcomes(*waiting)
    assert len({one.appointment_id for one in found if one.created}) == 300
    assert counting.begun == 3
    if database.dialect is Dialect.POSTGRESQL:
        assert await rows(
            database, "select count(distinct cast(xmin as text)) from appointment"
        ) == [(3,)]
    assert len(await told(database)) == 300


async def test_while_one_is_written_those_who_come_share_the_next(database: Database) -> None:
    counting = Counting(database)
    desk = desk_on(counting)
    await numbers_at_hand(desk, 16, offices=["first", *map(str, range(15))])
    async with writing(desk):
        waiting = [come(desk, booking(office_number="first"))]
        await a_moment()
        waiting += [come(desk, booking(office_number=str(number))) for number in range(15)]
        await outcomes(*waiting)
    assert counting.sizes == [1, 8, 7]


async def test_half_of_those_who_come_again_and_again_is_written_at_a_time(
    database: Database,
) -> None:
    counting = Counting(database)
    desk = desk_on(counting)
    offices = [f"{client} {number}" for client in range(16) for number in range(20)]
    await numbers_at_hand(desk, 320, offices=offices)

    async def keep_coming(client: int) -> None:
        for number in range(20):
            assert (await desk.book(booking(office_number=f"{client} {number}"))).created

    async with writing(desk), asyncio.TaskGroup() as clients:
        for client in range(16):
            clients.create_task(keep_coming(client))
    assert counting.sizes == [8] * 40


async def test_neighbours_are_each_judged_for_themselves(database: Database) -> None:
    desk = desk_on(database)
    async with writing(desk):
        there = await desk.book(booking(office_number="there"), None)
        keyed = await come(desk, booking(office_number="keyed"), "k1")
        found = await outcomes(
            come(desk, booking(office_number="free")),
            come(desk, booking(office_number="there", patient_name="b")),
            come(desk, booking(office_number="there")),
            come(desk, booking(office_number="keyed"), "k1"),
            come(desk, booking(office_number="another"), "k1"),
            come(desk, booking(office_number="there", patient_name="c", override=True, reason="r")),
            come(desk, booking(office_number="free", patient_name="late")),
        )
    free, taken, again, same_key, reused, over, late = found
    assert free.created
    assert isinstance(taken, TimeTaken)
    assert taken.conflicts[0].id == there.appointment_id
    assert again == Confirmation(there.appointment_id, created=False)
    assert same_key == keyed
    assert isinstance(reused, KeyReused)
    assert over.created
    assert isinstance(late, TimeTaken)
    assert [one.id for one in late.conflicts] == [free.appointment_id]
    assert len(await told(database)) == 4


@pytest.mark.parametrize("known", [["a", "b", "c", "nameless"], []])
async def test_one_that_the_schema_refuses_fails_alone(
    database: Database, known: list[str]
) -> None:
    nameless = dataclasses.replace(booking(office_number="nameless"), patient_name="")
    desk = desk_on(database)
    await numbers_at_hand(desk, 16, offices=known)
    async with writing(desk):
        found = await outcomes(
            come(desk, booking(office_number="a")),
            come(desk, nameless),
            come(desk, booking(office_number="b"), "k"),
            come(desk, booking(office_number="a", patient_name="late")),
            *others(desk, 4),
        )
        assert (await come(desk, booking(office_number="c"))).created
    kinds = [Confirmation, StatementRefused, Confirmation, TimeTaken]
    assert [type(one) for one in found[:4]] == kinds
    found = await rows(database, f"{OFFICES} where office.name < 'd' order by 1")
    assert found == [("a",), ("b",), ("c",)]
    assert len(await told(database)) == 3 + 4
    # The name of what was not booked is registered only if it was before.
    found = await rows(database, "select name from resource where name = 'nameless'")
    assert len(found) == known.count("nameless")


async def test_one_that_never_wins_fails_alone(make_database: Callable[[Dialect], str]) -> None:
    """Refused again and again, by nothing to be seen."""
    async with open_database(make_database(Dialect.POSTGRESQL)) as database:
        desk = desk_on(database)
        ghost = await resource_id(desk, "office", "ghost")
        async with database.transaction() as connection:
            await connection.execute(
                "create function vanish() returns trigger language plpgsql as"
                " 'begin return null; end'"
            )
            await connection.execute(
                "create trigger aa_vanish before insert on appointment for each row"
                f" when (new.office_id = {ghost}) execute function vanish()"
            )
        async with writing(desk):
            found = await outcomes(
                come(desk, booking(office_number="a"), "k"),
                come(desk, booking(office_number="ghost")),
                come(desk, booking(office_number="b")),
                *others(desk, 3),
            )
        assert [type(one) for one in found[:3]] == [Confirmation, LostRace, Confirmation]


class Buggy(Database):
    """A database in which a bug of ours comes to light as soon as it holds an appointment."""

    async def at_once(
        self, statement: str | Sql, values: Mapping[str, object] | None = None
    ) -> list[Row]:
        await self._look()
        return await super().at_once(statement, values)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        await self._look()
        async with super().transaction() as connection:
            yield connection

    async def _look(self) -> None:
        if await rows(self, "select id from appointment"):
            raise ValueError("a bug")


async def test_whatever_fails_nobody_waits_for_ever(database: Database) -> None:
    nameless = dataclasses.replace(booking(office_number="nameless"), patient_name="")
    desk = desk_on(Buggy(database._engine))
    offices = ["a", "b", "nameless", *(f"later {number}" for number in range(3))]
    await numbers_at_hand(desk, 6, offices=offices)
    with pytest.raises(ExceptionGroup):
        async with writing(desk):
            waiting = [
                come(desk, booking(office_number="a")),
                come(desk, nameless),
                come(desk, booking(office_number="b")),
            ]
            later = [come(desk, booking(office_number=f"later {number}")) for number in range(3)]
            await asyncio.wait(waiting, timeout=PATIENCE_SECONDS)
    assert [type(one) for one in await outcomes(*waiting)] == [Confirmation, ValueError, ValueError]
    assert await rows(database, OFFICES) == [("a",)]
    # Whose turn had not come waits for the writer that the supervisor starts next.
    desk.writer.database = database
    async with writing(desk):
        assert len(confirmed(await outcomes(*later))) == 3


async def test_a_client_that_went_away_while_waiting_changes_nothing_for_others(
    database: Database,
) -> None:
    desk = desk_on(database)
    await numbers_at_hand(desk, 5, offices=map(str, range(5)))
    waiting = [come(desk, booking(office_number=str(number))) for number in range(5)]
    await a_moment()
    waiting[2].cancel()
    await a_moment()
    async with writing(desk):
        found = await outcomes(*waiting)
    assert isinstance(found[2], asyncio.CancelledError)
    assert len(confirmed(found)) == 4
    assert len(await told(database)) == len(await rows(database, "select id from appointment"))


async def test_a_client_that_goes_away_while_it_is_written_changes_nothing_for_others(
    database: Database,
) -> None:
    desk = desk_on(database)
    await numbers_at_hand(desk, 5, offices=map(str, range(5)))
    office = await resource_id(desk, "office", "0")
    async with writing(desk):
        async with database.transaction() as other:
            at = booking().date_time
            await other.execute(
                WRITE,
                {
                    "office_id": office,
                    "doctor_id": None,
                    "at": at,
                    "until": at.replace(minute=45),
                },
            )
            # The batch waits for this transaction: for its row, or for its turn.
            waiting = [come(desk, booking(office_number=str(number))) for number in range(5)]
            await asyncio.sleep(0.2)
            assert not any(one.done() for one in waiting)
            waiting[0].cancel()
            waiting[3].cancel()
            await asyncio.sleep(0.05)
        found = await outcomes(*waiting)
        assert [type(one) for one in found] == [
            asyncio.CancelledError,
            Confirmation,
            Confirmation,
            asyncio.CancelledError,
            Confirmation,
        ]
        # Whether it was written or not, its client learns when it asks again.
        assert not (await come(desk, booking(office_number="3"))).created
    assert len(await told(database)) == 4


async def test_the_queue_is_bounded(database: Database) -> None:
    desk = desk_on(database)
    offices = [*map(str, range(MOST_WAITING)), "one too many"]
    await numbers_at_hand(desk, MOST_WAITING + 1, offices=offices)
    waiting = [come(desk, booking(office_number=str(number))) for number in range(MOST_WAITING)]
    await a_moment()
    with pytest.raises(Crowded):
        await desk.book(booking(office_number="one too many"))
    async with writing(desk):
        assert len(confirmed(await outcomes(*waiting))) == MOST_WAITING
        assert (await desk.book(booking(office_number="one too many"))).created


async def test_what_waits_at_a_stop_is_still_written(database: Database) -> None:
    desk = desk_on(database)
    await numbers_at_hand(desk, 300, offices=map(str, range(300)))
    async with writing(desk):
        waiting = [come(desk, booking(office_number=str(number))) for number in range(300)]
        await a_moment()
    assert all(one.done() for one in waiting)
    assert len(confirmed(await outcomes(*waiting))) == 300


async def test_on_postgresql_conflicts_are_found_by_index_whatever_the_statistics_say(
    make_database: Callable[[Dialect], str],
) -> None:
    """Nobody has analyzed the tables yet, and each statement's plan is made for any parameters."""
    async with open_database(make_database(Dialect.POSTGRESQL)) as database:
        desk = desk_on(database)
        async with writing(desk):
            await desk.book(booking(office_number="over", override=True, reason="r"))
        office = await resource_id(desk, "office", "full")
        doctor = await resource_id(desk, "doctor", "busy")
        async with database.transaction() as connection:
            await connection.execute(
                f"""
                insert into appointment (
                    patient_name, patient_key, office_id, doctor_id, date_time, duration_minutes,
                    end_time, occupied_from, occupied_until
                )
                select 'x', 'x', {office}, {doctor}, day, 15, day + interval '15 minutes', day,
                    day + interval '15 minutes'
                from generate_series(timestamp '2028-01-01', '2070-01-01', '1 day') as day
                """
            )
        full = {"office_number": "full", "doctor_name": "busy"}
        taken = booking(**full, date_time="2030-01-01T00:00:00")
        there = await fetched(database)
        async with writing(desk):
            made = await desk.book(booking(**full))
            assert not (await desk.book(booking(**full))).created
            with pytest.raises(TimeTaken):
                await desk.book(taken)
            with pytest.raises(TimeTaken):
                await come(desk, taken, "k")
            over = booking(**full, date_time="2030-01-01T00:05:00", override=True, reason="r")
            await desk.book(over)
            move = Change.read({"date_time": "2030-01-02T00:00:00"}, ZONE).wanted()
            with pytest.raises(TimeTaken):
                await desk.change(made.appointment_id, move, lambda _: True)
        after = await fetched(database)
    assert after["all_of_it"] == there["all_of_it"]
    # Two days and eight weeks of one appointment a day, for three refusals.
    assert after["by_index"] - there["by_index"] < 1000


async def fetched(database: Database) -> Row:
    """Return how many rows of the book PostgreSQL has read, once it has counted them."""
    statement = """
        select seq_tup_read as all_of_it, idx_tup_fetch as by_index
        from pg_stat_user_tables where relname = 'appointment'
    """
    before: Row = {}
    for _ in range(200):
        await asyncio.sleep(0.05)
        async with database.transaction() as connection:
            await connection.execute("select pg_stat_force_next_flush()")
        (found,) = await database.look(statement)
        if found == before:
            return found
        before = found
    raise TimeoutError


@pytest.fixture
async def two(database: Database, database_url: str) -> AsyncIterator[list[Desk]]:
    """Two desks on one database, each with connections of its own, as two processes have."""
    async with open_database(database_url) as other:
        desks = [desk_on(database), desk_on(other)]
        async with writing(*desks):
            yield desks


async def test_one_key_in_many_hands_is_one_appointment(
    two: list[Desk], database: Database
) -> None:
    for place in range(5):
        one = booking(office_number=str(place))
        found = await outcomes(*(come(desk, one, f"k{place}") for desk in two * 10))
        assert len(set(found)) == 1
        assert found[0].created
    assert len(await told(database)) == 5


async def test_one_key_for_several_bookings_is_good_for_one_of_them(
    two: list[Desk], database: Database
) -> None:
    for place in range(5):
        bodies = [booking(office_number=f"{place}/{number}") for number in range(10)]
        found = await outcomes(*(come(desk, body, f"k{place}") for body in bodies for desk in two))
        assert len(set(confirmed(found))) == 1
        assert all(isinstance(one, Confirmation | KeyReused) for one in found)
    assert len(await told(database)) == 5


@pytest.mark.parametrize("override", [{}, {"override": True, "reason": "emergency"}])
async def test_the_same_from_two_processes_is_one_appointment(
    two: list[Desk], database: Database, override: dict[str, object]
) -> None:
    for place in range(20):
        one = booking(office_number=str(place), **override)
        found = await outcomes(*(come(desk, one) for desk in two * 3))
        assert len({one.appointment_id for one in found}) == 1
        assert sum(one.created for one in found) == 1
    assert len(await told(database)) == 20


async def test_bookings_that_cross_over_several_processes_are_all_answered(
    two: list[Desk], database: Database, database_url: str
) -> None:
    """Each holds what another waits for: office A with doctor 2, office B with doctor 1 ..."""
    dice = random.Random(4)
    async with open_database(database_url) as third:
        desks = [*two, desk_on(third)]
        async with writing(desks[2]):
            for day in range(1, 9):
                bodies = [
                    booking(
                        office_number=office,
                        doctor_name=doctor,
                        patient_name=f"{office}{doctor}{time}",
                        date_time=f"2027-12-{day:02}T{time}",
                        duration_minutes=30,
                    )
                    for office, doctor, time in itertools.product(
                        "ABC", ["1", "2", "3"], ["10:00", "10:20", "10:30", "10:50"]
                    )
                ]
                waiting = []
                for desk in desks:
                    dice.shuffle(bodies)
                    waiting += [come(desk, body) for body in bodies]
                found = await outcomes(*waiting)
                assert {type(one) for one in found} == {Confirmation, TimeTaken}
                made = [one.appointment_id for one in confirmed(found) if one.created]
                assert len(made) == len(set(made)) >= 3
    assert await rows(database, OVERLAPS) == []
    assert len(await told(database)) == len(await rows(database, "select id from appointment"))


@pytest.mark.alone
async def test_changes_that_cross_are_all_answered(two: list[Desk], database: Database) -> None:
    """Two appointments that change places: each is in the other's way, and so nobody moves."""
    ids = [
        (await two[0].book(booking(date_time=f"2027-12-01T{hour}:00:00"))).appointment_id
        for hour in (10, 11)
    ]
    for _ in range(5):
        began = time.monotonic()
        found = await outcomes(
            *(
                asyncio.create_task(desk.change(one, wanted, lambda _: True))
                for desk, one, hour in zip(two, ids, (11, 10), strict=True)
                for wanted in [
                    Change.read({"date_time": f"2027-12-01T{hour}:00:00"}, ZONE).wanted()
                ]
            )
        )
        assert [type(one) for one in found] == [TimeTaken, TimeTaken]
        assert [[one.id for one in error.conflicts] for error in found] == [[ids[1]], [ids[0]]]
        assert time.monotonic() - began < DEADLOCK_SECONDS
    assert len(await told(database)) == 2


@pytest.mark.alone
@pytest.mark.parametrize("what", ["office", "doctor"])
async def test_of_many_that_wait_to_move_to_one_time_one_does(
    two: list[Desk], database: Database, what: str
) -> None:
    """Nobody has it in the end for whom they all waited: each is free to take it, and one may."""
    same_office = what == "office"
    at = [f"2027-12-01T{10 + n // 4}:{n % 4 * 15:02}:00" for n in range(24)]
    waiting = [
        two[0].book(booking(date_time=at[n] if same_office else at[0], office_number=office))
        for n, office in enumerate(["1"] * 24 if same_office else map(str, range(24)))
    ]
    ids = [one.appointment_id for one in await asyncio.gather(*waiting)]
    goal = {"date_time": "2027-12-02T10:00:00"} | ({} if same_office else {"doctor_name": "Who"})
    office = await resource_id(two[0], "office", "1" if same_office else "elsewhere")
    doctor = await resource_id(two[0], "doctor", "Who")
    with contextlib.suppress(ZeroDivisionError):
        async with database.transaction() as holder:
            await holder.execute(
                WRITE,
                {
                    "office_id": office,
                    "doctor_id": doctor,
                    "at": datetime.datetime(2027, 12, 2, 10),
                    "until": datetime.datetime(2027, 12, 2, 10, 15),
                },
            )
            moving = [
                asyncio.create_task(
                    desk.change(one, Change.read(goal, ZONE).wanted(), lambda _: True)
                )
                for one, desk in zip(ids, itertools.cycle(desk for desk in two))
            ]
            await asyncio.sleep(0.5)
            assert not any(one.done() for one in moving)
            raise ZeroDivisionError
    began = time.monotonic()
    found = await outcomes(*moving)
    assert Counter(type(one) for one in found) == {Appointment: 1, TimeTaken: 23}
    assert time.monotonic() - began < DEADLOCK_SECONDS
    changed = {event["subject"] for event in (await told(database))[24:]}
    assert changed == {f"appointment/{one.id}" for one in found if isinstance(one, Appointment)}


async def test_an_override_comes_after_a_booking_whose_statement_has_begun(
    make_database: Callable[[Dialect], str],
) -> None:
    """Both are made at once, so either may count as the first; whoever comes later is refused."""
    async with open_database(make_database(Dialect.POSTGRESQL)) as database:
        async with database.transaction() as connection:
            await connection.execute(
                """
                create function dawdle() returns trigger language plpgsql as $$
                begin
                    perform pg_advisory_xact_lock_shared(7);
                    return new;
                end
                $$
                """
            )
            await connection.execute(
                "create trigger aa_dawdle before insert on appointment for each row"
                " when (new.override_reason is null) execute function dawdle()"
            )
        desk, other = desk_on(database), desk_on(database)
        await resource_id(desk, "office", "221B")
        async with writing(desk, other):
            async with database.transaction() as holder:
                await holder.execute("select pg_advisory_xact_lock(7)")
                waiting = come(desk, booking())
                await asyncio.sleep(0.3)
                over = await other.book(booking(patient_name="b", override=True, reason="r"))
                assert not waiting.done()
            (begun,) = await outcomes(waiting)
            (refused,) = await outcomes(come(desk, booking(patient_name="c")))
        assert isinstance(begun, Confirmation)
        assert isinstance(refused, TimeTaken)
        ids = [one.id for one in refused.conflicts]
        assert ids == sorted([begun.appointment_id, over.appointment_id])


async def test_no_offer_runs_into_what_begins_at_the_horizon(database: Database) -> None:
    """Free times are looked for 56 days ahead; what begins on the last of them counts as well."""
    desk = desk_on(database)
    taken = [(f"2027-01-{day:02}", 8 * 60, 720) for day in range(1, 32)]
    taken += [(f"2027-02-{day:02}", 8 * 60, 720) for day in range(1, 26)]
    taken += [("2027-02-26", 8 * 60, 90), ("2027-02-26", 10 * 60, 600)]
    async with writing(desk):
        await outcomes(
            *(
                come(
                    desk,
                    booking(
                        date_time=f"{day}T{begins // 60:02}:{begins % 60:02}:00",
                        duration_minutes=minutes,
                    ),
                )
                for day, begins, minutes in taken
            )
        )
        with pytest.raises(TimeTaken) as refused:
            await desk.book(booking(date_time="2027-01-01T10:00:00", duration_minutes=60))
    assert refused.value.members["free_times"] == []
