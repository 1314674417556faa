"""Have the database give up the copies that it keeps of what was erased."""

import contextlib
import sqlite3
import time
from collections.abc import Sequence

from clinic.database.opening import PSYCOPG_OPTIONS, PostgreSQLServer, read_database_url
from clinic.database.sqlite import BUSY_SECONDS

# SQLite writes the whole file anew to leave nothing in its unused parts; nobody books meanwhile.
# 100 MB take half a second, and bookings wait 5 s at most: a larger file is done on demand.
COMPACTED_BYTES = 200 * 1000 * 1000
# How long to wait for readers of what the log beside the file still holds.
READERS_SECONDS = 10.0
AGAIN_SECONDS = 0.1


def wipe(url: str, tables: Sequence[str], *, compact: bool | None = None) -> bool:
    """Give up copies of what was erased from tables; return whether none can be left in the files.

    SQLite overwrites what it deletes (``clinic/database/sqlite.py``), but for what it has moved
    within a page before; so the file is written anew, unless it is large or ``compact`` is False;
    True does so whatever its size. The log beside it is emptied. PostgreSQL keeps old rows until
    they are vacuumed; their bytes may stay in its files until they are written over. Blocks; call
    it outside of the event loop.
    """
    place = read_database_url(url)
    if isinstance(place, PostgreSQLServer):
        _vacuum(place, tables)
        return False
    uri = f"file:{place.path}?mode=rw"
    with contextlib.closing(
        sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    ) as connection:
        connection.execute("pragma secure_delete = on")
        connection.execute("pragma temp_store = memory")
        if compact is None:
            (size,) = connection.execute(
                "select page_count * page_size from pragma_page_count, pragma_page_size"
            ).fetchone()
            compact = size <= COMPACTED_BYTES
        try:
            if compact:
                connection.execute("vacuum")
            return _empty_log(connection) and compact
        except sqlite3.OperationalError:
            return False  # others write all the time


def _empty_log(connection: sqlite3.Connection) -> bool:
    deadline = time.monotonic() + READERS_SECONDS
    while connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
        if time.monotonic() > deadline:
            return False
        time.sleep(AGAIN_SECONDS)
    return True


def _vacuum(place: PostgreSQLServer, tables: Sequence[str]) -> None:
    import psycopg  # noqa: PLC0415 - most processes never need it

    options = {name: str(value) for name, value in PSYCOPG_OPTIONS.items()}
    # Who may not, or cannot now, leaves it to the server, which does the same by and by.
    with (
        contextlib.suppress(psycopg.Error),
        psycopg.connect(place.url, autocommit=True, **options) as connection,  # type: ignore[arg-type]
    ):
        for table in tables:
            connection.execute(f"vacuum (skip_locked) {table}")
