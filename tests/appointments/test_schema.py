"""The schema itself keeps two from overlapping: raw SQL by the drivers, and nothing of ours."""

import contextlib
import datetime
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clinic.database import Dialect, migrate
from tests.servers import Postgres

WrongRow = (sqlite3.IntegrityError, psycopg.errors.CheckViolation)


class Book:
    """The appointment's table, as anyone with a password sees it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []

    def insert(
        self,
        time: str,
        minutes: int = 15,
        office: str = "A",
        doctor: str | None = None,
        **more: str | None,
    ) -> int:
        begins, ends = span(time, minutes)
        row = {
            "patient_name": "a",
            "patient_key": "a",
            "office_number": office,
            "doctor_name": doctor,
            "date_time": begins,
            "end_time": ends,
            "duration_minutes": minutes,
            **more,
        }
        literals = ["null" if value is None else f"'{value}'" for value in row.values()]
        ((made,),) = self.execute(
            f"insert into appointment ({', '.join(row)}) values ({', '.join(literals)})"
            " returning id"
        )
        return int(made)

    def move(self, one: int, time: str, minutes: int = 15) -> None:
        begins, ends = span(time, minutes)
        self.update(one, f"date_time = '{begins}', end_time = '{ends}'")

    def update(self, one: int, assignments: str) -> None:
        self.execute(f"update appointment set {assignments} where id = {one}")

    def count(self) -> int:
        ((count,),) = self.execute("select count(*) from appointment")
        return int(count)


def span(time: str, minutes: int) -> tuple[str, str]:
    begins = datetime.datetime.fromisoformat(time if "T" in time else f"2027-12-01T{time}:00")
    return begins.isoformat(), (begins + datetime.timedelta(minutes=minutes)).isoformat()


@contextlib.contextmanager
def refused(constraint: str = "_taken") -> Iterator[None]:
    """Check that the body is refused by the rule of this name."""
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.ExclusionViolation)) as caught:
        yield
    by_server = isinstance(caught.value, psycopg.Error) and caught.value.diag.constraint_name
    assert constraint in (by_server or str(caught.value))


@pytest.fixture(scope="module", params=list(Dialect))
def connection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    if request.param is Dialect.SQLITE:
        path = tmp_path_factory.mktemp("schema") / "clinic.db"
        migrate(f"sqlite:///{path}")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            yield connection
        return
    template: str = request.getfixturevalue("postgres_template")
    server: Postgres = request.getfixturevalue("postgres")
    with psycopg.connect(server.create_database("schema", template), autocommit=True) as connection:
        yield connection
    server.drop_database("schema")


@pytest.fixture
def book(connection: Any) -> Book:
    connection.execute("delete from appointment")
    return Book(connection)


TAKEN = [("10:00", 30), ("10:10", 5), ("09:45", 16), ("10:29", 15), ("09:00", 300), ("10:00", 1)]
BESIDE = [("09:30", 30), ("10:30", 30), ("09:59", 1), ("10:30", 1)]


@pytest.mark.parametrize(("time", "minutes"), TAKEN)
def test_an_office_is_had_by_one_at_a_time(book: Book, time: str, minutes: int) -> None:
    book.insert("10:00", 30, doctor="1")
    with refused("office_taken"):
        book.insert(time, minutes, doctor="2")
    with refused("office_taken"):
        book.insert(time, minutes)
    book.insert(time, minutes, office="B")
    assert book.count() == 2


@pytest.mark.parametrize(("time", "minutes"), TAKEN)
def test_a_doctor_is_in_one_place_at_a_time(book: Book, time: str, minutes: int) -> None:
    book.insert("10:00", 30, doctor="1")
    with refused("doctor_taken"):
        book.insert(time, minutes, office="B", doctor="1")
    book.insert(time, minutes, office="B", doctor="2")
    book.insert(time, minutes, office="C")
    book.insert(time, minutes, office="D")
    assert book.count() == 4


@pytest.mark.parametrize(("time", "minutes"), BESIDE)
def test_back_to_back_is_no_overlap(book: Book, time: str, minutes: int) -> None:
    book.insert("10:00", 30, doctor="1")
    book.insert(time, minutes, doctor="1")


def test_what_is_changed_is_judged_as_what_is_new(book: Book) -> None:
    book.insert("10:00", doctor="1")
    office = book.insert("11:00")
    doctor = book.insert("11:00", office="B", doctor="1")
    elsewhere = book.insert("10:00", office="C", doctor="2")
    with refused("office_taken"):
        book.move(office, "09:50")
    with refused("doctor_taken"):
        book.move(doctor, "10:14")
    with refused("office_taken"):
        book.update(elsewhere, "office_number = 'A'")
    with refused("doctor_taken"):
        book.update(elsewhere, "doctor_name = '1'")
    with refused("doctor_taken"):
        book.update(elsewhere, "office_number = 'D', doctor_name = '1'")
    begins, ends = span("10:50", 11)
    longer = book.insert("10:50", 10)
    with refused("office_taken"):
        book.update(longer, f"date_time = '{begins}', end_time = '{ends}', duration_minutes = 11")
    book.update(elsewhere, "doctor_name = null")


def test_its_own_time_is_in_nobodys_way(book: Book) -> None:
    one = book.insert("10:00", 30, doctor="1")
    book.move(one, "10:10", 30)
    book.update(one, "patient_name = 'b'")
    book.update(one, "doctor_name = null")
    book.update(one, "doctor_name = '1'")


def test_a_cancelled_one_occupies_nothing_until_it_is_taken_up_again(book: Book) -> None:
    cancelled = book.insert("10:00", 30, doctor="1")
    book.update(cancelled, "status = 'cancelled'")
    office = book.insert("10:15")
    book.insert("10:00", 10, office="B", doctor="1", status="cancelled")
    with refused("office_taken"):
        book.update(cancelled, "status = 'booked'")
    book.update(office, "office_number = 'B', doctor_name = '1'")
    with refused("doctor_taken"):
        book.update(cancelled, "status = 'arrived'")
    book.update(office, "status = 'cancelled'")
    book.update(cancelled, "status = 'booked'")


@pytest.mark.parametrize("status", ["booked", "arrived", "done", "no_show"])
def test_all_others_occupy_their_time(book: Book, status: str) -> None:
    one = book.insert("10:00")
    book.update(one, f"status = '{status}'")
    with refused():
        book.insert("10:00")


def test_an_override_is_refused_by_nothing_and_refuses_ordinary_ones(book: Book) -> None:
    book.insert("10:00", 30, doctor="1")
    book.insert("10:00", 60, doctor="1", override_reason="r")
    book.insert("10:00", 60, doctor="1", override_reason="r")
    with refused("office_taken"):
        book.insert("10:30")
    with refused("doctor_taken"):
        book.insert("10:30", office="B", doctor="1")
    moved = book.insert("11:00")
    with refused("office_taken"):
        book.move(moved, "10:59")
    reopened = book.insert("10:40", office="B", doctor="1", status="cancelled")
    with refused("doctor_taken"):
        book.update(reopened, "status = 'booked'")


@pytest.mark.parametrize("place", range(3))
def test_of_many_in_one_statement_each_is_judged_by_the_overrides(book: Book, place: int) -> None:
    """PostgreSQL looks once for all of them (migrations/postgresql/0001.clinic.sql)."""
    book.insert("10:00", 60, override_reason="r")
    offices = ["B", "C", "D"]
    offices[place] = "A"
    begins, ends = span("10:30", 15)
    rows = [f"('a', 'a', '{office}', '{begins}', 15, '{ends}')" for office in offices]
    with refused("office_taken"):
        book.execute(
            "insert into appointment (patient_name, patient_key, office_number, date_time,"
            f" duration_minutes, end_time) values {', '.join(rows)}"
        )
    assert book.count() == 1


def test_whoever_was_overridden_may_arrive_and_leave_but_not_come_back(book: Book) -> None:
    one = book.insert("10:00", 30, doctor="1")
    over = book.insert("10:15", 30, doctor="1", override_reason="r")
    for status in ("arrived", "done", "arrived", "booked", "no_show", "booked", "cancelled"):
        book.update(one, f"status = '{status}', patient_name = '{status}'")
    with refused("office_taken"):
        book.update(one, "status = 'booked'")
    book.update(over, "status = 'cancelled'")
    book.update(one, "status = 'booked'")
    book.update(over, "status = 'booked'")


def test_an_override_that_becomes_ordinary_is_judged(book: Book) -> None:
    book.insert("10:00")
    over = book.insert("10:00", override_reason="r")
    with refused("office_taken"):
        book.update(over, "override_reason = null")
    book.move(over, "11:00")
    book.update(over, "override_reason = null")
    beneath = book.insert("11:00", override_reason="s")
    with refused("office_taken"):
        book.update(beneath, "override_reason = null")


@pytest.mark.parametrize("reason", [None, "r"])
def test_midnight_is_a_time_like_any_other(book: Book, reason: str | None) -> None:
    book.insert("2027-12-01T23:50:00", 30, doctor="1", override_reason=reason)
    with refused():
        book.insert("2027-12-02T00:10:00")
    with refused():
        book.insert("2027-12-02T00:10:00", office="B", doctor="1")
    book.insert("2027-12-02T00:20:00", doctor="1")
    with refused():
        book.insert("2027-12-01T23:40:00", 11)
    book.insert("2027-12-01T23:40:00", 10)


@pytest.mark.parametrize("reason", [None, "r"])
def test_a_whole_day_conflicts_to_its_last_minute(book: Book, reason: str | None) -> None:
    book.insert("2027-12-01T10:00:00", 1440, override_reason=reason)
    for time, minutes in [
        ("2027-12-02T09:59:00", 1),
        ("2027-12-02T09:59:00", 1440),
        ("2027-12-01T10:00:00", 1440),
        ("2027-11-30T10:01:00", 1440),
    ]:
        with refused("office_taken"):
            book.insert(time, minutes)
    book.insert("2027-12-02T10:00:00", 1440)
    book.insert("2027-11-30T10:00:00", 1440)


@pytest.mark.parametrize("reason", [None, "r"])
def test_a_day_that_looks_like_two_on_the_clocks_is_occupied_to_its_end(
    book: Book, reason: str | None
) -> None:
    """As where clocks go forward by a day (Pacific/Apia, 2011-12-30)."""
    one = book.insert("2011-12-29T10:00:00", 1440, doctor="1", override_reason=reason)
    book.update(one, "end_time = '2011-12-31T10:00:00'")
    for time in ("2011-12-29T09:59:00", "2011-12-31T00:00:00", "2011-12-31T09:59:00"):
        with refused("office_taken"):
            book.insert(time, 5)
        with refused("doctor_taken"):
            book.insert(time, 5, office="B", doctor="1")
    book.insert("2011-12-31T10:00:00", doctor="1")


def test_fractions_of_a_second_count(book: Book) -> None:
    book.insert("2027-12-01T10:00:00.500000", 15)
    with refused():
        book.insert("2027-12-01T10:15:00", 15)
    with refused():
        book.insert("2027-12-01T09:45:01", 15)
    book.insert("2027-12-01T10:15:00.500000", 15)
    book.insert("2027-12-01T09:45:00", 15)


def test_a_microsecond_counts_in_every_year(book: Book) -> None:
    """PostgreSQL's rule reckons in doubles (migrations/postgresql/0001.clinic.sql)."""
    dice = random.Random(9)
    microsecond = datetime.timedelta(microseconds=1)
    for year in (1900, 1969, 1970, 2027, 2038, *range(2040, 2199, 3), 2199):
        begins = datetime.datetime(year, 6, 1) + dice.randrange(10**12) * microsecond
        minutes = dice.choice([1, 15, 1440])
        ends = begins + datetime.timedelta(minutes=minutes)
        book.insert(begins.isoformat(), minutes)
        with refused("office_taken"):
            book.insert((ends - microsecond).isoformat(), minutes)
        book.insert(ends.isoformat(), minutes)
        before = begins - datetime.timedelta(minutes=minutes)
        with refused("office_taken"):
            book.insert((before + microsecond).isoformat(), minutes)
        book.insert(before.isoformat(), minutes)


