"""A patient's rights: who is meant, what is erased, and what stays."""

import asyncio
import contextlib
import datetime
import itertools
import json
from functools import partial
from typing import Any

import pytest

from clinic.appointments.appointment import ERASED
from clinic.appointments.availability import TimeTaken
from clinic.appointments.booking import keep
from clinic.appointments.changing import Change
from clinic.appointments.idempotency import IdempotencyKey
from clinic.appointments.privacy import (
    STEP,
    Person,
    Spelling,
    erase_some,
    narrowed,
    several,
)
from clinic.appointments.queries import phone_key
from clinic.appointments.registry_book import RegistryBook
from clinic.appointments.retention import START, Retention
from clinic.appointments.search import Search
from clinic.database import Database, LostRace, utc_now
from clinic.registry.names import patient_key
from clinic.supervisor import Lifecycle, Stop
from clinic.web.refusals import WrongFields
from tests.appointments.desks import ZONE, booking, desk_on, outcomes, rows, told, writing

pytestmark = pytest.mark.anyio

ANNA, PHONE, NOTE, REASON = "Анна Ёжикова", "+7 (912) 345-67-89", "allergic to Ёж", "Ёж herself"
BY_NAME = Person(patient_key(ANNA))
NUMBERS = itertools.count(1)


def key(text: str = "") -> IdempotencyKey:
    return IdempotencyKey(text or f"key-{next(NUMBERS)}", "0" * 64)


def anna(number: int, **fields: Any) -> Any:
    fields = {"patient_name": ANNA, "office_number": f"office {number}", **fields}
    return booking(**fields)


async def versions_are_events(database: Database) -> None:
    """Check of each appointment that its version is the number of its events, without gaps."""
    found: dict[int, list[int]] = {}
    for event in await told(database):
        found.setdefault(event["data"]["appointment_id"], []).append(event["data"]["version"])
    for number, version in await rows(database, "select id, version from appointment"):
        assert sorted(found[number]) == list(range(1, version + 1))


async def everything(database: Database) -> str:
    """Return all rows of all tables that may hold something of a patient."""
    tables = ["appointment", "idempotency_key", "event", "audit", "outbox", "message", "recorded"]
    tables += ["change_reason", "attempt", "set_aside"]
    if database.dialect == "sqlite":
        tables.append("patient_word")
    return str([await rows(database, f"select * from {table}") for table in tables]).casefold()


async def test_what_is_personal_goes_and_everything_else_stays(database: Database) -> None:
    desk = desk_on(database)
    async with writing(desk):
        first = await desk.book(anna(1, patient_phone=PHONE, note=NOTE), key("ёжикова-1"))
        await desk.book(anna(2))
        over = await desk.book(anna(1, override=True, reason=REASON, doctor_name="Dr. Who"))
        other = await desk.book(booking(patient_name="Ежи Анна", office_number="office 3"))
        came = Change(status="arrived", reason=f"{ANNA} called")
        await desk.change(over.appointment_id, came, lambda _: True)
        before = [one async for one in desk.all_of(BY_NAME)]
        events = await told(database)
        assert await desk.erase(BY_NAME) == 3
        after = [await desk.show(one.id) for one in before]
        for was, one in zip(before, after, strict=True):
            assert (one.patient_name, one.patient_phone, one.note) == (ERASED, None, None)
            assert one.override_reason == (ERASED if was.override_reason else None)
            assert (one.version, one.status, one.occupancy, one.date_time, one.type_id) == (
                *(was.version + 1, was.status, was.occupancy, was.date_time, was.type_id),
            )
        assert (await desk.show(other.appointment_id)).patient_name == "Ежи Анна"
        left = await everything(database)
        for mark in (ANNA, "ёжик", "ежик", "345-67", "3456789", "9876543", "allergic", "herself"):
            assert mark.casefold() not in left, mark
        assert "ежи анна" in left
        # The event log is never altered; each of them got one event more, which says so.
        log = await told(database)
        assert log[: len(events)] == events
        assert [event["type"] for event in log[len(events) :]] == ["appointment.erased"] * 3
        await versions_are_events(database)
        # An override refuses ordinary ones as before, and what is erased still takes its time.
        for number in (1, 2):
            with pytest.raises(TimeTaken):
                await desk.book(booking(patient_name="Someone", office_number=f"office {number}"))
        # Nobody finds it by the name, nor by what stands for it.
        for searched in ({"patient": "ёж"}, {"patient_name": ANNA}, {"patient": "erased"}):
            found = await desk.page(Search(**searched), 10)  # type: ignore[arg-type]
            assert [one.id for one in found if one.id != other.appointment_id] == []
        # What happened to it can still be written down.
        changed = await desk.change(first.appointment_id, Change(status="arrived"), lambda _: True)
        assert (changed.version, changed.patient_name) == (3, ERASED)
        assert await desk.erase(BY_NAME) == 0


