"""Analytics: each event once, and every number equal to a recount of what was booked."""

import collections
import datetime
import math
import random
import zoneinfo
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import anyio
import pytest

from clinic.analytics.counting import Counting
from clinic.analytics.queries import Days
from clinic.analytics.recording import record
from clinic.analytics.report import WEEKDAYS
from clinic.analytics.report import report as numbers
from clinic.database import Database, Dialect, again_if_lost
from clinic.events import AppointmentFacts, Event, EventType, Status, tell
from clinic.messaging.message import Message, Unreadable
from clinic.messaging.outbox import Outbox
from clinic.registry.names import name_key
from clinic.registry.queries import insert_resources, move_keys, update_resource
from clinic.registry.records import Kind, NewResource, Resource
from clinic.registry.timetable import Hours
from tests.timing import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

KINDS = [kind.removeprefix("appointment.") for kind in get_args(EventType)]
FOLLOWS: dict[str, EventType] = {
    "booked": "appointment.arrived",
    "arrived": "appointment.in_room",
    "in_room": "appointment.done",
}
CHANGES = [kind for kind in get_args(EventType) if kind != "appointment.booked"]
USUAL = Hours(8 * 60, 20 * 60)
SELECT_WAITING = """
    select pid from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
"""
ZONE = zoneinfo.ZoneInfo("Europe/Berlin")


# The registry, and the ways in which events write its names, each with what it is called now.
NAMES: list[tuple[Kind, str]] = [
    ("office", "1"),
    ("office", "2"),
    ("office", "221Б"),
    ("doctor", "Доктор Ватсон"),
    ("doctor", "Доктор Стрейндж"),
]
REGISTERED = [
    NewResource(number, kind, name, name_key(name))
    for number, (kind, name) in enumerate(NAMES, start=1)
]
OFFICES = {"1": REGISTERED[0], "2": REGISTERED[1], "221Б": REGISTERED[2], "№ 221-б": REGISTERED[2]}
DOCTORS = {
    "Доктор Ватсон": REGISTERED[3],
    "доктор ватсон": REGISTERED[3],
    "Доктор Стрейндж": REGISTERED[4],
}
NAMES_NOW = {spelt: one.name for spelt, one in (OFFICES | DOCTORS).items()}


def an_office(chance: random.Random) -> dict[str, Any]:
    """Return an office as an event tells it; one in three events is from before the registry."""
    spelt = chance.choice(list(OFFICES))
    return {
        "office_number": spelt,
        "office_id": chance.choice([None, OFFICES[spelt].id, OFFICES[spelt].id]),
    }


def a_doctor(chance: random.Random, *, with_id: bool) -> dict[str, Any]:
    spelt = chance.choice([None, *DOCTORS])
    known = DOCTORS[spelt].id if spelt and with_id else None
    return {"doctor_name": spelt, "doctor_id": known}


def booked(seed: int, count: int) -> list[Event]:
    chance = random.Random(seed)
    now = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    return [
        tell(
            "appointment.booked",
            AppointmentFacts(
                appointment_id=number,
                version=1,
                status="booked",
                **(office := an_office(chance)),
                **a_doctor(chance, with_id=office["office_id"] is not None),
                date_time=datetime.datetime(2026, 3, 1)
                + datetime.timedelta(minutes=chance.randrange(60 * 24 * 60)),
                time_zone=ZONE.key,
                duration_minutes=chance.choice([15, 30]),
                override=chance.random() < 0.1,
            ),
            now + datetime.timedelta(minutes=chance.randrange(60 * 24 * 60)),
        )
        for number in range(1, count + 1)
    ]


def messages(events: Sequence[Event]) -> list[Message]:
    return [event.message() for event in events]


@pytest.fixture
async def database(database: Database) -> Database:
    """A database whose registry knows the names that events tell."""
    async with database.transaction() as connection:
        await insert_resources(connection, REGISTERED)
    return database


async def log_events(database: Database, events: Sequence[Event]) -> None:
    """Write events into the log, as the desk does."""
    async with database.transaction() as connection:
        await Outbox(database, datetime.timedelta(minutes=1)).append(connection, messages(events))


async def recording(database: Database, batch: Sequence[Message]) -> Sequence[Unreadable | None]:
    """Record a batch as the consumer does."""

    async def transact() -> Sequence[Unreadable | None]:
        async with database.transaction() as connection:
            return await record(connection, batch)

    return await again_if_lost(transact)