def test_on_postgresql_offices_share_a_band_if_they_share_a_hash(
    postgres: Postgres, postgres_template: str
) -> None:
    """Names of 1,000 offices, of which half have a negative hash."""
    with psycopg.connect(postgres.create_database("bands", postgres_template)) as connection:
        (counts,) = connection.execute(
            """
            with office as (
                select name, hashtextextended(name, 0) >> 12 as hash,
                    occupied(name, '2027-12-01 10:00', '2027-12-01 10:15') as rectangle
                from (select 'room ' || n as name from generate_series(1, 1000) as n) as named
            )
            select
                count(*) filter (where one.hash < 0 and one.name = other.name),
                count(*) filter (where one.rectangle && other.rectangle),
                count(*) filter (where one.rectangle && other.rectangle <> (one.hash = other.hash)),
                count(*) filter (
                    where one.rectangle && occupied(
                        one.name, '2027-12-01 10:14:59.999999', '2027-12-01 10:20'
                    ) and not one.rectangle && occupied(
                        one.name, '2027-12-01 10:15', '2027-12-01 10:20'
                    ) and one.name = other.name
                )
            from office one cross join office other
            """
        ).fetchall()
    negative, touching, wrong, exact = counts
    assert 400 < negative < 600
    assert (touching, wrong, exact) == (1000, 0, 1000)
    postgres.drop_database("bands")