async def test_it_is_audited_without_the_name(database: Database) -> None:
    desk = desk_on(database)
    async with writing(desk):
        for number in range(3):
            await desk.book(anna(number))
    assert await desk.erase(BY_NAME) == 3
    found = await rows(
        database, "select action, subject, detail from audit where action like 'patient%'"
    )
    assert found == [("patient.erased", None, '{"appointments":3}')]


async def test_the_same_patient_can_come_again(database: Database) -> None:
    """To send a booking again is no retry any more, once its patient is erased."""
    desk = desk_on(database)
    retry = key()
    async with writing(desk):
        first = await desk.book(anna(1), retry)
        assert await desk.book(anna(1), retry) == first
        await desk.erase(BY_NAME)
        for again in (None, retry):
            with pytest.raises(TimeTaken):
                await desk.book(anna(1), again)
        await desk.cancel(first.appointment_id, lambda _: True)
        second = await desk.book(anna(1), retry)
        assert second.created
        assert second.appointment_id != first.appointment_id
        assert (await desk.show(second.appointment_id)).patient_name == ANNA
        assert (await desk.show(first.appointment_id)).patient_name == ERASED


async def test_nobody_is_called_what_stands_for_the_erased(database: Database) -> None:
    desk = desk_on(database)
    with pytest.raises(WrongFields):
        booking(patient_name=f" {ERASED}")
    async with writing(desk):
        number = (await desk.book(anna(1))).appointment_id
        to_erased = Change({"patient_name": ERASED})
        with pytest.raises(WrongFields):
            await desk.change(number, to_erased, lambda _: True)
        await desk.erase(BY_NAME)
        # A client that sends back the whole record changes nothing.
        assert (await desk.change(number, to_erased, lambda _: True)).version == 2
        named = await desk.change(number, Change({"patient_name": ANNA}), lambda _: True)
        assert (named.version, named.patient_name) == (3, ANNA)
        assert [one.id for one in await desk.page(Search(patient="ежик"), 10)] == [number]
        assert await desk.erase(BY_NAME) == 1
        await versions_are_events(database)


PEOPLE = (
    ("Анна Ёжикова", "+7 912 345-67-89"),
    ("анна ежикова", None),
    ("АННА ЕЖИКОВА", "8 800 555 35 35"),
    ("Анна Ёжиковаа", "345-67-89"),
    ("Ёжикова Анна", "1+7 912 345-67-89"),
    ("Анна", "79123456789"),
    ("Борис Ежиков", None),
)


@pytest.mark.parametrize(
    ("name", "phone", "without", "meant"),
    [
        ("Анна Ежикова", None, False, {0, 1, 2}),
        ("Анна Ежикова", "+7(912)3456789", False, {0}),
        ("Анна Ежикова", None, True, {1}),
        (None, "7 912 345 67 89", False, {0, 5}),
        (None, "3456789", False, {3}),
        ("Борис Ежиков", None, False, {6}),
        ("Борис", None, False, set()),
        (None, "56789", False, set()),
    ],
)
async def test_never_more_people_than_meant(
    database: Database, name: str | None, phone: str | None, *, without: bool, meant: set[int]
) -> None:
    desk = desk_on(database)
    async with writing(desk):
        for number, (patient_name, patient_phone) in enumerate(PEOPLE):
            await desk.book(anna(number, patient_name=patient_name, patient_phone=patient_phone))
    person = Person(name and patient_key(name), phone_key(phone), or_without_phone=without)
    assert sum(one.appointments for one in await desk.spellings(person)) == len(meant)
    assert await desk.erase(person) == len(meant)
    found = await rows(database, "select patient_name from appointment order by id")
    assert {number for number, (left,) in enumerate(found) if left == ERASED} == meant


