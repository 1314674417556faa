"""PostgreSQL, by asyncpg: a pool of sessions that heals when the server comes back."""

import contextlib
import functools
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import anyio
import asyncpg
import databases
import databases.core
from pydantic_core import to_json

from clinic.database.engine import (
    Complaints,
    DatabaseUnavailable,
    DataRefused,
    Dialect,
    LostRace,
    NoAnswer,
    NotLetIn,
    Row,
    Session,
    StatementRefused,
    closing_deadline,
)

# More connections do not make two cores faster, and many processes share the server's 100.
MOST_CONNECTIONS = 10
CONNECT_SECONDS = 5.0
# How long a transaction waits for one of the connections.
ACQUIRE_SECONDS = 5.0
# Firewalls drop idle connections; asyncpg's own pools use the same time.
IDLE_SECONDS = 300.0
# PostgreSQL plans a prepared statement for the size that its tables have at that time, and keeps
# the plan until they are analyzed, for up to a minute. In that minute a new clinic may book 100,000
# times, and read the whole event log for each batch that is settled. So plans are made anew this
# often.
PLANS_SECONDS = 1.0
# How long a statement may take. Without it a call to a frozen server never returns, not even when
# it is cancelled (docs/libraries.md).
STATEMENT_SECONDS = 10.0
CLOSE_SECONDS = 5.0
# How long to wait for the server to cancel the statement of a session that is thrown away: cut
# before that, the server would work on it to its end.
CANCEL_SECONDS = 1.0

# PgBouncer accepts these when a client connects: https://www.pgbouncer.org/config.html
STARTUP_PARAMETERS = {"application_name": "clinic", "timezone": "UTC"}
# It refuses these there (08P01), so they are set once connected. On PgBouncer's connection to the
# server they stay set for the next client, which in transaction mode is another of our sessions.
SESSION_SETTINGS = """
    set statement_timeout = '15s';
    set idle_in_transaction_session_timeout = '30s';
    set plan_cache_mode = 'force_generic_plan';
    set jit = off
"""
# The first two are deadlines at the server, for when this process is frozen.
# ``plan_cache_mode``: our parameters are JSON texts, which tell a plan nothing, or are looked up in
# an index. By default the server would plan each batch anew while a table is young. A generic plan
# takes a limit for a tenth of the table, so statements with a limit hand on their rows as an array.
# ``jit``: compiling a statement takes half a second and pays off for none of ours, but the server
# would do it for a table that was never analyzed.

# SQLSTATEs: https://www.postgresql.org/docs/15/errcodes-appendix.html
# The end of the connection, whether the server says so or asyncpg.
CUT = re.compile("08|57P|40003")
# Rolled back in favour of another transaction: a deadlock, or a serialization failure.
LOST = re.compile("40")
# A value that fits no type, such as a NUL in a text or a year without a date.
UNFIT = re.compile("22")
# A table, column, function, index or right that a statement needs is not there (any more). Class 42
# has syntax errors as well: those are ours.
SCHEMA = re.compile("42(?!601)|3F")
# A function fails, or says no: one of somebody else's triggers, for ours say which rule it is.
FUNCTION = re.compile("P0|38|39")
# Not now.
AWAY = re.compile(
    "25"  # the transaction was ended under us, or the server has become read only
    "|28"  # it does not let us in (any more)
    "|3D"  # there is no such database (yet)
    "|53"  # out of memory, disk or connections
    "|55"  # an object is in use
    "|57"  # operator intervention: cancelled
    "|58"  # system error
    "|XX"  # internal error: damaged data, too
)
# The server has another's prepared statement under that name, or none.
PREPARED_ELSEWHERE = re.compile("26|42P05")
# When connecting: the user, the password, the name or the right to connect is wrong, or a setting
# is unknown.
NOT_LET_IN = re.compile("28|3D|42|22|0A")


