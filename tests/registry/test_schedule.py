"""Hours, closures, openings and types over HTTP, and what they mean for bookings."""

import datetime
import itertools
from typing import Any

import httpx
import pytest

from tests.process.clinic import ClinicProcess
from tests.registry.test_resources import new_name

# A Monday of a year of its own for each test of this clinic, which many share.
YEARS = itertools.cycle(range(2040, 2190))
WORK = [{"opens": "09:00", "closes": "13:00"}, {"opens": "14:00", "closes": "18:00"}]


def a_monday() -> str:
    first = datetime.date(next(YEARS), 1, 1)
    return (first + datetime.timedelta(days=-first.weekday() % 7)).isoformat()


def post(clinic: ClinicProcess, path: str, status: int = 201, **sent: Any) -> Any:
    answer = clinic.http.post(path, json=sent)
    assert answer.status_code == status, answer.text
    return answer.json()


def ask(clinic: ClinicProcess, day: str, time: str, **fields: Any) -> httpx.Response:
    """Ask for an appointment, in an office that nobody else uses unless one is named."""
    sent: dict[str, Any] = {"office_number": new_name("office"), **fields}
    sent["date_time"] = f"{day}T{time}:00"
    return clinic.book(**sent)


def doctor_at_work(clinic: ClinicProcess, **week: object) -> str:
    """Return a new doctor who works on Mondays, with a lunch break."""
    name = new_name("doctor")
    post(clinic, "/doctor", name=name)
    post(clinic, "/hours", doctor_name=name, week=week or {"monday": WORK})
    return name


@pytest.mark.parametrize(
    ("time", "minutes", "status"),
    [
        ("09:00", 15, 201),
        ("12:45", 15, 201),
        ("12:46", 15, 409),
        ("13:00", 60, 409),
        ("08:59", 15, 409),
        ("14:00", 240, 201),
        ("12:00", 180, 409),
        ("18:00", 15, 409),
    ],
)
def test_an_appointment_is_within_the_hours_of_its_doctor(
    clinic: ClinicProcess, time: str, minutes: int, status: int
) -> None:
    doctor, day = doctor_at_work(clinic), a_monday()
    answer = ask(clinic, day, time, doctor_name=doctor, duration_minutes=minutes)
    assert answer.status_code == status
    if status == 409:
        problem = answer.json()
        assert problem["type"] == "/docs#closed"
        (closed,) = problem["closed"]
        assert closed["what"] == "doctor"
        assert closed["hours"] == [
            {"begins": f"{day}T09:00:00", "ends": f"{day}T13:00:00"},
            {"begins": f"{day}T14:00:00", "ends": f"{day}T18:00:00"},
        ]
        free = problem["free_times"]
        assert len(free) == 3
        for offered in free:
            taken = clinic.book(
                office_number=new_name("office"),
                doctor_name=doctor,
                date_time=offered,
                duration_minutes=minutes,
            )
            assert taken.status_code == 201, offered


def test_hours_hold_from_one_day_to_another(clinic: ClinicProcess) -> None:
    name = new_name("doctor")
    post(clinic, "/doctor", name=name)
    made = post(
        clinic,
        "/hours",
        doctor_name=name,
        valid_from="2031-01-06",
        valid_until="2031-01-06",
        week={"monday": WORK},
    )
    for day, status in (("2031-01-05", 201), ("2031-01-06", 409), ("2031-01-07", 201)):
        assert ask(clinic, day, "08:00", doctor_name=name).status_code == status
    refused = post(
        clinic, "/hours", 409, doctor_name=name, valid_from="2031-01-01", week={"friday": WORK}
    )
    assert (refused["type"], refused["id"]) == ("/docs#hours-overlap", made["id"])
    changed = clinic.http.patch(f"/hours/{made['id']}", json={"valid_until": None})
    assert changed.json() == made | {"valid_until": None}
    assert ask(clinic, "2031-01-13", "08:00", doctor_name=name).status_code == 409
    assert clinic.http.delete(f"/hours/{made['id']}").status_code == 204
    assert ask(clinic, "2031-01-13", "08:00", doctor_name=name).status_code == 201
    assert clinic.http.delete(f"/hours/{made['id']}").status_code == 404