def spelling(name: str, phone: str | None) -> Spelling:
    day = datetime.datetime(2027, 12, 1)
    return Spelling(name, phone, patient_key(name), phone_key(phone), 1, day, day)


@pytest.mark.parametrize(
    ("person", "found", "doubt", "narrow"),
    [
        (Person("a"), [("A", None)], (0, 0), Person("a", None, or_without_phone=True)),
        (
            Person("a"),
            [("A", "12345"), ("a", None)],
            (0, 0),
            Person("a", "54321", or_without_phone=True),
        ),
        (Person("a"), [("A", "12345"), ("a", "1-23-45")], (0, 0), Person("a", "54321")),
        (Person("a"), [("A", "12345"), ("a", "99999")], (0, 2), None),
        (Person("a", "54321"), [("A", "12345")], (0, 0), Person("a", "54321")),
        (Person(None, "54321"), [("A", "12345"), ("B", "12345")], (2, 0), None),
        (Person(None, "54321"), [("A", "12345"), ("a", "12345")], (0, 0), Person("a", "54321")),
    ],
)
def test_who_is_meant(
    person: Person, found: list[tuple[str, str | None]], doubt: Any, narrow: Person | None
) -> None:
    spellings = [spelling(*one) for one in found]
    assert several(person, spellings) == doubt
    if narrow is not None:
        assert narrowed(person, spellings) == narrow


async def test_an_erasure_that_ends_in_the_middle_is_taken_up_again(database: Database) -> None:
    desk = desk_on(database)
    async with writing(desk):
        await outcomes(*(desk.book(anna(number)) for number in range(25)))
    some = partial(erase_some, database, desk._outbox, ZONE, BY_NAME, 10)
    assert await some() == 10
    assert len(await desk.page(Search(patient_name=ANNA), 50)) == 15
    assert await desk_on(database).erase(BY_NAME) == 15
    assert await some() == 0
    await versions_are_events(database)
    found = await rows(database, "select detail from audit where action = 'patient.erased'")
    assert sum(json.loads(detail)["appointments"] for (detail,) in found) == 25


async def test_two_erasures_at_once_of_which_one_ends_early(database: Database) -> None:
    """Who waits for appointments that another has erased by then goes on with the others."""
    desk = desk_on(database)
    async with writing(desk):
        await outcomes(*(desk.book(anna(number)) for number in range(2 * STEP)))
    ends_early = erase_some(database, desk._outbox, ZONE, BY_NAME)
    counts = await asyncio.gather(ends_early, desk.erase(BY_NAME), desk_on(database).erase(BY_NAME))
    assert await desk.spellings(BY_NAME) == []
    assert sum(counts) == 2 * STEP
    await versions_are_events(database)


async def test_bookings_changes_and_resends_at_the_same_moment(database: Database) -> None:
    """What was confirmed before is erased; nothing of it comes back, and no key outlives it."""
    desk, elsewhere = desk_on(database), desk_on(database)
    async with writing(desk, elsewhere):
        keys = [key() for _ in range(12)]
        made = await outcomes(*(desk.book(anna(number), keys[number]) for number in range(12)))
        ids = [one.appointment_id for one in made]

        async def disturb(number: int) -> None:
            for life in range(4):
                with contextlib.suppress(TimeTaken, LostRace):
                    await elsewhere.book(anna(number), key())
                change = Change({"note": f"{NOTE} {life}"})
                await elsewhere.change(ids[number], change, lambda _: True)
                await desk.book(anna(100 + 10 * number + life, patient_phone=PHONE), key())

        await asyncio.gather(
            *(disturb(number) for number in range(12)),
            desk.erase(BY_NAME),
            elsewhere.erase(BY_NAME),
        )
        await versions_are_events(database)
        for one in ids:
            assert (await desk.show(one)).patient_name == ERASED
        kept = await rows(
            database,
            "select key from idempotency_key join appointment on id = appointment_id "
            "where patient_key = ''",
        )
        assert kept == []
        await desk.erase(BY_NAME)
        assert ANNA.casefold() not in await everything(database)
        await versions_are_events(database)


async def test_no_key_is_kept_for_what_was_erased_since_it_was_found(database: Database) -> None:
    desk = desk_on(database)
    async with writing(desk):
        made = await desk.book(anna(1))
    await desk.erase(BY_NAME)
    stood = type(made)(made.appointment_id, created=False)
    with pytest.raises(LostRace):
        await keep(database, key(), stood)
    assert await rows(database, "select key from idempotency_key") == []


