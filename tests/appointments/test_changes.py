"""An appointment's life over HTTP: taken, moved, come to, kept or not, and told of."""

import itertools
import re
from typing import Any

import httpx
import pytest

from tests.appointments.test_routes import fresh, refused, wrong
from tests.process.clinic import ClinicProcess

DAYS = itertools.count(1)


def booked(clinic: ClinicProcess, **fields: object) -> str:
    """Book an appointment and return its path."""
    answer = clinic.http.post("/appointment", json=fresh(**fields))
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


def patch(
    clinic: ClinicProcess, path: str, headers: dict[str, str] | None = None, **fields: object
) -> httpx.Response:
    return clinic.http.patch(path, json=fields, headers=headers)


def told(clinic: ClinicProcess, path: str) -> list[tuple[str, int]]:
    """Return the type and the version of each event of an appointment."""
    events = clinic.http.get(f"{path}/events").json()
    return [
        (event["type"].removeprefix("appointment."), event["data"]["version"]) for event in events
    ]


def test_a_taken_time_is_refused_with_conflicts_and_free_times(
    clinic: ClinicProcess,
) -> None:
    sent = fresh(doctor_name="Доктор Ли")
    first = clinic.http.post("/appointment", json=sent).json()["id"]
    later = sent | {"patient_name": "Пётр Петров", "date_time": "2025-12-01T15:40:00"}
    clinic.http.post("/appointment", json=sent | {"date_time": "2025-12-01T16:00:00"})
    answer = clinic.http.post("/appointment", json=later)
    problem = refused(answer, 409)
    assert problem["type"] == "/docs#time-taken"
    assert problem["conflicts"] == [
        {
            "id": first,
            "office_number": sent["office_number"],
            "doctor_name": "Доктор Ли",
            "date_time": "2025-12-01T15:30:00",
            "end_time": "2025-12-01T15:45:00",
            "occupied_from": "2025-12-01T15:30:00",
            "occupied_until": "2025-12-01T15:45:00",
        }
    ]
    assert problem["free_times"] == [
        "2025-12-01T15:45:00",
        "2025-12-01T16:15:00",
        "2025-12-01T16:30:00",
    ]
    assert "Иван" not in answer.text
    for time in problem["free_times"]:
        assert clinic.http.post("/appointment", json=later | {"date_time": time}).is_success


def test_a_doctor_cannot_be_in_two_offices_at_once(clinic: ClinicProcess) -> None:
    path = booked(clinic, doctor_name="Доктор Но")
    problem = refused(clinic.http.post("/appointment", json=fresh(doctor_name="Доктор Но")), 409)
    assert [one["id"] for one in problem["conflicts"]] == [int(path.rpartition("/")[2])]


def test_back_to_back_is_no_overlap(clinic: ClinicProcess) -> None:
    sent = fresh()
    for minute in ("00", "15", "30", "45"):
        at = f"2025-12-01T15:{minute}:00"
        assert clinic.http.post("/appointment", json=sent | {"date_time": at}).status_code == 201


def test_sending_the_same_again_is_a_retry(clinic: ClinicProcess) -> None:
    sent = fresh(duration_minutes=20)
    first = clinic.http.post("/appointment", json=sent)
    again = clinic.http.post("/appointment", json=sent)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert told(clinic, first.headers["location"]) == [("booked", 1)]


