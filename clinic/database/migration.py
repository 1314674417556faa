"""Bring the schema up to date, one process at a time."""

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path

import yoyo

from clinic.database.connection import Dialect
from clinic.database.opening import PostgreSQLServer, SQLiteFile, read_database_url
from clinic.database.sqlite import OLDEST_SQLITE

# `for update skip locked` and the rest are older; this is the oldest that is tested.
OLDEST_POSTGRESQL = 15_00_00
# Any number will do, as long as all processes of the clinic use the same and nobody else does.
ADVISORY_LOCK = 0x434C494E4943  # "CLINIC"

MIGRATIONS = Path(__file__).parents[2] / "migrations"


class CannotMigrate(Exception):
    """The database cannot be brought up to date; the message says why and what to do."""


def migrate(url: str) -> list[str]:
    """Apply the migrations that the database lacks and return their ids, oldest first.

    Any number of processes may call this at once: one migrates, the others wait for it. A process
    that dies in the middle is no obstacle to the next one. Blocks; call it before the event loop
    starts.

    Raises:
        BadDatabaseURL: the URL names no database that the clinic runs on.
        CannotMigrate: the database cannot be reached or opened, or a migration fails.
    """
    place = read_database_url(url)
    if isinstance(place, SQLiteFile):
        return _migrate_sqlite(place)
    return _migrate_postgresql(place)


def _migrate_sqlite(place: SQLiteFile) -> list[str]:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise CannotMigrate(
            f"this Python has SQLite {sqlite3.sqlite_version}; the clinic needs {oldest} or later"
        )
    try:
        # The system lets go of the lock when a process dies.
        with Path(f"{place.path.resolve()}.lock").open("w") as lock:  # beside the real file
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.closing(sqlite3.connect(place.path, timeout=60)) as connection:
                connection.execute("pragma journal_mode = wal")
            return _apply(f"sqlite:///{place.path}", Dialect.SQLITE)
    except (OSError, sqlite3.Error) as error:
        raise CannotMigrate(
            f"the database file {place.path} cannot be used: {error}. Check that its folder exists "
            "and may be written, and that the file is a database of the clinic"
        ) from error


def _migrate_postgresql(place: PostgreSQLServer) -> list[str]:
    import psycopg  # noqa: PLC0415 - a start on SQLite would be a tenth slower for it

    try:
        with psycopg.connect(place.url, connect_timeout=5, autocommit=True) as connection:
            if connection.info.server_version < OLDEST_POSTGRESQL:
                raise CannotMigrate(
                    f"{place.name} is version {connection.info.server_version // 10_000}; "
                    f"the clinic needs {OLDEST_POSTGRESQL // 10_000} or later"
                )
            # The server lets go of the lock when its connection ends.
            connection.execute("select pg_advisory_lock(%s)", [ADVISORY_LOCK])
            return _apply(place.yoyo_url, Dialect.POSTGRESQL)
    except psycopg.Error as error:
        # What psycopg says of a failed connection names host, port and user, never the password.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CannotMigrate(f"{place.name} cannot be used: {reason}") from error


def _apply(uri: str, dialect: Dialect) -> list[str]:
    # yoyo logs who migrated, and asks for the name only after it has applied the migration: where
    # the user has no entry in the passwd file, as in a container, that fails too late (STACK 5).
    os.environ.setdefault("USER", "clinic")
    migrations = yoyo.read_migrations(str(MIGRATIONS / dialect))
    if not migrations:
        raise CannotMigrate(f"there are no migrations in {MIGRATIONS / dialect}: install it again")
    with yoyo.get_backend(uri) as backend:
        # We hold the only right to migrate, so a lock that yoyo finds is one that a killed process
        # left behind; yoyo would wait for it for ever.
        backend.break_lock()
        with backend.lock():
            missing = backend.to_apply(migrations)
            backend.apply_migrations(missing)
            # yoyo passes over a migration that it cannot read.
            left = backend.to_apply(migrations)
    if left:
        raise CannotMigrate("not applied: " + ", ".join(migration.id for migration in left))
    return [migration.id for migration in missing]
