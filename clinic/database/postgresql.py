"""PostgreSQL, by asyncpg: a pool of connections that heals when the server comes back."""

import contextlib
import functools
import re
import time
from collections.abc import Mapping, Sequence

import anyio
import asyncpg
import databases
import databases.core
from pydantic_core import to_json

from clinic.database.connection import (
    DatabaseUnavailable,
    DataRefused,
    Dialect,
    LostRace,
    Row,
    StatementRefused,
    closing_deadline,
)

# More do not make two cores faster, and many processes share the server's 100.
MOST_CONNECTIONS = 10
CONNECT_SECONDS = 5.0
# How long a transaction waits for one of the connections.
ACQUIRE_SECONDS = 5.0
# Firewalls forget connections on which nothing is said; asyncpg's own pools go by the same time.
IDLE_SECONDS = 300.0
# PostgreSQL plans a prepared statement for tables as large as they are at that time, and keeps to
# that until somebody analyzes them: up to a minute, in which a new clinic may book 100,000 times,
# and read the whole event log for each batch that is settled. So plans are made anew this often.
PLANS_SECONDS = 1.0
# How long a statement may take. Without it a server that is frozen holds its clients for ever, and
# not even cancelling gets them out (STACK 4).
STATEMENT_SECONDS = 10.0
CLOSE_SECONDS = 5.0

SERVER_SETTINGS = {
    "application_name": "clinic",
    "timezone": "UTC",
    # The server's own view of the same limits, for when it is we who are frozen.
    "statement_timeout": "15s",
    "idle_in_transaction_session_timeout": "30s",
    # What varies much comes as one JSON text, of which a plan learns nothing, or is looked for by
    # an index made for it. Left to choose, the server plans each batch for a young table anew. It
    # takes a limit for a tenth of all there is, so what is limited is handed on as an array.
    "plan_cache_mode": "force_generic_plan",
}

# Classes of SQLSTATE that say: not now. https://www.postgresql.org/docs/15/errcodes-appendix.html
AWAY_CLASSES = frozenset(
    {
        "08",  # connection exception
        "25",  # the transaction was ended under us, or the server has become read only
        "28",  # it does not let us in (any more)
        "3D",  # there is no such database (yet)
        "53",  # out of memory, disk or connections
        "55",  # an object is in use
        "57",  # operator intervention: shut down, starting up, cancelled
        "58",  # system error
    }
)
# Rolled back in favour of another transaction: a deadlock, or a serialization failure.
LOST_CLASS = "40"
# A value that fits no type, such as a NUL in a text or a year without a date.
DATA_CLASS = "22"


