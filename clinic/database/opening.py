"""Open the database that a URL names."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from clinic.addresses import ADVICE, is_misread
from clinic.database.connection import Database
from clinic.database.engine import Engine
from clinic.database.postgresql import PostgreSQL
from clinic.database.sqlite import SQLite

# What libpq and asyncpg understand alike: https://www.postgresql.org/docs/15/libpq-ssl.html
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SSL_FILES = frozenset({"sslrootcert", "sslcert", "sslkey", "sslcrl"})
POSTGRESQL_OPTIONS = SSL_FILES | {"sslmode", "sslpassword"}

# How long libpq waits for a connection, in seconds, and for a network that swallows everything:
# https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-PARAMKEYWORDS
PSYCOPG_OPTIONS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


class BadDatabaseURL(ValueError):
    """A database URL cannot be used; the message says what to write instead, and no password."""

    def __init__(self, advice: str) -> None:
        super().__init__(f"DATABASE_URL: {advice}")


# SQLite's name for a database that each connection has to itself.
IN_MEMORY = ":memory:"


@dataclass(frozen=True)
class SQLiteFile:
    """A database in a file."""

    path: Path


@dataclass(frozen=True)
class PostgreSQLServer:
    """A database on a server; ``rest`` is everything after the scheme, with the password."""

    rest: str
    name: str
    """Host, port and database, for messages."""

    @property
    def url(self) -> str:
        """The URL that asyncpg understands."""
        return f"postgresql://{self.rest}"

    @property
    def yoyo_url(self) -> str:
        """The URL that yoyo understands: with psycopg 3, and with time-outs."""
        separator = "&" if "?" in self.rest else "?"
        return f"postgresql+psycopg://{self.rest}{separator}{urlencode(PSYCOPG_OPTIONS)}"


def read_database_url(url: str) -> SQLiteFile | PostgreSQLServer:
    """Return the database that a URL names.

    Raises:
        BadDatabaseURL: it names none that the clinic runs on, or could be misread.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return _sqlite_file(rest)
    if scheme in ("postgresql", "postgres", "postgresql+asyncpg"):
        return _postgresql_server(rest)
    raise BadDatabaseURL(
        "the clinic runs on sqlite:///file and on postgresql://user:password@host:port/database"
    )


def _sqlite_file(rest: str) -> SQLiteFile:
    # Both libraries put the path into a URI; one decodes it there and the other does not
    # (docs/libraries.md).
    path = rest.removeprefix("/")
    misread = any(character in path for character in "?#%") or path == IN_MEMORY
    if not rest.startswith("/") or not path or misread:
        raise BadDatabaseURL(
            "write sqlite:///clinic.db for a file in the working directory, or "
            "sqlite:////var/lib/clinic.db for one elsewhere; no ?, # or % in it, and not in "
            "memory"
        )
    return SQLiteFile(Path(path))


def _postgresql_server(rest: str) -> PostgreSQLServer:
    url = f"postgresql://{rest}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 5432
    except ValueError:
        host, port = None, 0
    database = unquote(parts.path.removeprefix("/")) if host else ""
    if not host or not database or parts.fragment or is_misread(url):
        raise BadDatabaseURL(f"write postgresql://user:password@host:port/database; {ADVICE}")
    _check_options(dict(parse_qsl(parts.query, keep_blank_values=True)))
    return PostgreSQLServer(rest, f"PostgreSQL {host}:{port}/{quote(database)}")


def _check_options(options: Mapping[str, str]) -> None:
    if set(options) - POSTGRESQL_OPTIONS:
        known = ", ".join(sorted(POSTGRESQL_OPTIONS))
        raise BadDatabaseURL(f"unknown option after the ?; the known ones are {known}")
    if options.get("sslmode", "prefer") not in SSL_MODES:
        raise BadDatabaseURL(f"sslmode is one of these: {', '.join(SSL_MODES)}")
    for name in SSL_FILES & set(options):
        if not Path(options[name]).is_file():
            raise BadDatabaseURL(f"{name} must name a file that exists")


@contextlib.asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Open the database while the body runs; its schema must be up to date (``migrate``).

    Raises:
        BadDatabaseURL: the URL names no database that the clinic runs on.
    """
    place = read_database_url(url)
    engine: Engine
    if isinstance(place, SQLiteFile):
        engine = SQLite(place.path)
    else:
        engine = PostgreSQL(place.url, place.name)
    await engine.open()
    try:
        yield Database(engine)
    finally:
        await engine.close()
