"""Behind PgBouncer: in its session mode as it comes, in its transaction mode as documented."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import start_or_skip
from tests.process.clinic import ClinicProcess, running, until
from tests.process.test_start import run
from tests.servers import PgBouncer, Postgres
from tests.servers.bouncer import CARRIES_PREPARED


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    yield postgres.create_database("bounced")
    postgres.drop_database("bounced")


@pytest.fixture(params=["session", "transaction"])
def bouncer(request: pytest.FixtureRequest, postgres: Postgres, url: str) -> Iterator[PgBouncer]:
    del url
    server = PgBouncer(postgres, request.param)
    start_or_skip(server)
    yield server
    server.close()


def book_and_count(clinic: ClinicProcess, clients: int, bookings: int) -> None:
    with ThreadPoolExecutor(clients) as threads:
        answers = list(threads.map(clinic.book, range(bookings)))
    assert {answer.status_code for answer in answers} == {201}
    assert clinic.book(0, patient_name="b", override=True, reason="r").status_code == 201
    assert clinic.book(0, patient_name="c").status_code == 409
    assert clinic.http.patch("/appointment/1", json={"status": "arrived"}).status_code == 200
    assert len(clinic.http.get("/appointment").json()) == bookings + 1
    until(lambda: clinic.totals() == {"booked": bookings + 1, "arrived": 1})


def test_a_clinic_migrates_books_and_counts_through_it(
    tmp_path: Path, postgres: Postgres, bouncer: PgBouncer
) -> None:
    settings: dict[str, Any] = {"DATABASE_URL": bouncer.database_url("bounced")}
    session_mode = bouncer._mode == "session"
    if not session_mode and bouncer.version < CARRIES_PREPARED:
        with running(tmp_path, **settings) as clinic:
            until(lambda: clinic.book().status_code and "max_prepared_statements" in clinic.log)
            assert clinic.stop() == 0
            assert "Traceback" not in clinic.log
        return
    # In session mode every session of ours occupies one of PgBouncer's four connections.
    with ExitStack() as stack:
        clinic, *_ = [
            stack.enter_context(running(tmp_path, **settings))
            for _ in range(1 if session_mode else 2)
        ]
        book_and_count(clinic, clients=2 if session_mode else 8, bookings=100)
        assert clinic.stop() == 0
        assert "Traceback" not in clinic.log
        assert "Trying again" not in clinic.log
    locks = "select count(*) from pg_locks where locktype = 'advisory'"
    assert postgres.execute(locks) == "0"
    assert run(tmp_path, "migrate", **settings).stderr == ""
