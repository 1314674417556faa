"""Appointments over HTTP: the contract that clients hold, and everything they may get wrong."""

import gzip
import itertools
import json
import unicodedata
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clinic.registry.wall_clock import ADVICE
from tests.process.clinic import ClinicProcess

SENT = {
    "patient_name": "Иван Иванов",
    "office_number": "221B",
    "date_time": "2025-12-01T15:30:00",
}
UNKNOWN = "has fields that mean nothing here"
DIFFERS = "differs from date_time: send one of them, or both the same"
NOT_TEXT = "must be a date and time, as text"
PATHS = ["/appointment", "/appointment/"]
NUMBERS = itertools.count(1)


def fresh(**fields: object) -> dict[str, Any]:
    """Return a booking that nothing is in the way of."""
    return SENT | {"office_number": f"221B-{next(NUMBERS)}"} | fields


def post(clinic: ClinicProcess, content: bytes | str, **headers: str) -> httpx.Response:
    return clinic.http.post(
        "/appointment",
        content=content,
        headers={"Content-Type": "application/json"}
        | {name.replace("_", "-"): value for name, value in headers.items()},
    )


def listed(clinic: ClinicProcess) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = clinic.http.get("/appointment").json()
    return answer


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is a problem of the given status, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


def wrong(answer: httpx.Response) -> dict[str, str]:
    """Check that an answer names wrong fields, and return what is wrong with each."""
    problem = refused(answer, 422)
    return {error["pointer"]: error["detail"] for error in problem["errors"]}


@pytest.mark.parametrize("path", PATHS)
def test_the_confirmation_is_what_was_sent_plus_the_id(clinic: ClinicProcess, path: str) -> None:
    sent = fresh()
    answer = clinic.http.post(path, json=sent)
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json().items()) == [("id", answer.json()["id"]), *sent.items()]
    assert answer.headers["location"] == f"/appointment/{answer.json()['id']}"
    full = sent | {
        "id": answer.json()["id"],
        "doctor_name": None,
        "appointment_datetime": SENT["date_time"],
        "appointment_type": None,
        "duration_minutes": 15,
        "status": "booked",
        "patient_phone": None,
        "note": None,
        "override_reason": None,
    }
    assert clinic.http.get(answer.headers["location"]).json() == full
    assert full in listed(clinic)


@pytest.mark.parametrize("path", PATHS)
def test_the_list_is_a_plain_json_list_of_everything(clinic: ClinicProcess, path: str) -> None:
    first, second = (clinic.book(number).json()["id"] for number in range(2))
    answer = clinic.http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    ids = [appointment["id"] for appointment in answer.json()]
    assert ids == sorted(ids)
    assert {first, second} <= set(ids)
    assert clinic.http.head(path).status_code == 200


@pytest.mark.parametrize(
    ("extra", "stored"),
    [
        ({"doctor_name": "Доктор Ватсон"}, {"doctor_name": "Доктор Ватсон"}),
        ({"doctor_name": None}, {"doctor_name": None}),
        ({"duration_minutes": 45}, {"duration_minutes": 45}),
        ({"duration_minutes": 45.0}, {"duration_minutes": 45}),
        ({"duration_minutes": None}, {"duration_minutes": 15}),
        ({"date_time": "2025-12-01 15:30"}, {"date_time": "2025-12-01T15:30:00"}),
        ({"date_time": "2025-12-01T15:30:00Z"}, {"date_time": "2025-12-01T16:30:00"}),
        ({"date_time": "2025-12-01T15:30:00.5"}, {"date_time": "2025-12-01T15:30:00.5"}),
        ({"office_number": " Room 2 "}, {"office_number": "Room 2"}),
        ({"patient_phone": "+7 (921)  555"}, {"patient_phone": "+7 (921) 555"}),
        ({"patient_phone": None, "note": None}, {"patient_phone": None, "note": None}),
        ({"note": " первый \u200bраз"}, {"note": "первый раз"}),
        ({"patient_name": "Андрей"}, {"patient_name": "Андрей"}),
        ({"patient_name": "👩‍⚕️" * 50}, {"patient_name": "👩‍⚕️" * 50}),
        ({"patient_name": "ж" * 200}, {"patient_name": "ж" * 200}),
        (
            {"appointment_datetime": SENT["date_time"]},
            {"appointment_datetime": SENT["date_time"]},
        ),
        (
            {"appointment_datetime": "2025-12-01T14:30:00Z"},
            {"appointment_datetime": SENT["date_time"]},
        ),
        # As long as it is sent, letter and two marks, it is composed to as many characters.
        (
            {"patient_name": unicodedata.normalize("NFD", "\u1ea5" * 200)},
            {"patient_name": "\u1ea5" * 200},
        ),
    ],
)
def test_what_is_sent_is_confirmed_as_sent_and_stored_in_one_form(
    clinic: ClinicProcess, extra: dict[str, Any], stored: dict[str, Any]
) -> None:
    sent = fresh(**extra)
    answer = clinic.http.post("/appointment", json=sent)
    assert answer.status_code == 201
    assert answer.json() == {"id": answer.json()["id"]} | sent
    record = clinic.http.get(answer.headers["location"]).json()
    assert record["date_time"] == record["appointment_datetime"]
    assert record.items() >= stored.items()


