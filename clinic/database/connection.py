"""Work on the database in transactions, whatever its dialect and whatever goes wrong."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import databases.core

from clinic.supervisor import Unavailable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = Mapping[str, Any]
Result = TypeVar("Result")

# A commit or rollback that takes longer is on a connection that no longer answers.
CLOSING_SECONDS = 3.0
# PostgreSQL takes a second to end one of two transactions that wait for each other: a client waits
# no longer than for so many of these.
MOST_RACES = 4


class Dialect(StrEnum):
    """The kinds of database the clinic runs on."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True)
class Sql:
    """One statement in the words of each dialect, for where they differ in more than a fragment.

    On SQLite it may take several, where PostgreSQL writes into several tables with one: they are
    run one after the other, with the same parameters, and the rows are those of the last.
    """

    sqlite: str | tuple[str, ...]
    postgresql: str

    def on(self, dialect: Dialect) -> tuple[str, ...]:
        """Return what the given dialect says."""
        words = self.sqlite if dialect is Dialect.SQLITE else self.postgresql
        return (words,) if isinstance(words, str) else words


class DatabaseUnavailable(Unavailable):
    """The database is away, full, locked by another process or does not answer."""


class LostRace(DatabaseUnavailable):
    """Another transaction came first; the same one again may well succeed."""


class StatementRefused(Exception):
    """The database refused a statement.

    The driver's own message may quote the values of a row (STACK 4), and those may be a patient's,
    so only what names no value is kept: the kind of error, and the ``constraint`` if it was one.
    """

    def __init__(self, kind: str, constraint: str = "") -> None:
        super().__init__(f"{kind} ({constraint})" if constraint else kind)
        self.constraint = constraint


class DataRefused(StatementRefused):
    """The database takes no such values, now or later."""


class Engine(Protocol):
    """What one kind of database does its own way."""

    dialect: Dialect

    async def open(self) -> None:
        """Get ready to hand out connections; that the database is away is no error yet."""

    async def close(self) -> None:
        """Close all connections."""

    begin: str
    """Begins a transaction that will write."""
    begin_snapshot: str
    """Begins a transaction that reads, and sees one state of the database throughout."""

    async def acquire(self) -> databases.core.Connection:
        """Return a connection that nobody else uses."""

    def keep(self, connection: databases.core.Connection) -> bool:
        """Keep a connection for the next one who asks; return whether there is room for it."""

    async def discard(self, connection: databases.core.Connection) -> None:
        """Close a connection that is kept for nobody."""

    async def control(self, connection: databases.core.Connection, sql: str) -> None:
        """Begin, commit or roll back."""

    async def fetch(
        self,
        connection: databases.core.Connection,
        statements: Sequence[str],
        values: Mapping[str, object],
    ) -> list[Row]:
        """Run statements with ``:name`` parameters on the driver itself; return the last's rows.

        ``databases`` has SQLAlchemy parse, compile and wrap each statement anew, which takes many
        times as long as the driver's own part of it (benchmarks/README.md).
        """

    async def fetch_at_once(
        self,
        connection: databases.core.Connection,
        statements: Sequence[str],
        values: Mapping[str, object],
    ) -> list[Row]:
        """Do the same as a transaction of its own, in one trip to the database."""

    def writing(self) -> contextlib.AbstractAsyncContextManager[object]:
        """Wait for this process's turn to write, where only one may write at a time."""

    def encode(self, value: object) -> object:
        """Return a parameter as the driver wants it."""

    def translate(self, error: Exception) -> Exception | None:
        """Return the error as one of ours, or None if it is no error of the driver's."""


Fetch = Callable[
    [databases.core.Connection, Sequence[str], Mapping[str, object]], Awaitable[list[Row]]
]