async def report(database: Database, days: Days) -> dict[str, object]:
    """Return the numbers as the endpoint does."""
    await Counting(database, USUAL).catch_up(days)
    return await numbers(database, days)


def nearest_rank(values: Sequence[int], percent: int) -> Any:
    """Return a percentile, to be compared within the error that is stated."""
    if not values:
        return None
    exact = sorted(values)[math.ceil(len(values) * percent / 100) - 1]
    return exact if abs(exact) < 128 else pytest.approx(exact, rel=0.008)


def lives(seed: int, count: int) -> list[Event]:
    """Return events of as many appointments, each with some of what may become of one."""
    chance = random.Random(seed)
    told: list[Event] = []
    for event in booked(seed, count):
        told.append(event)
        for _ in range(chance.randrange(5)):
            before = told[-1]
            kind: EventType = chance.choice(CHANGES)
            change: dict[str, Any] = {"version": before.data.version + 1}
            if kind == "appointment.rescheduled":
                days = datetime.timedelta(days=chance.randrange(30))
                change["date_time"] = before.data.date_time + days
                change |= an_office(chance) | dict.fromkeys(["doctor_name", "doctor_id"])
            elif kind == "appointment.reassigned":
                change |= a_doctor(chance, with_id=before.data.office_id is not None)
            elif kind not in {"appointment.renamed", "appointment.annotated", "appointment.erased"}:
                if chance.random() < 0.5:  # as is usual
                    kind = FOLLOWS.get(before.data.status, kind)
                status = kind.removeprefix("appointment.")
                change["status"] = "booked" if status == "reopened" else status
            facts = replace(before.data, **change)
            later = datetime.timedelta(minutes=chance.choice([0, 7, 60, 1000]))
            told.append(tell(kind, facts, before.time + later))
    return told


def recount(events: Sequence[Event], days: Days) -> dict[str, object]:
    """Count again, in the plainest way."""
    within = [event for event in events if days.first <= event.data.date_time.date() <= days.last]
    chosen = [event for event in within if event.type == "appointment.booked"]
    times = [event.data.date_time for event in chosen]
    lead = [
        int((event.data.date_time.replace(tzinfo=ZONE) - event.time).total_seconds() // 60)
        for event in chosen
    ]
    per_day = collections.Counter(time.date().isoformat() for time in times)
    per_office = collections.Counter(NAMES_NOW[event.data.office_number] for event in chosen)
    per_hour = collections.Counter((time.weekday(), time.hour) for time in times)
    happened = collections.Counter(event.type.removeprefix("appointment.") for event in within)
    return {
        "totals": {kind: happened[kind] for kind in KINDS},
        "booked_per_day": [{"day": day, "booked": n} for day, n in sorted(per_day.items())],
        "booked_per_office": [
            {"office_number": office, "booked": n} for office, n in sorted(per_office.items())
        ],
        "booked_per_hour_of_week": [
            {"weekday": WEEKDAYS[weekday], "hour": hour, "booked": n}
            for (weekday, hour), n in sorted(per_hour.items())
        ],
        "lead_time_minutes": percentiles(lead),
        **recount_standing(events, days),
    }


def recount_standing(events: Sequence[Event], days: Days) -> dict[str, object]:
    lives: dict[int, list[Event]] = collections.defaultdict(list)
    for event in sorted(events, key=lambda event: event.data.version):
        lives[event.data.appointment_id].append(event)
    latest = {number: life[-1].data for number, life in lives.items()}
    stand = [one for one in latest.values() if days.first <= one.date_time.date() <= days.last]
    count = collections.Counter(one.status for one in stand)
    expected = count["no_show"] + count["arrived"] + count["in_room"] + count["done"]
    in_use = [one for one in stand if one.status not in {"cancelled", "no_show"}]
    waits = [(one.doctor_name, waited(lives[one.appointment_id])) for one in stand]
    known = [(doctor, minutes) for doctor, minutes in waits if minutes is not None]

    def utilisation(field: str) -> list[dict[str, object]]:
        named = [(NAMES_NOW.get(getattr(one, field)), one) for one in in_use]
        names = sorted({name for name, _ in named if name is not None})
        rows: list[dict[str, object]] = []
        for name in names:
            own = [one for whose, one in named if whose == name]
            number = len({one.date_time.date() for one in own})
            in_hours = sum(minutes_in_hours(one) for one in own if not one.override)
            rows.append(
                {
                    field: name,
                    "minutes": sum(one.duration_minutes for one in own),
                    "days": number,
                    "utilisation": min(1.0, round(in_hours / (number * USUAL.minutes), 4)),
                    "minutes_open": number * USUAL.minutes,
                    "minutes_in_hours": in_hours,
                    "overbooked_minutes": sum(one.duration_minutes for one in own if one.override),
                }
            )
        return rows

    return {
        "appointments": {status: count[status] for status in get_args(Status)},
        "no_show_rate": round(count["no_show"] / expected, 4) if expected else None,
        "cancellation_rate": round(count["cancelled"] / len(stand), 4) if stand else None,
        "waiting_time_minutes": percentiles([minutes for _, minutes in known]),
        "waiting_time_per_doctor": [
            {"doctor_name": name, "appointments": len(own), **percentiles(own)}
            for name in sorted({NAMES_NOW[doctor] for doctor, _ in known if doctor})
            for own in [[m for doctor, m in known if doctor and NAMES_NOW[doctor] == name]]
        ],
        "utilisation_per_office": utilisation("office_number"),
        "utilisation_per_doctor": utilisation("doctor_name"),
    }


def percentiles(values: Sequence[int]) -> dict[str, Any]:
    return {"median": nearest_rank(values, 50), "p90": nearest_rank(values, 90)}


def minutes_in_hours(facts: AppointmentFacts) -> int:
    begins = facts.date_time.hour * 60 + facts.date_time.minute
    used = range(begins, min(begins + facts.duration_minutes, 24 * 60))
    return len(set(used) & set(range(USUAL.opens, USUAL.closes)))


def waited(life: Sequence[Event]) -> int | None:
    """Return for how many minutes a patient waited who has been called in, event by event."""
    arrived: datetime.datetime | None = None
    called: datetime.datetime | None = None
    for event in life:
        if event.data.status == "arrived":
            arrived, called = arrived or event.time, None
        elif event.data.status not in {"in_room", "done"}:
            arrived = called = None
        elif arrived is not None:
            called = called or event.time
    if arrived is None or called is None:
        return None
    return max(0, (called - arrived) // datetime.timedelta(minutes=1))


RANGES = [
    Days(),
    Days(datetime.date(2026, 3, 10), datetime.date(2026, 4, 2)),
    Days(first=datetime.date(2026, 4, 1)),
    Days(last=datetime.date(2026, 3, 29)),
]


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 300])
async def test_the_numbers_equal_a_recount(database: Database, count: int) -> None:
    events = lives(seed=count, count=count)
    await log_events(database, events)
    await recording(database, messages(events))
    for days in RANGES:
        found = await report(database, days)
        assert found == found | recount(events, days)


