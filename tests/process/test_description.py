"""The description's own examples, sent to the real process: they do what it says they do."""

import itertools
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clinic.parts import ENDPOINTS
from clinic.web.docs import HERE, curl
from clinic.web.endpoints import Endpoint
from clinic.web.refusals import MaybeDone, NotNow
from tests.process.clinic import ClinicProcess, running

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
    clinic.http.post("/office", json={"name": "221B"})  # if it is not there yet
    for media_type in ("application/json", "text/csv", "text/calendar", "text/html"):
        answer = sent(clinic, endpoint, params=query, headers={"Accept": media_type})
        assert answer.status_code == best_of(endpoint)
        described = endpoint.answers[0].contents
        got = answer.headers["content-type"].partition(";")[0]
        assert got == (media_type if media_type in described else next(iter(described)))


def test_each_endpoint_gives_the_refusals_that_are_described_of_it(
    clinic: ClinicProcess, tmp_path: Path
) -> None:
    given: set[tuple[str, str]] = set()

    def send(endpoint: Endpoint[Any], record_id: object = 1, **options: Any) -> None:
        answer = sent(options.pop("to", clinic), endpoint, record_id, **options)
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
    refuse_of_registry(clinic, send)
    refuse_of_schedule(clinic, send)
    refuse_of_operating(clinic, send)
    with running(tmp_path, CLINIC_REGISTRY="closed") as closed:
        send(BOOK, json=booking, to=closed)
        sent(closed, BY_NAME["register_office"], json={"name": "1"})
        sent(closed, BOOK, json=booking | {"office_number": "1"})
        send(CHANGE, 1, json={"office_number": "2"}, to=closed)
    assert given == {
        (endpoint.name, refusal.slug)
        for endpoint in ENDPOINTS
        for refusal in endpoint.refusals
        if refusal not in (NotNow, MaybeDone)
    }


def refuse_of_registry(clinic: ClinicProcess, send: Callable[..., None]) -> None:
    """Ask for what offices, doctors and types are refused."""
    add_type, change_type = BY_NAME["add_type"], BY_NAME["change_type"]
    for kind in ("office", "doctor"):
        register, change = BY_NAME[f"register_{kind}"], BY_NAME[f"change_{kind}"]
        field = {"office": "office_number", "doctor": "doctor_name"}[kind]
        names = [f"{kind} {next(NUMBERS)} that is refused" for _ in range(3)]
        ids = [sent(clinic, register, json={"name": name}).json()["id"] for name in names]
        send(register, json={"name": names[0].upper()})
        send(BY_NAME[f"show_{kind}"], 10**15)
        send(change, 10**15, json={"active": False})
        send(change, ids[0], json={"name": names[1]})
        send(change, ids[0], json={"merged_into": ids[0]})
        for name in names[:2]:
            fields = {"office_number": f"described {next(NUMBERS)}"} | {field: name}
            assert clinic.book(**fields).status_code == 201
        send(change, ids[0], json={"merged_into": ids[1]})
        assert sent(clinic, change, ids[2], json={"active": False}).status_code == 200
        send(BOOK, json=BOOKING | {field: names[2]})
        send(CHANGE, booked(clinic)["id"], json={field: names[2]})
        send(BY_NAME["free_times"], params={field: names[2]})
        send(BY_NAME["free_times"], params={field: "nobody of this name"})
    types = [a_type(name=f"type {next(NUMBERS)}") for _ in range(2)]
    ids = [sent(clinic, add_type, json=one).json()["id"] for one in types]
    send(add_type, json=types[0])
    send(add_type, json=a_type(name="new", doctors=["nobody of this name"]))
    send(BY_NAME["show_type"], 10**15)
    send(change_type, 10**15, json={})
    send(change_type, ids[0], json={"name": types[1]["name"]})
    send(change_type, ids[0], json={"offices": ["no office of this name"]})


BOOKING = {"patient_name": "a", "office_number": "closed", "date_time": "2028-03-01T10:00:00"}


def a_type(**fields: object) -> dict[str, object]:
    return {"duration_minutes": 30} | fields


