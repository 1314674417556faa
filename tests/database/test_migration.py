"""Migrations: forward, back, by many at once, after a kill, as nobody in particular."""

import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yoyo
from yoyo.backends import DatabaseBackend

from clinic.appointments.availability import TimeTaken
from clinic.database import BadDatabaseURL, CannotMigrate, Dialect, migrate, open_database
from clinic.database.migration import BEFORE, MIGRATIONS, STEPS, ids_in
from clinic.registry import takeover
from tests.appointments.desks import booking, desk_on, writing
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
    assert sorted(map(len, applied)) == [0] * 7 + [len(WHOLES)]


# The schema of migration 0010, and the first that was one file, with the rows in which yoyo notes
# what was applied.
OLDER = Path(__file__).parent / "older"
MIGRATION_0010, FIRST_WHOLE = "0010", "0001.clinic"
INSERT_OLDER = (
    "insert into appointment (patient_name, patient_key, office_number, date_time,"
    " duration_minutes, end_time)"
    " values ('A', 'a', '1', '2027-12-01T10:00:00', 15, '2027-12-01T10:15:00')"
)
INSERT = (
    "insert into appointment (patient_name, patient_key, office_id, date_time, duration_minutes,"
    " end_time, occupied_from, occupied_until) values ('A', 'a', 1, '2027-12-01T10:00:00', 15,"
    " '2027-12-01T10:15:00', '2027-12-01T10:00:00', '2027-12-01T10:15:00')"
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

    @property
    def dialect(self) -> Dialect:
        return Dialect.SQLITE if self.postgres is None else Dialect.POSTGRESQL

    @property
    def yoyo_url(self) -> str:
        return self.url.replace("postgresql://", "postgresql+psycopg://")

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


def test_going_back_and_forth_ends_where_it_began(empty_book: Book) -> None:
    empty = empty_book.schema()
    names = migrate(empty_book.url)
    whole = empty_book.schema()
    with yoyo.get_backend(empty_book.yoyo_url) as backend:
        migrations = yoyo.read_migrations(str(MIGRATIONS / empty_book.dialect))
        backend.rollback_migrations(backend.to_rollback(migrations))
    assert empty_book.schema() == empty
    assert migrate(empty_book.url) == names
    assert empty_book.schema() == whole
    assert migrate(empty_book.url) == []


def fill(book: Book, start: str) -> Book:
    book.execute((OLDER / f"{start}.{book.dialect}.sql").read_text())
    return book


@pytest.fixture
def older_book(whole_schema: list[str], empty_book: Book) -> Book:
    """A book at migration 0010, with one appointment."""
    del whole_schema  # made before
    fill(empty_book, MIGRATION_0010).execute(INSERT_OLDER)
    return empty_book


WHOLES = sorted(ids_in(MIGRATIONS / Dialect.SQLITE))
# What is applied after an older book has become the first of these.
AFTER_WHOLE = WHOLES[1:]
STEPS_AFTER = ["0011.clinic", "0012.overnight", "0013.conflicts", "0014.registry"]
STARTS = [(MIGRATION_0010, STEPS_AFTER), (FIRST_WHOLE, STEPS_AFTER[-1:])]


@pytest.mark.parametrize(("start", "steps"), STARTS)
def test_an_older_book_is_taken_over(
    whole_schema: list[str], empty_book: Book, start: str, steps: list[str]
) -> None:
    fill(empty_book, start).execute(INSERT_OLDER)
    assert migrate(empty_book.url) == steps + AFTER_WHOLE
    assert empty_book.noted() == WHOLES
    assert empty_book.schema() == whole_schema
    assert empty_book.select("select patient_name from appointment") == ["A"]
    assert empty_book.select(
        "select name from appointment join resource on resource.id = office_id"
    ) == ["1"]
    assert migrate(empty_book.url) == []


def test_a_book_that_has_every_step_is_taken_over_as_it_is(
    empty_book: Book, whole_schema: list[str]
) -> None:
    migrate(empty_book.url)
    empty_book.execute(INSERT + "; delete from _yoyo_migration")
    for name in (*sorted(STEPS), *STEPS_AFTER):
        empty_book.execute(
            "insert into _yoyo_migration (migration_hash, migration_id)"
            f" values ('{hashlib.sha256(name.encode()).hexdigest()}', '{name}')"
        )
    assert migrate(empty_book.url) == AFTER_WHOLE
    assert empty_book.noted() == WHOLES
    assert empty_book.schema() == whole_schema
    assert empty_book.select("select patient_name from appointment") == ["A"]


@pytest.mark.parametrize(
    ("start", "steps", "done"),
    [
        *((MIGRATION_0010, STEPS_AFTER, done) for done in range(1, len(STEPS_AFTER) + 1)),
        (FIRST_WHOLE, STEPS_AFTER[-1:], 1),
    ],
)
def test_a_taking_over_that_was_killed_between_steps_goes_on(
    whole_schema: list[str], empty_book: Book, start: str, steps: list[str], done: int
) -> None:
    fill(empty_book, start).execute(INSERT_OLDER)
    with yoyo.get_backend(empty_book.yoyo_url) as backend:
        found = yoyo.read_migrations(str(MIGRATIONS / empty_book.dialect / BEFORE))
        for step in [one for one in found if one.id in steps][:done]:
            backend.apply_one(step)
    assert migrate(empty_book.url) == steps[done:] + AFTER_WHOLE
    assert empty_book.noted() == WHOLES
    assert empty_book.schema() == whole_schema
    assert empty_book.select("select patient_name from appointment") == ["A"]


def migrate_and_die(url: str, moment: str) -> None:
    """Migrate, and be killed at a moment: a method of the taking over, or the note of it."""
    owner: Any = DatabaseBackend if moment == "mark_one" else takeover._Book

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, moment, die)
    migrate(url)