async def test_merging_offices_brings_no_name_back(database: Database) -> None:
    """Whoever moves many appointments at once does not write back what they were before."""
    desk = desk_on(database)
    async with writing(desk):
        for number in range(10):
            time = f"2027-12-01T{8 + number:02}:00:00"
            await desk.book(anna(1, date_time=time))
        await desk.book(booking(patient_name="Other", office_number="office 2"))
    offices = {one.name: one for one in await desk._candidates("office", None, None)}
    book = RegistryBook(desk._outbox, ZONE)

    async def merge() -> None:
        async with database.transaction() as connection:
            await book.move(connection, "office", offices["office 1"], offices["office 2"])

    results = await outcomes(merge(), desk.erase(BY_NAME), merge())
    assert not [
        one for one in results if isinstance(one, Exception) and not isinstance(one, LostRace)
    ]
    await desk.erase(BY_NAME)
    assert ANNA.casefold() not in await everything(database)
    await versions_are_events(database)


def retention(database: Database, days: int, wiped: list[int]) -> Retention:
    async def wipe() -> None:
        wiped.append(1)

    return Retention(database, desk_on(database)._outbox, ZONE, days, wipe)


async def old_and_new(database: Database) -> None:
    desk = desk_on(database)
    today = utc_now().astimezone(ZONE).date()
    async with writing(desk):
        for number, age in enumerate((400, 31, 31, 30, 29, 0, -10)):
            day = (today - datetime.timedelta(days=age)).isoformat()
            await desk.book(anna(number, date_time=f"{day}T12:00:00", note=NOTE), key())
        (first,) = await desk.page(Search(limit=None), 1)
        assert await desk.erase(Person(patient_key("nobody"))) == 0
        # Erased by hand already, and nothing is left to erase.
        await desk.change(first.id, Change({"patient_name": "Someone"}), lambda _: True)
        await desk.erase(Person(patient_key("Someone")))


LEFT = "select count(*) from appointment where patient_key <> ''"
EXPIRED = "select actor, detail from audit where action = 'patient.expired'"


async def test_what_is_old_is_erased_once_a_day_and_audited_with_a_count(
    database: Database,
) -> None:
    await old_and_new(database)
    wiped: list[int] = []
    services = [retention(database, 30, wiped) for _ in range(3)]
    lifecycle = Lifecycle(Stop(), lambda: None)
    await asyncio.gather(*(one.go_through(lifecycle) for one in services))
    assert await rows(database, LEFT) == [(4,)]
    assert await rows(database, EXPIRED) == [("clinic", '{"appointments":2,"older_than_days":30}')]
    assert wiped
    await versions_are_events(database)
    keys = await rows(database, "select count(*) from idempotency_key")
    assert keys == [(4,)]
    # Not again today.
    await retention(database, 1, wiped).go_through(lifecycle)
    assert await rows(database, LEFT) == [(4,)]
    # ... but tomorrow.
    tomorrow = utc_now().astimezone(ZONE).date() + datetime.timedelta(days=1)
    assert await retention(database, 30, wiped).step(tomorrow, START) is None
    assert await rows(database, LEFT) == [(3,)]
    assert len(await rows(database, EXPIRED)) == 2


async def test_a_day_that_ends_in_the_middle_is_finished_with_the_whole_count(
    database: Database,
) -> None:
    await old_and_new(database)
    today = utc_now().astimezone(ZONE).date()
    killed, other = (retention(database, 20, []) for _ in range(2))
    place = await killed.step(today, START, limit=2)
    assert place is not None
    assert await killed.step(today, place, limit=2) is not None
    assert await rows(database, EXPIRED) == []
    await other.go_through(Lifecycle(Stop(), lambda: None))
    assert await rows(database, EXPIRED) == [("clinic", '{"appointments":4,"older_than_days":20}')]
    assert await rows(database, LEFT) == [(2,)]
    assert await killed.step(today, place) is None


async def test_it_stops_when_it_is_asked_to(database: Database) -> None:
    await old_and_new(database)
    stop = Stop()
    async with asyncio.timeout(30):
        running = asyncio.create_task(
            retention(database, 30, []).run(Lifecycle(stop, lambda: None))
        )
        while await rows(database, LEFT) != [(4,)]:
            await asyncio.sleep(0.02)
        stop.request()
        await running
