"""Offices and doctors over HTTP: registered, renamed, taken out of use, merged."""

import itertools
from typing import Any

import pytest

from tests.process.clinic import ClinicProcess

NUMBERS = itertools.count(1)


@pytest.fixture(params=["office", "doctor"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def new_name(kind: str) -> str:
    """Return a name that nobody has used."""
    return f"{kind} R{next(NUMBERS)}"


def book(clinic: ClinicProcess, kind: str, name: str, time: str = "10:00", **fields: Any) -> int:
    """Book an appointment in an office, or with a doctor in an office of its own."""
    field = {"office": "office_number", "doctor": "doctor_name"}[kind]
    sent: dict[str, Any] = {"office_number": new_name("office"), field: name}
    sent["date_time"] = f"2027-03-01T{time}:00"
    answer = clinic.book(**sent, **fields)
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["id"]
    return number


def named(clinic: ClinicProcess, kind: str, name: str) -> dict[str, object]:
    """Return the record that has a name now."""
    (found,) = [one for one in clinic.http.get(f"/{kind}").json() if one["name"] == name]
    return dict(found)


def shown(clinic: ClinicProcess, kind: str, number: int) -> object:
    field = {"office": "office_number", "doctor": "doctor_name"}[kind]
    return clinic.http.get(f"/appointment/{number}").json()[field]


def test_the_first_booking_registers_a_name(clinic: ClinicProcess, kind: str) -> None:
    name = new_name(kind)
    book(clinic, kind, name)
    record = named(clinic, kind, name)
    assert record == {"id": record["id"], "name": name, "active": True, "merged_into": None}
    assert clinic.http.get(f"/{kind}/{record['id']}").json() == record


def test_a_booking_that_is_refused_registers_nothing(clinic: ClinicProcess) -> None:
    doctor, office = new_name("doctor"), new_name("office")
    book(clinic, "doctor", doctor)
    refused = clinic.book(office_number=office, doctor_name=doctor, date_time="2027-03-01T10:00:00")
    assert refused.status_code == 409
    assert office not in [one["name"] for one in clinic.http.get("/office").json()]


def test_all_ways_of_writing_a_name_are_one(clinic: ClinicProcess, kind: str) -> None:
    name = new_name(kind)
    number = book(clinic, kind, name)
    other = book(clinic, kind, f" №{name.upper()}. ", "11:00")
    assert shown(clinic, kind, number) == shown(clinic, kind, other) == name
    field = {"office": "office_number", "doctor": "doctor_name"}[kind]
    found = clinic.http.get("/appointment", params={field: name.lower().replace(" ", "-")}).json()
    assert [one["id"] for one in found] == [number, other]


def test_a_name_can_be_registered_once(clinic: ClinicProcess, kind: str) -> None:
    name = new_name(kind)
    answer = clinic.http.post(f"/{kind}", json={"name": name})
    assert answer.status_code == 201
    record = answer.json()
    assert answer.headers["Location"] == f"/{kind}/{record['id']}"
    again = clinic.http.post(f"/{kind}", json={"name": name.upper()})
    assert (again.status_code, again.json()["type"]) == (409, "/docs#name-taken")
    assert again.json()["id"] == record["id"]
    book(clinic, kind, name)
    assert named(clinic, kind, name) == record


def test_a_new_name_is_that_of_all_that_is_booked_and_the_old_one_still_means_it(
    clinic: ClinicProcess, kind: str
) -> None:
    old, new = new_name(kind), new_name(kind)
    number = book(clinic, kind, old)
    record = named(clinic, kind, old)
    changed = clinic.http.patch(f"/{kind}/{record['id']}", json={"name": new})
    assert changed.json() == record | {"name": new}
    assert shown(clinic, kind, number) == new
    later = book(clinic, kind, old, "11:00")
    assert shown(clinic, kind, later) == new
    # The name goes back, and is nobody else's.
    assert clinic.http.patch(f"/{kind}/{record['id']}", json={"name": old}).status_code == 200
    assert clinic.http.post(f"/{kind}", json={"name": new}).status_code == 409


def test_a_name_that_another_has_is_refused(clinic: ClinicProcess, kind: str) -> None:
    one, other = new_name(kind), new_name(kind)
    book(clinic, kind, one)
    book(clinic, kind, other)
    refused = clinic.http.patch(f"/{kind}/{named(clinic, kind, one)['id']}", json={"name": other})
    assert refused.status_code == 409
    assert refused.json()["id"] == named(clinic, kind, other)["id"]


def test_what_is_not_in_use_is_booked_no_more_and_what_is_booked_stays(
    clinic: ClinicProcess, kind: str
) -> None:
    name = new_name(kind)
    number = book(clinic, kind, name)
    path = f"/{kind}/{named(clinic, kind, name)['id']}"
    assert clinic.http.patch(path, json={"active": False}).json()["active"] is False
    field = {"office": "office_number", "doctor": "doctor_name"}[kind]
    sent: dict[str, Any] = {"office_number": new_name("office"), field: name}
    sent["date_time"] = "2027-03-01T12:00:00"
    refused = clinic.book(**sent)
    assert (refused.status_code, refused.json()["type"]) == (409, "/docs#not-in-use")
    arrived = clinic.http.patch(f"/appointment/{number}", json={"status": "arrived"})
    assert arrived.status_code == 200
    assert clinic.http.patch(path, json={"active": True}).status_code == 200
    assert clinic.book(**sent).status_code == 201


def test_all_goes_over_with_a_merge(clinic: ClinicProcess, kind: str) -> None:
    source, into = new_name(kind), new_name(kind)
    moved = book(clinic, kind, source)
    over = book(clinic, kind, source, "10:05", override=True, reason="r", patient_name="o")
    stays = book(clinic, kind, into, "11:00")
    path = f"/{kind}/{named(clinic, kind, source)['id']}"
    target = named(clinic, kind, into)
    merged = clinic.http.patch(path, json={"merged_into": target["id"]})
    assert merged.status_code == 200, merged.text
    assert merged.json()["merged_into"] == target["id"]
    assert merged.json()["active"] is False
    assert {shown(clinic, kind, number) for number in (moved, over, stays)} == {into}
    events = clinic.http.get(f"/appointment/{moved}/events").json()
    told = {"office": "appointment.rescheduled", "doctor": "appointment.reassigned"}[kind]
    assert [event["type"] for event in events] == ["appointment.booked", told]
    assert events[-1]["data"][f"{kind}_id"] == target["id"]
    later = book(clinic, kind, source, "12:00")
    assert shown(clinic, kind, later) == into
    for wrong in ({"name": source}, {"merged_into": target["id"]}, {"active": True}):
        assert clinic.http.patch(path, json=wrong).status_code == 422


def test_two_whose_appointments_overlap_are_not_merged(clinic: ClinicProcess, kind: str) -> None:
    source, into = new_name(kind), new_name(kind)
    one, other = book(clinic, kind, source), book(clinic, kind, into, "10:10")
    path = f"/{kind}/{named(clinic, kind, source)['id']}"
    wanted = {"merged_into": named(clinic, kind, into)["id"]}
    refused = clinic.http.patch(path, json=wanted)
    assert (refused.status_code, refused.json()["type"]) == (409, "/docs#merge-overlaps")
    assert refused.json()["conflicts"] == [[one, other]]
    assert shown(clinic, kind, one) == source
    clinic.http.delete(f"/appointment/{other}")
    assert clinic.http.patch(path, json=wanted).status_code == 200


@pytest.mark.parametrize("wanted", [{"merged_into": 10**9}, {"merged_into": "itself"}])
def test_a_merge_into_nothing_is_refused(
    clinic: ClinicProcess, kind: str, wanted: dict[str, object]
) -> None:
    name = new_name(kind)
    book(clinic, kind, name)
    record = named(clinic, kind, name)
    if wanted["merged_into"] == "itself":
        wanted = {"merged_into": record["id"]}
    refused = clinic.http.patch(f"/{kind}/{record['id']}", json=wanted)
    assert (refused.status_code, refused.json()["type"]) == (422, "/docs#cannot-merge")
    assert named(clinic, kind, name) == record


@pytest.mark.parametrize(
    ("sent", "pointer"),
    [
        ({"name": ""}, "#/name"),
        ({"name": None}, "#/name"),
        ({"active": "yes"}, "#/active"),
        ({"merged_into": 0}, "#/merged_into"),
        ({"names": "a"}, "#"),
    ],
)
def test_a_wrong_field_is_named(
    clinic: ClinicProcess, kind: str, sent: dict[str, object], pointer: str
) -> None:
    name = new_name(kind)
    book(clinic, kind, name)
    record = named(clinic, kind, name)
    refused = clinic.http.patch(f"/{kind}/{record['id']}", json=sent)
    assert refused.status_code == 422
    assert [one["pointer"] for one in refused.json()["errors"]] == [pointer]
    assert named(clinic, kind, name) == record


@pytest.mark.parametrize("path", ["/0", "/x", "/999999999999999999999999999", "/1000000000"])
def test_there_is_no_record_with_another_id(clinic: ClinicProcess, kind: str, path: str) -> None:
    assert clinic.http.get(f"/{kind}{path}").status_code == 404
    assert clinic.http.patch(f"/{kind}{path}", json={"active": True}).status_code == 404
