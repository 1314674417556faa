"""Analytics: each event once, and every number equal to a recount of what was booked."""

import collections
import datetime
import math
import random
import zoneinfo
from collections.abc import Sequence

import pytest

from clinic.analytics.queries import Days
from clinic.analytics.recording import Ledger
from clinic.analytics.report import WEEKDAYS, report
from clinic.database import Database
from clinic.events import AppointmentFacts, Event, tell
from clinic.messaging.message import Message, Unreadable

pytestmark = pytest.mark.anyio

ZONE = zoneinfo.ZoneInfo("Europe/Berlin")


def booked(seed: int, count: int) -> list[Event]:
    chance = random.Random(seed)
    now = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    return [
        tell(
            "appointment.booked",
            AppointmentFacts(
                appointment_id=number,
                office_number=chance.choice(["1", "2", "221Б"]),
                doctor_name=chance.choice([None, "Доктор Ватсон"]),
                date_time=datetime.datetime(2026, 3, 1)
                + datetime.timedelta(minutes=chance.randrange(60 * 24 * 60)),
                time_zone=ZONE.key,
                duration_minutes=15,
            ),
            now + datetime.timedelta(minutes=chance.randrange(60 * 24 * 60)),
        )
        for number in range(1, count + 1)
    ]


def messages(events: Sequence[Event]) -> list[Message]:
    return [event.message() for event in events]


def nearest_rank(values: Sequence[int], percent: int) -> int | None:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1] if values else None


def recount(events: Sequence[Event], days: Days) -> dict[str, object]:
    """Count again, in the plainest way."""
    chosen = [event for event in events if days.first <= event.data.date_time.date() <= days.last]
    times = [event.data.date_time for event in chosen]
    lead = [
        int((event.data.date_time.replace(tzinfo=ZONE) - event.time).total_seconds() // 60)
        for event in chosen
    ]
    per_day = collections.Counter(time.date().isoformat() for time in times)
    per_office = collections.Counter(event.data.office_number for event in chosen)
    per_hour = collections.Counter((time.weekday(), time.hour) for time in times)
    return {
        "totals": {"booked": len(chosen)},
        "booked_per_day": [{"day": day, "booked": n} for day, n in sorted(per_day.items())],
        "booked_per_office": [
            {"office_number": office, "booked": n} for office, n in sorted(per_office.items())
        ],
        "booked_per_hour_of_week": [
            {"weekday": WEEKDAYS[weekday], "hour": hour, "booked": n}
            for (weekday, hour), n in sorted(per_hour.items())
        ],
        "lead_time_minutes": {"median": nearest_rank(lead, 50), "p90": nearest_rank(lead, 90)},
    }


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 500])
async def test_the_numbers_equal_a_recount(database: Database, count: int) -> None:
    events = booked(seed=count, count=count)
    await Ledger(database).record(messages(events))
    for days in (
        Days(),
        Days(datetime.date(2026, 3, 10), datetime.date(2026, 4, 2)),
        Days(first=datetime.date(2026, 4, 1)),
        Days(last=datetime.date(2026, 3, 29)),
    ):
        assert (await report(database, days)).items() >= recount(events, days).items()


async def test_whatever_is_delivered_twice_is_counted_once(database: Database) -> None:
    events = booked(seed=1, count=100)
    chance = random.Random(1)
    ledger = Ledger(database)
    for _ in range(10):
        await ledger.record(messages(chance.choices(events, k=50)))
    await ledger.record(messages(chance.sample(events, k=100)))
    assert (await report(database, Days())).items() >= recount(events, Days()).items()


async def test_a_batch_with_an_unreadable_message_records_nothing(database: Database) -> None:
    good = messages(booked(seed=2, count=3))
    with pytest.raises(Unreadable):
        await Ledger(database).record([*good, Message("", "", "", "{}")])
    assert (await report(database, Days()))["totals"] == {"booked": 0}
