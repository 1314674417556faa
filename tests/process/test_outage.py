"""The database away, locked, mute or read-only: at the start, and while the clinic runs."""

import contextlib
import fcntl
import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from clinic.database import Dialect
from clinic.database.migration import ADVISORY_LOCK
from tests.conftest import start_or_skip
from tests.process.clinic import ClinicProcess, running, until
from tests.process.test_start import plain_line, run
from tests.servers import Postgres
from tests.timing import SLACK_SECONDS

BODY = {"patient_name": "a", "office_number": "keyed", "date_time": "2027-12-01T10:00"}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of this module's own, to be stopped, altered and frozen."""
    server = Postgres(fsync=False)
    start_or_skip(server)
    yield server
    server.close()


@pytest.fixture
def url(server: Postgres) -> Iterator[str]:
    if not server.running:
        server.start()
    yield server.create_database("outage")
    if not server.running:
        server.start()
    server.drop_database("outage")


@contextlib.contextmanager
def starting(folder: Path, *arguments: str, **settings: Any) -> Iterator[ClinicProcess]:
    """Start a clinic that cannot be ready yet, and check that it says so."""
    clinic = ClinicProcess(folder, *arguments, **settings)
    try:
        until(lambda: status(clinic, "/health/live") == 200)
        assert status(clinic, "/health/ready") == 503
        yield clinic
    finally:
        clinic.close()


def status(clinic: ClinicProcess, path: str) -> int:
    assert clinic.process.poll() is None, clinic.log
    with contextlib.suppress(httpx.TransportError):
        return clinic.http.get(path).status_code
    return 0


def waits(clinic: ClinicProcess, *, says: str) -> None:
    """Check that a clinic waits for its database, says so once, and refuses bookings at once."""
    until(lambda: says in clinic.log)
    began = time.monotonic()
    refused = clinic.book()
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert time.monotonic() - began < SLACK_SECONDS
    time.sleep(2)
    ready = clinic.http.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["parts"]["database"]["state"] != "up"
    assert clinic.log.count("Trying again until it is back") == 1
    assert "Traceback" not in clinic.log


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_a_server_that_is_away_at_the_start_is_waited_for(
    tmp_path: Path, server: Postgres, url: str, how: str
) -> None:
    server.stop() if how == "stopped" else server.freeze()
    with starting(tmp_path, DATABASE_URL=url) as clinic:
        waits(clinic, says="cannot be reached")
        server.start() if how == "stopped" else server.thaw()
        assert clinic.until_ready().book().status_code == 201
        until(lambda: clinic.totals() == {"booked": 1})
        assert clinic.log.count("database: working again after") == 1
        assert clinic.stop() == 0


def test_a_stop_while_the_database_is_waited_for_is_in_order(tmp_path: Path) -> None:
    url = "postgresql://clinic@127.0.0.1:1/clinic"
    with starting(tmp_path, DATABASE_URL=url) as clinic:
        assert clinic.stop() == 0


def test_a_migration_by_somebody_else_is_waited_for_on_a_server(
    tmp_path: Path, server: Postgres, url: str
) -> None:
    del server
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", [ADVISORY_LOCK])
        with starting(tmp_path, DATABASE_URL=url) as clinic:
            waits(clinic, says="is being brought up to date by another process")
            other.execute("select pg_advisory_unlock_all()")
            assert clinic.until_ready().book().status_code == 201
            assert clinic.stop() == 0