def test_a_doctor_is_in_one_office_on_one_day_and_in_another_on_the_next(
    clinic: ClinicProcess,
) -> None:
    here, there = new_name("office"), new_name("office")
    for name in (here, there):
        post(clinic, "/office", name=name)
    doctor = doctor_at_work(
        clinic,
        monday=[{"opens": "09:00", "closes": "18:00", "office_number": here}],
        tuesday=[{"opens": "09:00", "closes": "18:00", "office_number": there}],
    )
    for day, office, status in (
        ("2031-01-06", here, 201),
        ("2031-01-06", there, 409),
        ("2031-01-07", here, 409),
        ("2031-01-07", there, 201),
        ("2031-01-08", here, 409),
    ):
        answer = ask(clinic, day, "10:00", office_number=office, doctor_name=doctor)
        assert answer.status_code == status, (day, office)


def test_nothing_is_booked_in_a_closure_but_on_purpose(clinic: ClinicProcess) -> None:
    office, day = new_name("office"), a_monday()
    post(clinic, "/office", name=office)
    before = ask(clinic, day, "10:00", office_number=office).json()["id"]
    gone = ask(clinic, day, "11:00", office_number=office).json()["id"]
    clinic.http.delete(f"/appointment/{gone}")
    made = post(
        clinic,
        "/closure",
        office_number=office.upper(),
        begins=f"{day}T09:00:00",
        ends=f"{day}T12:00:00",
        reason="painters",
    )
    assert made["office_number"] == office
    assert [one["id"] for one in made["appointments"]] == [before]
    assert clinic.http.get(f"/appointment/{before}").json()["status"] == "booked"
    refused = ask(clinic, day, "11:00", office_number=office)
    assert refused.status_code == 409
    (closed,) = refused.json()["closed"]
    assert (closed["what"], closed["reason"]) == ("office", "painters")
    assert refused.json()["free_times"][0] == f"{day}T12:00:00"
    over = ask(clinic, day, "11:00", office_number=office, override=True, reason="an emergency")
    assert over.status_code == 201
    later = ask(clinic, day, "12:00", office_number=office)
    assert later.status_code == 201
    moved = clinic.http.patch(later.headers["Location"], json={"date_time": f"{day}T09:00:00"})
    assert (moved.status_code, moved.json()["type"]) == (409, "/docs#closed")
    reopened = clinic.http.patch(f"/appointment/{gone}", json={"status": "booked"})
    assert (reopened.status_code, reopened.json()["type"]) == (409, "/docs#closed")
    assert clinic.http.delete(f"/closure/{made['id']}").status_code == 204
    assert clinic.http.patch(f"/appointment/{gone}", json={"status": "booked"}).status_code == 409
    assert ask(clinic, day, "09:00", office_number=office).status_code == 201


def test_what_stands_in_the_book_is_confirmed_again_when_it_is_closed(
    clinic: ClinicProcess,
) -> None:
    """Whoever did not get the answer sends the same again."""
    office, day = new_name("office"), a_monday()
    sent = {"office_number": office, "date_time": f"{day}T10:00:00", "patient_name": "a"}
    key = office.replace(" ", "-")
    first = clinic.http.post("/appointment", json=sent, headers={"Idempotency-Key": key})
    assert first.status_code == 201
    whole: dict[str, Any] = {"begins": f"{day}T00:00:00", "ends": f"{day}T23:59:00", "reason": "r"}
    post(clinic, "/closure", office_number=office, **whole)
    assert clinic.http.post("/appointment", json=sent).json() == first.json()
    for used in (key, key + "-again"):
        again = clinic.http.post("/appointment", json=sent, headers={"Idempotency-Key": used})
        assert again.json() == first.json()
    clinic.http.delete(first.headers["Location"])
    again = clinic.http.post("/appointment", json=sent, headers={"Idempotency-Key": key})
    assert again.json() == first.json()


