"""Headers: lists in one line or several, and what may stand only once."""

import itertools

import httpx
import pytest

from tests.process.clinic import ClinicProcess

NUMBERS = itertools.count(1)


def booked(clinic: ClinicProcess) -> str:
    """Book an appointment and return its path."""
    path: str = clinic.book(office_number=f"headers {next(NUMBERS)}").headers["location"]
    return path


def lines(name: str, *values: str) -> list[tuple[str, str]]:
    return [(name, value) for value in values]


@pytest.mark.parametrize(
    "tags", [['"7"', '"1"'], ['"7", "8"', '"9","1"'], ['"1"', '"7"'], ["", '"1"'], ["*"]]
)
def test_the_lines_of_if_match_are_one_list(clinic: ClinicProcess, tags: list[str]) -> None:
    path = booked(clinic)
    answer = clinic.http.patch(path, json={"status": "arrived"}, headers=lines("If-Match", *tags))
    assert answer.status_code == 200
    late = clinic.http.delete(path, headers=lines("If-Match", '"7"', '"8"', 'W/"2"'))
    assert late.status_code == 412


@pytest.mark.parametrize("tags", [['"7"', '"1"'], ['W/"1"', '"7"'], ['"7", W/"1"'], ["*"]])
def test_the_lines_of_if_none_match_are_one_list(clinic: ClinicProcess, tags: list[str]) -> None:
    path = booked(clinic)
    assert clinic.http.get(path, headers=lines("If-None-Match", *tags)).status_code == 304
    assert clinic.http.get(path, headers=lines("If-None-Match", '"7"', '"8"')).status_code == 200


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (["application/json;q=0.1", "text/csv"], "text/csv"),
        (["text/csv;q=0.1", "application/json"], "application/json"),
        (["text/html", "text/csv"], "text/csv"),
        (["text/html", "image/*;q=0.3", "text/*;q=0.2"], "text/csv"),
        (["", "text/csv"], "text/csv"),
        ([""], "application/json"),
    ],
)
def test_the_lines_of_accept_are_one_list(
    clinic: ClinicProcess, accept: list[str], media_type: str
) -> None:
    headers = httpx.Headers(lines("Accept", *accept))
    request = httpx.Request("GET", f"{clinic.url}/appointment?limit=1", headers=headers)
    answer = clinic.http.send(request)
    assert answer.headers["content-type"].startswith(media_type)


def test_the_lines_of_content_encoding_are_one_list(clinic: ClinicProcess) -> None:
    for codings, status in ((["identity", "identity"], 422), (["identity", "gzip"], 415)):
        headers = lines("Content-Encoding", *codings)
        assert clinic.http.post("/appointment", json={}, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Content-Type", ["application/json", "text/plain"]),
        ("Content-Type", ["application/json", "application/json"]),
        ("Idempotency-Key", ['"headers a"', '"headers b"']),
        ("Idempotency-Key", ['"headers a"', '"headers a"']),
        ("Origin", ["http://localhost", "http://localhost"]),
    ],
)
def test_a_header_that_is_not_a_list_may_not_be_repeated(
    clinic: ClinicProcess, name: str, values: list[str]
) -> None:
    body = b'{"patient_name": "a", "office_number": "twice", "date_time": "2027-12-01T15:30:00"}'
    headers = lines(name, *values)
    if name != "Content-Type":
        headers.append(("Content-Type", "application/json"))
    before = clinic.http.get("/appointment").json()
    answer = clinic.http.post("/appointment", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert clinic.http.get("/appointment").json() == before


@pytest.mark.parametrize("name", ["Accept", "If-None-Match"])
def test_a_list_that_is_too_long_is_refused(clinic: ClinicProcess, name: str) -> None:
    path = booked(clinic) if name == "If-None-Match" else "/appointment?limit=1"
    value = '"a",' if name == "If-None-Match" else "a/b,"
    assert clinic.http.get(path, headers={name: value * 1000}).status_code == 200
    assert clinic.http.get(path, headers={name: value * 1100}).status_code == 431
