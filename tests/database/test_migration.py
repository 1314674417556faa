"""Migrations: forward, back, by many at once, after a kill, as nobody in particular."""

import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yoyo

from clinic.database import BadDatabaseURL, CannotMigrate, Dialect, migrate
from clinic.database.migration import BEFORE, MIGRATIONS, STEPS
from tests.servers import Postgres

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
    assert sorted(map(len, applied)) == [0] * 7 + [1]


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


# The schema of migration 0010, with the rows in which yoyo notes what was applied.
OLDER = Path(__file__).parent / "older"
INSERT_OLDER = (
    "insert into appointment (patient_name, patient_key, office_number, date_time,"
    " duration_minutes, end_time)"
    " values ('A', 'a', '1', '2027-12-01T10:00:00', 15, '2027-12-01T10:15:00')"
)


@dataclasses.dataclass(frozen=True)
class Book:
    """A database of either kind, seen from outside of the clinic."""

    url: str
    postgres: Postgres | None

    def execute(self, script: str) -> None:
        if self.postgres is not None:
            self.postgres.execute(script, "older")
            return
        with contextlib.closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection:
            connection.executescript(script)

    def select(self, sql: str) -> list[str]:
        if self.postgres is not None:
            return self.postgres.execute(sql, "older").splitlines()
        with contextlib.closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection:
            return [str(row[0]) for row in connection.execute(sql)]

    def schema(self) -> list[str]:
        """Return the schema without what does not count: comments, quotes, repeated brackets."""
        if self.postgres is not None:
            return re.sub(r"[()]", "", self.postgres.dump_schema("older")).splitlines()
        statements = schema(Path(self.url.removeprefix("sqlite:///")))
        bare = [re.sub(r"--.*", "", one).replace('"', "") for one in statements]
        return sorted(" ".join(one.split()) for one in bare)

    def noted(self) -> list[str]:
        return self.select("select migration_id from _yoyo_migration order by migration_id")


@pytest.fixture(params=list(Dialect))
def empty_book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Book]:
    if request.param is Dialect.SQLITE:
        yield Book(f"sqlite:///{tmp_path / 'older.db'}", None)
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield Book(server.create_database("older"), server)
    server.drop_database("older")


@pytest.fixture
def whole_schema(empty_book: Book) -> list[str]:
    """The schema of a new database; the book is empty again afterwards."""
    migrate(empty_book.url)
    found = empty_book.schema()
    if empty_book.postgres is not None:
        empty_book.postgres.drop_database("older")
        empty_book.postgres.create_database("older")
    else:
        Path(empty_book.url.removeprefix("sqlite:///")).unlink()
    return found


@pytest.fixture
def older_book(whole_schema: list[str], empty_book: Book) -> Book:
    """A book at migration 0010, with one appointment."""
    del whole_schema  # made before
    dialect = Dialect.SQLITE if empty_book.postgres is None else Dialect.POSTGRESQL
    empty_book.execute((OLDER / f"{dialect}.sql").read_text())
    empty_book.execute(INSERT_OLDER)
    return empty_book


STEPS_AFTER = ["0011.clinic", "0012.overnight", "0013.conflicts"]


def test_an_older_book_is_taken_over(older_book: Book, whole_schema: list[str]) -> None:
    assert migrate(older_book.url) == STEPS_AFTER
    assert older_book.noted() == ["0001.clinic"]
    assert older_book.schema() == whole_schema
    assert older_book.select("select patient_name from appointment") == ["A"]
    assert migrate(older_book.url) == []


def test_a_book_that_has_every_step_is_taken_over_as_it_is(
    empty_book: Book, whole_schema: list[str]
) -> None:
    migrate(empty_book.url)
    empty_book.execute(INSERT_OLDER + "; delete from _yoyo_migration")
    for name in (*sorted(STEPS), *STEPS_AFTER):
        empty_book.execute(
            "insert into _yoyo_migration (migration_hash, migration_id)"
            f" values ('{hashlib.sha256(name.encode()).hexdigest()}', '{name}')"
        )
    assert migrate(empty_book.url) == []
    assert empty_book.noted() == ["0001.clinic"]
    assert empty_book.schema() == whole_schema
    assert empty_book.select("select patient_name from appointment") == ["A"]


