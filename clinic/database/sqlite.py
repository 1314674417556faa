"""SQLite, the embedded engine: one file in WAL mode, one writer at a time."""

import contextlib
import datetime
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import databases
import databases.core
from pydantic_core import to_json

from clinic.database.connection import (
    DatabaseUnavailable,
    DataRefused,
    Dialect,
    Row,
    StatementRefused,
    closing_deadline,
)
from clinic.database.times import wall_clock_text

# How long a statement waits for another process's lock before it gives up.
BUSY_SECONDS = 5.0
# How long a transaction waits for its turn among those of this process.
TURN_SECONDS = 10.0
# Connections that nobody uses are kept open up to this number; opening one takes 1.3 ms (STACK 3).
IDLE_CONNECTIONS = 8
# `->>`, in which batches are unfolded, came with 3.38 (https://sqlite.org/releaselog/3_38_0.html).
OLDEST_SQLITE = (3, 38, 0)

# What says that the file cannot be used now, as opposed to: that statement is wrong.
AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    }
)
# What says that a value fits no column, or is too long for any.
UNFIT = frozenset({sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})


class _Connection(sqlite3.Connection):
    """A connection with the settings that SQLite forgets at every opening."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("pragma foreign_keys = on")
        # A booking that was confirmed survives a power cut: the default for WAL elsewhere is not
        # to sync each commit (https://sqlite.org/pragma.html#pragma_synchronous).
        self.execute("pragma synchronous = full")
        # Or a large sort goes into a file in one of the system's folders, of which a container with
        # a read-only root has none: https://sqlite.org/tempfiles.html
        self.execute("pragma temp_store = memory")
        self.row_factory = sqlite3.Row


class SQLite:
    """The engine over one file; see ``Engine`` for what each method promises."""

    dialect = Dialect.SQLITE
    begin = "begin immediate"
    begin_snapshot = "begin"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = databases.Database(
            f"sqlite:///{path}", factory=_Connection, timeout=BUSY_SECONDS
        )
        self._idle: list[databases.core.Connection] = []
        self._turn = anyio.Lock()

    async def open(self) -> None:
        """Do nothing yet: a connection is opened when it is needed."""

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            with closing_deadline():
                await self._idle.pop().__aexit__()

    async def acquire(self) -> databases.core.Connection:
        """Return an idle connection, or open one."""
        if self._idle:
            return self._idle.pop()
        connection = databases.core.Connection(self._database, self._database._backend)  # noqa: SLF001
        with closing_deadline():
            return await connection.__aenter__()

    def keep(self, connection: databases.core.Connection) -> bool:
        """Keep a connection for the next one who asks, if there are not enough already."""
        room = len(self._idle) < IDLE_CONNECTIONS
        if room:
            self._idle.append(connection)
        return room

    async def discard(self, connection: databases.core.Connection) -> None:
        """Close a connection, and roll back what it has begun."""
        await connection.__aexit__()

    async def control(self, connection: databases.core.Connection, sql: str) -> None:
        """Begin, commit or roll back."""
        await connection.raw_connection.execute_fetchall(sql)

    async def fetch(
        self,
        connection: databases.core.Connection,
        statements: Sequence[str],
        values: Mapping[str, object],
    ) -> list[Row]:
        """Run statements; SQLite knows ``:name`` parameters itself."""
        return await self._do(connection, fetch_last, statements, values)

    async def fetch_at_once(
        self,
        connection: databases.core.Connection,
        statements: Sequence[str],
        values: Mapping[str, object],
    ) -> list[Row]:
        """Do the same between begin and commit."""
        return await self._do(connection, transact, statements, values)

    async def _do(
        self,
        connection: databases.core.Connection,
        what: Callable[[sqlite3.Connection, Sequence[str], Mapping[str, object]], list[Row]],
        statements: Sequence[str],
        values: Mapping[str, object],
    ) -> list[Row]:
        # All in one trip to the connection's thread: each takes a tenth of a millisecond, and more
        # while the event loop is busy, for both want the interpreter (benchmarks/README.md).
        raw: Any = connection.raw_connection
        rows: list[Row] = await raw._execute(what, raw._conn, statements, values)  # noqa: SLF001
        return rows

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Let one transaction write after the other: SQLite has one writer, and no queue for it."""
        try:
            with anyio.fail_after(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"the database {self._path} has been busy for {TURN_SECONDS:g} s"
            ) from None
        try:
            yield
        finally:
            self._turn.release()

    def encode(self, value: object) -> object:
        """Return times as ``times.py`` says, and rows as JSON text."""
        if isinstance(value, list | dict):
            return to_json(plain(value)).decode()
        return plain(value)

    def translate(self, error: Exception) -> Exception | None:
        """Tell a file that cannot be used now from a statement that is wrong."""
        if isinstance(error, TimeoutError):
            return DatabaseUnavailable(f"the database {self._path} does not answer")
        if not isinstance(error, sqlite3.Error):
            return None
        # The low byte is the primary code: https://sqlite.org/rescode.html#primary_result_codes
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in AWAY:
            return DatabaseUnavailable(f"the database {self._path} cannot be used: {error}")
        kind = getattr(error, "sqlite_errorname", type(error).__name__)
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in UNFIT:
            return DataRefused(kind)
        # A constraint's message names table and columns, never values.
        return StatementRefused(
            kind, str(error) if isinstance(error, sqlite3.IntegrityError) else ""
        )


def plain(value: Any) -> Any:
    """Return a value with all times in it as text."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            return wall_clock_text(value)
        return value.astimezone(datetime.UTC).isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def fetch_last(
    connection: sqlite3.Connection, statements: Sequence[str], values: Mapping[str, object]
) -> list[Row]:
    """Run statements one after the other and return the rows of the last."""
    *before, last = statements
    for statement in before:
        connection.execute(statement, values)
    return [dict(row) for row in connection.execute(last, values)]


def transact(
    connection: sqlite3.Connection, statements: Sequence[str], values: Mapping[str, object]
) -> list[Row]:
    """Do the same as one transaction."""
    connection.execute(SQLite.begin)
    try:
        rows = fetch_last(connection, statements, values)
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:  # SQLite itself ends one that it has no room for
            connection.execute("rollback")
        raise
    return rows