@pytest.mark.parametrize("moment", ["register", "copy", "drop_older", "mark_one"])
@pytest.mark.parametrize(("start", "steps"), STARTS)
def test_a_taking_over_that_was_killed_at_work_goes_on(
    whole_schema: list[str], empty_book: Book, start: str, steps: list[str], moment: str
) -> None:
    fill(empty_book, start).execute(INSERT_OLDER)
    process = multiprocessing.get_context("spawn").Process(
        target=migrate_and_die, args=(empty_book.url, moment)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert set(migrate(empty_book.url)) <= {*steps, *AFTER_WHOLE}
    assert empty_book.noted() == WHOLES
    assert empty_book.schema() == whole_schema
    assert empty_book.select("select patient_name from appointment") == ["A"]


# Number, office, doctor, begin and end after ten, status, reason: of a day of a book in which
# people have written the same names in several ways.
SPELT = (
    (1, "221B", "Dr. Watson", 0, 30, "booked", None),
    (2, "221 b", None, 15, 45, "booked", None),  # overlaps 1
    (3, "№ 221-B", None, 45, 59, "arrived", None),  # begins when 2 ends
    (4, "221В", None, 10, 20, "cancelled", None),  # a Cyrillic В; occupies nothing
    (5, "221B", None, 30, 45, "booked", None),  # overlaps 2, which was booked earlier
    (6, "7", "dr watson", 20, 40, "no_show", None),  # the doctor of 1
    (7, "7", "Dr Strange", 30, 50, "booked", "an emergency"),  # was laid over others on purpose
    (8, "8", "Dr. Watson", 40, 50, "done", None),  # begins when 6 ends
    (9, "221B", None, 55, 59, "booked", None),  # overlaps 3
)
LATER = [2, 5, 6, 9]
SECRET = "Иван О’Нил-Ёлкин"


def at_ten(minutes: int) -> str:
    return f"2027-12-01T10:{minutes:02}:00"


def insert_spelt() -> Iterator[str]:
    def text(value: str | None) -> str:
        return "null" if value is None else f"'{value}'"

    for number, office, doctor, begins, ends, status, reason in SPELT:
        # The numbers are those of the order in which they are written.
        yield (
            "insert into appointment (status, patient_name, patient_key, office_number,"
            " doctor_name, date_time, duration_minutes, end_time, override_reason)"
            f" values ({text(status)}, '{SECRET} {number}', 'key', {text(office)}, {text(doctor)},"
            f" '{at_ten(begins)}', {ends - begins}, '{at_ten(ends)}', {text(reason)})"
        )
        yield (
            "insert into recorded (event_id, type, appointment_id, version, status, office_number,"
            " doctor_name, day, hour_of_week, duration_minutes, lead_minutes, occurred_at,"
            f" recorded_at) values ('event {number}', 'appointment.booked', {number}, 1, 'booked',"
            f" {text(office)}, {text(doctor)}, '2027-12-01', 58, {ends - begins}, 0,"
            " '2027-11-30T00:00:00+00:00', '2027-11-30T00:00:01+00:00')"
        )
    # An office that only analytics knows any more: the appointment was moved away from it.
    yield (
        "insert into recorded (event_id, type, appointment_id, version, status, office_number,"
        " day, hour_of_week, duration_minutes, lead_minutes, occurred_at, recorded_at)"
        " values ('moved', 'appointment.rescheduled', 8, 2, 'booked', 'the old wing', '2027-12-01',"
        " 58, 10, 0, '2027-11-30T00:00:00+00:00', '2027-11-30T00:00:01+00:00')"
    )
    yield (
        "insert into idempotency_key (key, fingerprint, appointment_id, created, stored_at)"
        " values ('a key', 'its body', 3, '1', '2027-11-30T00:00:00+00:00')"
    )


@pytest.mark.parametrize(("start", "steps"), STARTS)
def test_spellings_of_one_name_become_one_record_and_nothing_is_lost(
    whole_schema: list[str],
    empty_book: Book,
    start: str,
    steps: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(empty_book, start)
    empty_book.execute(";\n".join(insert_spelt()))
    assert migrate(empty_book.url) == steps + AFTER_WHOLE
    assert empty_book.schema() == whole_schema

    def joined(*columns: str, source: str) -> list[str]:
        return empty_book.select(
            "select "
            + " || '|' || ".join(f"coalesce(cast({one} as text), '-')" for one in columns)
            + f" from {source}"
        )

    assert joined("kind", "name", source="resource order by kind, name") == [
        "doctor|Dr Strange",
        "doctor|Dr. Watson",
        "office|221B",
        "office|7",
        "office|8",
        "office|the old wing",
    ]
    assert joined("kind", "key", source="resource_key order by kind, key") == [
        "doctor|drstrange",
        "doctor|drwatson",
        "office|221b",
        "office|7",
        "office|8",
        "office|theoldwing",
    ]
    shown = {"221 b": "221B", "№ 221-B": "221B", "221В": "221B", "dr watson": "Dr. Watson"}
    named = (
        "left join resource as office on office.id = office_id"
        " left join resource as doctor on doctor.id = doctor_id"
    )
    assert joined(
        "appointment.id",
        "status",
        "patient_name",
        "office.name",
        "doctor.name",
        "duration_minutes",
        "occupied_from = date_time and occupied_until = end_time",
        "override_reason",
        source=f"appointment {named} order by appointment.id",
    ) == [
        "|".join(
            (
                str(number),
                status,
                f"{SECRET} {number}",
                shown.get(office, office),
                shown.get(doctor, doctor) if doctor else "-",
                str(ends - begins),
                "1" if empty_book.postgres is None else "true",
                takeover.REASON if number in LATER else reason or "-",
            )
        )
        for number, office, doctor, begins, ends, status, reason in SPELT
    ]
    # What was recorded keeps the names of its time, and has the ids.
    assert joined(
        "event_id",
        "office_number",
        "office.name",
        "doctor_name",
        "doctor.name",
        source=f"recorded {named} order by event_id",
    ) == [
        *(
            f"event {number}|{office}|{shown.get(office, office)}|{doctor or '-'}"
            f"|{shown.get(doctor, doctor) if doctor else '-'}"
            for number, office, doctor, *_ in SPELT
        ),
        "moved|the old wing|the old wing|-|-",
    ]
    assert joined("key", "fingerprint", "appointment_id", source="idempotency_key") == [
        "a key|its body|3"
    ]
    # Names are searched for by today's key, and by their words.
    key = "иван о'нил-елкин"
    assert joined("patient_key", source="appointment where id = 1") == [f"{key} 1"]
    if empty_book.postgres is None:
        words = joined("word", source="patient_word where appointment_id = 1 order by word")
        assert words == ["1", "елкин", "иван", "о'нил"]

    (line,) = [one.getMessage() for one in caplog.records if "overlap" in one.getMessage()]
    assert line.startswith("4 appointments overlap others")
    assert line.endswith(": 2, 5, 6, 9")
    for _, office, doctor, *_ in SPELT:
        assert SECRET not in caplog.text
        assert not doctor or doctor not in line
        assert len(office) == 1 or office not in line


@pytest.mark.anyio
@pytest.mark.parametrize(("start", "steps"), STARTS)
async def test_a_book_that_was_taken_over_is_booked_in(
    whole_schema: list[str], empty_book: Book, start: str, steps: list[str]
) -> None:
    """It has the same rule, the same names, and numbers that no appointment has."""
    del whole_schema, steps
    fill(empty_book, start)
    empty_book.execute(";\n".join(insert_spelt()))
    migrate(empty_book.url)
    async with open_database(empty_book.url) as database:
        desk = desk_on(database)
        async with writing(desk):
            booked = await desk.book(booking(office_number="221-в", date_time=at_ten(59)))
            with pytest.raises(TimeTaken) as taken:
                await desk.book(booking(office_number="№221B", date_time=at_ten(50)))
            new = await desk.book(booking(office_number="9", date_time=at_ten(0)))
    assert booked.appointment_id not in {one[0] for one in SPELT}
    assert {one.id for one in taken.value.conflicts} == {3, 9, booked.appointment_id}
    assert new.appointment_id not in {booked.appointment_id, *(one[0] for one in SPELT)}
    assert len(empty_book.select("select id from resource where kind = 'office'")) == 5


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
        "insert into _yoyo_migration (migration_hash, migration_id) values ('x', '0003.newer')"
    )
    with pytest.raises(CannotMigrate, match=r"does not know \(0003.newer\): start that version$"):
        migrate(empty_book.url)


def test_both_dialects_have_the_same_migrations() -> None:
    names = [
        {
            str(path.relative_to(MIGRATIONS / dialect))
            for suffix in ("sql", "py")
            for path in (MIGRATIONS / dialect).rglob(f"*.{suffix}")
        }
        for dialect in Dialect
    ]
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
