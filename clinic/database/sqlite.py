"""SQLite, the embedded engine: one file in WAL mode, one writer at a time."""

import asyncio
import contextlib
import datetime
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import anyio
import databases
import databases.core
from pydantic_core import to_json

from clinic.database.engine import (
    Complaints,
    DatabaseUnavailable,
    DataRefused,
    Dialect,
    NoAnswer,
    Row,
    Session,
    StatementRefused,
    closing_deadline,
)
from clinic.database.files import DatabaseFiles
from clinic.database.times import wall_clock_text

Result = TypeVar("Result")

# How long a statement waits for another process's lock before it gives up.
BUSY_SECONDS = 5.0
# The same for a statement that only checks whether the file can be written to.
PROOF_SECONDS = 1.0
# How long a transaction waits for its turn among those of this process.
TURN_SECONDS = 10.0
# How long a statement may take: on a disk that hangs it has no end of its own. The longest that the
# clinic has take some seconds: comparing the counts of analytics with 1,000,000 events.
STATEMENT_SECONDS = 30.0
# The most reads at a time, each in a thread: more would wait for the interpreter, and keep writers
# from it. Their connections are kept open, for opening one takes 1.3 ms (docs/libraries.md).
READERS = 8
# `->>`, in which batches are unfolded, came with 3.38 (https://sqlite.org/releaselog/3_38_0.html).
OLDEST_SQLITE = (3, 38, 0)

# Errors that say that the file cannot be used now, not that the statement is wrong.
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
        sqlite3.SQLITE_INTERRUPT,
    }
)
# Errors that say that a value fits no column, or is too long for any.
UNFIT = frozenset({sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})
# Of SQLITE_ERROR's many causes, those by which a schema is not what the migrations made.
SCHEMA = re.compile(r"no such |.* has no column named |ON CONFLICT clause does not match")


class _Connection(sqlite3.Connection):
    """A connection with the settings that SQLite forgets at every opening."""

    def __init__(self, database: str, **options: Any) -> None:
        # Never make a new file where the clinic's was: that would be an empty book.
        super().__init__(f"file:{quote(database)}?mode=rw", uri=True, **options)
        self.execute("pragma foreign_keys = on")
        # A booking that was confirmed survives a power cut: the default for WAL elsewhere is not
        # to sync each commit (https://sqlite.org/pragma.html#pragma_synchronous).
        self.execute("pragma synchronous = full")
        # What is deleted is overwritten: a patient who was erased is in no unused part of the file.
        # Debian's SQLite does so unless it is told not to, others do not.
        self.execute("pragma secure_delete = on")
        # Otherwise a large sort needs a file in one of the system's folders, and a container with a
        # read-only root has none: https://sqlite.org/tempfiles.html
        self.execute("pragma temp_store = memory")
        # The first read opens the files beside the database, for ``DatabaseFiles`` to know them.
        self.execute("select 1 from sqlite_master limit 1").fetchall()
        self.row_factory = sqlite3.Row