def test_an_override_double_books_on_purpose_and_its_event_says_so(clinic: ClinicProcess) -> None:
    sent = fresh()
    path = clinic.http.post("/appointment", json=sent).headers["location"]
    over = sent | {"patient_name": "Пётр", "override": True, "reason": "острая боль"}
    answer = clinic.http.post("/appointment", json=over)
    assert answer.status_code == 201
    assert answer.json() == {"id": answer.json()["id"]} | over
    assert clinic.http.post("/appointment", json=over).status_code == 200
    second = answer.headers["location"]
    assert clinic.http.get(second).json()["override_reason"] == "острая боль"
    event = clinic.http.get(f"{second}/events").json()[0]
    assert event["data"]["override"] is True
    assert "острая боль" not in str(event)
    # The one that it lies over goes on as if nothing were.
    assert patch(clinic, path, status="arrived").status_code == 200
    # An ordinary one is refused by either.
    assert patch(clinic, path, status="booked").status_code == 200
    assert clinic.http.delete(path).status_code == 200
    refused(clinic.http.post("/appointment", json=sent | {"patient_name": "Анна"}), 409)
    refused(patch(clinic, path, status="booked"), 409)


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"override": True}, {"#/reason": "is required with an override"}),
        ({"reason": "so"}, {"#/reason": "goes only with an override"}),
        ({"override": True, "reason": " "}, {"#/reason": "must not be empty"}),
        ({"override": 1, "reason": "so"}, {"#/override": "must be true or false"}),
    ],
)
def test_an_override_needs_a_reason(
    clinic: ClinicProcess, fields: dict[str, Any], errors: dict[str, str]
) -> None:
    assert wrong(clinic.http.post("/appointment", json=fresh(**fields))) == errors


