"""What only SQLite does: locks, and settings that it forgets."""

import threading
from contextlib import AsyncExitStack
from pathlib import Path

import anyio.lowlevel
import pytest

from clinic.database import Database, DatabaseUnavailable, migrate, open_database
from clinic.database.sqlite import READERS, SQLite
from tests.database.test_connection import insert
from tests.timing import PATIENCE_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


async def test_a_file_that_another_process_keeps_locked_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinic.database.sqlite.BUSY_SECONDS", 0.1)
    url = f"sqlite:///{tmp_path / 'clinic.db'}"
    migrate(url)
    async with open_database(url) as here, open_database(url) as there:
        async with there.transaction():
            with pytest.raises(DatabaseUnavailable, match="database is locked"):
                await insert(here, "a")
        await insert(here, "a")


async def test_a_folder_that_went_away_is_unavailable(tmp_path: Path) -> None:
    engine = SQLite(tmp_path / "gone" / "clinic.db")
    before = threading.active_count()
    with pytest.raises(DatabaseUnavailable):
        await Database(engine).ping()
    # aiosqlite's thread ends after it has told of the failure, and tells us again.
    with anyio.fail_after(PATIENCE_SECONDS):
        while threading.active_count() > before:
            await anyio.sleep(0.01)


FORGOTTEN = ("foreign_keys", "synchronous", "journal_mode", "busy_timeout", "secure_delete")


async def test_the_settings_that_sqlite_forgets_are_made_on_each_connection(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'clinic.db'}"
    migrate(url)
    async with open_database(url) as database, database.snapshot() as connection:
        pragmas = {name: (await connection.fetch_all(f"pragma {name}"))[0] for name in FORGOTTEN}
    assert [next(iter(row.values())) for row in pragmas.values()] == [1, 2, "wal", 5000, 1]


COUNT = """
    with recursive number (n) as (select 1 union all select n + 1 from number where n < 20000)
    select sum(n) as total from number
"""


async def test_a_crowd_of_readers_keeps_no_writer_waiting(tmp_path: Path) -> None:
    """A thread for each of them once kept a booking waiting for 11 s, beside 900."""
    url = f"sqlite:///{tmp_path / 'clinic.db'}"
    migrate(url)
    threads = threading.active_count()
    answered = 0

    async def read(database: Database) -> None:
        nonlocal answered
        await database.look(COUNT)
        answered += 1

    async with open_database(url) as database, anyio.create_task_group() as crowd:
        for _ in range(300):
            crowd.start_soon(read, database)
        await anyio.lowlevel.checkpoint()
        await insert(database, "a")
        assert answered < 100
        assert threading.active_count() <= threads + READERS + 1


async def test_a_reader_is_told_when_the_database_is_busy_for_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinic.database.sqlite.TURN_SECONDS", 0.1)
    url = f"sqlite:///{tmp_path / 'clinic.db'}"
    migrate(url)
    async with open_database(url) as database, AsyncExitStack() as readers:
        for _ in range(READERS):
            await readers.enter_async_context(database.snapshot())
        with pytest.raises(DatabaseUnavailable, match="has been busy for"):
            await database.look("select 1")
        await insert(database, "a")
