"""Bring the schema up to date, one process at a time."""

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from clinic.database.engine import Dialect
from clinic.database.files import PRIVATE, keep_private, make_private
from clinic.database.opening import (
    PSYCOPG_OPTIONS,
    PostgreSQLServer,
    SQLiteFile,
    read_database_url,
)
from clinic.database.sqlite import BUSY_SECONDS, OLDEST_SQLITE
from clinic.supervisor import Misconfigured

log = logging.getLogger(__name__)

# `for update skip locked` and the rest are older; this is the oldest that is tested.
OLDEST_POSTGRESQL = 15_00_00
# Any number will do, as long as all processes of the clinic use the same and nobody else does.
ADVISORY_LOCK = 0x434C494E4943  # "CLINIC"
# How long another process may take over a migration before that is worth a line in the log.
LOCK_SECONDS = 3.0
LOCK_LOOK_SECONDS = 0.05

# Installed, they lie in the package; in a checkout, beside it.
PACKAGE = Path(__file__).parents[1]
INSTALLED = PACKAGE / "migrations"
MIGRATIONS = INSTALLED if INSTALLED.is_dir() else PACKAGE.with_name("migrations")

SELECT_APPLIED = "select migration_id from _yoyo_migration"
DELETE_APPLIED = "delete from _yoyo_migration"

# The schema once was many migrations, STEPS, and now is one, WHOLE. A database that has all of
# STEPS is taken over: it gets the migrations of the folder BEFORE that it lacks, and then has the
# same schema as WHOLE. A database that has an EARLIER whole has all steps up to the one that is
# named.
WHOLE = "0002.clinic"
EARLIER = {"0001.clinic": "0013.conflicts"}
STEPS = frozenset(
    {
        "0001.appointment",
        "0002.event",
        "0003.message",
        "0004.recorded",
        "0005.idempotency_key",
        "0006.last_before",
        "0007.outbox",
        "0008.override_once",
        "0009.rectangles",
        LAST_STEP := "0010.overrides_by_time",
    }
)
BEFORE = "before"

# Errors of SQLite's, and classes of SQLSTATE, that may pass by themselves.
PASSING_ON_SQLITE = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
)
PASSING_ON_POSTGRESQL = ("08", "40", "53", "55", "57", "58")


class CannotMigrate(Misconfigured):
    """The database cannot be brought up to date; the message says why and what to do."""


class NotMigratedYet(CannotMigrate):
    """The database is away, or another process holds the lock to migrate it: try again later."""


def migrate(url: str, *, wait: bool = True) -> list[str]:
    """Apply the migrations that the database lacks and return their ids, oldest first.

    Any number of processes may call this at once: one migrates, the others ``wait`` for it, or else
    are told after ``LOCK_SECONDS``. A process that dies in the middle is no obstacle to the next
    one. Blocks; call it outside of the event loop.

    Raises:
        BadDatabaseURL: the URL names no database that the clinic runs on.
        NotMigratedYet: the database cannot be reached now, or another process migrates it.
        CannotMigrate: the database cannot be opened or is none of ours, or a migration fails.
    """
    place = read_database_url(url)
    if isinstance(place, SQLiteFile):
        return _migrate_sqlite(place, wait=wait)
    return _migrate_postgresql(place, wait=wait)


def is_up_to_date(name: str, dialect: Dialect, applied: Iterable[str]) -> bool:
    """Tell whether all migrations are among those that were applied to the database.

    Raises:
        CannotMigrate: other migrations were applied as well: by a newer version of the clinic, or
            by one so old that this version cannot go on from there.
    """
    folder = MIGRATIONS / dialect
    known, applied = ids_in(folder), set(applied)
    if not known:
        raise CannotMigrate(f"there are no migrations in {folder}: install the clinic again")
    steps = STEPS | ids_in(folder / BEFORE)
    applied = with_steps(applied, steps)
    unknown = sorted(applied - known - steps)
    if unknown:
        raise CannotMigrate(
            f"{name} was brought up to date by another version of the clinic, with migrations that "
            f"this version does not know ({', '.join(unknown)}): start that version"
        )
    if applied & steps and not applied >= STEPS:
        raise CannotMigrate(
            f"{name} has the schema of an older version of the clinic (its last migration is "
            f"{max(applied & steps)}), and this version cannot migrate from there: run `clinic.py "
            f"migrate` of a version that has {LAST_STEP}, then start this version"
        )
    return known <= applied


