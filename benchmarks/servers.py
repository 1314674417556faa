"""The throw-away servers, and programs that run on them until they are no longer measured."""

import contextlib
import http.client
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import fill
from benchmarks.programs import ROOT, BenchFailed
from clinic.database import migrate
from tests.process.environment import clean_environment
from tests.servers import Postgres, Rabbit, free_port

PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.005
# Nobody listens on port 1: a relay that is given it waits, as in an outage of the broker.
NO_BROKER = "amqp://guest:guest@127.0.0.1:1/"


@dataclass
class Program:
    """A process under measurement, with its HTTP port if it has one."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def url(self) -> str:
        """Where appointments are booked and listed."""
        return f"http://127.0.0.1:{self.port}/appointment"

    def until_answers(self, path: str) -> None:
        """Wait until a GET of the path is answered with 200."""
        until(lambda: self.status(path) == http.HTTPStatus.OK, self)

    def status(self, path: str) -> int:
        """Return the status with which a GET is answered, 0 if it is not."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            connection.request("GET", path)
            return connection.getresponse().status
        return 0

    def memory_kib(self, what: str = "VmRSS") -> int:
        """Return its resident memory; the peak since ``forget_peak`` is ``VmHWM``."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{what}:")[2].split()[0])

    def forget_peak(self) -> None:
        """Let the peak of its memory begin anew: proc(5), clear_refs."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@dataclass
class Bench:
    """The servers of one run; every turn gets a database and a vhost that nobody used before.

    Those of the turn before go then: the servers would go on tidying up in them.
    """

    postgres: Postgres
    rabbit: Rabbit
    folder: Path
    memory: dict[str, Any] = field(default_factory=dict)
    """What one row found out that another needs, too."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What the simulation needs, and docs/scaling.md tells."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _database: str = ""
    _vhost: str = ""

    def database(self, appointments: int = 0) -> str:
        """Return the URL of a new database, migrated, with a number of appointments in it."""
        template = f"with_{appointments}"
        if template not in self.memory:
            self.memory[template] = url = self.postgres.create_database(template)
            migrate(url)
            fill.appointments(url, appointments)
        if self._database:
            self.postgres.drop_database(self._database)
        self._database = f"bench_{next(self._numbers)}"
        return self.postgres.create_database(self._database, template)

    def empty_database(self) -> str:
        """Return the URL of a new database, for the clinic to migrate."""
        if self._database:
            self.postgres.drop_database(self._database)
        self._database = f"bench_{next(self._numbers)}"
        return self.postgres.create_database(self._database)

    def million(self) -> str:
        """Return the URL of the one database with a million appointments: to copy it takes long."""
        template = "with_1000000"
        if template not in self.memory:
            self.memory[template] = self.postgres.create_database(template)
            migrate(self.memory[template])
            fill.appointments(self.memory[template], 1_000_000)
        fill.settle_all(self.memory[template])
        return str(self.memory[template])

    def vhost(self) -> str:
        """Return the URL of a new vhost."""
        if self._vhost:
            self.rabbit.delete_vhost(self._vhost)
        self._vhost = f"bench-{next(self._numbers)}"
        return self.rabbit.create_vhost(self._vhost)

    def new_folder(self) -> Path:
        """Return a new, empty folder."""
        folder = self.folder / f"folder-{next(self._numbers)}"
        folder.mkdir()
        return folder

    @contextlib.contextmanager
    def program(
        self, *command: str, folder: Path | None = None, port: int = 0, **environment: str
    ) -> Iterator[Program]:
        """Run a Python program as long as the body runs."""
        log = self.folder / f"log-{next(self._numbers)}.txt"
        settings = {"PYTHONPATH": str(ROOT), **environment}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder or ROOT,
                env=clean_environment(settings),
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # dramatiq has processes of its own
            )
        try:
            yield Program(process, log, port)
        finally:
            with contextlib.suppress(ProcessLookupError):
                # Every database and queue is thrown away: nothing is gained by an orderly stop.
                kill_group(process)

    @contextlib.contextmanager
    def clinic(
        self, *arguments: str, folder: Path | None = None, root: Path = ROOT, **settings: str
    ) -> Iterator[Program]:
        """Run a clinic that is ready; ``root`` is the checkout that it is of."""
        port = free_port()
        command = [str(root / "clinic.py"), "--port", str(port), *arguments]
        where = folder or self.new_folder()
        settings = {"PYTHONPATH": str(root), **settings}
        with self.program(*command, folder=where, port=port, **settings) as program:
            program.until_answers("/health/ready")
            yield program

    @contextlib.contextmanager
    def echo(self) -> Iterator[Program]:
        """Run the limit of all that answer HTTP."""
        port = free_port()
        with self.program("-m", "benchmarks.echo", str(port), port=port) as program:
            program.until_answers("/health/ready")
            yield program

    @contextlib.contextmanager
    def peer(self, module: str, database_url: str, amqp_url: str) -> Iterator[Program]:
        """Run ``usual`` or ``older`` by uvicorn's own command, as FastAPI's documentation does."""
        port = free_port()
        uvicorn = ["-m", "uvicorn", f"benchmarks.{module}:app", "--no-access-log"]
        settings = {
            "DATABASE_URL": database_url.replace("postgresql://", "postgresql+asyncpg://"),
            "AMQP_URL": amqp_url,
        }
        with self.program(*uvicorn, "--port", str(port), port=port, **settings) as program:
            program.until_answers("/health/ready")
            yield program


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[Bench]:
    """Start PostgreSQL, which writes through to the disk, and RabbitMQ, as they come."""
    # The default of 1 GB has PostgreSQL write checkpoints in the middle of a row of one or another.
    settings = {"max_wal_size": "8GB", "min_wal_size": "2GB"}
    with Postgres(settings=settings) as postgres, Rabbit(hurried=False) as rabbit:
        fill.run_in(postgres.create_database("run_in"))
        yield Bench(postgres, rabbit, folder)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and whatever it started, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ask(database_url: str, sql: str) -> Sequence[Any]:
    """Return the first row of an answer."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(sql.encode()).fetchone()
    if row is None:
        raise BenchFailed(f"no row: {sql}")
    return row


def until(
    condition: Any,
    program: Program | None = None,
    seconds: float = PATIENCE_SECONDS,
    poll: float = POLL_SECONDS,
) -> None:
    """Wait until a condition holds; a program that ends meanwhile is a failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        ended = program is not None and program.process.poll() is not None
        if ended or time.monotonic() > deadline:
            said = program.log.read_text(errors="replace")[-2000:] if program else ""
            raise BenchFailed(f"{'it ended' if ended else 'not in time'}: {said}")
        time.sleep(poll)
