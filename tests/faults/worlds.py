"""The worlds: what the clinic stands on, with all that can fail of it within reach."""

import asyncio
import contextlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiormq
import httpx
import psycopg
from aiormq.abc import AbstractChannel

from tests.faults.account import Kept
from tests.process.clinic import ROOT, ClinicProcess
from tests.servers import FaultyProxy, Postgres, Rabbit
from tests.timing import PATIENCE_SECONDS

MAIN, DEAD, ASIDE = "rmq-for-retries", "dlq-for-retries", "rmq-not-solved"
DATABASE, OWNER = "clinic", "clinic"

# All waits are short, and a few deliveries fail at any time, so that every queue has messages when
# a fault comes.
SETTINGS: dict[str, Any] = {
    "TTL_FOR_RETRIES": 500,
    "DEATH_LIMIT": 10,
    "ERROR_PROBABILITY": 0.02,
    "CLINIC_REPUBLISH_SECONDS": 5,
    "CLINIC_LEASE_SECONDS": 5,
    "CLINIC_LOG_LEVEL": "info",
}

# The tables into which nothing can be written while the disk is "full": a trigger raises the error,
# because the size of a database cannot be limited.
GUARDED_TABLES = ("appointment", "event", "outbox", "recorded")
ALLOW = "begin return null; end"
REFUSE = "begin raise 'no space left on device' using errcode = 'disk_full'; end"

Call = Callable[[AbstractChannel], Awaitable[object]]


class Place:
    """A place for a process of the clinic, which is started here again and again."""

    def __init__(self, role: str, folder: Path, source: Path, settings: dict[str, Any]) -> None:
        self.role = role
        self._folder = folder
        self._source = source
        self._settings = settings
        self.clinic = self._launch(None)
        self._down = False

    @property
    def port(self) -> int:
        return self.clinic.port

    def start(self) -> None:
        """Start a process at the same port, without waiting until it is ready."""
        self.clinic.close()
        self.clinic = self._launch(self.port)
        self._down = False

    def close(self) -> None:
        """Leave nothing of the process behind."""
        self.clinic.close()

    def kill(self) -> None:
        """SIGKILL the process."""
        self._down = True
        self.clinic.kill()

    def stop(self) -> int:
        """Stop the process in order, and return its exit status."""
        self._down = True
        return self.clinic.stop()

    def last_words(self) -> str:
        """Return what the process said last, if it has ended by itself."""
        status = self.clinic.process.poll()
        if self._down or status is None:
            return ""
        return f"{self.role} ended with status {status}: {self.clinic.log[-600:]}"

    def is_ready(self) -> bool:
        """Return whether the process says that all of it works."""
        with contextlib.suppress(httpx.TransportError):
            return bool(self.clinic.http.get("/health/ready").json()["status"] == "ready")
        return False

    def _launch(self, port: int | None) -> ClinicProcess:
        return ClinicProcess(
            self._folder, "--role", self.role, port=port, source=self._source, **self._settings
        )