class Connection:
    """One transaction's connection; never share it between tasks."""

    def __init__(self, connection: databases.core.Connection, engine: Engine) -> None:
        self._connection = connection
        self._engine = engine
        self.dialect = engine.dialect
        self.committed: list[Callable[[], object]] = []
        self.sound = False

    async def fetch_all(
        self, sql: str | Sql, values: Mapping[str, object] | None = None
    ) -> list[Row]:
        """Run a statement with ``:name`` parameters and return all its rows.

        A list or dict is handed over as JSON text, for the statement to unfold into rows.
        Write ``cast(:x as t)``, never ``:x::t``, and no ``:`` in literals.

        Raises:
            DatabaseUnavailable: the database cannot answer now.
            StatementRefused: it will not do what the statement says.
        """
        return await self._fetch_by(self._engine.fetch, sql, values)

    async def fetch_at_once(
        self, sql: str | Sql, values: Mapping[str, object] | None = None
    ) -> list[Row]:
        """Do the same as a transaction of its own; see ``Database.at_once``."""
        return await self._fetch_by(self._engine.fetch_at_once, sql, values)

    async def _fetch_by(
        self, fetch: Fetch, sql: str | Sql, values: Mapping[str, object] | None
    ) -> list[Row]:
        statements = (sql,) if isinstance(sql, str) else sql.on(self.dialect)
        encoded = {name: self._engine.encode(value) for name, value in (values or {}).items()}
        with translating(self._engine):
            return await fetch(self._connection, statements, encoded)

    async def execute(self, sql: str | Sql, values: Mapping[str, object] | None = None) -> None:
        """Run a statement for its effect; for the rest see ``fetch_all``."""
        await self.fetch_all(sql, values)

    async def control(self, statement: str) -> None:
        """Begin, commit or roll back; ``Database`` does that."""
        with translating(self._engine):
            await self._engine.control(self._connection, statement)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call back once the transaction has been committed, and not at all if it is not."""
        self.committed.append(callback)


class Database:
    """An open database, which hands out transactions.

    ``databases`` has transactions of its own, but they leak a connection whenever one is cancelled
    or its commit fails, and poison their task when the server goes away (STACK 3). So each
    transaction here gets a connection to itself, and its begin, commit, rollback and release are
    done under a shield, each with a deadline.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.dialect = engine.dialect

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Commit what the body writes when it ends, or nothing of it when it raises.

        Raises:
            DatabaseUnavailable: the database cannot do it now. If it was the commit that failed to
                answer, nobody knows whether it was done.
            StatementRefused: a statement or the commit was refused.
        """
        async with self._engine.writing(), self._transaction(self._engine.begin) as connection:
            yield connection
        for callback in connection.committed:
            callback()

    async def at_once(
        self, statement: str | Sql, values: Mapping[str, object] | None = None
    ) -> list[Row]:
        """Run a statement as a transaction of its own, in one trip to the database, not three.

        Raises:
            DatabaseUnavailable: the database cannot do it now. If it failed to answer, nobody knows
                whether it was done.
            StatementRefused: the statement was refused.
        """
        async with self._engine.writing(), self._lent() as connection:
            rows = await connection.fetch_at_once(statement, values)
            connection.sound = True
        return rows

    async def look(
        self, statement: str | Sql, values: Mapping[str, object] | None = None
    ) -> list[Row]:
        """Read with one statement: by itself it sees one state of the database throughout.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self._lent() as connection:
            rows = await connection.fetch_all(statement, values)
            connection.sound = True
        return rows

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Read one state of the database throughout the body, whatever others write meanwhile.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self._transaction(self._engine.begin_snapshot) as connection:
            yield connection

    async def ping(self) -> None:
        """Ask the database for a sign of life.

        Raises:
            DatabaseUnavailable: it gave none.
        """
        await self.look("select 1 as alive")

    @contextlib.asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[Connection]:
        async with self._lent() as connection:
            try:
                await connection.control(begin)
                yield connection
                with closing_deadline():
                    await connection.control("commit")
            except BaseException:
                with contextlib.suppress(Exception), closing_deadline():
                    await connection.control("rollback")
                    connection.sound = True
                raise
            connection.sound = True

    @contextlib.asynccontextmanager
    async def _lent(self) -> AsyncIterator[Connection]:
        """Lend a connection, which nobody gets again unless it came to be called sound."""
        with translating(self._engine):
            raw = await self._engine.acquire()
        connection = Connection(raw, self._engine)
        try:
            yield connection
        finally:
            if not connection.sound or not self._engine.keep(raw):
                with contextlib.suppress(Exception), closing_deadline():
                    await self._engine.discard(raw)


def as_row(thing: "DataclassInstance") -> dict[str, Any]:
    """Return the fields of a dataclass by name; ``asdict`` copies each at ten times the cost."""
    return {name: getattr(thing, name) for name in thing.__dataclass_fields__}


async def again_if_lost(transact: Callable[[], Awaitable[Result]]) -> Result:
    """Carry out a transaction, and again when another one came first, up to a few times.

    Raises:
        DatabaseUnavailable: it lost every time, or the database cannot do it now.
    """
    for _ in range(MOST_RACES - 1):
        with contextlib.suppress(LostRace):
            return await transact()
    return await transact()


@contextlib.contextmanager
def closing_deadline() -> Iterator[None]:
    """Let the body finish although its task is cancelled, but not for ever."""
    with anyio.CancelScope(shield=True), anyio.fail_after(CLOSING_SECONDS):
        yield


@contextlib.contextmanager
def translating(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into ours, which quote no values."""
    try:
        yield
    except Exception as error:
        ours = engine.translate(error)
        if ours is None:
            raise
        raise ours from None