def test_the_older_name_of_the_time_is_taken(clinic: ClinicProcess) -> None:
    sent = fresh()
    sent["appointment_datetime"] = sent.pop("date_time")
    answer = clinic.http.post("/appointment", json=sent)
    assert answer.json() == {"id": answer.json()["id"]} | sent
    assert clinic.http.get(answer.headers["location"]).json()["date_time"] == SENT["date_time"]


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"patient_name": ""}, {"#/patient_name": "must not be empty"}),
        ({"patient_name": " \u3000"}, {"#/patient_name": "must not be empty"}),
        ({"patient_name": "ж" * 201}, {"#/patient_name": "must have at most 200 characters"}),
        ({"patient_name": 7}, {"#/patient_name": "must be text"}),
        ({"patient_name": None}, {"#/patient_name": "must be text"}),
        ({"patient_name": ["a"]}, {"#/patient_name": "must be text"}),
        (
            {"patient_name": "a\u0000b"},
            {"#/patient_name": "must be one line of text, without control characters"},
        ),
        (
            {"office_number": "a\nb"},
            {"#/office_number": "must be one line of text, without control characters"},
        ),
        (
            {"doctor_name": "a\u202eb"},
            {"#/doctor_name": "must be one line of text, without control characters"},
        ),
        ({"office_number": 221}, {"#/office_number": "must be text"}),
        ({"office_number": "1" * 51}, {"#/office_number": "must have at most 50 characters"}),
        ({"doctor_name": ""}, {"#/doctor_name": "must not be empty"}),
        ({"patient_phone": ""}, {"#/patient_phone": "must not be empty"}),
        ({"patient_phone": 7921}, {"#/patient_phone": "must be text"}),
        ({"patient_phone": "1" * 51}, {"#/patient_phone": "must have at most 50 characters"}),
        ({"note": "ж" * 501}, {"#/note": "must have at most 500 characters"}),
        (
            {"note": "a\nb"},
            {"#/note": "must be one line of text, without control characters"},
        ),
        ({"duration_minutes": 0}, {"#/duration_minutes": "must be from 1 to 1440 minutes"}),
        ({"duration_minutes": 10**400}, {"#/duration_minutes": "must be from 1 to 1440 minutes"}),
        ({"duration_minutes": 1e300}, {"#/duration_minutes": "must be from 1 to 1440 minutes"}),
        ({"duration_minutes": 1440.5}, {"#/duration_minutes": "must be a whole number"}),
        ({"duration_minutes": 0.0}, {"#/duration_minutes": "must be from 1 to 1440 minutes"}),
        ({"duration_minutes": 1.5}, {"#/duration_minutes": "must be a whole number"}),
        ({"duration_minutes": True}, {"#/duration_minutes": "must be a whole number"}),
        ({"duration_minutes": "15"}, {"#/duration_minutes": "must be a whole number"}),
        ({"date_time": 1764603000}, {"#/date_time": "must be a date and time, as text"}),
        (
            {"date_time": "2026-03-29T02:30:00"},
            {"#/date_time": "is skipped by the clocks of Europe/Berlin, which go forward over it"},
        ),
        ({"date_time": "2025-02-29T10:00:00"}, {"#/date_time": "is no date and time that exists"}),
        ({"Иван Иванов": 1, "b": 2}, {"#": f"{UNKNOWN}: 2"}),
        (
            {"appointment_datetime": "2025-12-01T15:31:00"},
            {"#/appointment_datetime": DIFFERS},
        ),
        (
            {"appointment_datetime": "2025-12-01"},
            {"#/appointment_datetime": ADVICE},
        ),
        ({"appointment_datetime": None}, {"#/appointment_datetime": NOT_TEXT}),
        (
            {"date_time": 1, "appointment_datetime": 2},
            {"#/date_time": NOT_TEXT, "#/appointment_datetime": NOT_TEXT},
        ),
        ({"date_time": 1, "appointment_datetime": 1}, {"#/date_time": NOT_TEXT}),
        (
            {"date_time": 1, "appointment_datetime": "2025-12-01T15:31:00"},
            {"#/date_time": NOT_TEXT},
        ),
        (
            {"patient_name": "a" + "\u0301\u0323" * 300},
            {"#/patient_name": "must have at most 200 characters"},
        ),
        (
            {"patient_name": "\u1ea5" * 201},
            {"#/patient_name": "must have at most 200 characters"},
        ),
    ],
)
def test_a_wrong_field_is_named_and_nothing_stored(
    clinic: ClinicProcess, change: dict[str, Any], errors: dict[str, str]
) -> None:
    before = listed(clinic)
    assert wrong(clinic.http.post("/appointment", json=SENT | change)) == errors
    assert listed(clinic) == before


