"""Migrations: forward, back, by many at once, after a kill, as nobody in particular."""

import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yoyo

from clinic.database import BadDatabaseURL, CannotMigrate, Dialect, migrate
from clinic.database.migration import MIGRATIONS
from tests.servers import Postgres
from tests.servers.guardian import ServerFailed

ROOT = Path(__file__).parents[2]


def schema(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(
            "select sql from sqlite_master where sql is not null and name not like '%yoyo%'"
            " and name not like 'sqlite_%' order by name"
        ).fetchall()
    finally:
        connection.close()
    return [row[0] for row in rows]


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "clinic.db"
    assert migrate(f"sqlite:///{path}")
    before = schema(path)
    assert migrate(f"sqlite:///{path}") == []
    assert schema(path) == before


def test_each_migration_has_a_rollback_that_undoes_it(tmp_path: Path) -> None:
    path = tmp_path / "clinic.db"
    names = migrate(f"sqlite:///{path}")
    before = schema(path)
    with yoyo.get_backend(f"sqlite:///{path}") as backend:
        migrations = yoyo.read_migrations(str(MIGRATIONS / "sqlite"))
        backend.rollback_migrations(backend.to_rollback(migrations))
    assert schema(path) == []
    assert migrate(f"sqlite:///{path}") == names
    assert schema(path) == before


@pytest.fixture(params=list(Dialect))
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind, in which nothing is yet."""
    if request.param is Dialect.SQLITE:
        yield f"sqlite:///{tmp_path / 'clinic.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield server.create_database("empty")
    server.drop_database("empty")


def test_eight_processes_may_start_together(empty_database_url: str) -> None:
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        applied = pool.map(migrate, [empty_database_url] * 8)
    assert sorted(map(len, applied)) == [0] * 7 + [13]


def test_going_back_and_forth_ends_where_it_began(empty_database_url: str) -> None:
    names = migrate(empty_database_url)
    dialect = "sqlite" if empty_database_url.startswith("sqlite") else "postgresql"
    uri = empty_database_url.replace("postgresql://", "postgresql+psycopg://")
    with yoyo.get_backend(uri) as backend:
        migrations = yoyo.read_migrations(str(MIGRATIONS / dialect))
        backend.rollback_migrations(backend.to_rollback(migrations))
        tables = {name for name in backend.list_tables() if "yoyo" not in name}
        assert tables <= {"sqlite_sequence"}
    assert migrate(empty_database_url) == names
    assert migrate(empty_database_url) == []


def test_what_was_open_in_the_log_is_open_in_the_outbox(empty_database_url: str) -> None:
    """Also where a crash has kept yoyo from noting that it was moved, and it is moved again."""
    dialect = "sqlite" if empty_database_url.startswith("sqlite") else "postgresql"
    uri = empty_database_url.replace("postgresql://", "postgresql+psycopg://")
    time, nothing = "2026-01-01T00:00:00+00:00", None
    with yoyo.get_backend(uri) as backend:
        migrations = yoyo.read_migrations(str(MIGRATIONS / dialect))
        before = migrations.filter(lambda migration: migration.id < "0007")
        backend.apply_migrations(backend.to_apply(before))
        for name, settled_at in (("open", nothing), ("settled", time)):
            values = {"id": name, "time": time, "settled_at": settled_at}
            backend.execute(
                "insert into event (id, type, subject, body, relay_at, published_at, publications,"
                " settled_at) values (:id, 't', 's', '{}', :time, :time, 2, :settled_at)"
                if dialect == "sqlite"
                else "insert into event (id, type, subject, body, relay_at, published_at,"
                " publications, settled_at)"
                " values (%(id)s, 't', 's', '{}', %(time)s, %(time)s, 2, %(settled_at)s)",
                values,
            )
        backend.commit()
    for _ in range(2):
        migrate(empty_database_url)
        with yoyo.get_backend(uri) as backend:
            outbox = backend.execute("select position, publications from outbox").fetchall()
            assert [tuple(row) for row in outbox] == [(1, 2)]
            log = backend.execute("select position, id from event order by position").fetchall()
            assert [tuple(row) for row in log] == [(1, "open"), (2, "settled")]
            backend.execute("delete from _yoyo_migration where migration_id = '0007.outbox'")
            backend.commit()


def test_a_full_book_keeps_its_rule_in_either_form(postgres: Postgres) -> None:
    """The rule against overlaps was put anew (migrations/postgresql/0009.rectangles.sql)."""
    url = postgres.create_database("forms")
    insert = (
        "insert into appointment (patient_name, patient_key, office_number, date_time,"
        " duration_minutes, end_time) select 'a', 'a', 'A', at, 15, at + interval '15 minutes'"
        " from generate_series(timestamp '2027-12-01 {}', '2027-12-03', '15 minutes') as at"
    )
    with yoyo.get_backend(url.replace("postgresql://", "postgresql+psycopg://")) as backend:
        migrations = yoyo.read_migrations(str(MIGRATIONS / "postgresql"))
        before = migrations.filter(lambda migration: migration.id < "0009")
        after = migrations.filter(lambda migration: migration.id >= "0009")
        backend.apply_migrations(backend.to_apply(before))
        postgres.execute(insert.format("10:00"), "forms")
        for forth in (True, False, True):
            if forth:
                backend.apply_migrations(backend.to_apply(after))
            else:
                backend.rollback_migrations(backend.to_rollback(after))
            with pytest.raises(ServerFailed, match="office_taken"):
                postgres.execute(insert.format("10:01"), "forms")
    postgres.drop_database("forms")


def test_both_dialects_have_the_same_migrations() -> None:
    names = [{path.name for path in (MIGRATIONS / dialect).glob("*.sql")} for dialect in Dialect]
    assert names[0] == names[1]


def test_a_lock_that_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "clinic.db"
    url = f"sqlite:///{path}"
    migrate(url)
    with yoyo.get_backend(url) as backend:
        backend._insert_lock_row(pid=1, timeout=1)
    assert migrate(url) == []


def test_a_user_without_a_name_can_migrate(tmp_path: Path) -> None:
    """As in a container: yoyo asks for the name after it has applied a migration (STACK 5)."""
    nobody = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    if subprocess.run([*nobody, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody be another user: unshare --user is refused")
    code = f"from clinic.database import migrate; print(len(migrate('sqlite:///{tmp_path}/c.db')))"
    done = subprocess.run(
        [*nobody, sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) > 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text("no database" * 100), "not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
    ],
)
def test_a_file_that_is_no_database_is_said_plainly(
    tmp_path: Path, make: object, says: str
) -> None:
    path = tmp_path / "clinic.db"
    assert callable(make)
    make(path)
    with pytest.raises(CannotMigrate, match=says):
        migrate(f"sqlite:///{path}")


def test_a_missing_folder_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(CannotMigrate, match="Check that its folder exists"):
        migrate(f"sqlite:///{tmp_path}/missing/clinic.db")


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///a?b", "sqlite:///a#b", "sqlite:///a%20b", "x", ""]
)
def test_a_url_that_would_be_misread_is_refused(url: str) -> None:
    with pytest.raises(BadDatabaseURL):
        migrate(url)
