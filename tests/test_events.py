"""Events: CloudEvents that tell no names, and that survive the way."""

import datetime
import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.events import LARGEST_BODY, AppointmentFacts, read, tell
from clinic.messaging.message import Message, Unreadable

FACTS = AppointmentFacts(
    appointment_id=1,
    version=1,
    status="booked",
    office_id=7,
    office_number="221B",
    doctor_name=None,
    date_time=datetime.datetime(2025, 12, 1, 15, 30),
    time_zone="Europe/Moscow",
    duration_minutes=15,
    override=False,
)
EVENT = tell("appointment.booked", FACTS, datetime.datetime(2025, 11, 1, tzinfo=datetime.UTC))
TOLD = json.loads(EVENT.message().body)


def test_the_form_is_cloudevents() -> None:
    message = EVENT.message()
    assert (message.id, message.type, message.subject) == (
        EVENT.id,
        "appointment.booked",
        "appointment/1",
    )
    assert json.loads(message.body) == {
        "specversion": "1.0",
        "id": EVENT.id,
        "source": "/clinic",
        "type": "appointment.booked",
        "subject": "appointment/1",
        "time": "2025-11-01T00:00:00Z",
        "datacontenttype": "application/json",
        "actor": "clinic",
        "requestid": None,
        "traceparent": None,
        "data": {
            "appointment_id": 1,
            "version": 1,
            "status": "booked",
            "office_id": 7,
            "office_number": "221B",
            "doctor_id": None,
            "doctor_name": None,
            "appointment_type": None,
            "date_time": "2025-12-01T15:30:00",
            "time_zone": "Europe/Moscow",
            "duration_minutes": 15,
            "override": False,
        },
    }


def test_ids_differ_and_grow_with_time() -> None:
    ids = [tell("appointment.booked", FACTS, EVENT.time).id for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert {uuid.UUID(one).version for one in ids} == {7}


def test_what_is_read_is_what_was_told() -> None:
    assert read(EVENT.message()) == EVENT
    assert EVENT.data.starts_at == datetime.datetime(2025, 12, 1, 12, 30, tzinfo=datetime.UTC)


@given(st.text(min_size=1, max_size=50), st.none() | st.text(min_size=1, max_size=200))
def test_what_is_read_is_what_was_told_whatever_the_names(office: str, doctor: str | None) -> None:
    facts = replace(FACTS, office_number=office, doctor_name=doctor)
    event = tell("appointment.booked", facts, datetime.datetime.now(datetime.UTC))
    assert read(event.message()) == event


def test_what_an_older_clinic_told_without_ids_is_read() -> None:
    body = json.loads(EVENT.message().body)
    for name in ("office_id", "doctor_id", "appointment_type"):
        del body["data"][name]
    read_again = read(Message("", "", "", json.dumps(body)))
    assert read_again == replace(EVENT, data=replace(FACTS, office_id=None))


def test_what_a_newer_clinic_adds_is_passed_over() -> None:
    body = json.loads(EVENT.message().body)
    body["tracestate"] = "00-1-1-00"
    body["data"]["floor"] = 2
    assert read(Message("", "", "", json.dumps(body))) == EVENT


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "2.0"},
        {"type": "appointment.forgotten"},
        {"id": ""},
        {"time": "2025-11-01T00:00:00"},
        {"time": 1},
        {"data": None},
        {"data": {}},
        {"data": TOLD["data"] | {"time_zone": "Europe/Moskow"}},
        {"data": TOLD["data"] | {"appointment_id": "1"}},
        {"data": TOLD["data"] | {"appointment_id": 10**30}},
        {"data": TOLD["data"] | {"office_id": "7"}},
        {"data": TOLD["data"] | {"office_id": 0}},
        {"data": TOLD["data"] | {"doctor_id": 10**30}},
        {"data": TOLD["data"] | {"appointment_type": ""}},
    ],
)
def test_what_is_no_event_of_ours_is_unreadable(change: dict[str, Any]) -> None:
    body = TOLD | change
    with pytest.raises(Unreadable):
        read(Message("", "", "", json.dumps(body)))


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 30_000,
        '{"patient_name":' * 10_000,
        "1" * 60_000,
        '"\\ud800"',
        "\udcff",
        "\0",
        "NaN",
        " " * (LARGEST_BODY + 1),
        "\udcff" * 10**6,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_no_parser_takes_is_unreadable(body: str) -> None:
    with pytest.raises(Unreadable, match="no event of ours: the body"):
        read(Message("", "", "", body))


def test_an_event_may_grow_but_not_without_limit() -> None:
    body = EVENT.message().body
    assert read(Message("", "", "", body + " " * (LARGEST_BODY - len(body)))) == EVENT
    with pytest.raises(Unreadable, match=f"the body is {LARGEST_BODY + 1} bytes long"):
        read(Message("", "", "", body + " " * (LARGEST_BODY + 1 - len(body))))


@given(body=st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_no_text_is_an_error_of_ours(body: str) -> None:
    with pytest.raises(Unreadable):
        read(Message("", "", "", body))


def test_why_it_is_unreadable_quotes_nothing_of_it() -> None:
    name = "Иван Иванов"
    body = json.dumps({"patient_name": name, "office_number": name, "date_time": name, "id": name})
    with pytest.raises(Unreadable) as unreadable:
        read(Message("", "", "", body))
    assert name not in str(unreadable.value)
    assert unreadable.value.__suppress_context__