def test_a_migration_by_somebody_else_is_waited_for_on_a_file(tmp_path: Path) -> None:
    with (tmp_path / "clinic.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with starting(tmp_path) as clinic:
            waits(clinic, says="is being brought up to date by another process")
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert clinic.until_ready().book().status_code == 201
            assert clinic.stop() == 0


def test_a_mistake_that_a_person_has_to_correct_ends_the_start_in_one_line(
    tmp_path: Path, server: Postgres, url: str
) -> None:
    server.execute("create role locked login password 's3cret'")
    rules = server.directory / "data" / "pg_hba.conf"
    rules.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    server.execute("select pg_reload_conf()")
    server.execute(
        "create database cyrillic encoding 'WIN1251' lc_collate 'C' lc_ctype 'C' template template0"
    )
    for wrong, says in {
        url.replace("postgres@", "locked:wr0ng@"): "does not let us in: InvalidPasswordError",
        url.replace("postgres@", "nobody@"): "does not let us in",
        server.database_url("nothing"): "does not let us in: InvalidCatalogNameError",
        server.database_url("cyrillic"): "has the encoding WIN1251",
    }.items():
        line = plain_line(run(tmp_path, DATABASE_URL=wrong))
        assert says in line
        assert "wr0ng" not in line
    server.drop_database("cyrillic")
    with psycopg.connect(url, autocommit=True) as connection:
        run(tmp_path, "migrate", DATABASE_URL=url)
        connection.execute("insert into _yoyo_migration values ('x', '9999.newer', now())")
    assert "9999.newer" in plain_line(run(tmp_path, DATABASE_URL=url))


def test_a_user_who_may_not_migrate_can_start_on_an_up_to_date_schema(
    tmp_path: Path, server: Postgres, url: str
) -> None:
    assert run(tmp_path, "migrate", DATABASE_URL=url).returncode == 0
    server.execute("create role reader login")
    server.execute(
        "grant select, insert, update, delete on all tables in schema public to reader", "outage"
    )
    server.execute("grant usage on all sequences in schema public to reader", "outage")
    with running(tmp_path, DATABASE_URL=url.replace("postgres@", "reader@")) as clinic:
        assert clinic.book().status_code == 201
        assert clinic.stop() == 0
    server.execute("drop owned by reader", "outage")
    server.execute("drop role reader")


@pytest.mark.parametrize("sessions", ["new", "all"])
def test_the_clinic_writes_again_when_a_server_is_no_longer_read_only(
    tmp_path: Path, server: Postgres, url: str, sessions: str
) -> None:
    """As after a failover: sessions that were opened meanwhile, or all, can only read."""
    what = "database outage" if sessions == "new" else "system"
    with (
        running(tmp_path, "--role", "api", DATABASE_URL=url) as api,
        running(tmp_path, "--role", "consumer", DATABASE_URL=url) as consumer,
    ):
        assert api.book(0).status_code == 201
        until(lambda: api.totals() == {"booked": 1})
        server.execute(f"alter {what} set default_transaction_read_only = on")
        server.execute("select pg_reload_conf()")
        end_sessions(server)
        until(lambda: api.book(1).status_code == 503)
        until(lambda: status(consumer, "/health/ready") == 503)
        assert api.http.get("/health/ready").json()["parts"]["database"]["state"] == "down"
        # Reads go on, and leave read-only sessions behind.
        for _ in range(5):
            assert status(api, "/appointment?limit=50") == 200
        # ... but for what the audit would have to write down.
        assert status(api, "/appointment") == 503
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("set default_transaction_read_only = off")
            connection.execute(f"alter {what} reset default_transaction_read_only".encode())
            connection.execute("select pg_reload_conf()")
        ended = time.monotonic()
        until(lambda: api.book(1).status_code in (200, 201))
        until(lambda: api.totals() == {"booked": 2})
        assert time.monotonic() - ended < 5 + SLACK_SECONDS / 2
        for clinic in (api, consumer):
            assert "Traceback" not in clinic.log, clinic.log
            assert clinic.stop() == 0


def end_sessions(server: Postgres) -> None:
    server.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'outage'"
    )