def test_an_opening_opens_against_the_weekly_hours(clinic: ClinicProcess) -> None:
    doctor = doctor_at_work(clinic)
    day = "2032-01-06"  # a Tuesday
    assert ask(clinic, day, "10:00", doctor_name=doctor).status_code == 409
    span: dict[str, Any] = {"begins": f"{day}T10:00:00", "ends": f"{day}T11:00:00"}
    made = post(clinic, "/opening", doctor_name=doctor, **span)
    assert ask(clinic, day, "10:00", doctor_name=doctor).status_code == 201
    assert ask(clinic, day, "10:50", doctor_name=doctor).status_code == 409
    assert made in clinic.http.get("/opening").json()
    assert clinic.http.delete(f"/closure/{made['id']}").status_code == 404
    assert clinic.http.delete(f"/opening/{made['id']}").status_code == 204
    assert ask(clinic, day, "10:30", doctor_name=doctor).status_code == 409


def test_a_type_says_how_long_and_its_buffers_keep_others_away(clinic: ClinicProcess) -> None:
    office, name = new_name("office"), new_name("type")
    made = post(
        clinic,
        "/appointment-type",
        name=name,
        duration_minutes=30,
        buffer_before_minutes=5,
        buffer_after_minutes=10,
        colour="#3366CC",
    )
    assert made["colour"] == "#3366cc"
    day = a_monday()
    first = ask(clinic, day, "10:00", office_number=office, appointment_type=name.upper())
    record = clinic.http.get(first.headers["Location"]).json()
    assert (record["duration_minutes"], record["appointment_type"]) == (30, name)
    for time, status in (("09:45", 409), ("10:30", 409), ("10:39", 409)):
        assert ask(clinic, day, time, office_number=office).status_code == status
    refused = ask(clinic, day, "10:30", office_number=office).json()
    (conflict,) = refused["conflicts"]
    assert conflict["occupied_from"] == f"{day}T09:55:00"
    assert conflict["occupied_until"] == f"{day}T10:40:00"
    assert refused["free_times"][0] == f"{day}T10:40:00"
    assert ask(clinic, day, "09:40", office_number=office).status_code == 201
    assert ask(clinic, day, "10:40", office_number=office).status_code == 201
    longer = ask(clinic, day, "12:00", appointment_type=name, duration_minutes=45)
    assert clinic.http.get(longer.headers["Location"]).json()["duration_minutes"] == 45


def test_a_type_is_offered_by_those_who_offer_it(clinic: ClinicProcess) -> None:
    doctor, other, name = new_name("doctor"), new_name("doctor"), new_name("type")
    for one in (doctor, other):
        post(clinic, "/doctor", name=one)
    made = post(
        clinic, "/appointment-type", name=name, duration_minutes=20, doctors=[doctor.upper()]
    )
    assert made["doctors"] == [doctor]
    day = a_monday()
    assert ask(clinic, day, "10:00", doctor_name=doctor, appointment_type=name).status_code == 201
    refused = ask(clinic, day, "10:00", doctor_name=other, appointment_type=name)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "#/doctor_name"
    unknown = ask(clinic, day, "11:00", appointment_type="nothing like it")
    assert unknown.json()["errors"][0]["pointer"] == "#/appointment_type"
    path = f"/appointment-type/{made['id']}"
    assert clinic.http.patch(path, json={"doctors": None}).json()["doctors"] is None
    assert ask(clinic, day, "10:00", doctor_name=other, appointment_type=name).status_code == 201
    assert clinic.http.patch(path, json={"active": False}).status_code == 200
    gone = ask(clinic, day, "12:00", doctor_name=other, appointment_type=name)
    assert (gone.status_code, gone.json()["type"]) == (409, "/docs#not-in-use")
    again = clinic.http.post(
        "/appointment-type", json={"name": name.lower(), "duration_minutes": 5}
    )
    assert (again.status_code, again.json()["id"]) == (409, made["id"])