def test_an_idempotency_key_gets_the_stored_answer(clinic: ClinicProcess) -> None:
    sent, key = fresh(), {"Idempotency-Key": f'"key {next(DAYS)} of {clinic.port}"'}
    first = clinic.http.post("/appointment", json=sent, headers=key)
    path = first.headers["location"]
    patch(clinic, path, date_time="2025-12-24T10:00:00")
    again = clinic.http.post("/appointment", json=sent, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["location"] == path
    assert told(clinic, path) == [("booked", 1), ("rescheduled", 2)]
    other = clinic.http.post("/appointment", json=fresh(), headers=key)
    assert refused(other, 422)["type"] == "/docs#key-reused"


@pytest.mark.parametrize("key", ["", '"', '"a', "a b", "a,b", '"' + "a" * 256 + '"', "ключ"])
def test_what_is_no_key_is_refused(clinic: ClinicProcess, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode()}
    assert refused(clinic.http.post("/appointment", json=fresh(), headers=headers), 400)


def test_a_refusal_is_not_kept_under_its_key(clinic: ClinicProcess) -> None:
    sent, key = fresh(), {"Idempotency-Key": f"refused-{next(DAYS)}"}
    path = clinic.http.post("/appointment", json=sent).headers["location"]
    other = sent | {"patient_name": "Пётр"}
    refused(clinic.http.post("/appointment", json=other, headers=key), 409)
    clinic.http.delete(path)
    assert clinic.http.post("/appointment", json=other, headers=key).status_code == 201


def test_an_appointment_is_moved_in_place(clinic: ClinicProcess) -> None:
    sent = fresh()
    path = clinic.http.post("/appointment", json=sent).headers["location"]
    # Its own time does not block it.
    answer = patch(clinic, path, date_time="2025-12-01T15:35:00", duration_minutes=30)
    assert answer.status_code == 200
    record = answer.json()
    assert record["date_time"] == record["appointment_datetime"] == "2025-12-01T15:35:00"
    assert record == clinic.http.get(path).json()
    assert answer.headers["etag"] == '"2"'
    assert clinic.http.post("/appointment", json=sent | {"date_time": "2025-12-01T15:15:00"})
    refused(patch(clinic, path, appointment_datetime="2025-12-01T15:20:00"), 409)
    assert clinic.http.get(path).json() == record
    assert patch(clinic, path, office_number="elsewhere", override=False).status_code == 200
    assert told(clinic, path) == [("booked", 1), ("rescheduled", 2), ("rescheduled", 3)]


def test_each_kind_of_change_is_told(clinic: ClinicProcess) -> None:
    path = booked(clinic)
    answer = patch(
        clinic,
        path,
        patient_name="Пётр Петров",
        patient_phone="+7 921 555-01-02",
        note="без очков",
        doctor_name="Доктор Хаус",
        date_time="2025-12-02T10:00:00",
        status="arrived",
    )
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"6"'
    assert told(clinic, path) == [
        ("booked", 1),
        ("renamed", 2),
        ("annotated", 3),
        ("reassigned", 4),
        ("rescheduled", 5),
        ("arrived", 6),
    ]
    facts = [event["data"] for event in clinic.http.get(f"{path}/events").json()]
    assert [one["doctor_name"] for one in facts] == [None, None, None, *["Доктор Хаус"] * 3]
    assert [one["status"] for one in facts] == ["booked"] * 5 + ["arrived"]
    told_of = clinic.http.get(f"{path}/events").text
    assert not re.search("Пётр|921 555|очков", told_of)


def test_a_phone_and_a_note_are_changed_and_taken_away(clinic: ClinicProcess) -> None:
    path = booked(clinic, patient_phone="+7 921 555-01-02", note="без очков")
    record = clinic.http.get(path).json()
    assert (record["patient_phone"], record["note"]) == ("+7 921 555-01-02", "без очков")
    assert patch(clinic, path, patient_phone="8 921 555 01 02").json() == record | {
        "patient_phone": "8 921 555 01 02"
    }
    answer = patch(clinic, path, patient_phone=None, note=None)
    assert answer.json() == record | {"patient_phone": None, "note": None}
    assert patch(clinic, path, note=None).headers["etag"] == '"3"'
    assert told(clinic, path) == [("booked", 1), ("annotated", 2), ("annotated", 3)]


def test_another_spelling_of_its_office_or_doctor_is_no_change(clinic: ClinicProcess) -> None:
    path = booked(clinic, doctor_name="Dr. No")
    record = clinic.http.get(path).json()
    for spelling in ("№ {}", "{} ", "{}."):
        answer = patch(
            clinic,
            path,
            office_number=spelling.format(record["office_number"].replace("-", " ")).lower(),
            doctor_name="dr no",
        )
        assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
        assert answer.json() == record


def test_what_is_so_already_is_no_change(clinic: ClinicProcess) -> None:
    path = booked(clinic)
    record = clinic.http.get(path).json()
    for fields in ({}, {"status": "booked"}, {"patient_name": record["patient_name"]}):
        answer = patch(clinic, path, **fields)
        assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert clinic.http.delete(path).status_code == 200
    assert clinic.http.delete(path).status_code == 200
    assert told(clinic, path) == [("booked", 1), ("cancelled", 2)]


TRANSITIONS = {
    "booked": {"arrived", "no_show", "cancelled"},
    "arrived": {"in_room", "done", "booked"},
    "in_room": {"done", "arrived"},
    "done": {"in_room", "arrived"},
    "no_show": {"booked"},
    "cancelled": {"booked"},
}
WAYS = {
    "booked": [],
    "arrived": ["arrived"],
    "in_room": ["arrived", "in_room"],
    "done": ["arrived", "done"],
    "no_show": ["no_show"],
    "cancelled": ["cancelled"],
}


@pytest.mark.parametrize("start", TRANSITIONS)
def test_a_status_moves_on_or_a_step_back_and_nowhere_else(
    clinic: ClinicProcess, start: str
) -> None:
    for wanted in TRANSITIONS:
        path = booked(clinic)
        for status in WAYS[start]:
            assert patch(clinic, path, status=status).json()["status"] == status
        answer = patch(clinic, path, status=wanted)
        if wanted == start or wanted in TRANSITIONS[start]:
            assert answer.json()["status"] == wanted
        else:
            problem = refused(answer, 409)
            assert problem["type"] == "/docs#illegal-transition"
            assert problem["status_now"] == start
            assert set(problem["legal"]) == TRANSITIONS[start]
            assert clinic.http.get(path).json()["status"] == start


def test_a_cancelled_one_frees_its_time_and_is_taken_up_again_only_if_it_is_free(
    clinic: ClinicProcess,
) -> None:
    sent = fresh()
    path = clinic.http.post("/appointment", json=sent).headers["location"]
    answer = clinic.http.delete(path)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    other = clinic.http.post("/appointment", json=sent)
    assert other.status_code == 201
    assert other.headers["location"] != path
    refused(patch(clinic, path, status="booked"), 409)
    moved = patch(clinic, path, status="booked", date_time="2025-12-01T18:00:00")
    assert moved.json()["status"] == "booked"
    assert [kind for kind, _ in told(clinic, path)] == [
        "booked",
        "cancelled",
        "rescheduled",
        "reopened",
    ]


def test_a_stale_change_is_refused(clinic: ClinicProcess) -> None:
    path = booked(clinic)
    tag = clinic.http.get(path).headers["etag"]
    assert patch(clinic, path, {"If-Match": tag}, status="arrived").status_code == 200
    stale = patch(clinic, path, {"If-Match": tag}, status="done")
    assert refused(stale, 412)["type"] == "/docs#stale"
    refused(clinic.http.delete(path, headers={"If-Match": tag}), 412)
    for header, status in (
        ('W/"2"', 412),
        ("nonsense", 412),
        ('"1", "2"', 200),
        ("*", 200),
    ):
        answer = patch(clinic, path, {"If-Match": header}, patient_name=f"Имя {header}")
        assert answer.status_code == status, header
    assert clinic.http.get(path).headers["etag"] == '"4"'


def test_what_the_client_has_already_is_not_sent_again(clinic: ClinicProcess) -> None:
    path = booked(clinic)
    for header, status in (('"1"', 304), ('W/"1"', 304), ('"2"', 200), ("*", 304)):
        answer = clinic.http.get(path, headers={"If-None-Match": header})
        assert (answer.status_code, answer.headers["etag"]) == (status, '"1"')


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_change_is_refused_in_a_version_that_it_is_not_for(
    clinic: ClinicProcess, method: str
) -> None:
    """RFC 9110, 13.1.2: other methods than GET and HEAD get 412."""
    path = booked(clinic)

    def send(**headers: str) -> httpx.Response:
        sent: Any = {"json": {"patient_name": "Another"}} if method == "PATCH" else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return clinic.http.request(method, path, headers=named, **sent)

    for header in ('"1"', 'W/"1"', '"7", "1"', "*"):
        assert refused(send(If_None_Match=header), 412)["type"] == "/docs#stale"
    refused(send(If_Match='"1"', If_None_Match='"1"'), 412)
    refused(send(If_Match='"2"', If_None_Match='"3"'), 412)
    assert told(clinic, path) == [("booked", 1)]
    assert send(If_Match='"1"', If_None_Match='"2"').status_code == 200


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"patient_name": None}, {"#/patient_name": "must be text"}),
        ({"date_time": None}, {"#/date_time": "must be a date and time, as text"}),
        ({"duration_minutes": None}, {"#/duration_minutes": "must be a whole number"}),
        (
            {"date_time": "2026-03-29T02:30:00"},
            {"#/date_time": "is skipped by the clocks of Europe/Berlin, which go forward over it"},
        ),
        ({"id": 7}, {"#": "has fields that mean nothing here: 1"}),
    ],
)
def test_a_wrong_change_is_named_and_changes_nothing(
    clinic: ClinicProcess, fields: dict[str, Any], errors: dict[str, str]
) -> None:
    path = booked(clinic)
    assert wrong(patch(clinic, path, **fields)) == errors
    assert wrong(patch(clinic, path, status="gone")).keys() == {"#/status"}
    assert clinic.http.get(path).headers["etag"] == '"1"'


def test_a_merge_patch_is_taken_and_another_type_refused(clinic: ClinicProcess) -> None:
    path = booked(clinic, doctor_name="Доктор Айболит")
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = clinic.http.patch(path, content='{"doctor_name": null}', headers=headers)
    assert answer.json()["doctor_name"] is None
    refused(clinic.http.patch(path, content="a=b", headers={"Content-Type": "text/plain"}), 415)


@pytest.mark.parametrize("path", ["/appointment/0", "/appointment/x", "/appointment/" + "9" * 30])
def test_what_does_not_exist_cannot_be_changed(clinic: ClinicProcess, path: str) -> None:
    refused(patch(clinic, path, status="arrived"), 404)
    refused(clinic.http.delete(path), 404)
    refused(clinic.http.get(f"{path}/events"), 404)