def test_commits_that_hang_are_503_and_sending_again_is_safe(
    tmp_path: Path, server: Postgres, url: str
) -> None:
    """A lost synchronous standby: each commit waits for it, up to our deadlines of 3 s and 10 s.

    It takes as long as they do, one after the other.
    """
    with running(tmp_path, DATABASE_URL=url) as clinic, ThreadPoolExecutor(5) as clients:
        assert clinic.book(0).status_code == 201
        until(lambda: clinic.totals() == {"booked": 1})
        server.execute("alter system set synchronous_standby_names = 'nobody'")
        server.execute("select pg_reload_conf()")

        def again(number: int) -> httpx.Response:
            """Send the very same again and again."""
            if number == 0:
                return clinic.http.patch("/appointment/1", json={"status": "arrived"})
            if number == 1:
                return clinic.book(1)
            if number == 2:
                body = {"patient_name": "a", "office_number": "2", "date_time": "2027-12-01T10:00"}
                key = {"Idempotency-Key": "k"}
                return clinic.http.post("/appointment", json=body, headers=key)
            return clinic.book(0, patient_name="b", override=True, reason="urgent")

        try:
            answers = list(clients.map(again, range(4)))
        finally:
            server.execute("alter system reset synchronous_standby_names")
            server.execute("select pg_reload_conf()")
        assert [answer.status_code for answer in answers] == [503] * 4
        assert all(answer.headers["retry-after"] for answer in answers)
        assert all("may have been done" in answer.json()["detail"] for answer in answers)
        until(lambda: status(clinic, "/health/ready") == 200)
        assert [again(number).status_code in (200, 201) for number in range(4)] == [True] * 4
        assert len(clinic.http.get("/appointment").json()) == 4
        until(lambda: clinic.totals() == {"booked": 4, "arrived": 1})
        assert server.execute("select count(*) from message where deaths > 0", "outage") == "0"
        assert "Traceback" not in clinic.log
        assert clinic.stop() == 0


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(
    "table",
    ["appointment", "event", "outbox", "recorded", "standing", "tally", "idempotency_key"],
)
def test_a_table_that_is_taken_away_and_given_back_costs_no_event(
    tmp_path: Path, server: Postgres, url: str, dialect: Dialect, table: str
) -> None:
    """As an administrator may who renames, drops and restores, or revokes."""
    postgresql = dialect is Dialect.POSTGRESQL
    where: dict[str, Any] = {"DATABASE_URL": url} if postgresql else {}

    def alter(*statements: str) -> None:
        if postgresql:
            server.execute("; ".join(statements), "outage")
            return
        with contextlib.closing(sqlite3.connect(tmp_path / "clinic.db", timeout=5)) as other:
            for statement in statements:
                other.execute(statement)

    with running(tmp_path, TTL_FOR_RETRIES=20, DEATH_LIMIT=1, **where) as clinic:
        assert clinic.book(0).status_code == 201
        until(lambda: clinic.totals() == {"booked": 1})
        # Without it SQLite renames the table in the triggers as well.
        legacy = [] if postgresql else ["pragma legacy_alter_table = on"]
        alter(*legacy, f"alter table {table} rename to lost")
        answers = [
            clinic.book(1),
            clinic.http.post("/appointment", json=BODY, headers={"Idempotency-Key": "k"}),
            clinic.http.patch("/appointment/1", json={"duration_minutes": 20}),
            clinic.http.get("/appointment"),
            clinic.http.get("/appointment/1/events"),
            clinic.http.get("/analytics"),
            clinic.http.get("/appointment.ics?office_number=1"),
        ]
        found = {answer.status_code for answer in answers}
        assert found <= {200, 201, 503}, [answer.text for answer in answers]
        # Of these two only the consumer needs the one, and whoever counts the other.
        assert 503 in found or table in {"recorded", "standing"}
        time.sleep(1)
        alter(*legacy, f"alter table lost rename to {table}")
        until(lambda: clinic.book(1).status_code in (200, 201))
        until(lambda: status(clinic, "/health/ready") == 200)
        until(lambda: clinic.book(2).status_code == 201)
        booked = len(clinic.http.get("/appointment").json())
        until(lambda: clinic.totals().get("booked") == booked)
        assert "Traceback" not in clinic.log, clinic.log
        assert re.search(f"refuses: .*{table}.* get 503 until somebody puts it right", clinic.log)
        assert clinic.stop() == 0


def test_a_write_lock_of_another_program_is_not_ready(tmp_path: Path) -> None:
    with running(tmp_path) as clinic:
        other = sqlite3.connect(tmp_path / "clinic.db", isolation_level=None)
        other.execute("begin immediate")
        began = time.monotonic()
        assert status(clinic, "/health/ready") == 503
        assert time.monotonic() - began < SLACK_SECONDS
        assert clinic.http.get("/health/live").status_code == 200
        other.execute("rollback")
        other.close()
        until(lambda: status(clinic, "/health/ready") == 200)
        assert clinic.stop() == 0