@pytest.mark.parametrize("done", [1, 2])
def test_a_taking_over_that_was_killed_goes_on(
    older_book: Book, whole_schema: list[str], done: int
) -> None:
    dialect = Dialect.SQLITE if older_book.postgres is None else Dialect.POSTGRESQL
    uri = older_book.url.replace("postgresql://", "postgresql+psycopg://")
    with yoyo.get_backend(uri) as backend:
        steps = yoyo.read_migrations(str(MIGRATIONS / dialect / BEFORE))
        backend.apply_migrations(backend.to_apply(steps)[:done])
    assert migrate(older_book.url) == STEPS_AFTER[done:]
    assert older_book.noted() == ["0001.clinic"]
    assert older_book.schema() == whole_schema


def test_a_book_that_stopped_before_is_refused_in_one_line(older_book: Book) -> None:
    older_book.execute("delete from _yoyo_migration where migration_id >= '0008'")
    before = older_book.schema()
    with pytest.raises(CannotMigrate) as refused:
        migrate(older_book.url)
    assert "its last migration is 0007.outbox" in str(refused.value)
    assert "`clinic.py migrate` of a version that has 0010.overrides_by_time" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert older_book.schema() == before


def test_a_book_of_a_newer_clinic_is_refused_in_one_line(empty_book: Book) -> None:
    migrate(empty_book.url)
    empty_book.execute(
        "insert into _yoyo_migration (migration_hash, migration_id) values ('x', '0002.newer')"
    )
    with pytest.raises(CannotMigrate, match=r"does not know \(0002.newer\): start that version$"):
        migrate(empty_book.url)


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
    """As in a container: yoyo asks for the name after it has applied a migration."""
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


LARGE_INDEX = """
create table large (word text);
insert into large
    with recursive number (n) as (select 1 union all select n + 1 from number where n < 200000)
    select hex(randomblob(16)) from number;
create index large_word on large (word);
"""


def test_a_migration_needs_no_folder_for_temporary_files(tmp_path: Path) -> None:
    """As in a container with a read-only root; the sort of a large index goes into a file."""
    (tmp_path / "sqlite" / BEFORE).mkdir(parents=True)
    (tmp_path / "sqlite" / "0001.large.sql").write_text(LARGE_INDEX)
    # The folder of the test may itself lie below /dev, and be named as the one for temporary files.
    sealed = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--chdir", "/"]
    sealed += ["--bind", str(tmp_path), str(tmp_path), "--unsetenv", "TMPDIR"]
    if not shutil.which("bwrap") or subprocess.run([*sealed, "true"], check=False).returncode:
        pytest.skip("needs bwrap, and a system that lets it seal: apt-get install bubblewrap")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pathlib;"
        "from clinic.database import migration;"
        f"migration.MIGRATIONS = pathlib.Path({str(tmp_path)!r});"
        f"print(migration.migrate('sqlite:///{tmp_path}/c.db'))"
    )
    done = subprocess.run(
        [*sealed, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "['0001.large']\n", done.stderr


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text("no database" * 100), "not a database"),
        (lambda path: path.mkdir(), "it is no regular file"),
    ],
)
def test_a_file_that_is_not_a_database_is_reported_plainly(
    tmp_path: Path, make: object, says: str
) -> None:
    path = tmp_path / "clinic.db"
    assert callable(make)
    make(path)
    with pytest.raises(CannotMigrate, match=says):
        migrate(f"sqlite:///{path}")


def test_a_missing_folder_is_reported_plainly(tmp_path: Path) -> None:
    with pytest.raises(CannotMigrate, match="Check that its folder exists"):
        migrate(f"sqlite:///{tmp_path}/missing/clinic.db")


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///a?b", "sqlite:///a#b", "sqlite:///a%20b", "x", ""]
)
def test_a_url_that_would_be_misread_is_refused(url: str) -> None:
    with pytest.raises(BadDatabaseURL):
        migrate(url)