class PostgreSQL:
    """The engine over one server; see ``Engine`` for what each method promises."""

    dialect = Dialect.POSTGRESQL
    begin = "begin"
    begin_snapshot = "begin isolation level repeatable read read only"

    def __init__(self, url: str, name: str) -> None:
        self._name = name
        self._database = databases.Database(
            url,
            dsn=url,  # databases passes on the place, and asyncpg reads sslmode and the rest
            min_size=0,
            max_size=MOST_CONNECTIONS,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            server_settings=SERVER_SETTINGS,
            reset=leave_as_it_is,
        )
        self._idle: list[tuple[databases.core.Connection, float]] = []
        self._planned: dict[databases.core.Connection, float] = {}
        self._turns = anyio.Semaphore(MOST_CONNECTIONS)

    async def open(self) -> None:
        """Make the pool; it connects when it is asked to."""
        await self._database.connect()

    async def close(self) -> None:
        """Close all connections, by force those that do not answer."""
        pool = self._database._backend._pool  # noqa: SLF001
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS) as scope:
            while self._idle:
                await self._idle.pop()[0].__aexit__()
            await pool.close()
        if scope.cancelled_caught:
            pool.terminate()

    async def acquire(self) -> databases.core.Connection:
        """Return an idle connection, or open one; where there are enough, wait for one."""
        try:
            self._turns.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.fail_after(ACQUIRE_SECONDS):
                await self._turns.acquire()
        try:
            return await self._idle_or_new()
        except BaseException:
            self._turns.release()
            raise

    async def _idle_or_new(self) -> databases.core.Connection:
        # Going through the pool takes as long as a statement, so here it only keeps count.
        while self._idle:
            connection, since = self._idle.pop()
            if (
                time.monotonic() - since < IDLE_SECONDS
                and not connection.raw_connection.is_closed()
            ):
                await self._plan_anew(connection)
                return connection
            await self._cut(connection)
        connection = databases.core.Connection(self._database, self._database._backend)  # noqa: SLF001
        # Cancelled in the middle, databases would never give the connection back (STACK 3).
        with anyio.CancelScope(shield=True), anyio.fail_after(CONNECT_SECONDS):
            await connection.__aenter__()
        self._planned[connection] = time.monotonic()
        return connection

    async def _plan_anew(self, connection: databases.core.Connection) -> None:
        now = time.monotonic()
        if now - self._planned[connection] > PLANS_SECONDS:
            self._planned[connection] = now
            try:
                await connection.raw_connection.execute("discard plans")
            except BaseException:
                await self._cut(connection)
                raise

    def keep(self, connection: databases.core.Connection) -> bool:
        """Keep a connection for the next one who asks: there is room for all there may be."""
        self._idle.append((connection, time.monotonic()))
        self._turns.release()
        return True

    async def discard(self, connection: databases.core.Connection) -> None:
        """Cut a connection that nobody should use again."""
        try:
            await self._cut(connection)
        finally:
            self._turns.release()

    async def _cut(self, connection: databases.core.Connection) -> None:
        self._planned.pop(connection, None)
        connection.raw_connection.terminate()
        with contextlib.suppress(Exception), closing_deadline():
            await connection.__aexit__()

    async def control(self, connection: databases.core.Connection, sql: str) -> None:
        """Begin, commit or roll back."""
        await connection.raw_connection.execute(sql)

    async def fetch(
        self,
        connection: databases.core.Connection,
        statements: Sequence[str],
        values: Mapping[str, object],
    ) -> list[Row]:
        """Run a statement, which asyncpg prepares once on each connection."""
        (statement,) = statements  # here one can do what takes several elsewhere
        numbered, names = with_numbers(statement)
        rows = await connection.raw_connection.fetch(numbered, *(values[name] for name in names))
        return [dict(row) for row in rows]

    async def fetch_at_once(
        self,
        connection: databases.core.Connection,
        statements: Sequence[str],
        values: Mapping[str, object],
    ) -> list[Row]:
        """Do the same: by itself a statement is a transaction."""
        return await self.fetch(connection, statements, values)

    def writing(self) -> contextlib.AbstractAsyncContextManager[object]:
        """Let everyone write: the server sees to the rest."""
        return contextlib.nullcontext()

    def encode(self, value: object) -> object:
        """Return rows as JSON text, and everything else as it is."""
        if isinstance(value, list | dict):
            return to_json(value).decode()  # json takes three times as long over times
        return value

    def translate(self, error: Exception) -> Exception | None:
        """Tell a server that cannot do it now from a statement that is wrong."""
        kind = type(error).__name__
        if isinstance(error, asyncpg.PostgresError):
            state = str(getattr(error, "sqlstate", ""))
            if state.startswith(LOST_CLASS):
                return LostRace(f"{self._name} preferred another transaction: {kind}")
            if state[:2] in AWAY_CLASSES or isinstance(error, asyncpg.InvalidCachedStatementError):
                return DatabaseUnavailable(f"{self._name} cannot do it now: {kind} {state}")
            refused = DataRefused if state.startswith(DATA_CLASS) else StatementRefused
            return refused(f"{kind} {state}", getattr(error, "constraint_name", "") or "")
        if isinstance(error, asyncpg.DataError):
            return DataRefused(kind)
        # InternalClientError is what a connection may say that is just being cut.
        away = asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError
        if isinstance(error, away):
            return DatabaseUnavailable(f"{self._name} is away: {kind}")
        return None


async def leave_as_it_is(_connection: object) -> None:
    """Spare the question that resets a session which is given back: nothing here alters one."""


@functools.cache
def with_numbers(sql: str) -> tuple[str, tuple[str, ...]]:
    """Return a statement with ``$1`` for its first ``:name`` parameter and so on, and the names."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return re.sub(r"(?<!:):([a-z_]+)", number, sql), tuple(names)