def test_a_type_that_is_none_is_answered_with_those_there_are(clinic: ClinicProcess) -> None:
    before = listed(clinic)
    every = clinic.http.get("/appointment-type").json()
    known = ", ".join(sorted(one["name"] for one in every if one["active"])[:10])
    error = f"is no appointment type; there are: {known or 'none yet'}"
    sent = SENT | {"appointment_type": "осмотр"}
    assert wrong(clinic.http.post("/appointment", json=sent)) == {"#/appointment_type": error}
    assert listed(clinic) == before


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        (
            {"date_time": "2025-12-01T16:00", "appointment_datetime": "2025-12-01T16:01"},
            {"#/appointment_datetime": DIFFERS},
        ),
        ({"duration_minutes": 15.5}, {"#/duration_minutes": "must be a whole number"}),
        ({"colour": "red", "x": 1}, {"#": f"{UNKNOWN}: 2"}),
        ({f"field {number}": 1 for number in range(60)}, {"#": f"{UNKNOWN}: 60"}),
        (
            {f"field {number}": 1 for number in range(60)} | {"status": "lost"},
            {
                "#/status": "Input should be 'booked', 'arrived', 'in_room', 'done', 'no_show'"
                " or 'cancelled'",
                "#": f"{UNKNOWN}: 60",
            },
        ),
    ],
)
def test_what_is_wrong_with_a_change_is_named(
    clinic: ClinicProcess, change: dict[str, Any], errors: dict[str, str]
) -> None:
    path = clinic.http.post("/appointment", json=fresh()).headers["location"]
    before = clinic.http.get(path).json()
    assert wrong(clinic.http.patch(path, json=change)) == errors
    assert clinic.http.get(path).json() == before


def test_a_change_may_say_the_time_twice_and_minutes_as_a_fraction(clinic: ClinicProcess) -> None:
    path = clinic.http.post("/appointment", json=fresh()).headers["location"]
    change = {
        "date_time": "2025-12-01T16:00",
        "appointment_datetime": "2025-12-01 16:00:00",
        "duration_minutes": 3e1,
    }
    changed = clinic.http.patch(path, json=change).json()
    assert (changed["date_time"], changed["duration_minutes"]) == ("2025-12-01T16:00:00", 30)


def test_all_wrong_fields_are_named_at_once(clinic: ClinicProcess) -> None:
    assert wrong(post(clinic, "{}")) == {
        "#/patient_name": "is required",
        "#/office_number": "is required",
        "#/date_time": "is required",
    }
    assert set(wrong(post(clinic, '{"patient_name": 1, "office_number": "", "x": 1}'))) == {
        "#/patient_name",
        "#/office_number",
        "#/date_time",
        "#",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b'{"patient_name": "a",}',
        b'{"patient_name": NaN}',
        b'{"patient_name": Infinity}',
        b'{"patient_name": "\xff\xfe"}',
        b'{"patient_name": "\xed\xa0\x80"}',
        b'{"patient_name": "\xc0\x80"}',
        b'{"patient_name": "\\ud800"}',
        b'{"patient_name": "a\nb"}',
        b"\xef\xbb\xbf{}",
        json.dumps(SENT).encode("utf-16"),
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    ],
)
def test_what_is_no_json_in_utf8_is_refused(clinic: ClinicProcess, body: bytes) -> None:
    before = listed(clinic)
    refused(post(clinic, body), 400)
    assert listed(clinic) == before


@pytest.mark.parametrize("body", ["null", "[]", "1", '"text"', "true", "[[]]"])
def test_json_that_is_no_object_is_refused(clinic: ClinicProcess, body: str) -> None:
    assert wrong(post(clinic, body)) == {"#": "must be a JSON object"}


