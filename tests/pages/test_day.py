"""A day worked out: where blocks stand, what is free and closed, and what a full one weighs."""

import dataclasses
import datetime
import gzip
import time
import zoneinfo
from collections.abc import Sequence
from typing import Any, cast

import pytest
from starlette.requests import Request

from clinic.access.guard import ANYONE
from clinic.appointments.appointment import EXAMPLE, Appointment
from clinic.appointments.day import Day, Staff
from clinic.appointments.desk import Desk
from clinic.events import Status
from clinic.pages.day import ORDER, Board, Looking, lay_out
from clinic.pages.front import Front
from clinic.pages.live import Feed
from clinic.registry.memory import Rules
from clinic.registry.records import Resource
from clinic.registry.timetable import CLINIC, Exceptional, Hours, Place, Timetable
from clinic.web.callers import CALLER

DATE = datetime.date(2027, 12, 1)
NOW = datetime.datetime(2027, 12, 1, 10, 7)
MINUTE = datetime.timedelta(minutes=1)
OFFICES = [Resource(n, "office", f"{100 + n}", True, None) for n in range(1, 31)]
DOCTORS = [Resource(n, "doctor", f"Др. Врач {n}", True, None) for n in range(101, 131)]

# A page of 30 offices and 1,000 appointments takes at most this on the server.
MOST_SECONDS = 0.05
MOST_BYTES = 300_000
MOST_COMPRESSED_BYTES = 40_000


def at(hour: int, minute: int = 0) -> datetime.datetime:
    return datetime.datetime(2027, 12, 1, hour, minute)


def made(number: int, begins: datetime.datetime, minutes: int = 15, **fields: Any) -> Appointment:
    ends = begins + minutes * MINUTE
    times = {"date_time": begins, "end_time": ends, "occupied_from": begins}
    return dataclasses.replace(
        EXAMPLE,
        **{
            "id": number,
            "duration_minutes": minutes,
            **times,
            "occupied_until": ends,
            "doctor_id": None,
            **fields,
        },
    )


def a_day(
    appointments: Sequence[Appointment],
    offices: Sequence[Resource] = OFFICES[:2],
    timetable: Timetable | None = None,
    since: dict[int, datetime.datetime] | None = None,
) -> Day:
    rules = Rules(1, timetable or Timetable([], []), {})
    staff = Staff(offices, DOCTORS, [])
    return Day(DATE, appointments, since or {}, staff, rules, Hours(8 * 60, 12 * 60))


def board(day: Day, **looking: Any) -> Board:
    given = {"by": "office", "now": NOW, "step_minutes": 15, "alarm_minutes": 20, **looking}
    return lay_out(day, Looking(**given))


def test_blocks_stand_at_their_times_and_overlaps_side_by_side() -> None:
    found = board(
        a_day(
            [
                made(1, at(9)),
                made(2, at(9, 5), 40, override_reason="pain"),
                made(3, at(9, 15), 20),
                made(4, at(11, 53), 7, office_id=2),
            ]
        )
    )
    first, second = found.columns
    assert [block.place for block in first.blocks] == [
        "h9 m0 H9 M15 l0 of2",
        "h9 m5 H9 M45 big l1 of2",
        "h9 m15 H9 M35 l0 of2",
    ]
    assert [block.place for block in second.blocks] == ["h11 m53 H12 M0"]
    assert (found.first_hour, found.last_hour, found.zoom) == (8, 12, 5)
    assert found.now == "h10 m7"


def test_free_is_what_is_open_not_taken_and_not_past() -> None:
    closure = Exceptional(1, Place(office_id=1), False, at(11), at(11, 30), "cleaning")
    day = a_day(
        [made(1, at(10, 30)), made(2, at(11, 30), status="cancelled")],
        timetable=Timetable([], [closure]),
    )
    first, second = board(day).columns
    assert [one.time for one in first.free] == ["10:00", "10:15", "10:45", "11:30", "11:45"]
    assert first.shades == ["h11 m0 H11 M30"]
    assert first.reason == "cleaning"
    assert [one.time for one in second.free][:2] == ["10:00", "10:15"]
    assert not board(day, now=NOW + datetime.timedelta(days=1)).columns[0].free
    # What is to be moved is no obstacle to itself.
    moving = board(day, moving=day.appointments[0]).columns[0]
    assert "10:30" in [one.time for one in moving.free]
    assert [column.id for column in board(day, only=frozenset({2})).columns] == [2]