def test_whatever_happened_before_the_rule_is_the_rule(book: Book) -> None:
    """What is in the way is looked up cleverly; here it is compared with looking at everything."""
    dice = random.Random(6)
    rows: dict[int, dict[str, Any]] = {}
    outcomes: Counter[bool] = Counter()
    for _ in range(1500):
        one = dice.choice([None, *rows]) if dice.random() < 0.6 else None
        minute = dice.randrange(3 * 1440)
        row = dict(rows[one]) if one else {"status": "booked", "reason": None}
        if one is None or dice.random() < 0.5:
            row |= {
                "begins": datetime.datetime(2027, 12, 1) + datetime.timedelta(minutes=minute),
                "minutes": dice.choice([1, 10, 45, 300, 1440]),
                "office": dice.choice("ABC"),
                "doctor": dice.choice([None, "1", "2"]),
                "reason": dice.choice([None, None, None, "r"]),
            }
        else:
            row["status"] = dice.choice(["booked", "done", "cancelled", "cancelled"])
        stands = allows(rows, one, row)
        outcomes[stands] += 1
        with contextlib.nullcontext() if stands else refused():
            number = write(book, one, row)
        if stands:
            rows[number] = row
    assert min(outcomes.values()) > 200


def allows(rows: dict[int, dict[str, Any]], one: int | None, row: dict[str, Any]) -> bool:
    """Tell by the rule's own words whether a row may become so."""
    before = rows.get(one or 0)
    same = before is not None and all(
        before[name] == row[name] for name in ("begins", "minutes", "office", "doctor")
    )
    if row["status"] == "cancelled" or row["reason"] is not None:
        return True
    if before and same and before["status"] != "cancelled" and before["reason"] is None:
        return True
    return not any(
        number != one
        and other["status"] != "cancelled"
        and (other["office"] == row["office"] or other["doctor"] == row["doctor"] is not None)
        and other["begins"] < row["begins"] + datetime.timedelta(minutes=row["minutes"])
        and row["begins"] < other["begins"] + datetime.timedelta(minutes=other["minutes"])
        for number, other in rows.items()
    )