def with_steps(applied: set[str], steps: Iterable[str]) -> set[str]:
    """Return what was applied, with all steps in the place of an earlier whole."""
    found = applied - EARLIER.keys()
    for whole, last in EARLIER.items():
        if whole in applied:
            found |= {step for step in steps if step <= last}
    return found


def ids_in(folder: Path) -> set[str]:
    """Return the ids of the migrations in a folder."""
    files = [*folder.glob("*.sql"), *folder.glob("*.py")]
    return {path.stem for path in files if not path.stem.endswith(".rollback")}


def check_server(name: str, version: int, encoding: str) -> None:
    """Check that the clinic runs on a PostgreSQL server and on the encoding of its database.

    Raises:
        CannotMigrate: it does not.
    """
    if version < OLDEST_POSTGRESQL:
        raise CannotMigrate(
            f"{name} is version {version // 10_000}; the clinic needs "
            f"{OLDEST_POSTGRESQL // 10_000} or later"
        )
    if encoding != "UTF8":
        raise CannotMigrate(
            f"{name} has the encoding {encoding}, in which not every name can be written; make a "
            "database with: create database ... encoding 'UTF8' template template0"
        )


def _migrate_sqlite(place: SQLiteFile, *, wait: bool) -> list[str]:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise CannotMigrate(
            f"this Python has SQLite {sqlite3.sqlite_version}; the clinic needs {oldest} or later"
        )
    name = f"the database file {place.path}"
    try:
        make_private(place.path)
        with contextlib.closing(sqlite3.connect(place.path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("pragma journal_mode = wal")
            keep_private(place.path)
            with contextlib.suppress(sqlite3.OperationalError):  # no such table
                applied = connection.execute(SELECT_APPLIED).fetchall()
                if is_up_to_date(name, Dialect.SQLITE, (row[0] for row in applied)):
                    return []
        with _file_lock(place.path, name, wait=wait):
            return _apply(f"sqlite:///{place.path}", name, Dialect.SQLITE)
    except (OSError, sqlite3.Error) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind = NotMigratedYet if code in PASSING_ON_SQLITE else CannotMigrate
        raise kind(
            f"{name} cannot be used: {error}. Check that its folder exists "
            "and may be written, and that the file is a database of the clinic"
        ) from error


@contextlib.contextmanager
def _file_lock(path: Path, name: str, *, wait: bool) -> Iterator[None]:
    """Hold the lock to migrate, which the system releases when the process dies."""
    beside = f"{path.resolve()}.lock"  # beside the real file
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE)

    def take() -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    try:
        _take_lock(take, name, wait=wait)
        yield
    finally:
        os.close(descriptor)


def _migrate_postgresql(place: PostgreSQLServer, *, wait: bool) -> list[str]:
    import psycopg  # noqa: PLC0415 - a start on SQLite would be a tenth slower for it

    options = {name: str(value) for name, value in PSYCOPG_OPTIONS.items()}
    try:
        # The lock is a transaction's, not a session's: behind PgBouncer in transaction mode a
        # session's would outlive us. Nothing else is done in this transaction.
        with psycopg.connect(place.url, **options) as connection:  # type: ignore[arg-type]
            encoding = connection.execute("show server_encoding").fetchone()
            check_server(
                place.name, connection.info.server_version, encoding[0] if encoding else ""
            )
            connection.execute("set local idle_in_transaction_session_timeout = 0")

            def take() -> bool:
                sql = f"select pg_try_advisory_xact_lock({ADVISORY_LOCK})"
                row = connection.execute(sql, prepare=False).fetchone()
                return bool(row and row[0])

            _take_lock(take, place.name, wait=wait)
            return _apply(place.yoyo_url, place.name, Dialect.POSTGRESQL)
    except psycopg.Error as error:
        # What psycopg says of a failed connection names host, port and user, never the password.
        reason = " ".join(str(error).split()) or type(error).__name__
        state = error.sqlstate or "08"  # libpq tells none of a connection that cannot be made
        kind = NotMigratedYet if state.startswith(PASSING_ON_POSTGRESQL) else CannotMigrate
        raise kind(f"{place.name} cannot be used: {reason}") from error


def _take_lock(take: Callable[[], bool], name: str, *, wait: bool) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    said = False
    while not take():
        if time.monotonic() > deadline and not said:
            text = f"{name} is being brought up to date by another process, which holds its lock"
            if not wait:
                raise NotMigratedYet(text)
            log.warning("%s: waiting until it is done", text)
            said = True
        time.sleep(LOCK_LOOK_SECONDS)


def _sqlite_backend(uri: str) -> Any:
    """Return yoyo's backend for SQLite, whose connections keep temporary files in memory.

    A container with a read-only root has no folder for them (``clinic/database/sqlite.py``), and
    SQLite 3.53 needs one for the schema. yoyo opens a connection for each migration.
    """
    # Most starts find nothing to migrate.
    from yoyo import default_migration_table  # noqa: PLC0415
    from yoyo.backends.core.sqlite3 import SQLiteBackend  # noqa: PLC0415
    from yoyo.connections import parse_uri  # noqa: PLC0415

    class InMemory(SQLiteBackend):  # type: ignore[misc] # yoyo has no types
        def init_connection(self, connection: sqlite3.Connection) -> None:
            connection.execute("pragma temp_store = memory")

    backend = InMemory(parse_uri(uri), default_migration_table)
    backend.init_database()
    return backend


def _apply(uri: str, name: str, dialect: Dialect) -> list[str]:
    import yoyo  # noqa: PLC0415 - most starts find nothing to migrate

    # yoyo logs who migrated, and asks for the name only after it has applied the migration: where
    # the user has no entry in the passwd file, as in a container, that fails too late
    # (docs/libraries.md).
    os.environ.setdefault("USER", "clinic")
    migrations = yoyo.read_migrations(str(MIGRATIONS / dialect))
    steps = yoyo.read_migrations(str(MIGRATIONS / dialect / BEFORE))
    with _sqlite_backend(uri) if dialect is Dialect.SQLITE else yoyo.get_backend(uri) as backend:
        # We hold the only lock to migrate, so a lock that yoyo finds was left behind by a killed
        # process; yoyo would wait for it for ever.
        backend.break_lock()
        with backend.lock():
            backend.ensure_internal_schema_updated()
            applied = {row[0] for row in backend.execute(SELECT_APPLIED)}
            is_up_to_date(name, dialect, applied)
            taken_over = []
            done = with_steps(applied, STEPS | {step.id for step in steps})
            if done & STEPS:
                taken_over = [step for step in steps if step.id not in done]
                for step in taken_over:
                    backend.apply_one(step)
                with backend.transaction():
                    backend.execute(DELETE_APPLIED)
                    backend.mark_one(next(one for one in migrations if one.id == WHOLE))
            missing = backend.to_apply(migrations)
            backend.apply_migrations(missing)
            # yoyo passes over a migration that it cannot read.
            left = backend.to_apply(migrations)
    if left:
        names = ", ".join(migration.id for migration in left)
        raise CannotMigrate(f"these migrations of {name} could not be applied: {names}")
    return [migration.id for migration in (*taken_over, *missing)]