def test_where_patients_are() -> None:
    ways: list[tuple[Status, datetime.datetime, str]] = [
        ("booked", at(10, 8), "booked"),
        ("booked", at(10, 6), "late"),
        ("arrived", at(10, 6), "arrived"),
        ("in_room", at(9), "in_room"),
        ("done", at(9), "done"),
        ("no_show", at(9), "no_show"),
        ("cancelled", at(9), "cancelled"),
    ]
    day = a_day(
        [made(n, when, status=status) for n, (status, when, _) in enumerate(ways)],
        since={2: NOW - 25 * MINUTE, 3: NOW - 5 * MINUTE},
    )
    found = board(day)
    assert found.counts == {state: 1 for *_, state in ways}
    assert not found.groups["cancelled"]
    assert board(day, cancelled=True).groups["cancelled"]
    (waiting,) = found.groups["arrived"]
    assert (waiting.minutes, waiting.alarm, waiting.step) == (25, True, "in_room")
    (inside,) = found.groups["in_room"]
    assert (inside.minutes, inside.alarm, inside.step) == (5, False, "done")
    # The day after, whoever has no outcome is asked for one, and nobody waits any more.
    after = board(day, now=NOW + datetime.timedelta(days=1))
    assert after.counts["open"] == 4
    assert after.groups["open"][2].minutes is None
    # The day before, nobody arrives.
    before = board(day, now=NOW - datetime.timedelta(days=1))
    assert {block.step for block in before.groups["booked"]} == {None}


def test_what_lasts_beyond_midnight_ends_with_its_day() -> None:
    found = board(
        a_day([made(1, at(0) - 30 * MINUTE, 60), made(2, at(23, 30), 60)]),
        now=NOW - datetime.timedelta(days=1),
    )
    assert [block.place for block in found.columns[0].blocks] == [
        "h0 m0 H0 M30 tall",
        "h23 m30 H24 M0 tall",
    ]
    assert (found.first_hour, found.last_hour) == (0, 24)


def test_a_day_of_a_clinic_that_is_closed() -> None:
    closure = Exceptional(1, CLINIC, False, at(0), at(0) + datetime.timedelta(days=1), "holiday")
    found = board(a_day([], timetable=Timetable([], [closure])))
    assert [column.reason for column in found.columns] == ["holiday", "holiday"]
    assert not any(column.free for column in found.columns)


def full_day() -> Day:
    names = ("Иванов Мария", "Константинопольская Екатерина", "Holmes Sherlock", "Ли Анна")
    statuses: tuple[Status, ...] = ("booked", "booked", "arrived", "done")
    appointments = [
        made(
            10_000 + n,
            at(8) + 20 * (n // 30) * MINUTE,
            office_id=OFFICES[n % 30].id,
            office_number=OFFICES[n % 30].name,
            doctor_id=DOCTORS[n % 30].id,
            doctor_name=DOCTORS[n % 30].name,
            patient_name=names[n % 4],
            patient_phone="+7 916 123-45-67",
            appointment_type="Повторный приём",
            note="принести снимки" if n % 5 == 0 else None,
            status=statuses[(n // 7) % 4],
        )
        for n in range(1000)
    ]
    return a_day(appointments, OFFICES)


async def no_sign_in(_request: Request, _secret: str) -> str | None:
    return None


class Fixed(Front):
    """A front desk whose clock stands still."""

    def now(self) -> datetime.datetime:
        return NOW


class NoDesk:
    zone = zoneinfo.ZoneInfo("UTC")


@pytest.mark.alone
@pytest.mark.parametrize("view", ["grid", "list"])
@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_full_day_is_made_in_good_time_and_light(view: str, language: str) -> None:
    front = Fixed(
        cast("Desk", NoDesk()), cast("Feed", None), no_sign_in, step_minutes=15, alarm_minutes=20
    )
    day = full_day()

    def show() -> bytes:
        headers = [(b"accept-language", language.encode()), (b"accept-encoding", b"gzip")]
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "root_path": "",
            CALLER: ANYONE,
        }
        found = board(day)
        response = front.show(
            Request({**scope, "headers": headers}),
            f"{view}.html",
            board=found,
            order=ORDER,
            view=view,
            by="office",
            cancelled=False,
            moving=None,
            position=1,
            today=DATE,
            yesterday=DATE,
            tomorrow=DATE,
            week=[DATE] * 7,
            address=lambda to, **_: f"/day/{to}",
            back=f"/day/{DATE}",
            said=None,
        )
        return bytes(response.body)

    compressed = show()
    seconds = []
    for _ in range(5):
        began = time.process_time()
        show()
        seconds.append(time.process_time() - began)
    assert min(seconds) <= MOST_SECONDS
    assert len(compressed) <= MOST_COMPRESSED_BYTES
    assert len(gzip.decompress(compressed)) <= MOST_BYTES