def write(book: Book, one: int | None, row: dict[str, Any]) -> int:
    """Insert a row, or update the one there is, and return its number."""
    begins, ends = span(row["begins"].isoformat(), row["minutes"])
    if one is None:
        return book.insert(
            begins, row["minutes"], row["office"], row["doctor"], override_reason=row["reason"]
        )
    values = {
        "date_time": begins,
        "end_time": ends,
        "duration_minutes": str(row["minutes"]),
        "office_number": row["office"],
        "doctor_name": row["doctor"],
        "status": row["status"],
        "override_reason": row["reason"],
    }
    book.update(
        one,
        ", ".join(
            f"{name} = {'null' if value is None else repr(value)}" for name, value in values.items()
        ),
    )
    return one


def test_on_sqlite_a_full_day_costs_what_an_empty_one_costs(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/clinic.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        book, work = Book(connection), Counter[str]()
        for office in ("full", "empty"):
            for minute in range(0, 1440 if office == "full" else 0, 10):
                book.insert(f"{minute // 60:02}:{minute % 60:02}", 5, office, f"Dr {office}")
            connection.set_progress_handler(partial(work.update, [office]), 1)
            book.insert("23:55", 5, office, f"Dr {office}")
            connection.set_progress_handler(None, 1)
    assert work["full"] < 1.5 * work["empty"]


@pytest.mark.parametrize(
    "assignments",
    [
        "duration_minutes = 0",
        "duration_minutes = 1441",
        "end_time = '2027-12-01T10:00:00'",
        "end_time = '2027-12-03T10:01:00'",
        "date_time = '2027-12-01T10:15:00'",
        "status = 'gone'",
        "patient_name = ''",
        "office_number = ''",
        "doctor_name = ''",
        "override_reason = ''",
        "version = 0",
    ],
)
def test_a_row_that_contradicts_itself_is_refused(book: Book, assignments: str) -> None:
    one = book.insert("10:00")
    with pytest.raises(WrongRow):
        book.update(one, assignments)
