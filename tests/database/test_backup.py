"""Backup and restore: whole or not at all, private, and never over anything."""

import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from clinic.database import (
    SKIPPED,
    BackupFailed,
    CannotMigrate,
    Dialect,
    NoBackup,
    back_up,
    migrate,
    restore,
)
from clinic.database import backup as module
from tests.servers import Postgres

PASSWORD = "s3cret/пароль"


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[str]:
    """An empty database of the same kind as ``database_url``."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'restored.db'}"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = f"restored_{os.getpid()}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


def query(url: str, sql: str) -> list[tuple[object, ...]]:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            found = connection.execute(sql).fetchall()
            connection.commit()
            return found
    with psycopg.connect(url) as connection:
        done = connection.execute(sql)
        return done.fetchall() if done.description else []


def parts_left(folder: Path) -> list[Path]:
    return [*folder.glob("*.part*"), *folder.glob(".*.part*")]


def test_what_is_backed_up_is_restored(database_url: str, empty_url: str, tmp_path: Path) -> None:
    query(database_url, "insert into resource (kind, name) values ('office', '221B')")
    file = tmp_path / "backup"
    size = back_up(database_url, file)
    assert size == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restore(empty_url, file)
    assert migrate(empty_url) == []
    assert query(empty_url, "select id, name from resource") == [(1, "221B")]
    # Nobody is given a number that somebody may have been given since.
    query(empty_url, "insert into resource (kind, name) values ('office', '222')")
    query(
        empty_url,
        "insert into audit (at, actor, action, detail) values ('2027-01-01', 'a', 'b', '{}')",
    )
    assert query(empty_url, "select max(id) from resource") == [(SKIPPED + 2,)]
    ((position,),) = query(empty_url, "select max(position) from audit")
    assert isinstance(position, int)
    assert position > SKIPPED
    if empty_url.startswith("sqlite"):
        assert stat.S_IMODE((tmp_path / "restored.db").stat().st_mode) == 0o600
    assert parts_left(tmp_path) == []


def test_nothing_is_written_over(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("mine")
    with pytest.raises(NoBackup, match="exists already"):
        back_up(database_url, file)
    assert file.read_text() == "mine"
    back_up(database_url, file, replace=True)
    assert file.read_bytes() != b"mine"
    link = tmp_path / "link"
    link.symlink_to(file)
    for wrong in (tmp_path, link, tmp_path / "nowhere" / "backup", Path("/dev/null")):
        with pytest.raises(NoBackup):
            back_up(database_url, wrong, replace=True)


def test_the_database_itself_is_no_place_for_its_backup(
    make_database: Callable[[Dialect], str], tmp_path: Path
) -> None:
    url = make_database(Dialect.SQLITE)
    before = (tmp_path / "clinic.db").read_bytes()
    for name in ("clinic.db", "clinic.db-wal", "clinic.db-shm", "clinic.db.lock"):
        with pytest.raises(NoBackup, match="belongs to it"):
            back_up(url, tmp_path / name, replace=True)
    assert (tmp_path / "clinic.db").read_bytes() == before
    with pytest.raises(NoBackup, match="there is no database"):
        back_up(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "backup")
    assert not (tmp_path / "other.db").exists()


def test_nothing_is_restored_over_anything(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    back_up(database_url, file)
    with pytest.raises(NoBackup, match=r"is there already|has something in it"):
        restore(database_url, file)
    if database_url.startswith("sqlite"):
        (tmp_path / "other.db-wal").write_text("of another database")
        with pytest.raises(NoBackup, match="is there already"):
            restore(f"sqlite:///{tmp_path / 'other.db'}", file)


def test_what_is_no_backup_is_refused(database_url: str, empty_url: str, tmp_path: Path) -> None:
    file, wrong = tmp_path / "backup", tmp_path / "wrong"
    back_up(database_url, file)
    whole = file.read_bytes()
    for content in (
        b"",
        b"SQLite format 3\0",
        b"PGDMP",
        b"x" * 5000,
        whole[: len(whole) // 2],
        whole[:3000] + b"\0" * 3000 + whole[6000:],
    ):
        wrong.write_bytes(content)
        with pytest.raises((NoBackup, BackupFailed)):
            restore(empty_url, wrong)
    with pytest.raises(NoBackup):
        restore(empty_url, tmp_path / "nowhere")
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("create table appointment (id integer)")
    with pytest.raises(NoBackup):
        restore(empty_url, other)
    assert parts_left(tmp_path) == []
    # Nothing is left of all that.
    restore(empty_url, file)
    assert query(empty_url, "select count(*) from appointment") == [(0,)]


def test_a_backup_of_the_other_kind_is_refused(
    make_database: Callable[[Dialect], str], tmp_path: Path
) -> None:
    urls = [make_database(dialect) for dialect in Dialect]
    for number, url in enumerate(urls):
        file = tmp_path / f"backup-{number}"
        back_up(url, file)
        with pytest.raises(NoBackup, match="DATABASE_URL"):
            restore(urls[1 - number], file)


def test_a_backup_of_a_newer_clinic_is_refused(
    make_database: Callable[[Dialect], str], tmp_path: Path
) -> None:
    url, file = make_database(Dialect.SQLITE), tmp_path / "backup"
    query(url, "insert into _yoyo_migration (migration_hash, migration_id) values ('x', '9999.x')")
    back_up(url, file)
    with pytest.raises(CannotMigrate, match=r"9999\.x"):
        restore(f"sqlite:///{tmp_path / 'new.db'}", file)
    assert not (tmp_path / "new.db").exists()
    assert parts_left(tmp_path) == []


def test_a_disk_that_is_full_leaves_nothing(
    make_database: Callable[[Dialect], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_database(Dialect.SQLITE)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(module, "_copy_sqlite", full)
    with pytest.raises(BackupFailed, match="full"):
        back_up(url, tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clinic.db"]


FAKE = """#!/bin/sh
env >"$0.env"
echo "$@" >"$0.arguments"
echo "pg_dump: error: COPY failed: ERROR:  value Канарейкин is wrong" >&2
echo "DETAIL: Failing row contains (Канарейкин)" >&2
exit 1
"""


def test_no_password_stands_on_a_command_line_and_no_value_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin" / "pg_dump"
    fake.parent.mkdir()
    fake.write_text(FAKE)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    # As our executable runs: its libraries are not for others.
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp/_MEI1")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/usr/lib/own")
    (tmp_path / "ca.pem").write_text("")
    url = (
        "postgresql://anna:s3cret%2F%D0%BF%D0%B0%D1%80%D0%BE%D0%BB%D1%8C@db.example:5433/the%20book"
        f"?sslmode=verify-full&sslrootcert={tmp_path / 'ca.pem'}"
    )
    with pytest.raises(BackupFailed) as failed:
        back_up(url, tmp_path / "backup")
    assert str(failed.value) == (
        "pg_dump of PostgreSQL db.example:5433/the%20book failed: COPY failed"
    )
    arguments = Path(f"{fake}.arguments").read_text()
    given = dict(
        line.split("=", 1) for line in Path(f"{fake}.env").read_text().splitlines() if "=" in line
    )
    assert "s3cret" not in arguments
    assert given["LD_LIBRARY_PATH"] == "/usr/lib/own"
    assert given["PGPASSWORD"] == PASSWORD
    assert (given["PGHOST"], given["PGPORT"], given["PGUSER"]) == ("db.example", "5433", "anna")
    assert (given["PGDATABASE"], given["PGSSLMODE"]) == ("the book", "verify-full")
    assert given["PGSSLROOTCERT"] == str(tmp_path / "ca.pem")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "ca.pem"]


def test_missing_programs_are_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "PROGRAMS", str(tmp_path))
    with pytest.raises(NoBackup, match="postgresql-client"):
        back_up("postgresql://a@127.0.0.1:1/a", tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_a_server_that_is_away_leaves_nothing(tmp_path: Path) -> None:
    if not (shutil.which("pg_dump") or Path(module.PROGRAMS).exists()):
        pytest.skip("no pg_dump here")
    with pytest.raises(BackupFailed, match=r"PostgreSQL 127\.0\.0\.1:1/a failed: "):
        back_up(f"postgresql://a:{'s3cret'}@127.0.0.1:1/a", tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []
