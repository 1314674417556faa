"""What tests stand on: real databases and brokers, each checked for leaks when it is left."""

import asyncio
import contextlib
import gc
import itertools
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from clinic.cli.run import LOOP
from clinic.database import Database, Dialect, migrate, open_database
from tests.process.clinic import ClinicProcess, running
from tests.servers import Postgres, Rabbit, ServerMissing
from tests.servers.server import Server
from tests.timing import SLACK_SECONDS

NUMBERS = itertools.count(1)
TESTS = Path(__file__).parent
# Folders of tests that mostly wait for processes and servers.
SLOW_FIRST = ("faults", "process", "hostile", "servers", "messaging", "containers")

# What is slow here is the machine, or the tracing of coverage.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests that take seconds each begin first: workers then end at about the same time."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(TESTS).parts[0]
        return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Keep modules and tests out of every later search for garbage: they are there to stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", LOOP


@pytest.fixture
def make_database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[Dialect], str]]:
    """Make databases of the test's own, migrated; none may have a connection left at the end."""
    made: list[str] = []

    def make(dialect: Dialect) -> str:
        if dialect is Dialect.SQLITE:
            file = tmp_path / "clinic.db"
            shutil.copy(request.getfixturevalue("sqlite_template"), file)
            return f"sqlite:///{file}"
        copies: Copies = request.getfixturevalue("postgres_copies")
        made.append(f"test_{next(NUMBERS)}")
        return copies.make(made[-1])

    yield make
    for name in made:
        assert not request.getfixturevalue("postgres_copies").drop(name)


class Copies:
    """Copies of a migrated PostgreSQL database, made and dropped over one connection."""

    def __init__(self, server: Postgres, template: str) -> None:
        self._server = server
        self._template = template
        self._connection = psycopg.connect(server.url, autocommit=True)

    def make(self, name: str) -> str:
        """Make a copy and return its address."""
        self._connection.execute(
            f"create database {name} template {self._template} strategy file_copy"
        )
        return self._server.database_url(name)

    def drop(self, name: str) -> int:
        """Drop a copy; return how many sessions it had, after time for those that were ending."""
        sql = f"select count(*) from pg_stat_activity where datname = '{name}'"
        deadline = time.monotonic() + SLACK_SECONDS
        while (left := self._connection.execute(sql).fetchall()[0][0]) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.02)
        self._connection.execute(f"drop database {name} with (force)")
        return int(left)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


@pytest.fixture(params=list(Dialect))
def database_url(request: pytest.FixtureRequest, make_database: Callable[[Dialect], str]) -> str:
    """A database of the test's own, of each kind."""
    return make_database(request.param)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as database:
        yield database


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread behind; each open SQLite connection is one."""
    before = set(threading.enumerate())
    yield
    left = [
        thread
        for thread in threading.enumerate()
        # anyio and asyncio keep their threads for the next one who asks.
        if thread not in before and not thread.name.startswith(("AnyIO worker", "asyncio_"))
    ]
    for thread in left:
        thread.join(timeout=SLACK_SECONDS)
    assert not [thread for thread in left if thread.is_alive()]


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task running."""
    yield
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if "TestRunner" not in repr(task.get_coro())]
    assert not [task for task in left if task is not asyncio.current_task()]


@pytest.fixture(scope="session", params=list(Dialect))
def clinic(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClinicProcess]:
    """One real clinic, on each kind of database, for all tests that only ask it over HTTP.

    Book in offices of your own.
    """
    settings: dict[str, Any] = {"CLINIC_TIMEZONE": "Europe/Berlin"}
    if request.param is Dialect.POSTGRESQL:
        # It may be set up anew in one worker, when tests of the other kind came between.
        postgres = request.getfixturevalue("postgres")
        settings["DATABASE_URL"] = postgres.create_database(f"session_{next(NUMBERS)}")
    with running(tmp_path_factory.mktemp("clinic"), **settings) as process:
        yield process
        assert process.stop() == 0
        assert "Traceback" not in process.log


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One real PostgreSQL for all tests; work in databases of your own, and leave it running."""
    server = Postgres(fsync=False)
    start_or_skip(server)
    with contextlib.closing(server):
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """A migrated database, to be copied."""
    migrate(postgres.create_database("template_clinic"))
    return "template_clinic"


@pytest.fixture(scope="session")
def postgres_copies(postgres: Postgres, postgres_template: str) -> Iterator[Copies]:
    with contextlib.closing(Copies(postgres, postgres_template)) as copies:
        yield copies


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database's file, to be copied."""
    file = tmp_path_factory.mktemp("template") / "clinic.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Rabbit]:
    """One real RabbitMQ for all tests; work in vhosts of your own, and leave it running."""
    server = Rabbit()
    start_or_skip(server)
    with contextlib.closing(server):
        yield server


@pytest.fixture
def vhost(rabbit: Rabbit) -> Iterator[str]:
    """The URL of a vhost of the test's own; no connection may be left to it at the end."""
    name = f"test-{next(NUMBERS)}"
    yield rabbit.create_vhost(name)
    rabbit.delete_vhost(name)


def start_or_skip(server: Server) -> None:
    """Start a server; where it is missing, skip the test at a desk and fail it in CI."""
    try:
        server.start()
    except ServerMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
