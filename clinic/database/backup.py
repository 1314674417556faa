"""Back up the database while the clinic runs, and restore it into an empty one.

A backup of SQLite is a database file; one of PostgreSQL is an archive of pg_dump. Either is one
state of the database, of a moment while the backup is made: what is confirmed later is not in it.
"""

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from clinic.database.engine import Dialect
from clinic.database.files import COMPANIONS
from clinic.database.migration import SELECT_APPLIED, is_up_to_date
from clinic.database.opening import (
    PSYCOPG_OPTIONS,
    PostgreSQLServer,
    SQLiteFile,
    read_database_url,
)
from clinic.database.sqlite import BUSY_SECONDS
from clinic.supervisor import Misconfigured

SQLITE_MAGIC = b"SQLite format 3\0"
ARCHIVE_MAGIC = b"PGDMP"
# Numbers that are left out after a restore. What was given since the backup is known elsewhere: in
# calendars, in links, in whatever reads the events. Nobody else must be given the same.
SKIPPED = 1_000_000

# What libpq reads from the environment: passwords stand on no command line.
# https://www.postgresql.org/docs/15/libpq-envars.html
VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
}
OURS = ("appointment", "_yoyo_migration")
PROGRAMS = "/usr/lib/postgresql"
# Of what pg_dump and pg_restore say the first error, without the values that the server quotes.
SAID = re.compile(r"^pg_(?:dump|restore): error: (.*?)(?:: ERROR:.*)?$", re.MULTILINE)

SELECT_ANYTHING = """
    select count(*) from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where nspname not in ('pg_catalog', 'information_schema') and nspname not like 'pg\\_toast%'
        and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'e')
"""
SKIP_ON_POSTGRESQL = """
    select setval(
        cast(format('%%I.%%I', schemaname, sequencename) as regclass),
        coalesce(last_value, 0) + %s
    )
    from pg_sequences where schemaname = current_schema()
"""
SKIP_ON_SQLITE = (
    """
    insert into sqlite_sequence (name, seq)
    select name, 0 from sqlite_master
    where type = 'table' and sql like '%autoincrement%'
        and name not in (select name from sqlite_sequence)
    """,
    "update sqlite_sequence set seq = seq + ?",
)


class NoBackup(Misconfigured):
    """A backup or a restore cannot be done like this; the message says what to do instead."""


class BackupFailed(Exception):
    """A backup or a restore did not work; the message says why. Nothing was left half done."""


def back_up(
    url: str, file: Path, *, replace: bool = False, before: Callable[[], object] = bool
) -> int:
    """Write a backup into a file that only its owner can read; return its size in bytes.

    It is written beside, and has its name once it is whole. An existing file is ``replace``d, or is
    an error. ``before`` is called once it is clear that it can be written. Blocks; call it outside
    of the event loop.

    Raises:
        BadDatabaseURL: the URL names no database that the clinic runs on.
        NoBackup: the file cannot be written to like this, or pg_dump is missing.
        BackupFailed: the database or the disk cannot do it now.
    """
    place = read_database_url(url)
    _check_target(place, file, replace=replace)
    with _beside(file) as (descriptor, unfinished):
        before()
        if isinstance(place, SQLiteFile):
            _copy_sqlite(place, unfinished)
        else:
            _dump(place, descriptor)
        os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
        if replace:
            unfinished.replace(file)
        else:
            _put(unfinished, file)
    return size


def restore(url: str, file: Path) -> None:
    """Restore a backup into a database that has nothing in it; its schema may be an older one.

    Numbers that were given since the backup are left out: see ``SKIPPED``. Blocks; call it outside
    of the event loop.

    Raises:
        BadDatabaseURL: the URL names no database that the clinic runs on.
        CannotMigrate: the backup is of a version of the clinic that this one does not know.
        NoBackup: the file is no backup for this database, or something is in that, or pg_restore is
            missing.
        BackupFailed: the database or the disk cannot do it now.
    """
    place = read_database_url(url)
    try:
        with file.open("rb") as opened:
            magic = opened.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise NoBackup(f"{file} cannot be read: {error.strerror}") from None
    of_sqlite, of_server = magic == SQLITE_MAGIC, magic.startswith(ARCHIVE_MAGIC)
    if not (of_sqlite or of_server):
        raise NoBackup(f"{file} is no backup of a clinic")
    if isinstance(place, SQLiteFile):
        if of_server:
            raise NoBackup(f"{file} is of PostgreSQL: set DATABASE_URL to an empty database there")
        _restore_sqlite(place, file)
    else:
        if of_sqlite:
            raise NoBackup(f"{file} is of SQLite: set DATABASE_URL to a file that does not exist")
        _restore_server(place, file)