class World(ABC):
    """Two processes or four, on a database and a broker."""

    postgres: Postgres
    rabbits: Sequence[Rabbit] = ()
    database_proxy: FaultyProxy
    broker_proxies: Sequence[FaultyProxy] = ()

    def __init__(self, folder: Path, source: Path = ROOT) -> None:
        self.folder = folder
        self.source = source
        self.places: list[Place] = []
        self.deleted_at = float("-inf")
        """When a queue was deleted last."""
        self.ended_badly: list[str] = []
        """What processes said that did not stop in order."""

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Have servers and processes run, and be ready, while the body runs."""
        with contextlib.ExitStack() as stack:
            self._start_servers(stack)
            for number, (role, settings) in enumerate(self._roles()):
                place = Place(role, self.folder, self.source, SETTINGS | settings)
                stack.callback(place.close)
                self.places.append(place)
                if number == 0:
                    place.clinic.until_ready()  # and so migrates for the others
            for place in self.places:
                place.clinic.until_ready()
            self._prepare()
            yield

    @property
    def booking(self) -> list[Place]:
        """The processes that book."""
        return [place for place in self.places if place.role != "consumer"]

    @property
    def recording(self) -> list[Place]:
        """The processes that record."""
        return [place for place in self.places if place.role != "api"]

    def logs(self) -> Iterator[str]:
        """Yield what each process has printed, one life after the other."""
        for path in sorted(self.folder.glob("log-*.txt")):
            yield path.read_text(errors="replace")

    def keeps(self) -> Kept:
        """Return what the clinic has, over HTTP where that tells it."""
        http = self.booking[0].clinic.http
        return Kept(
            book=http.get("/appointment").json(),
            totals=http.get("/analytics").json()["totals"],
            log=[
                tuple(row)
                for row in self.rows("select id, type, subject from event order by position")
            ],
            recorded=[
                tuple(row)
                for row in self.rows("select event_id, type, appointment_id, version from recorded")
            ],
            set_aside=self.messages(ASIDE),
        )

    def open_events(self) -> int:
        """Return how many events are neither recorded nor set aside."""
        return int(self.rows("select count(*) from outbox")[0][0])

    def is_recorded(self, appointment_id: int) -> bool:
        """Return whether an event of an appointment is recorded."""
        sql = f"select 1 from recorded where appointment_id = {appointment_id}"
        return bool(self.rows(sql))

    @abstractmethod
    def _start_servers(self, stack: contextlib.ExitStack) -> None:
        """Start what the processes stand on."""

    @abstractmethod
    def _roles(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the role of each process, and its own settings."""

    @abstractmethod
    def _prepare(self) -> None:
        """Prepare the faults, once the tables stand."""

    @abstractmethod
    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database past all proxies."""

    @abstractmethod
    def messages(self, queue: str) -> int:
        """Return how many messages wait in a queue."""


class Embedded(World):
    """Two whole clinics on one file, in which the messages are kept, too."""

    def _start_servers(self, stack: contextlib.ExitStack) -> None:
        del stack

    def _roles(self) -> list[tuple[str, dict[str, Any]]]:
        return [("all", {}), ("all", {})]

    def _prepare(self) -> None:
        pass

    def connect(self) -> sqlite3.Connection:
        """Open the file as another program does."""
        return sqlite3.connect(
            self.folder / "clinic.db", timeout=2, isolation_level=None, check_same_thread=False
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(self.connect()) as connection:
            return connection.execute(sql).fetchall()

    def messages(self, queue: str) -> int:
        name = {MAIN: "main", DEAD: "dead_letter", ASIDE: "not_solved"}[queue]
        return int(self.rows(f"select count(*) from message where queue = '{name}'")[0][0])


class Servers(World):
    """Two APIs and two consumers on PostgreSQL and RabbitMQ, each behind a proxy."""

    def __init__(
        self,
        folder: Path,
        source: Path = ROOT,
        *,
        nodes: int = 1,
        queue_type: str = "quorum",
        newer: bool = False,
    ) -> None:
        super().__init__(folder, source)
        self._newer = newer
        self._nodes = nodes
        self._queue_type = queue_type
        self.postgres = self._make_postgres()
        self.rabbits = self._make_rabbits()

    def _make_postgres(self) -> Postgres:
        # What is killed here are processes, never the machine.
        return Postgres(fsync=False, newer=self._newer)

    def _make_rabbits(self) -> list[Rabbit]:
        first = Rabbit(newer=self._newer)
        others = [Rabbit(beside=first, newer=self._newer) for _ in range(self._nodes - 1)]
        return [first, *others]

    def _start_servers(self, stack: contextlib.ExitStack) -> None:
        for server in (self.postgres, *self.rabbits):
            stack.callback(server.close)
            server.start()
        # Not as the superuser, who has reserved connections and every permission.
        self.postgres.execute(f"create role {OWNER} login")
        self.postgres.execute(f"create database {DATABASE} owner {OWNER}")
        self.database_proxy = stack.enter_context(FaultyProxy(self.postgres.port))
        self.broker_proxies = [
            stack.enter_context(FaultyProxy(rabbit.port)) for rabbit in self.rabbits
        ]

    def _roles(self) -> list[tuple[str, dict[str, Any]]]:
        database = f"postgresql://{OWNER}@127.0.0.1:{self.database_proxy.port}/{DATABASE}"
        brokers = [f"amqp://guest:guest@127.0.0.1:{proxy.port}/" for proxy in self.broker_proxies]
        return [
            (
                role,
                {
                    "DATABASE_URL": database,
                    "AMQP_URL": brokers[number % len(brokers)],
                    "CLINIC_QUEUE_TYPE": self._queue_type,
                },
            )
            for number, role in enumerate(("api", "api", "consumer", "consumer"))
        ]

    def _prepare(self) -> None:
        self.administer(f"create function fault() returns trigger language plpgsql as '{ALLOW}'")
        for table in GUARDED_TABLES:
            self.administer(
                f"create trigger fault before insert or update on {table} execute function fault()"
            )

    def refuse_writing(self, *, refuse: bool) -> None:
        """Have the database refuse whatever needs space, as when its disk is full."""
        body = (REFUSE if refuse else ALLOW).replace("'", "''")
        self.administer(
            f"create or replace function fault() returns trigger language plpgsql as '{body}'"
        )

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """Connect to the database past the proxy, as the superuser."""
        return psycopg.connect(
            self.postgres.database_url(DATABASE),
            autocommit=True,
            options="-c default_transaction_read_only=off -c synchronous_commit=local",
        )

    def administer(self, *statements: str) -> None:
        """Run statements as the superuser."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(sql.encode()).fetchall()

    def ask_broker(self, call: Call) -> Any:
        """Make a call to the broker past all proxies, at the first node that runs."""
        rabbit = next(rabbit for rabbit in self.rabbits if rabbit.running)

        async def ask() -> Any:
            connection = await asyncio.wait_for(aiormq.connect(rabbit.url), PATIENCE_SECONDS)
            try:
                return await asyncio.wait_for(call(await connection.channel()), PATIENCE_SECONDS)
            finally:
                await connection.close()

        return asyncio.run(ask())

    def messages(self, queue: str) -> int:
        found = self.ask_broker(lambda channel: channel.queue_declare(queue, passive=True))
        return int(found.message_count)


WORLDS: dict[str, Callable[[Path, Path], World]] = {
    "postgresql+rabbitmq": Servers,
    "classic": partial(Servers, queue_type="classic"),
    "embedded": Embedded,
    "cluster": partial(Servers, nodes=3),
    "rabbitmq4": partial(Servers, newer=True),
}
