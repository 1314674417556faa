"""Free times: whatever is offered can be booked, and the earliest comes first."""

import datetime
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinic.appointments.desk import Desk
from clinic.appointments.requests import Booking
from clinic.appointments.search import FreeTimeSearch
from clinic.database import Database, Dialect, open_database
from clinic.registry.queries import begin_change, insert_exceptional, insert_type, insert_week
from clinic.registry.records import AppointmentType
from clinic.registry.timetable import Exceptional, Hours, Place, Week
from clinic.registry.wall_clock import exists
from tests.appointments.desks import ZONE, desk_on, writing
from tests.process.clinic import ClinicProcess
from tests.registry.test_resources import new_name

# Around a night in which the clocks of Berlin go forward.
FIRST = datetime.date(2040, 3, 23)
LAST = datetime.date(2040, 3, 29)
MINUTE = datetime.timedelta(minutes=1)


def search(**wanted: Any) -> FreeTimeSearch:
    days = {"from": FIRST.isoformat(), "to": LAST.isoformat()}
    return FreeTimeSearch.model_validate(
        days | {name: str(value) for name, value in wanted.items()}
    )


def booking(desk: Desk, **sent: Any) -> Any:
    return Booking.read({"patient_name": "a", **sent}, desk.zone).wanted()


quarters = st.integers(0, 95).map(lambda number: number * 15)
hours = st.tuples(quarters, quarters).map(sorted).filter(lambda span: span[0] < span[1])
moments = st.integers(0, 7 * 96).map(
    lambda number: datetime.datetime.combine(FIRST, datetime.time()) + number * 15 * MINUTE
)
real_moments = moments.filter(lambda moment: exists(moment, ZONE))
spans = st.tuples(moments, moments).map(sorted).filter(lambda span: span[0] < span[1])
places = st.sampled_from([Place(), Place(1), Place(None, 3), Place(2, 4)])
REGISTRIES = st.fixed_dictionaries(
    {
        "weeks": st.dictionaries(
            st.sampled_from([Place(), Place(1), Place(None, 3)]),
            st.lists(hours, min_size=7, max_size=7),
            max_size=2,
        ),
        "exceptions": st.lists(st.tuples(places, st.booleans(), spans), max_size=4),
        "taken": st.lists(
            st.tuples(st.sampled_from(["A", "B"]), st.sampled_from(["x", "y", None]), real_moments),
            max_size=6,
        ),
        "buffers": st.tuples(st.sampled_from([0, 10]), st.sampled_from([0, 25])),
        "minutes": st.sampled_from([15, 50, 300]),
        "step": st.sampled_from([None, 15, 40]),
        "office": st.sampled_from([None, "A", "b"]),
        "doctor": st.sampled_from([None, "X", "y"]),
    }
)


async def arranged(database: Database, registry: dict[str, Any]) -> Desk:
    """Return a desk of a clinic with two offices and two doctors, and what is drawn for it."""
    desk = desk_on(database)
    async with writing(desk):
        for office, doctor in (("A", "x"), ("B", "y")):
            sent = {"office_number": office, "doctor_name": doctor}
            await desk.book(booking(desk, date_time="2030-01-01T10:00:00", **sent))
        for office, doctor, time in registry["taken"]:
            sent = {"office_number": office, "date_time": time.isoformat()}
            doctors = {} if doctor is None else {"doctor_name": doctor}
            override = {"override": True, "reason": "r", "duration_minutes": 40}
            await desk.book(booking(desk, **sent, **doctors, **override))
    before, after = registry["buffers"]
    kind = AppointmentType(0, "t", True, registry["minutes"], before, after, None, None, None)
    async with database.transaction() as connection:
        await begin_change(connection)
        await insert_type(connection, kind, "t")
        for place, days in registry["weeks"].items():
            week = tuple((Hours(*span),) for span in days)
            await insert_week(connection, Week(0, place, None, None, week))
        for place, opens, (begins, ends) in registry["exceptions"]:
            one = Exceptional(0, place, opens, begins, ends, "r")
            await insert_exceptional(connection, one)
    return desk


@pytest.mark.parametrize("dialect", list(Dialect))
def test_what_is_offered_can_be_booked(
    dialect: Dialect, make_database: Callable[[Dialect], str]
) -> None:
    url = make_database(dialect)

    @settings(
        max_examples=25, suppress_health_check=list(HealthCheck), derandomize=True, database=None
    )
    @given(registry=REGISTRIES)
    def check(registry: dict[str, Any]) -> None:
        anyio.run(offered_and_booked, url, registry)

    check()


