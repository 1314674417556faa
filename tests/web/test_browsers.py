"""What a browser must not do with the clinic for the page of another site."""

import itertools
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from clinic.settings import BadSetting, read_settings
from clinic.web.browsers import ANSWER_HEADERS, known_hosts
from tests.process.clinic import ClinicProcess, running
from tests.timing import PATIENCE_SECONDS

NUMBERS = itertools.count(1)
BOOKING = {"patient_name": "Иван", "date_time": "2027-12-01T15:30:00"}


def booking() -> dict[str, Any]:
    return BOOKING | {"office_number": f"browsers {next(NUMBERS)}"}


def book(clinic: ClinicProcess, headers: Mapping[str, str]) -> httpx.Response:
    return clinic.http.post("/appointment", json=booking(), headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
        {"Sec-Fetch-Site": "", "Origin": "http://{host}"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost:{port}"},
        {"Origin": "http://127.0.0.1.evil.example:{port}"},
        {"Origin": "http://{host}.evil.example"},
        {"Origin": "http://{host}/"},
        {"Origin": "http://evil.example@{host}"},
        {"Origin": "{host}"},
        {"Origin": "null"},
        {"Origin": ""},
    ],
    ids=str,
)
def test_the_page_of_another_site_changes_nothing(
    clinic: ClinicProcess, headers: dict[str, str]
) -> None:
    record = clinic.http.post("/appointment", json=booking())
    location = record.headers["location"]
    headers = {
        name: value.format(host=f"127.0.0.1:{clinic.port}", port=clinic.port)
        for name, value in headers.items()
    }
    before = clinic.http.get("/appointment").json()
    for answer in (
        book(clinic, headers),
        clinic.http.patch(location, json={"status": "arrived"}, headers=headers),
        clinic.http.delete(location, headers=headers),
    ):
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
    assert clinic.http.get("/appointment", headers=headers).json() == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://{host}"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://{host}"},
        # TLS ended in front of us, at the same name and port.
        {"Origin": "https://{host}"},
        {"Host": "LOCALHOST", "Origin": "http://localhost"},
        {"Host": "localhost:80", "Origin": "http://localhost"},
        {"Host": "localhost:443", "Origin": "https://localhost"},
        {"Host": "[::1]:8000", "Origin": "http://[0:0::1]:8000"},
        # A proxy put another name into Host; the browser knows better which origin is the same.
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://clinic.example"},
    ],
    ids=str,
)
def test_our_own_pages_and_programs_may_change_what_they_like(
    clinic: ClinicProcess, headers: dict[str, str]
) -> None:
    host = f"127.0.0.1:{clinic.port}"
    given = {name: value.format(host=host) for name, value in headers.items()}
    location = book(clinic, given).headers["location"]
    assert clinic.http.delete(location, headers=given).status_code == 200


def test_two_origins_are_refused(clinic: ClinicProcess) -> None:
    for name in ("Origin", "Sec-Fetch-Site"):
        twice = [(name, "same-origin"), (name, "same-origin")]
        answer = clinic.http.post("/appointment", json=booking(), headers=twice)
        assert answer.status_code == 400, name


@pytest.mark.parametrize("hosts", [("localhost", "evil.example"), ("evil.example", "localhost")])
def test_two_hosts_are_refused(clinic: ClinicProcess, hosts: tuple[str, str]) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    with socket.create_connection(("127.0.0.1", clinic.port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(f"GET /appointment HTTP/1.1\r\n{lines}\r\n".encode())
        status = client.recv(65536).split()[1]
    assert status in {b"400", b"421"}


PATHS = [
    "/appointment",
    "/appointment/1",
    "/appointment/1/events",
    "/appointment.ics?office_number=1",
    "/analytics",
    "/docs",
    "/nowhere",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "localhost.evil.example",
        "evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1:{port}@evil.example",
        "evil.example/127.0.0.1",
        "10.0.0.1",
        "[::2]",
        "[::1",
        "::1",
        "localhost:x",
        "",
    ],
)
def test_requests_to_another_name_are_refused(clinic: ClinicProcess, path: str, host: str) -> None:
    answer = clinic.http.get(path, headers={"Host": host.format(port=clinic.port)})
    assert answer.status_code in {400, 421}  # the former for what is no host at all
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "LocalHost.", "127.0.0.1", "[::1]:8000", "[0::1]"]
)
def test_loopback_is_known_by_its_names(clinic: ClinicProcess, host: str) -> None:
    assert clinic.http.get("/appointment", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/health/live", "/health/ready/"])
def test_health_is_told_under_any_name(clinic: ClinicProcess, path: str) -> None:
    for host in ("10.1.2.3:8000", "clinic-7d9f.cluster.local"):
        assert clinic.http.get(path, headers={"Host": host}).status_code == 200


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    """A clinic with CLINIC_HOSTS set."""
    folder = tmp_path_factory.mktemp("named")
    hosts = "Clinic.example, 10.0.0.5,2001:db8::5,127.0.0.1,клиника.рф"
    with running(folder, CLINIC_HOSTS=hosts, CLINIC_ALLOW_ANONYMOUS=1) as process:
        yield process


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("clinic.example", 200),
        ("CLINIC.EXAMPLE:8443", 200),
        ("10.0.0.5:8000", 200),
        ("[2001:db8:0::5]", 200),
        ("клиника.рф".encode("idna").decode(), 200),
        ("localhost", 421),
        ("www.clinic.example", 421),
        ("clinic.example.evil.example", 421),
    ],
)
def test_the_names_that_are_set_are_ours_and_no_others(
    named: ClinicProcess, host: str, status: int
) -> None:
    assert named.http.get("/appointment", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("listening", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_on_loopback_only_its_names_are_known(listening: str) -> None:
    knows = known_hosts((), listening)
    assert knows(f"[{listening}]:8000" if ":" in listening else listening)
    assert knows("localhost:8000")
    assert not knows("evil.example")


@pytest.mark.parametrize("listening", ["0.0.0.0", "::", "192.0.2.1", "no such host"])
def test_a_clinic_on_other_addresses_answers_to_any_name(listening: str) -> None:
    knows = known_hosts((), listening)
    assert knows("evil.example")
    assert knows("10.1.2.3:8000")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
@pytest.mark.parametrize("path", [*PATHS, "/openapi.json", "/health/live", "/health/ready"])
def test_every_answer_says_what_may_be_done_with_it(
    clinic: ClinicProcess, path: str, method: str
) -> None:
    answer = clinic.http.request(method, path)
    for name, value in ANSWER_HEADERS:
        given = answer.headers.get_list(name.decode())
        assert len(given) == 1
        assert given == [value.decode()] or name == b"content-security-policy"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
def test_a_list_that_is_streamed_is_stored_nowhere(clinic: ClinicProcess, accept: str) -> None:
    for query in ("", "?status=booked", "?limit=1"):
        answer = clinic.http.get(f"/appointment{query}", headers={"Accept": accept})
        assert answer.headers["content-type"].startswith(accept)
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("value", ["http://clinic.example", "clinic.example:8000", ",", "a b", "*"])
def test_malformed_hosts_are_refused(value: str) -> None:
    with pytest.raises(BadSetting, match=r"^CLINIC_HOSTS: must be names or addresses such as "):
        read_settings({"CLINIC_HOSTS": value})