def test_of_a_field_that_stands_twice_the_last_counts(clinic: ClinicProcess) -> None:
    body = json.dumps(SENT)[:-1] + ', "office_number": "last"}'
    assert post(clinic, body).json()["office_number"] == "last"


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data"],
)
def test_another_content_type_is_refused(clinic: ClinicProcess, content_type: str) -> None:
    refused(post(clinic, json.dumps(SENT), Content_Type=content_type), 415)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_body_that_does_not_say_what_it_is_changes_nothing(
    clinic: ClinicProcess, method: str
) -> None:
    """A browser sends such a body for any page, without asking first."""
    path = clinic.http.post("/appointment", json=fresh()).headers["location"]
    before = listed(clinic)
    body = json.dumps(fresh() if method == "POST" else {"status": "cancelled"})
    refused(clinic.http.request(method, path if method == "PATCH" else PATHS[0], content=body), 415)
    assert listed(clinic) == before


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP", "x"])
def test_an_encoded_body_is_refused(clinic: ClinicProcess, coding: str) -> None:
    answer = post(clinic, gzip.compress(json.dumps(SENT).encode()), Content_Encoding=coding)
    refused(answer, 415)
    assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "Identity", "", ", identity"])
def test_a_body_that_says_it_is_as_it_is_is_taken(clinic: ClinicProcess, coding: str) -> None:
    assert post(clinic, json.dumps(fresh()), Content_Encoding=coding).status_code == 201


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_by_other_names_is_taken(clinic: ClinicProcess, content_type: str) -> None:
    assert post(clinic, json.dumps(fresh()), Content_Type=content_type).status_code == 201


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
def test_another_method_is_refused_with_the_right_ones(
    clinic: ClinicProcess, method: str, path: str
) -> None:
    answer = clinic.http.request(method, path)
    refused(answer, 405)
    allowed = {name.strip() for name in answer.headers["allow"].split(",")}
    assert allowed == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(
    "path",
    [
        "/appointments",
        "/appointment//",
        "/appointment/0",
        "/appointment/999999999",
        "/appointment/-1",
        "/appointment/1x",
        "/appointment/%00",
        "/appointment/%ff",
        "/appointment/" + "9" * 5000,
        "/appointment/٣",
    ],
)
def test_what_does_not_exist_is_not_found(clinic: ClinicProcess, path: str) -> None:
    refused(clinic.http.get(path), 404)


def test_a_body_over_64_kib_is_refused(clinic: ClinicProcess) -> None:
    largest = json.dumps(SENT | {"patient_name": ""})
    fill = "x" * (64 * 1024 - len(largest))
    assert refused(post(clinic, json.dumps(SENT | {"patient_name": fill})), 422)
    refused(post(clinic, json.dumps(SENT | {"patient_name": fill + "x"})), 413)


@pytest.mark.parametrize("kib", [65, 500, 900])
def test_a_client_that_is_still_sending_a_large_body_sees_the_answer(
    clinic: ClinicProcess, kib: int
) -> None:
    refused(post(clinic, b" " * kib * 1024), 413)


@pytest.mark.parametrize("kib", [65, 500, 900])
def test_a_body_over_64_kib_without_a_length_is_refused(clinic: ClinicProcess, kib: int) -> None:
    chunks = (b" " * 1024 for _ in range(kib))
    answer = clinic.http.post(
        "/appointment", content=chunks, headers={"Content-Type": "application/json"}
    )
    refused(answer, 413)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
field_values = json_values | st.sampled_from(list(SENT.values()))


@settings(max_examples=150)
@given(
    body=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            (
                *SENT,
                "doctor_name",
                "appointment_type",
                "patient_phone",
                "note",
                "duration_minutes",
                "appointment_datetime",
                "override",
                "reason",
                "id",
            ),
            field_values,
        ),
    )
    | json_values
)
@example(body=SENT)
def test_no_json_gets_a_500(clinic: ClinicProcess, body: object) -> None:
    answer = post(clinic, json.dumps(body))
    assert answer.status_code in (200, 201, 400, 409, 422)


@settings(max_examples=100)
@given(body=st.binary(max_size=2000))
def test_no_bytes_get_a_500(clinic: ClinicProcess, body: bytes) -> None:
    assert post(clinic, body).status_code in (400, 422)


@settings(max_examples=100)
@given(name=st.text(min_size=1, max_size=200))
def test_any_text_is_stored_as_it_is_or_refused(clinic: ClinicProcess, name: str) -> None:
    answer = clinic.http.post(
        "/appointment",
        content=json.dumps(fresh(patient_name=name)),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in (201, 400, 422)
    if answer.status_code == 201:
        assert answer.json()["patient_name"] == name
        assert clinic.http.get(answer.headers["location"]).status_code == 200