@dataclass(eq=False)
class _Session(Session):
    """A session, and when it was opened, when its plans were made, and since when it is idle."""

    opened_at: float = field(default_factory=time.monotonic)
    planned_at: float = field(default_factory=time.monotonic)
    idle_since: float = 0.0


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
            server_settings=STARTUP_PARAMETERS,
            init=set_up,
            reset=leave_as_it_is,
        )
        self._idle: list[_Session] = []
        self._turns = anyio.Semaphore(MOST_CONNECTIONS)
        self._outage_at = float("-inf")
        self._complaints = Complaints()

    async def open(self) -> None:
        """Make the pool; it connects when it is asked to."""
        await self._database.connect()

    async def close(self) -> None:
        """Close all connections, by force those that do not answer."""
        pool = self._database._backend._pool  # noqa: SLF001
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS) as scope:
            while self._idle:
                await self._idle.pop().raw.__aexit__()
            await pool.close()
        if scope.cancelled_caught:
            pool.terminate()

    @contextlib.asynccontextmanager
    async def lend(self, *, writing: bool) -> AsyncIterator[Session]:
        """Lend a session; many may write at a time, since the server itself coordinates them."""
        del writing
        await self._take_turn()
        try:
            session = await self._idle_or_new()
            try:
                yield session
            except LostRace:
                raise
            except DatabaseUnavailable:
                # The other sessions were opened before the outage as well, so none is kept.
                self._outage_at = time.monotonic()
                raise
            finally:
                await self._keep_or_cut(session)
        finally:
            self._turns.release()

    async def _take_turn(self) -> None:
        try:
            self._turns.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.move_on_after(ACQUIRE_SECONDS):
                await self._turns.acquire()
                return
            raise DatabaseUnavailable(
                f"all {MOST_CONNECTIONS} connections to {self._name} have been in use for "
                f"{ACQUIRE_SECONDS:g} s"
            ) from None

    async def _idle_or_new(self) -> _Session:
        # Going through the pool takes as long as a statement, so here it only keeps count.
        while self._idle:
            session = self._idle.pop()
            now = time.monotonic()
            if self._is_usable(session) and now - session.idle_since < IDLE_SECONDS:
                if now - session.planned_at > PLANS_SECONDS:
                    session.planned_at = now
                    await self._plan_anew(session)
                return session
            await self._cut(session)
        try:
            connection = await self._connected()
            # Without the pool's proxy, which takes a microsecond for each call.
            return _Session(connection, connection.raw_connection._con)  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - whatever it is
            raise self._translate_refusal(error) from None

    async def _connected(self) -> databases.core.Connection:
        connection = databases.core.Connection(self._database, self._database._backend)  # noqa: SLF001
        # Cancelled in the middle, databases would never give the connection back
        # (docs/libraries.md).
        with anyio.CancelScope(shield=True), anyio.fail_after(CONNECT_SECONDS):
            await connection.__aenter__()
        return connection

    def _is_usable(self, session: _Session) -> bool:
        return session.opened_at > self._outage_at and not (
            session.driver.is_closed() or is_read_only(session.driver)
        )

    async def _plan_anew(self, session: _Session) -> None:
        try:
            await session.driver.execute("discard plans")
        except BaseException as error:
            await self._cut(session)
            if isinstance(error, Exception) and (ours := self.translate(error)):
                self._outage_at = time.monotonic()
                raise ours from None
            raise

    async def _keep_or_cut(self, session: _Session) -> None:
        if session.interrupted and await self._answers_again(session):
            session.sound, session.interrupted = True, False
        if session.sound and session.opened_at > self._outage_at:
            session.idle_since = time.monotonic()
            self._idle.append(session)
        else:
            await self._cut(session)

    async def _answers_again(self, session: _Session) -> bool:
        """Tell whether a session still works after its statement was cancelled.

        asyncpg has asked the server to cancel it, and waits for that before it sends anything else.
        So a client that asks for a list and leaves costs a rollback, not a new session.
        """
        with contextlib.suppress(Exception):
            with anyio.CancelScope(shield=True), anyio.fail_after(CANCEL_SECONDS):
                await session.driver.execute("rollback")
            return True
        session.driver.terminate()  # it has had its time
        return False

    async def _cut(self, session: _Session) -> None:
        """Close a session that nobody should use again, whatever state it is in."""
        with contextlib.suppress(Exception), closing_deadline():
            await session.driver.close(timeout=CANCEL_SECONDS)
        with contextlib.suppress(Exception), closing_deadline():
            await session.raw.__aexit__()

    async def command(self, session: Session, sql: str) -> None:
        """Begin, commit or roll back."""
        await session.driver.execute(sql)

    async def run(
        self, session: Session, statements: Sequence[str], values: Row, *, alone: bool
    ) -> list[Row]:
        """Run a statement, which asyncpg prepares once on each connection.

        By itself it is a transaction.
        """
        del alone
        (statement,) = statements  # here one can do what takes several elsewhere
        numbered, names = with_numbers(statement)
        rows = await session.driver.fetch(numbered, *(values[name] for name in names))
        return [dict(row) for row in rows]

    async def prove(self, session: Session) -> None:
        """Ask whether a transaction may write: after a failover it often may not."""
        sql = "select current_setting('transaction_read_only')"
        if await session.driver.fetchval(sql) != "off":
            raise DatabaseUnavailable(f"{self._name} is read-only now")

    def check(self) -> None:
        """Do nothing: deleting this database ends its sessions."""

    def encode(self, value: object) -> object:
        """Return rows as JSON text, and everything else as it is."""
        if isinstance(value, list | dict):
            return to_json(value).decode()  # json takes three times as long over times
        return value

    def translate(self, error: Exception) -> Exception | None:
        """Distinguish a server that is unavailable now from a statement that is wrong."""
        if isinstance(error, DatabaseUnavailable):
            return error
        kind = type(error).__name__
        if isinstance(error, asyncpg.PostgresError):
            return self._translate_state(error, kind, str(getattr(error, "sqlstate", "")))
        # Errors of a connection that is just being cut, in any state.
        away = (
            asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError | EOFError
        )
        if isinstance(error, away):
            return NoAnswer(f"{self._name} is away: {kind}")
        return None

    def _translate_state(self, error: asyncpg.PostgresError, kind: str, state: str) -> Exception:
        if CUT.match(state):
            return NoAnswer(f"{self._name} is away: {kind} {state}")
        if LOST.match(state):
            return LostRace(f"{self._name} rolled back in favour of another transaction: {kind}")
        if PREPARED_ELSEWHERE.match(state):
            return DatabaseUnavailable(
                f"{self._name} loses prepared statements: {kind}. If that is PgBouncer in "
                "transaction mode, set max_prepared_statements there (version 1.21 or later), or "
                "pool_mode = session"
            )
        if AWAY.match(state) or isinstance(error, asyncpg.InvalidCachedStatementError):
            return DatabaseUnavailable(f"{self._name} cannot do this now: {kind} {state}")
        if what := unfitness(error, state):
            return self._complaints.unfit(f"{self._name} refuses: {what} ({kind} {state})")
        refused = DataRefused if UNFIT.match(state) else StatementRefused
        return refused(f"{kind} {state}", getattr(error, "constraint_name", "") or "")

    def _translate_refusal(self, error: Exception) -> DatabaseUnavailable:
        """Return our error for one while connecting: it is no statement's fault."""
        state = str(getattr(error, "sqlstate", ""))
        kind = f"{type(error).__name__} {state}".strip()
        if NOT_LET_IN.match(state) or isinstance(error, asyncpg.ClientConfigurationError):
            return NotLetIn(f"{self._name} does not let us in: {kind}")
        return NoAnswer(f"{self._name} cannot be reached: {kind}")


def unfitness(error: asyncpg.PostgresError, state: str) -> str:
    """Return what of the schema keeps a statement from being done, or nothing.

    What is missing is named by the server, of statements that are the same whatever the values. A
    function may quote a row.
    """
    if SCHEMA.match(state):
        return str(error.args[0]) if error.args else state
    return "a trigger fails" if FUNCTION.match(state) else ""


async def set_up(connection: asyncpg.Connection) -> None:
    """Make a new session's settings."""
    await connection.execute(SESSION_SETTINGS)


async def leave_as_it_is(_connection: object) -> None:
    """Do not reset a session that is given back: nothing here changes its settings."""


def is_read_only(driver: asyncpg.Connection) -> bool:
    """Tell whether the server has said that nothing can be written here (from version 14 on)."""
    settings = driver.get_settings()
    return "on" in (
        getattr(settings, "in_hot_standby", "off"),
        getattr(settings, "default_transaction_read_only", "off"),
    )


@functools.cache
def with_numbers(sql: str) -> tuple[str, tuple[str, ...]]:
    """Return a statement with ``$1`` for its first ``:name`` parameter and so on, and the names."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return re.sub(r"(?<!:):([a-z_]+)", number, sql), tuple(names)
