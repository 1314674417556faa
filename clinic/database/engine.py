"""What every kind of database does its own way, and the errors that all of them share."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import anyio
import databases.core

from clinic.supervisor import GaveUp, Unavailable

log = logging.getLogger(__name__)

Row = Mapping[str, Any]

# A commit or rollback that takes longer is on a connection that no longer answers.
CLOSING_SECONDS = 3.0
# How often the log says of a schema what is wrong with it: each statement meets it anew.
COMPLAINT_SECONDS = 60.0


class Dialect(StrEnum):
    """The kinds of database the clinic runs on."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class DatabaseUnavailable(Unavailable):
    """The database is away, full, locked by another process or does not answer."""


class LostRace(DatabaseUnavailable):
    """Another transaction won a conflict with this one; trying again may well succeed."""


class NoAnswer(DatabaseUnavailable):
    """The database was asked, and did not answer."""


class OutcomeUnknown(NoAnswer):
    """The database was told to commit and did not answer: it may have been done or not."""


class NotLetIn(DatabaseUnavailable):
    """The database refuses to connect us: the password, the user or the name is wrong."""


class SchemaUnfit(DatabaseUnavailable):
    """A table, column or right is not (any more) what the migrations made; a person mends that."""


class DatabaseLost(DatabaseUnavailable, GaveUp):
    """What is open is no longer the clinic's database; the process ends rather than write to it."""


class StatementRefused(Exception):
    """The database refused a statement.

    The driver's own message may quote the values of a row (docs/libraries.md), and those may be a
    patient's. So only the kind of error is kept, and the name of the ``constraint``, if any.
    """

    def __init__(self, kind: str, constraint: str = "") -> None:
        super().__init__(f"{kind} ({constraint})" if constraint else kind)
        self.constraint = constraint


class DataRefused(StatementRefused):
    """The database takes no such values, now or later."""


@dataclass
class Complaints:
    """Says in the log what is wrong with a schema: at once, and again each minute it lasts.

    Whoever is answered 503 may ask a thousand times a second, and no service need fail of it.
    """

    _said_at: dict[str, float] = field(default_factory=dict)

    def unfit(self, what: str) -> SchemaUnfit:
        """Return what to raise of it."""
        now = time.monotonic()
        if now - self._said_at.get(what, -COMPLAINT_SECONDS) >= COMPLAINT_SECONDS:
            self._said_at[what] = now
            log.error("%s. Requests that need it get 503 until somebody puts it right.", what)
        return SchemaUnfit(what)


@dataclass(eq=False)
class Session:
    """A connection to the database, which serves one transaction after the other.

    ``sound`` is false once anything but a refused statement has failed on it. The engine throws
    such a session away, because it may be read-only, cut or silent from then on.
    """

    raw: databases.core.Connection
    driver: Any
    """The driver's own connection, behind ``raw``."""
    sound: bool = True
    interrupted: bool = False
    """Whether its only failure is that a task was cancelled in the middle of a statement: an engine
    may keep the session if it still works."""


class Engine(Protocol):
    """What one kind of database does its own way."""

    dialect: Dialect
    begin: str
    """Begins a transaction that will write."""
    begin_snapshot: str
    """Begins a transaction that reads, and sees one state of the database throughout."""

    async def open(self) -> None:
        """Get ready to lend sessions; a database that is away is no error yet."""

    async def close(self) -> None:
        """Close all sessions."""

    def lend(self, *, writing: bool) -> contextlib.AbstractAsyncContextManager[Session]:
        """Lend a session to the body, and keep it for the next one unless it is no longer sound.

        Where only one may write at a time, wait for this process's turn to do so.

        Raises:
            DatabaseUnavailable: there is no session to be had now.
        """

    async def command(self, session: Session, sql: str) -> None:
        """Run a statement that returns nothing: begin, commit, roll back."""

    async def run(
        self, session: Session, statements: Sequence[str], values: Row, *, alone: bool
    ) -> list[Row]:
        """Run statements with ``:name`` parameters on the driver itself; return the last's rows.

        If they are ``alone``, they are a transaction of their own, in one round trip.

        ``databases`` has SQLAlchemy parse, compile and wrap each statement anew, which takes many
        times as long as the driver's own part of it (benchmarks/README.md).
        """

    async def prove(self, session: Session) -> None:
        """Raise an error unless the database answers, and would let this session write."""

    def check(self) -> None:
        """Check that what is open still is the clinic's database; takes a few microseconds.

        Raises:
            DatabaseLost: it was deleted or replaced.
        """

    def encode(self, value: object) -> object:
        """Return a parameter as the driver wants it."""

    def translate(self, error: Exception) -> Exception | None:
        """Return the error as one of ours, or None if it is no error of the driver's."""


@contextlib.contextmanager
def closing_deadline() -> Iterator[None]:
    """Let the body finish although its task is cancelled, but not for ever."""
    with anyio.CancelScope(shield=True), anyio.fail_after(CLOSING_SECONDS):
        yield


@contextlib.contextmanager
def translating(engine: Engine, session: Session, *, committing: bool = False) -> Iterator[None]:
    """Turn the driver's errors into ours, which quote no values.

    Deadlines are inside the body, so that their errors are translated as well. If the body is
    ``committing`` and no answer comes, the outcome is unknown.
    """
    try:
        yield
    except Exception as error:
        ours = engine.translate(error)
        if not isinstance(ours, StatementRefused | LostRace):
            session.sound = False
        if ours is None:
            raise
        if committing and isinstance(ours, NoAnswer):
            ours = OutcomeUnknown(f"{ours}; it may have committed")
        raise ours from None
    except BaseException:
        session.interrupted = session.sound
        session.sound = False
        raise
