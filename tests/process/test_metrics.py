"""What Prometheus is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clinic import metrics
from tests.process.clinic import ClinicProcess, running, until
from tests.process.test_kill import QUICK, refused

CANARY = "Канарейкин"


def numbers(clinic: ClinicProcess) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the numbers of a clinic, by name and labels."""
    text = clinic.http.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def number(clinic: ClinicProcess, name: str, **labels: str) -> float:
    return numbers(clinic).get((name, frozenset(labels.items())), 0.0)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[ClinicProcess]:
    with running(tmp_path, **QUICK) as clinic:
        yield clinic


def test_requests_and_bookings_are_counted(quick: ClinicProcess) -> None:
    for _ in range(3):
        quick.book(1)
    quick.book(1, patient_name="Другой")
    quick.http.get("/appointment/")
    quick.http.get("/appointment/1")
    quick.http.get(f"/{CANARY}")
    quick.http.get(f"/appointment?patient_name={CANARY}")

    def requests(method: str, route: str, status: int) -> float:
        labels = {"method": method, "route": route, "status": str(status)}
        return number(quick, "clinic_http_request_seconds_count", **labels)

    assert requests("POST", "/appointment", 201) == 1
    assert requests("POST", "/appointment", 200) == 2
    assert requests("POST", "/appointment", 409) == 1
    assert requests("GET", "/appointment", 200) == 2
    assert requests("GET", "/appointment/{id}", 200) == 1
    assert requests("GET", "(no route)", 404) == 1
    outcomes = {
        one: number(quick, "clinic_bookings_total", outcome=one)
        for one in ("booked", "again", "taken", "closed")
    }
    assert outcomes == {"booked": 1, "again": 2, "taken": 1, "closed": 0}
    assert number(quick, "clinic_booking_batch_size_count") >= 3
    text = quick.http.get("/metrics").text
    assert CANARY not in text
    assert "221B" not in text
    assert "office 1" not in text


def test_open_events_are_counted_with_the_age_of_the_oldest(tmp_path: Path) -> None:
    with running(tmp_path, **QUICK) as clinic:
        assert number(clinic, "clinic_event_oldest_open_seconds") == 0
        with refused(tmp_path, "insert on recorded"):
            for office in range(3):
                clinic.book(office)
            until(lambda: number(clinic, "clinic_events_open") == 3)
            until(lambda: number(clinic, "clinic_event_oldest_open_seconds") > 0.2)
        until(lambda: number(clinic, "clinic_events_open") == 0)
        assert number(clinic, "clinic_event_oldest_open_seconds") == 0


def test_each_service_is_up_or_not_and_counts_its_failures(tmp_path: Path) -> None:
    away = "amqp://guest:guest@127.0.0.1:1/"
    with running(tmp_path, AMQP_URL=away) as clinic:
        until(lambda: number(clinic, "clinic_service_failures_total", service="relay") > 1)
        assert number(clinic, "clinic_service_up", service="relay") == 0
        assert number(clinic, "clinic_service_up", service="http") == 1
    with running(tmp_path, "--role", "consumer") as clinic:
        assert number(clinic, "clinic_service_up", service="consumer") == 1


def test_every_metric_says_what_it_is() -> None:
    """Names and labels of https://prometheus.io/docs/practices/naming/, and nothing personal."""
    allowed = {"method", "route", "status", "outcome", "service", "queue", "kind", "le"}
    found = [one for one in metrics.REGISTRY.collect() if one.name.startswith("clinic_")]
    assert len(found) > 5
    for family in found:
        assert family.documentation.endswith(".")
        assert {name for sample in family.samples for name in sample.labels} <= allowed


def test_health_says_since_when_and_why_something_is_down(tmp_path: Path) -> None:
    with running(tmp_path, AMQP_URL="amqp://guest:guest@127.0.0.1:1/") as clinic:

        def relay() -> dict[str, str]:
            part: dict[str, str] = clinic.http.get("/health/ready").json()["parts"]["relay"]
            return part

        until(lambda: relay()["state"] == "down")
        first = relay()
        assert "RabbitMQ cannot be reached" in first["why"]
        assert "guest:" not in first["why"]
        until(lambda: number(clinic, "clinic_service_failures_total", service="relay") > 4)
        # However often it was tried meanwhile, it has been down since then.
        assert relay() == first


def test_health_is_degraded_while_events_are_not_recorded_in_time(tmp_path: Path) -> None:
    with running(tmp_path, **QUICK, CLINIC_BEHIND_SECONDS=0.5) as clinic:

        def health() -> dict[str, Any]:
            answer = clinic.http.get("/health/ready")
            assert answer.status_code == 200
            found: dict[str, Any] = answer.json()
            return found

        until(lambda: health()["status"] == "ready")
        with refused(tmp_path, "insert on recorded"):
            clinic.book()
            until(lambda: health()["status"] == "degraded")
            assert health()["events"]["open"] == 1
            assert health()["events"]["oldest_seconds"] > 0.5
        until(lambda: health()["status"] == "ready")
        assert health()["events"] == {"open": 0, "oldest_seconds": 0.0}


def test_deliveries_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    with running(tmp_path, **QUICK, DEATH_LIMIT=1, ERROR_PROBABILITY=1) as clinic:
        clinic.book()
        until(lambda: number(clinic, "clinic_events_published_total") == 1)
        failed = "clinic_deliveries_failed_total"
        kind = {"kind": "RehearsedFailure"}
        until(lambda: number(clinic, failed, outcome="retried", **kind) == 1)
        until(lambda: number(clinic, failed, outcome="set_aside", **kind) == 1)
        assert number(clinic, "clinic_deliveries_handled_total") == 0
    with running(tmp_path, **QUICK) as clinic:
        clinic.book(2)
        until(lambda: number(clinic, "clinic_deliveries_handled_total") == 1)
