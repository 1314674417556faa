"""The description's own examples, sent to the real process: they do what it says they do."""

import itertools
import shlex
from typing import Any

import httpx
import pytest

from clinic.parts import ENDPOINTS
from clinic.web.docs import HERE, curl
from clinic.web.endpoints import Endpoint
from clinic.web.refusals import MaybeDone, NotNow
from tests.process.clinic import ClinicProcess

BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
BOOK, SHOW, CHANGE = BY_NAME["book"], BY_NAME["show"], BY_NAME["change"]
CANCEL, HISTORY = BY_NAME["cancel"], BY_NAME["history"]

NUMBERS = itertools.count(1)


def best_of(endpoint: Endpoint[Any]) -> int:
    """Return the status of an endpoint's success, as it is described first."""
    return int(endpoint.answers[0].status)


def booked(clinic: ClinicProcess) -> dict[str, Any]:
    """Book an appointment, in an office of its own, and return its full record."""
    location = clinic.book(office_number=f"described {next(NUMBERS)}").headers["location"]
    record: dict[str, Any] = clinic.http.get(location).json()
    return record


def sent(
    clinic: ClinicProcess, endpoint: Endpoint[Any], appointment_id: object = 1, **options: Any
) -> httpx.Response:
    """Ask an endpoint; the client holds whatever is answered against the description."""
    path = endpoint.path.format(id=appointment_id)
    return clinic.http.request(endpoint.method, path, **options)


@pytest.mark.parametrize("name", list(BOOK.body.content.examples) if BOOK.body else [])
def test_a_described_booking_is_booked(clinic: ClinicProcess, name: str) -> None:
    assert BOOK.body
    example = BOOK.body.content.examples[name]
    assert isinstance(example, dict)
    body = example | {"office_number": f"described {next(NUMBERS)}"}
    headers = {header.name: f'"described {next(NUMBERS)}"' for header in BOOK.headers}
    answer = sent(clinic, BOOK, json=body, headers=headers)
    assert answer.status_code == best_of(BOOK)
    assert answer.json() == {"id": answer.json()["id"]} | body
    # The same once more, and with another key; then something else with that key.
    assert sent(clinic, BOOK, json=body, headers=headers).status_code == 201
    assert sent(clinic, BOOK, json=body).status_code == 200
    reused = sent(clinic, BOOK, json=body | {"patient_name": "Пётр"}, headers=headers)
    assert reused.json()["type"] == "/docs#key-reused"


@pytest.mark.parametrize("media_type", CHANGE.body.media_types if CHANGE.body else [])
@pytest.mark.parametrize("name", list(CHANGE.body.content.examples) if CHANGE.body else [])
def test_a_described_change_is_made(clinic: ClinicProcess, name: str, media_type: str) -> None:
    assert CHANGE.body
    before = booked(clinic)
    example = CHANGE.body.content.examples[name]
    assert isinstance(example, dict)
    headers = {"If-Match": '"1"', "Content-Type": media_type}
    answer = sent(clinic, CHANGE, before["id"], json=example, headers=headers)
    assert answer.status_code == best_of(CHANGE)
    assert answer.json().items() >= example.items()
    assert sent(clinic, CHANGE, before["id"], json=example, headers=headers).status_code == 412


@pytest.mark.parametrize("endpoint", [SHOW, HISTORY, CANCEL], ids=lambda one: str(one.name))
def test_a_described_request_for_one_appointment_is_carried_out(
    clinic: ClinicProcess, endpoint: Endpoint[Any]
) -> None:
    appointment_id = booked(clinic)["id"]
    headers = {header.name: '"1"' for header in endpoint.headers if header.name == "If-Match"}
    answer = sent(clinic, endpoint, appointment_id, headers=headers)
    assert answer.status_code == best_of(endpoint)
    assert sent(clinic, endpoint, 10**15).status_code == 404


@pytest.mark.parametrize(
    ("endpoint", "query"),
    [
        (endpoint, query)
        for endpoint in ENDPOINTS
        if not endpoint.ids and endpoint.method == "GET"
        for query in endpoint.queries or [{}]
    ],
    ids=lambda one: "&".join(one) if isinstance(one, dict) else str(one.name),
)
def test_a_described_query_is_answered(
    clinic: ClinicProcess, endpoint: Endpoint[Any], query: dict[str, str]
) -> None:
    booked(clinic)
    for media_type in ("application/json", "text/csv", "text/calendar", "text/html"):
        answer = sent(clinic, endpoint, params=query, headers={"Accept": media_type})
        assert answer.status_code == best_of(endpoint)
        described = endpoint.answers[0].contents
        got = answer.headers["content-type"].partition(";")[0]
        assert got == (media_type if media_type in described else next(iter(described)))


def test_each_endpoint_gives_the_refusals_that_are_described_of_it(
    clinic: ClinicProcess,
) -> None:
    given: set[tuple[str, str]] = set()

    def send(endpoint: Endpoint[Any], appointment_id: object = 1, **options: Any) -> None:
        answer = sent(clinic, endpoint, appointment_id, **options)
        given.add((endpoint.name, answer.json()["type"].removeprefix("/docs#")))

    first, second = booked(clinic), booked(clinic)
    booking = {name: first[name] for name in ("patient_name", "office_number", "date_time")}
    send(BOOK, json=booking | {"patient_name": "Пётр"})
    send(BOOK, json=booking, headers={"Idempotency-Key": '""'})
    key = {"Idempotency-Key": f'"described {next(NUMBERS)}"'}
    sent(clinic, BOOK, json=booking, headers=key)
    send(BOOK, json=booking | {"patient_name": "Пётр"}, headers=key)
    for endpoint in (SHOW, HISTORY, CANCEL):
        send(endpoint, 10**15)
    send(CHANGE, 10**15, json={})
    send(CHANGE, second["id"], json={"office_number": first["office_number"]})
    send(CHANGE, second["id"], json={"status": "done"})
    send(CHANGE, second["id"], json={}, headers={"If-Match": '"7"'})
    send(CANCEL, second["id"], headers={"If-Match": '"7"'})
    sent(clinic, CHANGE, second["id"], json={"status": "arrived"})
    send(CANCEL, second["id"])
    assert given == {
        (endpoint.name, refusal.slug)
        for endpoint in ENDPOINTS
        for refusal in endpoint.refusals
        if refusal not in (NotNow, MaybeDone)
    }


def test_an_appointment_that_a_client_knows_is_not_sent_again(clinic: ClinicProcess) -> None:
    answer = sent(clinic, SHOW, booked(clinic)["id"], headers={"If-None-Match": '"1"'})
    assert answer.status_code == 304


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: str(one.name))
def test_a_described_command_can_be_typed(clinic: ClinicProcess, endpoint: Endpoint[Any]) -> None:
    record = booked(clinic)
    words = [
        word.replace("/appointment/1", f"/appointment/{record['id']}").replace(
            "221B", f"described {next(NUMBERS)}"
        )
        for word in shlex.split(curl(endpoint))
    ]
    assert words[:2] == ["curl", "-s"]
    assert words[2].startswith(HERE + "/")
    method = "POST" if endpoint.method == "POST" else "GET"
    if "-X" in words:
        method = words[words.index("-X") + 1]
    assert method == endpoint.method
    answer = clinic.http.request(
        method,
        words[2].removeprefix(HERE),
        content=words[-1] if "-d" in words else None,
        headers={"Content-Type": "application/json"} if "-d" in words else {},
    )
    assert answer.status_code == best_of(endpoint)
