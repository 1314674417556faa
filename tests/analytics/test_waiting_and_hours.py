"""How long patients wait, and how much of their hours offices and doctors are in use."""

import datetime
import random
from typing import Any

import anyio
import pytest

from clinic.analytics.counting import Counting
from clinic.analytics.queries import Days
from clinic.database import Database, Dialect
from clinic.events import AppointmentFacts, Event, tell
from tests.analytics import test_report
from tests.analytics.test_counts import different
from tests.analytics.test_report import USUAL, log_events, messages, recording, report
from tests.timing import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio
database = test_report.database


OFFICE, DOCTOR = {"office_id": 1, "office_number": "1"}, {"doctor_id": 4}
NINE = datetime.datetime(2026, 3, 2, 9)


def life(*told: tuple[str, int], number: int = 1, **facts: Any) -> list[Event]:
    """Return the events of an appointment: what each made of it, and at how many minutes past 8."""
    events: list[Event] = []
    for version, (status, minutes) in enumerate(told, start=1):
        kind = "reopened" if status == "booked" and version > 1 else status
        event_type: Any = f"appointment.{kind}"
        events.append(
            tell(
                event_type,
                AppointmentFacts(
                    **{
                        "appointment_id": number,
                        "version": version,
                        "status": status if kind != "annotated" else events[-1].data.status,
                        **OFFICE,
                        **DOCTOR,
                        "doctor_name": "Доктор Ватсон",
                        "date_time": NINE,
                        "time_zone": "UTC",
                        "duration_minutes": 30,
                        "override": False,
                        **facts,
                    }
                ),
                datetime.datetime(2026, 3, 2, 8, tzinfo=datetime.UTC)
                + datetime.timedelta(minutes=minutes),
            )
        )
    return events


BOOKED = ("booked", -600)


@pytest.mark.parametrize(
    ("told", "minutes"),
    [
        ([BOOKED], None),
        ([BOOKED, ("arrived", 0)], None),
        ([BOOKED, ("arrived", 0), ("in_room", 12)], 12),
        ([BOOKED, ("arrived", 0), ("in_room", 12), ("done", 40)], 12),
        ([BOOKED, ("arrived", 0), ("done", 25)], 25),  # a desk that skips in_room
        # Arrived by mistake, and again.
        ([BOOKED, ("arrived", 0), ("booked", 2), ("arrived", 30), ("in_room", 37)], 7),
        ([BOOKED, ("arrived", 0), ("booked", 2)], None),
        # Called in by mistake: the patient has gone on waiting.
        ([BOOKED, ("arrived", 0), ("in_room", 5), ("arrived", 6), ("in_room", 20)], 20),
        ([BOOKED, ("arrived", 0), ("in_room", 5), ("arrived", 6)], None),
        ([BOOKED, ("arrived", 0), ("in_room", 5), ("done", 6), ("in_room", 7)], 5),
        # What is written down meanwhile begins and ends nothing.
        ([BOOKED, ("arrived", 0), ("annotated", 4), ("in_room", 9), ("annotated", 30)], 9),
        ([BOOKED, ("arrived", 0), ("in_room", 0)], 0),
        ([BOOKED, ("arrived", 5), ("in_room", 3)], 0),  # two clocks that disagree
        ([BOOKED, ("arrived", 0), ("in_room", 200)], 201),  # an error of less than 0.8 %
    ],
)
async def test_a_patient_waits_from_arriving_until_called_in(
    database: Database, told: list[tuple[str, int]], minutes: int | None
) -> None:
    events = life(*told)
    await log_events(database, events)
    for event in random.Random(len(told)).sample(events, k=len(events)):
        await recording(database, messages([event]))
        await Counting(database, USUAL).count(wait=False)
    found: Any = await report(database, Days())
    assert found["waiting_time_minutes"] == {"median": minutes, "p90": minutes}
    assert found["waiting_time_per_doctor"] == (
        []
        if minutes is None
        else [
            {
                "doctor_name": "Доктор Ватсон",
                "appointments": 1,
                "median": minutes,
                "p90": minutes,
            }
        ]
    )
    assert await different(database) == []


async def set_hours(database: Database, *statements: str) -> None:
    """Set hours as the registry does, which raises its version."""
    async with database.transaction() as connection:
        for statement in (*statements, "update registry set version = version + 1"):
            await connection.execute(statement)


def weekly(days: str, owner: str = "", since: str = "null", until: str = "null") -> str:
    """Return what sets weekly hours: those of Monday, the same each day."""
    column, value = owner.split() if owner else ("office_id", "null")
    return (
        f"insert into weekly_hours ({column}, valid_from, valid_until, days)"
        f" values ({value}, {since}, {until}, '[{', '.join([days] * 7)}]')"
    )


def exceptional(opens: int, begins: str, ends: str, owner: str = "office_id null") -> str:
    column, value = owner.split()
    return (
        f"insert into exceptional_hours ({column}, opens, begins, ends)"
        f" values ({value}, cast({opens} as {{boolean}}), '{begins}', '{ends}')"
    )


async def usage(database: Database, days: Days | None = None) -> dict[str, tuple[Any, ...]]:
    found: Any = await report(database, days or Days())
    return {
        kind: (row["minutes_in_hours"], row["minutes_open"], row["utilisation"])
        for kind in ("office", "doctor")
        for row in found[f"utilisation_per_{kind}"]
    }