class SQLite:
    """The engine over one file; see ``Engine`` for what each method promises."""

    dialect = Dialect.SQLITE
    begin = "begin immediate"
    begin_snapshot = "begin"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = DatabaseFiles(path)
        self._complaints = Complaints()
        self._database = databases.Database(
            f"sqlite:///{path}", factory=_Connection, timeout=BUSY_SECONDS
        )
        self._idle: list[Session] = []
        self._open = 0
        self._to_write = anyio.Semaphore(1)
        self._to_read = anyio.Semaphore(READERS)

    async def open(self) -> None:
        """Do nothing yet: a connection is opened when it is needed."""

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._discard(self._idle.pop())

    @contextlib.asynccontextmanager
    async def lend(self, *, writing: bool) -> AsyncIterator[Session]:
        """Lend a session to a few readers and one writer: SQLite has no queue for writers."""
        async with self._turn(self._to_write if writing else self._to_read):
            session = await self._idle_or_new()
            try:
                yield session
            finally:
                if session.sound:
                    self._idle.append(session)
                else:
                    await self._discard(session)
            if writing:
                # A commit into a file that was deleted or replaced must not be confirmed.
                self.check()

    @contextlib.asynccontextmanager
    async def _turn(self, turns: anyio.Semaphore) -> AsyncIterator[None]:
        try:
            turns.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.move_on_after(TURN_SECONDS) as waiting:
                await turns.acquire()
            if waiting.cancelled_caught:
                raise DatabaseUnavailable(
                    f"the database {self._path} has been busy for {TURN_SECONDS:g} s"
                ) from None
        try:
            yield
        finally:
            turns.release()

    async def _idle_or_new(self) -> Session:
        if self._idle:
            return self._idle.pop()
        connection = databases.core.Connection(self._database, self._database._backend)  # noqa: SLF001
        try:
            with closing_deadline():
                await connection.__aenter__()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no statement's fault
            ours = self.translate(error)
            if not isinstance(ours, DatabaseUnavailable):
                ours = DatabaseUnavailable(f"the database {self._path} cannot be opened: {error}")
            raise ours from None
        # SQLite itself deletes and makes the files beside the database, when nobody has it open.
        self._files.remember(anew=self._open == 0)
        self._open += 1
        return Session(connection, connection.raw_connection)

    async def _discard(self, session: Session) -> None:
        """Close a connection; SQLite rolls back what it has begun."""
        self._open -= 1
        with contextlib.suppress(Exception), closing_deadline():
            await session.raw.__aexit__()

    async def command(self, session: Session, sql: str) -> None:
        """Begin, commit or roll back."""
        await self._do(session, lambda connection: connection.execute(sql).fetchall())

    async def run(
        self, session: Session, statements: Sequence[str], values: Row, *, alone: bool
    ) -> list[Row]:
        """Run statements; SQLite knows ``:name`` parameters itself."""
        run = transact if alone else fetch_last
        return await self._do(session, lambda connection: run(connection, statements, values))

    async def prove(self, session: Session) -> None:
        """Take the write lock, and release it."""
        await self._do(session, take_and_give_back)

    async def _do(self, session: Session, work: Callable[[sqlite3.Connection], Result]) -> Result:
        # All in one round trip to the connection's thread: each takes a tenth of a millisecond, and
        # more while the event loop is busy, for both want the interpreter (benchmarks/README.md).
        # That is what aiosqlite's _execute does, with a deadline at a fifth of what a scope costs.
        connection: sqlite3.Connection = session.driver._conn  # noqa: SLF001
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        session.driver._tx.put_nowait((answer, partial(work, connection)))  # noqa: SLF001
        deadline = loop.call_later(STATEMENT_SECONDS, give_up, answer)
        try:
            return await answer
        except (TimeoutError, asyncio.CancelledError):
            connection.interrupt()  # or the thread would go on for nobody
            raise
        finally:
            deadline.cancel()

    def check(self) -> None:
        """Check that the file and those beside it still are those that were opened."""
        self._files.check(companions=self._open > 0)

    def encode(self, value: object) -> object:
        """Return times as ``times.py`` says, and rows as JSON text."""
        if isinstance(value, list | dict):
            return to_json(plain(value)).decode()
        return plain(value)

    def translate(self, error: Exception) -> Exception | None:
        """Distinguish a file that cannot be used now from a statement that is wrong."""
        if isinstance(error, DatabaseUnavailable):
            return error
        if isinstance(error, TimeoutError):
            return NoAnswer(f"the database {self._path} does not answer")
        if isinstance(error, OSError):
            return DatabaseUnavailable(f"the database {self._path} cannot be used: {error}")
        if not isinstance(error, sqlite3.Error):
            return None
        return self._translate_code(error)

    def _translate_code(self, error: sqlite3.Error) -> Exception:
        # The low byte is the primary code: https://sqlite.org/rescode.html#primary_result_codes
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in AWAY:
            # A commit that failed with an I/O error may still be there after a crash.
            kind = NoAnswer if code == sqlite3.SQLITE_IOERR else DatabaseUnavailable
            return kind(f"the database {self._path} cannot be used: {error}")
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if code in UNFIT:
            return DataRefused(name)
        if code == sqlite3.SQLITE_ERROR and SCHEMA.match(str(error)):
            return self._complaints.unfit(f"the database {self._path} refuses: {error}")
        # A constraint's message names table and columns, never values.
        return StatementRefused(
            name, str(error) if isinstance(error, sqlite3.IntegrityError) else ""
        )


def give_up(answer: asyncio.Future[Any]) -> None:
    """End the wait for a thread that does not answer."""
    if not answer.done():
        answer.set_exception(TimeoutError())


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


def fetch_last(connection: sqlite3.Connection, statements: Sequence[str], values: Row) -> list[Row]:
    """Run statements one after the other and return the rows of the last."""
    *before, last = statements
    for statement in before:
        connection.execute(statement, values)
    return [dict(row) for row in connection.execute(last, values)]


def transact(connection: sqlite3.Connection, statements: Sequence[str], values: Row) -> list[Row]:
    """Run statements as one transaction and return the rows of the last."""
    connection.execute(SQLite.begin)
    try:
        rows = fetch_last(connection, statements, values)
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:  # SQLite itself ends one that it has no room for
            connection.execute("rollback")
        raise
    return rows


def take_and_give_back(connection: sqlite3.Connection) -> None:
    """Begin to write, and write nothing."""
    connection.execute(f"pragma busy_timeout = {PROOF_SECONDS * 1000:.0f}")
    try:
        connection.execute(SQLite.begin)
        connection.execute("rollback")
    finally:
        connection.execute(f"pragma busy_timeout = {BUSY_SECONDS * 1000:.0f}")
