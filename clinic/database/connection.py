"""Work on the database in transactions, whatever its dialect and whatever goes wrong."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from clinic.database.engine import (
    DatabaseUnavailable,
    Dialect,
    Engine,
    LostRace,
    Row,
    Session,
    closing_deadline,
    translating,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Result = TypeVar("Result")

# How often a transaction is tried. PostgreSQL takes a second to end a deadlock, so a client waits
# for no more than this number of seconds.
MOST_RACES = 4


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


class Connection:
    """One transaction's connection; never share it between tasks."""

    def __init__(self, session: Session, engine: Engine) -> None:
        self._session = session
        self._engine = engine
        self.dialect = engine.dialect
        self.committed: list[Callable[[], object]] = []

    async def fetch_all(self, sql: str | Sql, values: Row | None = None) -> list[Row]:
        """Run a statement with ``:name`` parameters and return all its rows.

        A list or dict is handed over as JSON text, for the statement to unfold into rows.
        Write ``cast(:x as t)``, never ``:x::t``, and no ``:`` in literals.

        Raises:
            DatabaseUnavailable: the database cannot answer now.
            StatementRefused: the database refuses the statement.
        """
        return await self._run(sql, values, alone=False, committing=False)

    async def execute(self, sql: str | Sql, values: Row | None = None) -> None:
        """Run a statement for its effect; for the rest see ``fetch_all``."""
        await self.fetch_all(sql, values)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call back once the transaction has been committed, and not at all if it is not."""
        self.committed.append(callback)

    async def _run(
        self, sql: str | Sql, values: Row | None, *, alone: bool, committing: bool
    ) -> list[Row]:
        statements = (sql,) if isinstance(sql, str) else sql.on(self.dialect)
        encoded = {name: self._engine.encode(value) for name, value in (values or {}).items()}
        with translating(self._engine, self._session, committing=committing):
            return await self._engine.run(self._session, statements, encoded, alone=alone)

    async def _begin(self, begin: str) -> None:
        with translating(self._engine, self._session):
            await self._engine.command(self._session, begin)

    async def _commit(self, *, writing: bool) -> None:
        with translating(self._engine, self._session, committing=writing), closing_deadline():
            await self._engine.command(self._session, "commit")

    async def _roll_back(self) -> None:
        """Roll back on a session that still answers; the others are thrown away as they are."""
        if self._session.sound:
            with (
                contextlib.suppress(Exception),
                translating(self._engine, self._session),
                closing_deadline(),
            ):
                await self._engine.command(self._session, "rollback")


class Database:
    """An open database, which hands out transactions.

    ``databases`` has transactions of its own, but they leak a connection whenever one is cancelled
    or its commit fails, and poison their task when the server goes away (docs/libraries.md). So
    each transaction here has a session to itself; its commit, rollback and return are done under a
    shield, each with a deadline; and a session on which anything failed is thrown away, unless a
    task was only cancelled in the middle of a statement and the session answers again.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shut = ""
        self.dialect = engine.dialect

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Commit what the body writes when it ends, or nothing of it when it raises.

        Raises:
            OutcomeUnknown: the commit was sent and not answered: it may have been done or not.
            DatabaseUnavailable: the database cannot do it now, and nothing was done.
            StatementRefused: a statement or the commit was refused.
        """
        async with self._transaction(self._engine.begin, writing=True) as connection:
            yield connection
        for callback in connection.committed:
            callback()

    async def at_once(self, statement: str | Sql, values: Row | None = None) -> list[Row]:
        """Run a statement as a transaction of its own, in one round trip to the database.

        Raises:
            OutcomeUnknown: the statement was sent and not answered: it may have been done or not.
            DatabaseUnavailable: the database cannot do it now, and nothing was done.
            StatementRefused: the statement was refused.
        """
        async with self._lent(writing=True) as connection:
            return await connection._run(statement, values, alone=True, committing=True)  # noqa: SLF001

    async def look(self, statement: str | Sql, values: Row | None = None) -> list[Row]:
        """Read with one statement: by itself it sees one state of the database throughout.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self._lent(writing=False) as connection:
            return await connection.fetch_all(statement, values)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Read one state of the database throughout the body, whatever others write meanwhile.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self._transaction(self._engine.begin_snapshot, writing=False) as connection:
            yield connection

    async def ping(self) -> None:
        """Check that the database answers, and that it can be written to.

        Raises:
            DatabaseUnavailable: it does not, or can only be read.
        """
        self._let_in()
        async with self._engine.lend(writing=True) as session:
            with translating(self._engine, session):
                await self._engine.prove(session)

    def shut(self, reason: str) -> None:
        """Let nobody in until ``reopen``: they are told that the database is unavailable, and why.

        ``bypass`` still works on it.
        """
        self._shut = reason

    def reopen(self) -> None:
        """Let everyone in again."""
        self._shut = ""

    def bypass(self) -> "Database":
        """Return the same database, open to the service that has shut it."""
        return Database(self._engine)

    def check(self) -> None:
        """Check that the file on disk still is the one that was opened.

        Raises:
            DatabaseLost: it was deleted or replaced.
        """
        self._engine.check()

    def _let_in(self) -> None:
        if self._shut:
            raise DatabaseUnavailable(self._shut)

    @contextlib.asynccontextmanager
    async def _transaction(self, begin: str, *, writing: bool) -> AsyncIterator[Connection]:
        async with self._lent(writing=writing) as connection:
            try:
                await connection._begin(begin)  # noqa: SLF001
                yield connection
                await connection._commit(writing=writing)  # noqa: SLF001
            except BaseException:
                await connection._roll_back()  # noqa: SLF001
                raise

    @contextlib.asynccontextmanager
    async def _lent(self, *, writing: bool) -> AsyncIterator[Connection]:
        self._let_in()
        async with self._engine.lend(writing=writing) as session:
            yield Connection(session, self._engine)


def as_row(thing: "DataclassInstance") -> dict[str, Any]:
    """Return the fields of a dataclass by name; ``asdict`` copies each at ten times the cost."""
    return {name: getattr(thing, name) for name in thing.__dataclass_fields__}


async def again_if_lost(transact: Callable[[], Awaitable[Result]]) -> Result:
    """Carry out a transaction; try again, up to a few times, when another one won the conflict.

    Raises:
        DatabaseUnavailable: it lost every time, or the database cannot do it now.
    """
    for _ in range(MOST_RACES - 1):
        with contextlib.suppress(LostRace):
            return await transact()
    return await transact()