def refuse_of_schedule(clinic: ClinicProcess, send: Callable[..., None]) -> None:
    """Ask for what hours, closures and openings are refused."""
    set_hours, change_hours = BY_NAME["set_hours"], BY_NAME["change_hours"]
    office = booked(clinic)["office_number"]
    spans = ({"valid_until": "2028-06-30"}, {"valid_from": "2028-07-01"})
    hours = [{"office_number": office, "week": {}} | span for span in spans]
    ids = [sent(clinic, set_hours, json=one).json()["id"] for one in hours]
    send(set_hours, json=hours[0])
    send(set_hours, json={"doctor_name": "nobody of this name", "week": {}})
    send(change_hours, 10**15, json={"valid_until": "2028-12-31"})
    send(change_hours, ids[0], json={"valid_until": "2028-07-01"})
    send(BOOK, json=BOOKING | {"office_number": office})
    send(CHANGE, booked(clinic)["id"], json={"office_number": office})
    send(BY_NAME["remove_hours"], 10**15)
    never = {"begins": "2028-03-01T10:00:00", "ends": "2028-03-01T11:00:00"}
    for name in ("close", "open"):
        closed = {"reason": "away"} if name == "close" else {}
        send(BY_NAME[name], json=never | closed | {"doctor_name": "nobody of this name"})
    for name in ("remove_closure", "remove_opening", "list_appointments_in_closure"):
        send(BY_NAME[name], 10**15)
    send(BY_NAME["cancel_appointments_in_closure"], 10**15, json={"reason": "away"})


def refuse_of_operating(clinic: ClinicProcess, send: Callable[..., None]) -> None:
    """Ask for what operations are refused."""
    plan, change = BY_NAME["plan"], BY_NAME["change_operation"]
    send(BY_NAME["not_solved"], params={"office_number": "no office of this name"})
    send(BY_NAME["show_not_solved"], 10**15)
    send(plan, json={"verb": "replay", "office_number": "no office of this name"})
    send(BY_NAME["show_operation"], 10**15)
    send(BY_NAME["operation_messages"], 10**15)
    send(change, 10**15, json={"status": "running"})
    planned = sent(clinic, plan, json={"verb": "replay"}).json()
    send(change, planned["id"], json={"status": "stopped"})
    send(BY_NAME["story"], 10**15)


def test_an_appointment_that_a_client_knows_is_not_sent_again(clinic: ClinicProcess) -> None:
    answer = sent(clinic, SHOW, booked(clinic)["id"], headers={"If-None-Match": '"1"'})
    assert answer.status_code == 304


# What makes what has an id in its path.
MAKING = {endpoint.path: endpoint for endpoint in ENDPOINTS if endpoint.method == "POST"}


def named_anew(text: str) -> tuple[str, dict[str, str]]:
    """Return a text whose names are of no office, doctor or type yet, and names by kind."""
    number = next(NUMBERS)
    for old, new in (("221B", "described"), ("Ватсон", "Ватсон"), ("first visit", "visit")):
        text = text.replace(old, f"{new} {number}")
    return text, {"office": f"described {number}", "doctor": f"Доктор Ватсон {number}"}


def register(clinic: ClinicProcess, names: dict[str, str], path: str) -> None:
    """Register the names that a request to a path stands on."""
    for kind, name in names.items():
        if not path.startswith(f"/{kind}"):
            clinic.http.post(f"/{kind}", json={"name": name})


def made(clinic: ClinicProcess, endpoint: Endpoint[Any]) -> int:
    """Make what an endpoint's path has an id of, as it is described; return its id."""
    making = MAKING[endpoint.path.partition("/{id}")[0]]
    assert making.body
    example = next(iter(making.body.content.examples.values()))
    body, names = named_anew(json.dumps(example, ensure_ascii=False))
    register(clinic, names, making.path)
    found: int = sent(clinic, making, json=json.loads(body)).json()["id"]
    return found


@pytest.fixture
def no_closures(clinic: ClinicProcess) -> Iterator[None]:
    """Leave the clinic as open as it was before: the examples close all of it."""
    yield
    for one in clinic.http.get("/closure").json():
        clinic.http.delete(f"/closure/{one['id']}")


@pytest.mark.usefixtures("no_closures")
@pytest.mark.parametrize(
    "endpoint",
    # No client makes a message that is not solved.
    [endpoint for endpoint in ENDPOINTS if endpoint.name != "show_not_solved"],
    ids=lambda one: str(one.name),
)
def test_a_described_command_can_be_typed(clinic: ClinicProcess, endpoint: Endpoint[Any]) -> None:
    command = curl(endpoint)
    if endpoint.ids:
        begin, end = endpoint.path.split("{id}")
        command = command.replace(f"{begin}1{end}", f"{begin}{made(clinic, endpoint)}{end}", 1)
    command, names = named_anew(command)
    register(clinic, names, endpoint.path)
    words = shlex.split(command)
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