async def test_minutes_are_counted_by_the_hours_that_are_set_now(database: Database) -> None:
    boolean = "integer" if database.dialect is Dialect.SQLITE else "boolean"
    events = [
        *life(BOOKED, number=1),  # from 9:00 to 9:30
        *life(BOOKED, number=2, date_time=NINE.replace(hour=11, minute=50)),
        *life(BOOKED, number=3, date_time=NINE.replace(hour=19, minute=45)),
    ]
    await log_events(database, events)
    await recording(database, messages(events))
    assert await usage(database) == {"office": (75, 720, 0.1042), "doctor": (75, 720, 0.1042)}

    # The clinic's hours, with a break; then those of an office, and of a doctor in it.
    await set_hours(database, weekly("[[540, 720], [780, 1020]]"))
    assert await usage(database) == {"office": (40, 420, 0.0952), "doctor": (40, 420, 0.0952)}
    await set_hours(database, weekly("[[540, 600]]", "office_id 1"))
    assert await usage(database) == {"office": (30, 60, 0.5), "doctor": (40, 420, 0.0952)}
    await set_hours(database, weekly("[[480, 555, 1]]", "doctor_id 4"))
    assert await usage(database) == {"office": (30, 60, 0.5), "doctor": (15, 15, 1.0)}

    # A closure takes away, an opening adds.
    closed = exceptional(0, "2026-03-02T09:00:00", "2026-03-02T09:10:00", "office_id 1")
    await set_hours(database, closed.format(boolean=boolean))
    assert await usage(database) == {"office": (20, 50, 0.4), "doctor": (5, 5, 1.0)}
    opened = exceptional(1, "2026-03-02T19:00:00", "2026-03-02T20:00:00", "office_id 1")
    await set_hours(database, opened.format(boolean=boolean))
    assert await usage(database) == {"office": (35, 110, 0.3182), "doctor": (5, 5, 1.0)}
    whole_day = exceptional(0, "2026-03-01T00:00:00", "2026-03-03T00:00:00")
    await set_hours(database, whole_day.format(boolean=boolean))
    assert await usage(database) == {"office": (0, 0, None), "doctor": (0, 0, None)}
    assert await different(database) == []


async def test_hours_hold_from_one_day_to_another(database: Database) -> None:
    events = [
        event
        for day in range(1, 29)
        for event in life(BOOKED, number=day, date_time=NINE.replace(day=day))
    ]
    await log_events(database, events)
    await recording(database, messages(events))
    await set_hours(
        database,
        weekly("[[540, 600]]", until="'2026-03-10'"),
        weekly("[[555, 570]]", since="'2026-03-11'", until="'2026-03-20'"),
    )
    assert (await usage(database))["office"] == (
        10 * 30 + 10 * 15 + 8 * 30,
        10 * 60 + 10 * 15 + 8 * 720,
        round((10 * 30 + 10 * 15 + 8 * 30) / (10 * 60 + 10 * 15 + 8 * 720), 4),
    )
    tenth = Days(datetime.date(2026, 3, 10), datetime.date(2026, 3, 11))
    assert (await usage(database, tenth))["office"] == (45, 75, 0.6)


async def test_a_part_of_a_month_is_asked_for_first(database: Database) -> None:
    """Its other days are not found yet then, and the month is not made of them."""
    events = [
        event
        for day in (1, 10, 20, 28)
        for event in life(BOOKED, number=day, date_time=NINE.replace(day=day))
    ]
    await log_events(database, events)
    await recording(database, messages(events))
    until = Days(datetime.date(2026, 3, 1), datetime.date(2026, 3, 10))
    since = Days(datetime.date(2026, 3, 10), datetime.date(2026, 4, 10))
    with anyio.fail_after(PATIENCE_SECONDS):
        assert (await usage(database, until))["office"] == (60, 1440, 0.0417)
        assert (await usage(database, since))["office"] == (90, 2160, 0.0417)
        await recording(database, messages(events[:1]))
        assert (await usage(database))["office"] == (120, 2880, 0.0417)
    assert await different(database) == []


async def test_merged_offices_count_each_day_once(database: Database) -> None:
    """By the hours of the one that is left."""
    other = {"office_id": 2, "office_number": "2"}
    events = [
        *life(BOOKED, number=1),
        *life(BOOKED, number=2, **other),
        *life(BOOKED, number=3, date_time=NINE.replace(day=3), **other),
    ]
    await log_events(database, events)
    await recording(database, messages(events))
    await set_hours(database, weekly("[[540, 600]]", "office_id 1"))
    found: Any = await report(database, Days())
    assert [row["days"] for row in found["utilisation_per_office"]] == [1, 2]
    assert [row["minutes_open"] for row in found["utilisation_per_office"]] == [60, 1440]
    await set_hours(database, "update resource set merged_into = 1 where id = 2")
    found = await report(database, Days())
    assert [
        (row["office_number"], row["days"], row["minutes_open"], row["minutes_in_hours"])
        for row in found["utilisation_per_office"]
    ] == [("1", 2, 120, 90)]
    assert found["booked_per_office"] == [{"office_number": "1", "booked": 3}]


async def test_overrides_are_overbooked_and_never_make_more_than_all(database: Database) -> None:
    await set_hours(database, weekly("[[540, 570]]"))
    events = [
        *life(BOOKED, number=1),
        *life(BOOKED, number=2, override=True),
        *life(BOOKED, number=3, override=True, date_time=NINE.replace(hour=22)),
        # Two that stand at one time, as long as the move of one of them is not known.
        *life(BOOKED, number=4),
    ]
    await log_events(database, events)
    await recording(database, messages(events))
    found: Any = await report(database, Days())
    assert found["utilisation_per_office"] == [
        {
            "office_number": "1",
            "minutes": 120,
            "days": 1,
            "utilisation": 1.0,
            "minutes_open": 30,
            "minutes_in_hours": 60,
            "overbooked_minutes": 60,
        }
    ]
