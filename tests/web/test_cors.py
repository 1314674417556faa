"""Pages of other sites that may use the clinic, because an operator has named them."""

from collections.abc import Iterator

import httpx
import pytest

from tests.process.clinic import ClinicProcess, running

PORTAL = "https://portal.example"
BOOKING = {"patient_name": "Иван", "office_number": "1", "date_time": "2027-12-01T15:30:00"}


@pytest.fixture(scope="module")
def open_to_portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    origins = f"{PORTAL},https://other.example:8443"
    with running(tmp_path_factory.mktemp("cors"), CLINIC_CORS_ORIGINS=origins) as clinic:
        yield clinic
        assert clinic.stop() == 0


def preflight(clinic: ClinicProcess, origin: str, method: str = "POST") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Sec-Fetch-Site": "cross-site",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    # Nothing that a preflight is answered stands in the description.
    return httpx.options(f"{clinic.url}/appointment", headers=headers)


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_named_site_may_ask(open_to_portal: ClinicProcess, method: str) -> None:
    answer = preflight(open_to_portal, PORTAL, method)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PORTAL
    assert method in answer.headers["Access-Control-Allow-Methods"]
    assert "Origin" in answer.headers["Vary"]
    # Cookies are for our own pages alone.
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://portal.example.evil.example",
        "http://portal.example",
        "https://portal.example:8443",
        "null",
    ],
)
def test_other_sites_may_not(open_to_portal: ClinicProcess, origin: str) -> None:
    answer = preflight(open_to_portal, origin)
    assert answer.status_code == 400
    assert "Access-Control-Allow-Origin" not in answer.headers
    sent = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    refused = open_to_portal.http.post("/appointment", json=BOOKING, headers=sent)
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_a_named_site_books_and_reads_what_it_is_told(open_to_portal: ClinicProcess) -> None:
    sent = {"Origin": PORTAL, "Sec-Fetch-Site": "cross-site"}
    booked = open_to_portal.http.post("/appointment", json=BOOKING, headers=sent)
    assert booked.status_code == 201
    assert booked.headers["Access-Control-Allow-Origin"] == PORTAL
    exposed = booked.headers["Access-Control-Expose-Headers"]
    for name in ("ETag", "Link", "Location", "Retry-After", "X-Request-ID"):
        assert name in exposed
    # What is refused can be read as well, or nobody would know why.
    refused = open_to_portal.http.post("/appointment", json={}, headers=sent)
    assert refused.status_code == 422
    assert refused.headers["Access-Control-Allow-Origin"] == PORTAL


def test_unless_sites_are_named_there_are_none(clinic: ClinicProcess) -> None:
    answer = preflight(clinic, PORTAL)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