@pytest.mark.parametrize(
    ("path", "sent", "pointer"),
    [
        (
            "/hours",
            {"week": {"monday": [{"opens": "10:00", "closes": "09:00"}]}},
            "#/week/monday/0",
        ),
        ("/hours", {"week": {"monday": [WORK[1], WORK[0]]}}, "#/week/monday"),
        (
            "/hours",
            {"week": {"monday": [{"opens": "9", "closes": "10:00"}]}},
            "#/week/monday/0/opens",
        ),
        ("/hours", {"week": {"funday": []}}, "#/week/funday"),
        ("/hours", {}, "#/week"),
        ("/hours", {"week": {}, "valid_from": "2031-01-02", "valid_until": "2031-01-01"}, "#"),
        ("/hours", {"week": {}, "office_number": "1", "doctor_name": "a"}, "#"),
        (
            "/hours",
            {"week": {"monday": [WORK[0], {"opens": "12:00", "closes": "14:00"}]}},
            "#/week/monday",
        ),
        ("/hours", {"week": {"monday": [WORK[0], WORK[0]]}}, "#/week/monday"),
        (
            "/hours",
            {"week": {"monday": [{"opens": "09:00", "closes": "24:01"}]}},
            "#/week/monday/0/closes",
        ),
        ("/hours", {"week": {"monday": WORK * 13}}, "#/week/monday"),
        ("/hours", {"week": {"monday": {}}}, "#/week/monday"),
        ("/hours", {"week": {"monday": [None]}}, "#/week/monday/0"),
        ("/hours", {"week": []}, "#/week"),
        ("/closure", {"begins": "2031-01-01T10:00:00", "reason": "r"}, "#/ends"),
        ("/closure", {"begins": "2031-01-01T10:00:00", "ends": None, "reason": "r"}, "#/ends"),
        ("/closure", {"begins": "2031-01-01", "ends": "2031-01-02", "reason": "r"}, "#/begins"),
        (
            "/closure",
            {"begins": "2031-03-30T02:30:00", "ends": "2031-03-30T10:00:00", "reason": "r"},
            "#/begins",
        ),
        (
            "/closure",
            {"begins": "2031-01-01T10:00:00", "ends": "2031-01-01T09:00:00", "reason": "r"},
            "#",
        ),
        ("/opening", {"begins": "2031-01-01T10:00:00", "ends": "2031-01-01T09:00:00"}, "#"),
        (
            "/closure",
            {"begins": "2031-01-01T10:00:00", "ends": "2031-01-01T10:00:00", "reason": "r"},
            "#",
        ),
        ("/closure", {"begins": "2031-01-01T10:00:00", "ends": "2031-01-02T00:00:00"}, "#/reason"),
        ("/appointment-type", {"name": "x", "duration_minutes": 0}, "#/duration_minutes"),
        ("/appointment-type", {"name": "x", "duration_minutes": 1441}, "#/duration_minutes"),
        ("/appointment-type", {"duration_minutes": 5}, "#/name"),
        (
            "/appointment-type",
            {"name": "x", "duration_minutes": 5, "buffer_after_minutes": -1},
            "#/buffer_after_minutes",
        ),
        ("/appointment-type", {"name": "x", "duration_minutes": 5, "colour": "red"}, "#/colour"),
    ],
)
def test_a_wrong_schedule_is_named(
    clinic: ClinicProcess, path: str, sent: dict[str, Any], pointer: str
) -> None:
    before = clinic.http.get(path).json()
    refused = clinic.http.post(path, json=sent)
    assert refused.status_code == 422
    errors = {one["pointer"]: one["detail"] for one in refused.json()["errors"]}
    assert pointer in errors, refused.text
    # For whoever filled it in, and no words of pydantic's.
    assert not [one for one in errors.values() if "nput" in one or "List" in one]
    assert clinic.http.get(path).json() == before