def _check_target(place: SQLiteFile | PostgreSQLServer, file: Path, *, replace: bool) -> None:
    if not file.parent.is_dir():
        raise NoBackup(f"there is no folder {file.parent}")
    if isinstance(place, SQLiteFile):
        if not place.path.is_file():
            raise NoBackup(f"there is no database {place.path}: nothing to back up")
        own = str(place.path.resolve())
        if str(file.resolve()) in (own, f"{own}.lock", *(own + one for one in COMPANIONS)):
            raise NoBackup(f"{file} is the database itself, or belongs to it: choose another name")
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise NoBackup(f"{file} is no regular file: choose another name")
    if file.exists() and not replace:
        raise NoBackup(f"{file} exists already: choose another name, or say --yes to replace it")


@contextlib.contextmanager
def _beside(file: Path) -> Iterator[tuple[int, Path]]:
    """Make a file beside another one, which only its owner can read; leave nothing of it."""
    try:
        descriptor, name = tempfile.mkstemp(f".{os.getpid()}.part", f".{file.name}.", file.parent)
    except OSError as error:
        raise NoBackup(f"nothing can be written beside {file}: {error.strerror}") from None
    unfinished = Path(name)
    try:
        yield descriptor, unfinished
        _sync(file.parent)
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"{getattr(error, 'strerror', None) or error}") from None
    finally:
        os.close(descriptor)
        for left in (unfinished, *(Path(f"{name}{one}") for one in (*COMPANIONS, "-journal"))):
            left.unlink(missing_ok=True)


def _put(unfinished: Path, file: Path) -> None:
    """Give a file its name, unless something else has got that meanwhile."""
    try:
        os.link(unfinished, file)
    except FileExistsError:
        raise BackupFailed(f"{file} has come into being meanwhile") from None
    except OSError:  # a file system without links
        unfinished.rename(file)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{path}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )


def _copy_sqlite(place: SQLiteFile, unfinished: Path) -> None:
    """Copy all pages in one step, which holds one state of the database and no writer.

    In many steps, SQLite begins anew each time that another process writes:
    https://sqlite.org/backup.html
    """
    with (
        contextlib.closing(_connect(place.path)) as source,
        contextlib.closing(sqlite3.connect(unfinished)) as target,
    ):
        source.backup(target)
        # One file, without a log beside it.
        target.execute("pragma journal_mode = delete")


def _restore_sqlite(place: SQLiteFile, file: Path) -> None:
    path = place.path.resolve()
    in_the_way = [Path(f"{path}{one}") for one in ("", *COMPANIONS)]
    if found := [one for one in in_the_way if one.exists() and one.stat().st_size]:
        raise NoBackup(f"{found[0]} is there already: move it away, or name another file")
    if not path.parent.is_dir():
        raise NoBackup(f"there is no folder {path.parent}")
    with _beside(path) as (descriptor, unfinished):
        with file.open("rb") as source, os.fdopen(os.dup(descriptor), "wb") as target:
            shutil.copyfileobj(source, target)
        with contextlib.closing(_connect(unfinished)) as connection:
            _check_sqlite(connection, file)
            insert, update = SKIP_ON_SQLITE
            connection.execute("begin")
            connection.execute(insert)
            connection.execute(update, [SKIPPED])
            connection.execute("commit")
        os.fsync(descriptor)
        for left in in_the_way:  # empty ones
            left.unlink(missing_ok=True)
        _put(unfinished, path)


def _check_sqlite(connection: sqlite3.Connection, file: Path) -> None:
    try:
        applied = [row[0] for row in connection.execute(SELECT_APPLIED)]
        whole = connection.execute("pragma quick_check(1)").fetchone()[0] == "ok"
    except sqlite3.DatabaseError:
        applied, whole = [], False
    if not applied or not whole:
        raise NoBackup(f"{file} is damaged, or no backup of a clinic")
    is_up_to_date(f"the backup {file}", Dialect.SQLITE, applied)


