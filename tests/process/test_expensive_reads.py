"""Expensive reads keep nobody from booking, and end when their client has left."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import psycopg
import pytest

from clinic.database.reads import MOST_WAITING
from tests.process.clinic import ClinicProcess, running, until
from tests.servers import Postgres

WAITING = """
    select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
"""


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    yield postgres.create_database("expensive")
    postgres.drop_database("expensive")


@pytest.fixture(scope="module")
def busy(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    with running(tmp_path_factory.mktemp("busy"), DATABASE_URL=url) as clinic:
        yield clinic


@pytest.fixture
def other(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def waiting(url: str) -> Iterator[Callable[[], int]]:
    """Tell how many sessions wait for a lock.

    On a connection of its own: within a transaction PostgreSQL goes on telling what it told first.
    """
    with psycopg.connect(url, autocommit=True) as connection:

        def count() -> int:
            ((found,),) = connection.execute(WAITING).fetchall()
            return int(found)

        yield count


def ask(clinic: ClinicProcess, path: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", clinic.port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client


@pytest.mark.parametrize(
    ("table", "paths"),
    [
        ("tally", ["/analytics", "/analytics?from=2027-01-01"]),
        ("appointment", ["/appointment", "/appointment?status=booked"]),
        ("clinic", ["/appointment.ics?office_number=1"]),
    ],
)
def test_a_read_ends_when_its_client_has_left(
    busy: ClinicProcess,
    other: psycopg.Connection,
    waiting: Callable[[], int],
    table: str,
    paths: list[str],
) -> None:
    with other.transaction():
        other.execute(f"lock table {table} in access exclusive mode")
        for path in paths:
            with contextlib.closing(ask(busy, path)):
                until(lambda: waiting() > 0)
            until(lambda: waiting() == 0, seconds=10)
    for path in paths:
        assert busy.http.get(path).status_code == 200


def test_a_crowd_has_one_place_and_those_beyond_are_asked_to_come_again(
    busy: ClinicProcess, other: psycopg.Connection, waiting: Callable[[], int]
) -> None:
    with contextlib.ExitStack() as crowd, other.transaction():
        other.execute("lock table tally in access exclusive mode")
        for day in range(1, MOST_WAITING + 10):
            path = f"/analytics?from={2000 + day}-01-01"
            client = crowd.enter_context(contextlib.closing(ask(busy, path)))
        client.settimeout(10)
        answer = client.recv(4096).decode()
        assert answer.startswith("HTTP/1.1 503 ")
        assert "retry-after: " in answer.lower()
        until(lambda: waiting() == 1)
        assert busy.book(1).status_code == 201
        assert busy.http.get("/appointment").status_code == 200