async def offered_and_booked(url: str, registry: dict[str, Any]) -> None:
    async with open_database(url) as database:
        await clear(database)
        desk = await arranged(database, registry)
        named = {"office_number": registry["office"], "doctor_name": registry["doctor"]}
        names = {name: value for name, value in named.items() if value is not None}
        step = {} if registry["step"] is None else {"step_minutes": registry["step"]}
        found = await desk.free_times(search(appointment_type="t", limit=8, **names, **step))
        assert found == sorted(found, key=lambda one: one.date_time)
        for one in found:
            # Each on its own: two of them may be of one doctor.
            other = desk_on(database)
            async with writing(other):
                sent: dict[str, Any] = {"office_number": one.office_number}
                if one.doctor_name is not None:
                    sent["doctor_name"] = one.doctor_name
                made = await other.book(
                    booking(
                        other, date_time=one.date_time.isoformat(), appointment_type="t", **sent
                    )
                )
                await other.cancel(made.appointment_id, lambda _: True)
        every_minute = await desk.free_times(
            search(appointment_type="t", step_minutes=1, limit=1, **names)
        )
        first = [one.date_time for one in every_minute]
        if registry["step"] is None:
            assert [one.date_time for one in found[:1]] == first


async def clear(database: Database) -> None:
    async with database.transaction() as connection:
        for table in ("exceptional_hours", "weekly_hours", "appointment_type"):
            await connection.execute(f"delete from {table}")
        await connection.execute("update appointment set status = 'cancelled'")


def test_the_next_free_times_of_a_doctor(clinic: ClinicProcess) -> None:
    doctor, office = new_name("doctor"), new_name("office")
    for kind, name in (("doctor", doctor), ("office", office)):
        assert clinic.http.post(f"/{kind}", json={"name": name}).status_code == 201
    week = {"monday": [{"opens": "09:00", "closes": "10:00"}]}
    assert clinic.http.post("/hours", json={"doctor_name": doctor, "week": week}).status_code == 201
    asked = {"doctor_name": doctor, "office_number": office, "from": "2041-03-01"}
    found = clinic.http.get("/free-time", params={**asked, "duration_minutes": "30"}).json()
    assert [one["date_time"] for one in found[:3]] == [
        "2041-03-04T09:00:00",
        "2041-03-04T09:30:00",
        "2041-03-11T09:00:00",
    ]
    assert found[0] == {
        "date_time": "2041-03-04T09:00:00",
        "end_time": "2041-03-04T09:30:00",
        "office_number": office,
        "doctor_name": doctor,
    }
    few = {**asked, "duration_minutes": "30", "step_minutes": "20", "limit": "2"}
    found = clinic.http.get("/free-time", params=few).json()
    assert [one["date_time"][11:16] for one in found] == ["09:00", "09:20"]


@pytest.mark.parametrize(
    ("query", "status", "pointer"),
    [
        ({"from": "2041-01-01", "to": "2041-04-03"}, 422, "#"),
        ({"limit": "0"}, 422, "#/limit"),
        ({"duration_minutes": "1441"}, 422, "#/duration_minutes"),
        ({"step_minutes": "x"}, 422, "#/step_minutes"),
        ({"appointment_type": "nothing"}, 422, "#/appointment_type"),
        ({"doctors": "x"}, 422, "#"),
    ],
)
def test_a_wrong_question_is_named(
    clinic: ClinicProcess, query: dict[str, str], status: int, pointer: str
) -> None:
    refused = clinic.http.get("/free-time", params=query)
    assert refused.status_code == status
    assert pointer in [one["pointer"] for one in refused.json()["errors"]]


def test_free_times_of_nobody_are_refused_with_the_nearest_names(clinic: ClinicProcess) -> None:
    name = new_name("doctor")
    clinic.http.post("/doctor", json={"name": name})
    refused = clinic.http.get("/free-time", params={"doctor_name": name + "7"})
    assert (refused.status_code, refused.json()["type"]) == (422, "/docs#not-registered")
    assert name in refused.json()["nearest"]


def test_times_that_are_past_are_not_offered(clinic: ClinicProcess) -> None:
    asked = {"from": "2020-01-01", "to": "2020-01-31", "office_number": new_name("office")}
    clinic.http.post("/office", json={"name": asked["office_number"]})
    assert clinic.http.get("/free-time", params=asked).json() == []
