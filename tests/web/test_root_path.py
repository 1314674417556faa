"""Behind a proxy that serves the clinic under a path: everything leads back there."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from clinic import __version__
from clinic.parts import ENDPOINTS, check
from clinic.settings import BadSetting, read_settings
from clinic.web.openapi import openapi
from tests.process.clinic import ClinicProcess, running
from tests.web.test_description import Page


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("below")
    with (
        running(folder, CLINIC_ROOT_PATH="/a/clinic/") as process,
        httpx.Client(base_url=process.url) as client,
    ):
        yield client


def booking(number: int) -> dict[str, Any]:
    return {
        "patient_name": "Иван",
        "office_number": f"root {number}",
        "date_time": "2027-12-01T15:30:00",
    }


# A proxy hands on the path as it came, or without what it begins with there.
@pytest.mark.parametrize("prefix", ["", "/a/clinic"])
def test_every_link_leads_to_where_the_proxy_serves(below: httpx.Client, prefix: str) -> None:
    number = 10 * len(prefix)
    made = [below.post(f"{prefix}/appointment", json=booking(number + one)) for one in range(2)]
    location = made[0].headers["location"]
    assert location == f"/a/clinic/appointment/{made[0].json()['id']}"
    assert below.get(location).json()["office_number"] == f"root {number}"
    page = below.get(f"{prefix}/appointment?limit=1")
    assert page.links["next"]["url"].startswith("/a/clinic/appointment?")
    assert len(below.get(page.links["next"]["url"]).json()) == 1
    taken = below.post(f"{prefix}/appointment", json=booking(number) | {"patient_name": "Пётр"})
    assert taken.json()["type"] == "/a/clinic/docs#time-taken"
    assert below.get("/a/clinic/docs").status_code == 200
    assert below.get(f"{prefix}/health/ready").status_code == 200
    assert below.get(f"{prefix}/nowhere").status_code == 404


def test_a_path_that_only_begins_alike_is_not_below(below: httpx.Client) -> None:
    for path in ("/a/clinics/appointment", "/a/clinicappointment", "/a/clinic", "/a"):
        assert below.get(path).status_code == 404


def test_the_description_leads_to_where_the_proxy_serves(below: httpx.Client) -> None:
    document = below.get("/openapi.json").json()
    assert document == openapi(__version__, ENDPOINTS, "/a/clinic")
    assert document["servers"] == [{"url": "/a/clinic"}]
    assert set(document["paths"]) == set(openapi(__version__, ENDPOINTS)["paths"])
    text = below.get("/docs").text
    links = Page(text).all("href")
    assert "/a/clinic/openapi.json" in links
    assert all(link.startswith(("#", "/a/clinic/")) for link in links)
    for wrong in ("'/docs#", "&#34;/docs#", "Location: /appointment", "&lt;/appointment"):
        assert wrong not in text
    assert "http://127.0.0.1:8000/a/clinic/appointment" in text


def test_no_client_can_choose_the_path(clinic: ClinicProcess) -> None:
    """The clinic trusts nobody's X-Forwarded-*, so no answer depends on it."""
    answer = clinic.http.post(
        "/appointment",
        json=booking(1),
        headers={
            "X-Forwarded-Prefix": "/evil",
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Proto": "https",
            "X-Script-Name": "/evil",
            "Forwarded": "host=evil.example",
        },
    )
    assert answer.status_code == 201
    assert answer.headers["location"].startswith("/appointment/")
    origin = {"Origin": "http://evil.example", "X-Forwarded-Host": "evil.example"}
    assert clinic.http.delete(answer.headers["location"], headers=origin).status_code == 403
    host = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
    assert clinic.http.get("/appointment", headers=host).status_code == 421


@pytest.mark.parametrize(
    "value", ["clinic", "http://x/clinic", "//clinic", "/a b", "/a/../b", "/a?"]
)
def test_a_malformed_path_is_refused(value: str) -> None:
    with pytest.raises(BadSetting, match=r"^CLINIC_ROOT_PATH: must be a path such as /clinic$"):
        read_settings({"CLINIC_ROOT_PATH": value})


@pytest.mark.parametrize("value", ["/docs", "/appointment", "/health/", "/appointment/clinic"])
def test_a_path_of_the_clinic_itself_is_refused(value: str) -> None:
    """The clinic could not tell whether the proxy has removed the path already."""
    with pytest.raises(BadSetting, match=r"^CLINIC_ROOT_PATH: must not begin with a path of "):
        check(read_settings({"CLINIC_ROOT_PATH": value}))


@pytest.mark.parametrize("value", ["/", "/clinic", "/clinic/", "/a/b-c/~d/e.f", "/appointments"])
def test_a_path_is_taken(value: str) -> None:
    check(read_settings({"CLINIC_ROOT_PATH": value}))