def _dump(place: PostgreSQLServer, descriptor: int) -> None:
    command = [_program("pg_dump"), "--format=custom", "--no-owner", "--no-privileges"]
    _run([*command, "--no-password"], place, descriptor)


def _restore_server(place: PostgreSQLServer, file: Path) -> None:
    import psycopg  # noqa: PLC0415 - most processes never need it

    program, archive = _program("pg_restore"), str(file.resolve())
    listed = _run([program, "--list", archive], place)
    if not all(re.search(rf" TABLE \S+ {one} ", listed) for one in OURS):
        raise NoBackup(f"{file} is no backup of a clinic")
    options = {name: str(value) for name, value in PSYCOPG_OPTIONS.items()}
    try:
        with psycopg.connect(place.url, autocommit=True, **options) as connection:  # type: ignore[arg-type]
            (count,) = connection.execute(SELECT_ANYTHING).fetchone() or (0,)
            if count:
                raise NoBackup(f"{place.name} has something in it: make an empty database for it")
            # All of it or nothing.
            how = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
            name = unquote(urlsplit(place.url).path.removeprefix("/"))
            # In the form of a connection string, or a name with = in it would be one.
            quoted = name.replace("\\", "\\\\").replace("'", "\\'")
            where = ["--no-password", f"--dbname=dbname='{quoted}'"]
            _run([program, *how, *where, archive], place)
            connection.execute(SKIP_ON_POSTGRESQL, [SKIPPED])
            # Plans are made by what the server knows of its tables.
            connection.execute("analyze")
    except psycopg.Error as error:
        # What psycopg says of a failed connection names host, port and user, never the password.
        reason = " ".join(str(error).split()) if error.sqlstate is None else error.sqlstate
        raise BackupFailed(f"{place.name} cannot do this now: {reason}") from None


def _program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, the newest."""

    def version(path: Path) -> int:
        return int(re.sub(r"\D", "", path.parts[-3]) or 0)

    found = sorted(Path(PROGRAMS).glob(f"*/bin/{name}"), key=version)
    path = shutil.which(name) or (str(found[-1]) if found else None)
    if path is None:
        raise NoBackup(
            f"{name} is missing: install PostgreSQL's client programs, of the server's version or "
            "newer (Debian: postgresql-client), or use the backups of whoever runs the server"
        )
    return path


def _run(command: Sequence[str], place: PostgreSQLServer, stdout: int = subprocess.PIPE) -> str:
    """Run a program on a server; return what it prints.

    Raises:
        BackupFailed: it failed; the message has no values of rows and no password.
    """
    done = subprocess.run(  # noqa: S603 - our own words, and no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**_inherited(), "LC_ALL": "C", **_environment(place)},
        check=False,
    )
    if done.returncode:
        said = SAID.search(done.stderr.decode(errors="replace"))
        why = said[1] if said else f"it ended with status {done.returncode}"
        raise BackupFailed(f"{Path(command[0]).name} of {place.name} failed: {why}")
    return (done.stdout or b"").decode(errors="replace")


def _inherited() -> dict[str, str]:
    """Return our own environment, without what our executable has in it for itself.

    Its libraries are no other program's: https://pyinstaller.org/en/stable/runtime-information.html
    """
    found = dict(os.environ)
    if getattr(sys, "frozen", False):
        found.pop("LD_LIBRARY_PATH", None)
        if "LD_LIBRARY_PATH_ORIG" in found:
            found["LD_LIBRARY_PATH"] = found["LD_LIBRARY_PATH_ORIG"]
    return found


def _environment(place: PostgreSQLServer) -> Mapping[str, str]:
    """Return what says to PostgreSQL's programs where the database is, and how to get in."""
    parts = urlsplit(place.url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "sslpassword" in options:
        raise NoBackup("sslpassword: PostgreSQL's programs take none; use a key without a password")
    given = {
        "PGHOST": unquote(parts.hostname or ""),
        "PGPORT": str(parts.port or 5432),
        "PGDATABASE": unquote(parts.path.removeprefix("/")),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGCONNECT_TIMEOUT": str(PSYCOPG_OPTIONS["connect_timeout"]),
    }
    given |= {VARIABLES[name]: value for name, value in options.items()}
    return {name: value for name, value in given.items() if value}
