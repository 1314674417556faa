"""A backup that is made while everybody books, and what the clinic is after it was restored."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clinic.database import SKIPPED, migrate
from tests.database.test_backup import query
from tests.messaging.brokers import set_aside_in_rabbit
from tests.process.clinic import ClinicProcess, running, until
from tests.process.test_start import plain_line, run
from tests.servers import Postgres

# Many events are on their way when the backup is made: one delivery in three fails and rests.
BUSY: dict[str, Any] = {
    "TTL_FOR_RETRIES": 300,
    "ERROR_PROBABILITY": 0.3,
    "DEATH_LIMIT": 1000,
    "CLINIC_LEASE_SECONDS": 1,
}


@pytest.fixture(params=["sqlite", "postgresql", "rabbitmq"])
def places(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The settings of a clinic, and those of the clinic that is restored, on the same broker."""
    if request.param == "sqlite":
        yield tuple(  # type: ignore[misc]
            {"DATABASE_URL": f"sqlite:///{tmp_path / name}"} for name in ("old.db", "new.db")
        )
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    names = [f"{name}_{os.getpid()}" for name in ("old", "new")]
    broker = {"AMQP_URL": request.getfixturevalue("vhost")} if request.param == "rabbitmq" else {}
    yield tuple(  # type: ignore[misc]
        {"DATABASE_URL": postgres.create_database(name), **broker} for name in names
    )
    for name in names:
        postgres.drop_database(name)


class Booking(threading.Thread):
    """Books one appointment after the other until it is told to end."""

    def __init__(self, clinic: ClinicProcess, first: int) -> None:
        super().__init__()
        self.confirmed: list[int] = []
        self._clinic, self._first = clinic, first
        self._ended = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._clinic.url, timeout=30) as client:
            for number in range(self._first, self._first + 100_000):
                if self._ended.is_set():
                    return
                body = {
                    "patient_name": f"Patient {number}",
                    "office_number": f"office {number}",
                    "date_time": "2027-12-01T15:30:00",
                }
                answer = client.post("/appointment", json=body)
                assert answer.status_code == 201, answer.text
                self.confirmed.append(answer.json()["id"])
                time.sleep(0.01)  # they are many enough

    def end(self) -> None:
        self._ended.set()
        self.join()


def set_aside(url: str, found: dict[int, str]) -> dict[int, str]:
    """Take what is not solved out of RabbitMQ: the numbers of appointments, with the reasons."""
    for message, reason in asyncio.run(set_aside_in_rabbit(url)):
        found[json.loads(message.body)["data"]["appointment_id"]] = reason
    return found


def test_a_backup_while_everybody_books(
    tmp_path: Path, places: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """All that was confirmed before is in it, and everything in it is counted once."""
    old, new = places
    found: dict[int, str] = {}
    file = tmp_path / "backup"
    # Without a consumer RabbitMQ still has all messages when the backup is restored.
    role = "api" if "AMQP_URL" in old else "all"
    with running(tmp_path, "--role", role, **BUSY, **old) as clinic:
        desks = [Booking(clinic, 100_000 * number) for number in range(3)]
        for desk in desks:
            desk.start()
        try:
            until(lambda: all(len(desk.confirmed) > 50 for desk in desks))
            before = {one for desk in desks for one in list(desk.confirmed)}
            done = run(tmp_path, "backup", str(file), **old)
            assert done.returncode == 0, done.stderr
            sizes = [len(desk.confirmed) for desk in desks]
            until(lambda: all(len(one.confirmed) > n for one, n in zip(desks, sizes, strict=True)))
        finally:
            for desk in desks:
                desk.end()
        after = {one for desk in desks for one in desk.confirmed}
        assert clinic.stop() == 0
    done = run(tmp_path, "restore", str(file), **new)
    assert done.returncode == 0, done.stderr
    url = new["DATABASE_URL"]
    restored = {int(str(one)) for (one,) in query(url, "select id from appointment")}
    assert before <= restored < after
    # Of each appointment its event is there, and no other.
    events = query(url, "select body from event")
    told = [json.loads(str(body))["data"]["appointment_id"] for (body,) in events]
    assert sorted(told) == sorted(restored)
    with running(tmp_path, **BUSY | {"ERROR_PROBABILITY": 0}, **new) as clinic:
        assert {one["id"] for one in clinic.http.get("/appointment").json()} == restored
        until(lambda: clinic.totals()["booked"] >= len(restored))
        # A number that a lost appointment had is nobody's.
        assert clinic.book(10**6).json()["id"] > SKIPPED
        until(lambda: clinic.totals()["booked"] >= len(restored) + 1)
        until(lambda: query(url, "select count(*) from outbox") == [(0,)])
        assert clinic.totals() == {"booked": len(restored) + 1}
        if "AMQP_URL" in new:
            lost = after - restored
            until(lambda: set(set_aside(new["AMQP_URL"], found)) >= lost)
            assert set(found) == lost
        assert clinic.stop() == 0


def test_what_is_said(tmp_path: Path) -> None:
    assert "nothing to back up" in plain_line(run(tmp_path, "backup", "file"))
    assert list(tmp_path.iterdir()) == []
    migrate(f"sqlite:///{tmp_path / 'clinic.db'}")
    done = run(tmp_path, "backup", "file", "--json")
    size = (tmp_path / "file").stat().st_size
    assert json.loads(done.stdout) == {"file": "file", "bytes": size}
    done = run(tmp_path, "backup", "file")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--yes" in done.stderr
    assert run(tmp_path, "backup", "file", "--yes").returncode == 0
    assert "clinic.db is there already" in plain_line(run(tmp_path, "restore", "file"))
    other = {"DATABASE_URL": "sqlite:///other.db"}
    done = run(tmp_path, "restore", "file", **other)
    assert done.returncode == 0
    assert "restore --help" in done.stdout
    audit = query(f"sqlite:///{tmp_path / 'other.db'}", "select actor, action from audit")
    assert audit == [("cli", "backup.made"), ("cli", "backup.made"), ("cli", "backup.restored")]


def test_a_backup_of_an_older_schema_leaves_it_as_it_is(tmp_path: Path) -> None:
    """Before an update somebody backs up by the newer version, too."""
    url = f"sqlite:///{tmp_path / 'clinic.db'}"
    migrate(url)
    query(url, "drop table audit")
    query(url, "delete from _yoyo_migration where migration_id > '0002.clinic'")
    assert run(tmp_path, "backup", "file").returncode == 0
    assert query(url, "select count(*) from sqlite_master where name = 'audit'") == [(0,)]
    assert query(url, "select migration_id from _yoyo_migration") == [("0002.clinic",)]
    done = run(tmp_path, "restore", "file", DATABASE_URL="sqlite:///other.db")
    assert done.returncode == 0, done.stderr
