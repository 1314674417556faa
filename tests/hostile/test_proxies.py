"""A clinic behind real proxies: nothing gets past them, and nothing is lost on the way."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import start_or_skip
from tests.hostile.friends import friends
from tests.hostile.proxies import IDLE_SECONDS, HAProxy, Nginx, Proxy
from tests.hostile.smuggling import probes
from tests.process.clinic import ClinicProcess, running, until
from tests.timing import PATIENCE_SECONDS

pytestmark = pytest.mark.hostile

KINDS: list[type[Proxy]] = [Nginx, HAProxy]
WAYS = ["plain", "kept", "guarded"]


@contextlib.contextmanager
def in_front(kind: type[Proxy], *clinics: ClinicProcess) -> Iterator[Proxy]:
    proxy = kind(*(clinic.port for clinic in clinics))
    start_or_skip(proxy)
    with contextlib.closing(proxy):
        yield proxy


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    settings: dict[str, Any] = {
        "CLINIC_KEEP_ALIVE_SECONDS": IDLE_SECONDS + 1,
        "CLINIC_ROOT_PATH": "/stripped",
    }
    with running(tmp_path_factory.mktemp("behind"), **settings) as clinic:
        yield clinic
        assert clinic.stop() == 0
        assert "Traceback" not in clinic.log


@pytest.fixture(scope="module", params=KINDS)
def proxy(request: pytest.FixtureRequest, behind: ClinicProcess) -> Iterator[Proxy]:
    with in_front(request.param, behind) as proxy:
        yield proxy


def client(proxy: Proxy, way: str) -> httpx.Client:
    return httpx.Client(base_url=proxy.url(way), timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix", ["", "/stripped"])
def test_a_clinic_is_whole_behind_a_proxy(proxy: Proxy, way: str, prefix: str) -> None:
    office = f"{proxy.NAME} {way} {prefix}".strip()
    booking = {"patient_name": "Иван", "office_number": office, "date_time": "2027-12-01T15:30:00"}
    with client(proxy, way) as asked:
        made = asked.post(f"{prefix}/appointment", json=booking)
        assert made.status_code == 201
        location = made.headers["location"]
        assert location.startswith("/stripped/appointment/")
        other = booking | {"date_time": "2027-12-01T16:30:00"}
        assert asked.post(f"{prefix}/appointment", json=other).status_code == 201
        shown = asked.get(location)
        assert shown.json()["office_number"] == office
        known = {"If-None-Match": shown.headers["etag"]}
        assert asked.get(location, headers=known).status_code == 304
        assert asked.head(location).status_code == 200
        page = asked.get(f"{prefix}/appointment", params={"office_number": office, "limit": 1})
        assert len(page.json()) == 1
        following = asked.get(page.links["next"]["url"])
        assert [one["date_time"] for one in following.json()] == [other["date_time"]]
        assert len(asked.get(f"{prefix}/appointment").json()) >= 2
        table = asked.get(f"{prefix}/appointment", headers={"Accept": "text/csv"})
        assert office in table.text
        changed = asked.patch(location, json={"status": "arrived"})
        assert changed.json()["status"] == "arrived"
        assert asked.get(f"{prefix}/docs").status_code == 200
        taken = asked.post(f"{prefix}/appointment", json=booking | {"patient_name": "Пётр"})
        assert taken.json()["type"] == "/stripped/docs#time-taken"
        gone = asked.delete(f"{prefix}/appointment/{following.json()[0]['id']}")
        assert gone.status_code == (403 if way == "guarded" else 200)


def test_a_long_list_comes_whole(behind: ClinicProcess, proxy: Proxy) -> None:
    """By HTTP/1.0 only its end says that it was whole."""
    while len(behind.http.get("/appointment").content) < 200_000:
        for number in range(500):
            behind.book(number, office_number=f"long {time.monotonic_ns()} {number}")
    expected = behind.http.get("/appointment").json()
    for way in WAYS:
        with client(proxy, way) as asked:
            assert asked.get("/appointment").json() == expected


@contextlib.contextmanager
def readers(proxy: Proxy, way: str, appointments: list[int]) -> Iterator[list[str]]:
    """Read appointments, as long as the body runs; list what was not the one asked for."""
    wrong: list[str] = []
    leave = threading.Event()

    def read(appointment_id: int) -> None:
        with client(proxy, way) as asked:
            while not leave.wait(0.002):
                answer = asked.get(f"/appointment/{appointment_id}")
                if answer.status_code != 200 or answer.json()["id"] != appointment_id:
                    wrong.append(f"{appointment_id}: {answer.status_code} {answer.text}")

    threads = [threading.Thread(target=read, args=[number]) for number in appointments]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        leave.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_nothing_is_smuggled_past_a_proxy(behind: ClinicProcess, proxy: Proxy) -> None:
    """Each probe tries to cancel an appointment of its own, where nobody may cancel."""
    victims: dict[str, int] = {
        name: behind.book(office_number=f"{proxy.NAME} {number}").json()["id"]
        for number, name in enumerate(probes(b""))
    }
    with readers(proxy, "guarded", list(victims.values())[:3]):
        for name, victim in victims.items():
            smuggled = b"DELETE /appointment/%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % victim
            with proxy.connect("guarded") as connection:
                connection.settimeout(0.1)
                with contextlib.suppress(OSError):
                    connection.sendall(probes(smuggled)[name])
                    while connection.recv(65536):
                        pass
    found = {
        name: behind.http.get(f"/appointment/{victim}").json()["status"]
        for name, victim in victims.items()
    }
    assert {name for name, status in found.items() if status != "booked"} == set()


def test_an_upgrade_is_answered_as_if_none_was_asked_for(proxy: Proxy) -> None:
    for kind in ("websocket", "h2c", "foo"):
        lines = f"Host: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: {kind}\r\n\r\n"
        with proxy.connect("guarded") as connection:
            connection.sendall(f"GET /health/live HTTP/1.1\r\n{lines}".encode())
            assert connection.recv(65536).split()[1] in {b"200", b"400"}


def test_no_booking_is_lost_where_a_proxy_lets_idle_connections_go(proxy: Proxy) -> None:
    edge = random.Random(7)
    with friends(
        proxy.ports["kept"],
        crowd=40,
        break_seconds=lambda: IDLE_SECONDS + edge.uniform(-0.1, 0.1),
    ) as found:
        until(lambda: found.booked >= 200)
    assert set(found.statuses) == {201}, found.failures


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["plain", "kept"])
def test_a_clinic_that_stops_loses_no_booking_while_another_is_there(
    tmp_path: Path, kind: type[Proxy], way: str
) -> None:
    """One that starts says 503 for a moment; a booking that is lost is 502, or no answer at all."""
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(running(tmp_path)) for _ in range(2))
        proxy = stack.enter_context(in_front(kind, one, two))
        with friends(proxy.ports[way], crowd=16, break_seconds=lambda: 0.001) as found:
            for _ in range(10):
                enough = found.booked + 200
                until(lambda enough=enough: found.booked > enough)  # type: ignore[misc]
                assert one.stop() == 0
                one = stack.enter_context(running(tmp_path, port=one.port))
        print(kind.NAME, way, dict(found.statuses), f"slowest {found.slowest_seconds:.2f} s")
        assert set(found.statuses) <= {201, 503}, found.failures