async def test_late_shuffled_and_repeated_events_count_as_in_order(database: Database) -> None:
    events = lives(seed=1, count=100)
    await log_events(database, events)
    chance = random.Random(1)
    for _ in range(10):
        await recording(database, messages(chance.choices(events, k=50)))
    # Not all have come yet, and what has come is counted by the latest of it.
    await recording(database, messages(chance.sample(events, k=len(events))))
    for days in RANGES:
        found = await report(database, days)
        assert found == found | recount(events, days)


async def test_an_appointment_stands_as_its_latest_known_event_tells(database: Database) -> None:
    events = lives(seed=3, count=40)
    await log_events(database, events)
    known = random.Random(3).sample(events, k=len(events) // 2)
    await recording(database, messages(known))
    found = await report(database, Days())
    assert found == found | recount_standing(known, Days())


async def test_many_consumers_that_record_the_same_at_once_count_it_once(
    database: Database,
) -> None:
    events = lives(seed=4, count=60)
    await log_events(database, events)
    async with anyio.create_task_group() as tasks:
        for seed in range(6):
            shuffled = random.Random(seed).sample(events, k=len(events))
            tasks.start_soon(recording, database, messages(shuffled))
    found = await report(database, Days())
    assert found == found | recount(events, Days())


@pytest.mark.parametrize("database_url", [Dialect.POSTGRESQL], indirect=True)
async def test_consumers_that_record_the_same_in_another_order_do_not_deadlock(
    database: Database,
) -> None:
    events = booked(seed=5, count=2)
    await log_events(database, events)
    first, last = sorted(messages(events), key=lambda one: one.id)

    async def record_both() -> None:
        async with database.transaction() as connection:
            await record(connection, [last, first])

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks, database.transaction() as connection:
            await record(connection, [first])
            tasks.start_soon(record_both)
            while not await database.look(SELECT_WAITING):
                await anyio.sleep(0.01)
            await record(connection, [last])


async def test_what_brings_no_event_is_told_apart_and_its_neighbours_are_recorded(
    database: Database,
) -> None:
    events = booked(seed=2, count=4)
    await log_events(database, events[:3])
    batch = messages([*events, events[0]])
    batch[1:1] = [Message("", "", "", "{}"), replace(batch[0], id=events[1].id)]
    failures = [str(failure or "recorded") for failure in await recording(database, batch)]
    assert failures[0] == failures[3] == failures[4] == failures[6] == "recorded"
    assert failures[1] == "no event of ours: id: Field required"
    assert "message_id is not the id" in failures[2]
    assert "no event of this clinic's log has this id" in failures[5]
    found = await report(database, Days())
    assert found == found | recount(events[:3], Days())


def event_of(number: int, **facts: Any) -> Event:
    """Return a booking of half an hour, on the day of the number."""
    (event,) = booked(seed=number, count=1)
    date_time = datetime.datetime(2026, 3, number, 9)
    return replace(
        event,
        data=replace(
            event.data,
            appointment_id=number,
            date_time=date_time,
            duration_minutes=30,
            **{"office_id": None, "doctor_id": None, "doctor_name": None, **facts},
        ),
    )


async def test_an_event_is_recorded_with_its_ids_or_those_its_names_have_now(
    database: Database,
) -> None:
    events = [
        event_of(1, office_id=2, office_number="a former name", doctor_id=5, doctor_name="Former"),
        # From before the registry.
        event_of(2, office_number="№ 221 б", doctor_name="ДОКТОР  ВАТСОН"),
        event_of(3, office_number="unknown", doctor_name="Unknown"),
        # No doctor is one that the event does not tell of, although it has the name of one.
        event_of(4, office_id=1, office_number="1"),
    ]
    await log_events(database, events)
    await recording(database, messages(events))
    rows = await database.look(
        "select appointment_id, office_id, office_number, doctor_id, doctor_name from recorded"
        " order by appointment_id"
    )
    assert [tuple(row.values()) for row in rows] == [
        (1, 2, "a former name", 5, "Former"),
        (2, 3, "№ 221 б", 4, "ДОКТОР  ВАТСОН"),
        (3, 0, "unknown", None, "Unknown"),
        (4, 1, "1", None, None),
    ]


async def numbers_of(database: Database) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Return booked per office, and the days in use per office and per doctor."""
    found: Any = await report(database, Days())
    return (
        {one["office_number"]: one["booked"] for one in found["booked_per_office"]},
        {one["office_number"]: one["days"] for one in found["utilisation_per_office"]},
        {one["doctor_name"]: one["days"] for one in found["utilisation_per_doctor"]},
    )


async def test_the_numbers_are_of_offices_and_doctors_by_the_names_that_they_have_now(
    database: Database,
) -> None:
    events = [
        event_of(1, office_id=1, office_number="1", doctor_id=4, doctor_name="Доктор Ватсон"),
        event_of(2, office_id=1, office_number="№ 1", doctor_id=5, doctor_name="Доктор Стрейндж"),
        event_of(3, office_id=2, office_number="2"),
        # The registry knows none of these; a name in it may be like that of one that it knows.
        event_of(4, office_number="unknown", doctor_name="Unknown"),
        event_of(5, office_number="unknown", doctor_name="Unknown"),
        event_of(6, office_number="Unknown too"),
    ]
    await log_events(database, events)
    await recording(database, messages(events))
    unknown = {"unknown": 2, "Unknown too": 1}
    per_office = {"1": 2, "2": 1} | unknown
    per_doctor = {"Доктор Ватсон": 1, "Доктор Стрейндж": 1, "Unknown": 2}
    assert await numbers_of(database) == (per_office, per_office, per_doctor)

    async with database.transaction() as connection:
        renamed = Resource(1, "office", "East", active=True, merged_into=None)
        await update_resource(connection, renamed)
    per_office = {"2": 1, "East": 2} | unknown
    assert await numbers_of(database) == (per_office, per_office, per_doctor)

    async with database.transaction() as connection:
        for source, into in ((2, 1), (5, 4)):
            one = REGISTERED[source - 1]
            await move_keys(connection, source, into)
            merged = Resource(source, one.kind, one.name, active=False, merged_into=into)
            await update_resource(connection, merged)
    per_office = {"East": 3} | unknown
    per_doctor = {"Доктор Ватсон": 2, "Unknown": 2}
    assert await numbers_of(database) == (per_office, per_office, per_doctor)