def test_hours_do_not_end_before_they_begin(clinic: ClinicProcess) -> None:
    name = new_name("doctor")
    post(clinic, "/doctor", name=name)
    first: dict[str, Any] = {"doctor_name": name, "valid_from": "2031-01-06"}
    made = post(clinic, "/hours", **first, week={"monday": WORK})
    path = f"/hours/{made['id']}"
    refused = clinic.http.patch(path, json={"valid_until": "2031-01-05"})
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["pointer"] == "#/valid_until"
    assert error["detail"].startswith("must be 2031-01-06")
    for sent, pointer in (({}, "#/valid_until"), ({"valid_until": "soon"}, "#/valid_until")):
        wrong = clinic.http.patch(path, json=sent)
        assert wrong.status_code == 422
        assert pointer in [one["pointer"] for one in wrong.json()["errors"]]
    assert made in clinic.http.get("/hours").json()
    same = clinic.http.patch(path, json={"valid_until": "2031-01-06"})
    assert same.json() == made | {"valid_until": "2031-01-06"}


@pytest.mark.parametrize("text", ["nothing like it", ""])
def test_an_unknown_type_is_refused_wherever_it_is_named(clinic: ClinicProcess, text: str) -> None:
    day, office = a_monday(), new_name("office")
    known = new_name("type")
    post(clinic, "/appointment-type", name=known, duration_minutes=20)
    number = ask(clinic, day, "10:00", office_number=office).json()["id"]
    for answer in (
        ask(clinic, day, "11:00", office_number=office, appointment_type=text),
        clinic.http.patch(f"/appointment/{number}", json={"appointment_type": text}),
        clinic.http.get("/free-time", params={"office_number": office, "appointment_type": text}),
    ):
        assert answer.status_code == 422
        assert [one["pointer"] for one in answer.json()["errors"]] == ["#/appointment_type"]
    found = clinic.http.get("/appointment", params={"office_number": office}).json()
    assert [(one["id"], one["appointment_type"]) for one in found] == [(number, None)]


def test_names_that_nobody_has_are_refused_with_the_nearest(clinic: ClinicProcess) -> None:
    name = new_name("office")
    post(clinic, "/office", name=name)
    refused = clinic.http.post(
        "/hours", json={"office_number": name + "0", "week": {"monday": WORK}}
    )
    assert (refused.status_code, refused.json()["type"]) == (422, "/docs#not-registered")
    assert name in refused.json()["nearest"]


def merge(clinic: ClinicProcess, kind: str, source: str, into: str) -> None:
    ids = {one["name"]: one["id"] for one in clinic.http.get(f"/{kind}").json()}
    answer = clinic.http.patch(f"/{kind}/{ids[source]}", json={"merged_into": ids[into]})
    assert answer.status_code == 200, answer.text


def test_a_merge_takes_closures_and_hours_along(clinic: ClinicProcess) -> None:
    source, into, doctor = new_name("office"), new_name("office"), new_name("doctor")
    for kind, name in (("office", source), ("office", into), ("doctor", doctor)):
        post(clinic, f"/{kind}", name=name)
    in_source = [{**WORK[0], "office_number": source}]
    post(clinic, "/hours", doctor_name=doctor, week={"monday": in_source})
    post(clinic, "/hours", office_number=source, week={"monday": WORK})
    day = a_monday()
    painted: dict[str, Any] = {
        "begins": f"{day}T09:00:00",
        "ends": f"{day}T10:00:00",
        "reason": "painters",
    }
    post(clinic, "/closure", office_number=source, **painted)
    merge(clinic, "office", source, into)
    there = {"office_number": into, "doctor_name": doctor}
    assert ask(clinic, day, "09:30", **there).status_code == 409  # painters
    assert ask(clinic, day, "10:30", **there).status_code == 201  # where the doctor is now
    assert ask(clinic, day, "13:30", office_number=into).status_code == 409  # lunch


def test_the_hours_of_the_one_that_is_left_hold_after_a_merge(clinic: ClinicProcess) -> None:
    source, into = new_name("doctor"), doctor_at_work(clinic)
    post(clinic, "/doctor", name=source)
    post(clinic, "/hours", doctor_name=source, week={"tuesday": WORK})
    merge(clinic, "doctor", source, into)
    hours = [one for one in clinic.http.get("/hours").json() if one["doctor_name"] == into]
    assert [bool(one["week"]["monday"]) for one in hours] == [True]
