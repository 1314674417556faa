"""Killed at the worst moment and started again: nothing lost, nothing counted twice.

The worst moments are held still by a trigger in the database, which refuses the next step.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.process.clinic import ClinicProcess, running, until
from tests.servers import Postgres

QUICK: dict[str, Any] = {"CLINIC_LEASE_SECONDS": 1, "TTL_FOR_RETRIES": 200}


def execute(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "clinic.db", timeout=10)) as connection:
        rows = connection.execute(sql).fetchall()
        connection.commit()
    return rows


@contextmanager
def refused(folder: Path, step: str) -> Iterator[None]:
    """Have the database refuse a step, such as ``insert on message``, while the body runs."""
    execute(
        folder, f"create trigger refuse before {step} begin select raise(abort, 'refused'); end"
    )
    yield
    execute(folder, "drop trigger refuse")


def counted(clinic: ClinicProcess, booked: int) -> None:
    """Check that everything is counted, and stays so."""
    until(lambda: clinic.totals()["booked"] >= booked)
    time.sleep(1.5)  # as long as a lease and a TTL: whatever comes twice has come
    assert clinic.totals() == {"booked": booked}
    assert len(clinic.http.get("/appointment").json()) == booked


def test_killed_between_commit_and_publish(tmp_path: Path) -> None:
    with running(tmp_path, **QUICK) as clinic:
        with refused(tmp_path, "insert on message"):
            assert all(clinic.book(number).status_code == 201 for number in range(5))
            until(lambda: "relay failed" in clinic.log)
            clinic.kill()
        assert execute(tmp_path, "select count(*) from outbox where published_at is null") == [(5,)]
    with running(tmp_path, **QUICK) as clinic:
        counted(clinic, booked=5)


def test_killed_between_publish_and_the_mark(tmp_path: Path) -> None:
    # No consumer runs, because it would close the events before they need a mark.
    with running(tmp_path, "--role", "api", **QUICK) as clinic:
        with refused(tmp_path, "update of published_at on outbox"):
            assert all(clinic.book(number).status_code == 201 for number in range(5))
            until(lambda: "relay failed" in clinic.log)
            clinic.kill()
        assert execute(tmp_path, "select count(*) from outbox where published_at is null") == [(5,)]
    with running(tmp_path, **QUICK) as clinic:
        counted(clinic, booked=5)


def test_killed_between_delivery_and_recording(tmp_path: Path) -> None:
    with running(tmp_path, **QUICK) as clinic, refused(tmp_path, "insert on recorded"):
        assert clinic.book().status_code == 201
        until(lambda: "failed at attempt 1" in clinic.log)
        clinic.kill()
    with running(tmp_path, **QUICK) as clinic:
        counted(clinic, booked=1)


def test_killed_between_recording_and_settlement(tmp_path: Path) -> None:
    with running(tmp_path, **QUICK) as clinic:
        with refused(tmp_path, "delete on message"):
            assert all(clinic.book(number).status_code == 201 for number in range(5))
            until(lambda: "consumer failed" in clinic.log)
            assert clinic.totals()["booked"] >= 1
            clinic.kill()
        assert execute(tmp_path, "select count(*) from message") != [(0,)]
    with running(tmp_path, **QUICK) as clinic:
        counted(clinic, booked=5)


@pytest.fixture(params=["sqlite and embedded", "postgresql and rabbitmq"])
def servers(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Settings for each end of what the clinic runs on."""
    if request.param == "sqlite and embedded":
        yield {}
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.create_database("killed")
    yield {"DATABASE_URL": url, "AMQP_URL": request.getfixturevalue("vhost")}
    postgres.drop_database("killed")


@pytest.mark.parametrize(
    "seed", [0, *[pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 5)]]
)
def test_killed_at_any_moment_under_load(
    tmp_path: Path, servers: dict[str, Any], seed: int
) -> None:
    """What was answered 201 is in the book, and what is in the book is counted once."""
    confirmed = 0
    for life in range(4):
        with running(tmp_path, **QUICK, **servers) as clinic:
            timer = threading.Timer(0.4 + 0.13 * life + 0.04 * seed, clinic.kill)
            timer.start()
            try:
                for number in range(10_000):
                    assert clinic.book(life * 10_000 + number).status_code == 201
                    confirmed += 1
            except httpx.TransportError:
                timer.join()
                assert clinic.process.returncode == -9
    with running(tmp_path, **QUICK, **servers) as clinic:
        in_the_book = len(clinic.http.get("/appointment").json())
        assert confirmed <= in_the_book <= confirmed + 4
        counted(clinic, booked=in_the_book)


def test_deliveries_that_fail_are_set_aside_in_the_end_and_the_clinic_goes_on(
    tmp_path: Path,
) -> None:
    with running(tmp_path, **QUICK, DEATH_LIMIT=1, ERROR_PROBABILITY=1) as clinic:
        assert clinic.book().status_code == 201
        until(lambda: execute(tmp_path, "select deaths, queue from message") == [(1, "not_solved")])
        assert clinic.totals() == {"booked": 0}
        assert clinic.book(2).status_code == 201


def test_a_part_that_keeps_failing_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    with running(tmp_path, CLINIC_LOG_LEVEL="error") as clinic:
        with refused(tmp_path, "insert on message"):
            clinic.book()
            until(lambda: "relay failed 8 times in a row: it stays down" in clinic.log)
            assert clinic.book(2).status_code == 201
            health = clinic.http.get("/health/ready")
            assert health.status_code == 200
            assert health.json()["status"] == "degraded"
            assert health.json()["parts"]["relay"]["state"] == "down"
        assert clinic.stop() == 0


def test_a_process_whose_one_purpose_keeps_failing_ends_with_plain_words(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--role", "consumer", **QUICK) as consumer,
        running(tmp_path, "--role", "api", **QUICK) as api,
    ):
        with refused(tmp_path, "update on message"):
            assert api.book().status_code == 201
            assert consumer.wait() == 1
        last = consumer.log.splitlines()[-1]
        assert last.endswith("Ended: consumer failed 8 times in a row; the log lines above say why")
        assert "ExceptionGroup" not in consumer.log
