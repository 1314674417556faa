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

MINUTE = datetime.timedelta(minutes=1)
# Ids of offices and of doctors.
A, B, C, D = range(1, 5)
WATSON, WHO = 11, 12
# Minutes before and after.
Buffers = tuple[int, int]
NONE = (0, 0)

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
        office: int = A,
        doctor: int | None = None,
        *,
        buffers: Buffers = NONE,
        **more: str | None,
    ) -> int:
        row = {
            "patient_name": "a",
            "patient_key": "a",
            "office_id": office,
            "doctor_id": doctor,
            "duration_minutes": minutes,
            **times(time, minutes, buffers),
            **more,
        }
        literals = ["null" if value is None else f"'{value}'" for value in row.values()]
        ((made,),) = self.execute(
            f"insert into appointment ({', '.join(row)}) values ({', '.join(literals)})"
            " returning id"
        )
        return int(made)

    def move(self, one: int, time: str, minutes: int = 15, buffers: Buffers = NONE) -> None:
        found = times(time, minutes, buffers).items()
        self.update(one, ", ".join(f"{name} = '{value}'" for name, value in found))

    def update(self, one: int, assignments: str) -> None:
        self.execute(f"update appointment set {assignments} where id = {one}")

    def count(self) -> int:
        ((count,),) = self.execute("select count(*) from appointment")
        return int(count)


def times(time: str, minutes: int, buffers: Buffers = NONE) -> dict[str, str]:
    """Return the columns that say when an appointment is, and what it occupies with its buffers."""
    begins = datetime.datetime.fromisoformat(time if "T" in time else f"2027-12-01T{time}:00")
    ends = begins + minutes * MINUTE
    return {
        "date_time": begins.isoformat(),
        "end_time": ends.isoformat(),
        "occupied_from": (begins - buffers[0] * MINUTE).isoformat(),
        "occupied_until": (ends + buffers[1] * MINUTE).isoformat(),
    }


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
    book.insert("10:00", 30, doctor=WATSON)
    with refused("office_taken"):
        book.insert(time, minutes, doctor=WHO)
    with refused("office_taken"):
        book.insert(time, minutes)
    book.insert(time, minutes, office=B)
    assert book.count() == 2


@pytest.mark.parametrize(("time", "minutes"), TAKEN)
def test_a_doctor_is_in_one_place_at_a_time(book: Book, time: str, minutes: int) -> None:
    book.insert("10:00", 30, doctor=WATSON)
    with refused("doctor_taken"):
        book.insert(time, minutes, office=B, doctor=WATSON)
    book.insert(time, minutes, office=B, doctor=WHO)
    book.insert(time, minutes, office=C)
    book.insert(time, minutes, office=D)
    assert book.count() == 4


@pytest.mark.parametrize(("time", "minutes"), BESIDE)
def test_back_to_back_is_no_overlap(book: Book, time: str, minutes: int) -> None:
    book.insert("10:00", 30, doctor=WATSON)
    book.insert(time, minutes, doctor=WATSON)


def test_what_is_changed_is_judged_as_what_is_new(book: Book) -> None:
    book.insert("10:00", doctor=WATSON)
    office = book.insert("11:00")
    doctor = book.insert("11:00", office=B, doctor=WATSON)
    elsewhere = book.insert("10:00", office=C, doctor=WHO)
    with refused("office_taken"):
        book.move(office, "09:50")
    with refused("doctor_taken"):
        book.move(doctor, "10:14")
    with refused("office_taken"):
        book.update(elsewhere, f"office_id = {A}")
    with refused("doctor_taken"):
        book.update(elsewhere, f"doctor_id = {WATSON}")
    with refused("doctor_taken"):
        book.update(elsewhere, f"office_id = {D}, doctor_id = {WATSON}")
    longer = book.insert("10:50", 10)
    with refused("office_taken"):
        book.move(longer, "10:50", 11)
    book.update(elsewhere, "doctor_id = null")


def test_its_own_time_is_in_nobodys_way(book: Book) -> None:
    one = book.insert("10:00", 30, doctor=WATSON)
    book.move(one, "10:10", 30)
    book.update(one, "patient_name = 'b'")
    book.update(one, "doctor_id = null")
    book.update(one, f"doctor_id = {WATSON}")


def test_a_cancelled_one_occupies_nothing_until_it_is_taken_up_again(book: Book) -> None:
    cancelled = book.insert("10:00", 30, doctor=WATSON)
    book.update(cancelled, "status = 'cancelled'")
    office = book.insert("10:15")
    book.insert("10:00", 10, office=B, doctor=WATSON, status="cancelled")
    with refused("office_taken"):
        book.update(cancelled, "status = 'booked'")
    book.update(office, f"office_id = {B}, doctor_id = {WATSON}")
    with refused("doctor_taken"):
        book.update(cancelled, "status = 'arrived'")
    book.update(office, "status = 'cancelled'")
    book.update(cancelled, "status = 'booked'")


@pytest.mark.parametrize("status", ["booked", "arrived", "in_room", "done", "no_show"])
def test_all_others_occupy_their_time(book: Book, status: str) -> None:
    one = book.insert("10:00")
    book.update(one, f"status = '{status}'")
    with refused():
        book.insert("10:00")


def test_an_override_is_refused_by_nothing_and_refuses_ordinary_ones(book: Book) -> None:
    book.insert("10:00", 30, doctor=WATSON)
    book.insert("10:00", 60, doctor=WATSON, override_reason="r")
    book.insert("10:00", 60, doctor=WATSON, override_reason="r")
    with refused("office_taken"):
        book.insert("10:30")
    with refused("doctor_taken"):
        book.insert("10:30", office=B, doctor=WATSON)
    moved = book.insert("11:00")
    with refused("office_taken"):
        book.move(moved, "10:59")
    reopened = book.insert("10:40", office=B, doctor=WATSON, status="cancelled")
    with refused("doctor_taken"):
        book.update(reopened, "status = 'booked'")


@pytest.mark.parametrize("place", range(3))
def test_of_many_in_one_statement_each_is_judged_by_the_overrides(book: Book, place: int) -> None:
    """PostgreSQL looks once for all of them (migrations/postgresql/0002.clinic.sql)."""
    book.insert("10:00", 60, override_reason="r")
    offices = [B, C, D]
    offices[place] = A
    at = times("10:30", 15)
    values = ", ".join(f"'{value}'" for value in at.values())
    rows = [f"('a', 'a', {office}, 15, {values})" for office in offices]
    with refused("office_taken"):
        book.execute(
            "insert into appointment (patient_name, patient_key, office_id, duration_minutes,"
            f" {', '.join(at)}) values {', '.join(rows)}"
        )
    assert book.count() == 1


def test_whoever_was_overridden_may_arrive_and_leave_but_not_come_back(book: Book) -> None:
    one = book.insert("10:00", 30, doctor=WATSON)
    over = book.insert("10:15", 30, doctor=WATSON, override_reason="r")
    for status in (
        "arrived",
        "in_room",
        "done",
        "arrived",
        "booked",
        "no_show",
        "booked",
        "cancelled",
    ):
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
    book.insert("2027-12-01T23:50:00", 30, doctor=WATSON, override_reason=reason)
    with refused():
        book.insert("2027-12-02T00:10:00")
    with refused():
        book.insert("2027-12-02T00:10:00", office=B, doctor=WATSON)
    book.insert("2027-12-02T00:20:00", doctor=WATSON)
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
    one = book.insert("2011-12-29T10:00:00", 1440, doctor=WATSON, override_reason=reason)
    ends = "2011-12-31T10:00:00"
    book.update(one, f"end_time = '{ends}', occupied_until = '{ends}'")
    for time in ("2011-12-29T09:59:00", "2011-12-31T00:00:00", "2011-12-31T09:59:00"):
        with refused("office_taken"):
            book.insert(time, 5)
        with refused("doctor_taken"):
            book.insert(time, 5, office=B, doctor=WATSON)
    book.insert("2011-12-31T10:00:00", doctor=WATSON)


def test_fractions_of_a_second_count(book: Book) -> None:
    book.insert("2027-12-01T10:00:00.500000", 15)
    with refused():
        book.insert("2027-12-01T10:15:00", 15)
    with refused():
        book.insert("2027-12-01T09:45:01", 15)
    book.insert("2027-12-01T10:15:00.500000", 15)
    book.insert("2027-12-01T09:45:00", 15)


def test_a_microsecond_counts_in_every_year(book: Book) -> None:
    """PostgreSQL's rule reckons in doubles (migrations/postgresql/0002.clinic.sql)."""
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


@pytest.mark.parametrize("first", [1, 2**31 - 500, 2**52 - 1000])
def test_on_postgresql_each_office_has_a_band_of_its_own(
    postgres: Postgres, postgres_template: str, first: int
) -> None:
    """Ids of 1,000 offices in a row, also of such as no clinic will ever have."""
    name = f"bands_{first}"
    with psycopg.connect(postgres.create_database(name, postgres_template)) as connection:
        (counts,) = connection.execute(
            f"""
            with office as (
                select id, occupied(id, '2027-12-01 10:00', '2027-12-01 10:15') as rectangle
                from generate_series({first}, cast({first + 999} as bigint)) as id
            )
            select
                count(*) filter (where one.rectangle && other.rectangle),
                count(*) filter (where one.rectangle && other.rectangle <> (one.id = other.id)),
                count(*) filter (
                    where one.rectangle && occupied(
                        one.id, '2027-12-01 10:14:59.999999', '2027-12-01 10:20'
                    ) and not one.rectangle && occupied(
                        one.id, '2027-12-01 10:15', '2027-12-01 10:20'
                    ) and one.id = other.id
                )
            from office one cross join office other
            """
        ).fetchall()
    assert counts == (1000, 0, 1000)
    postgres.drop_database(name)


@pytest.mark.parametrize("reason", [None, "r"])
def test_what_is_occupied_before_and_after_is_had_by_nobody_else(
    book: Book, reason: str | None
) -> None:
    book.insert("10:00", 30, doctor=WATSON, buffers=(20, 40), override_reason=reason)
    for time, minutes, buffers in [
        ("09:30", 11, NONE),
        ("09:39", 1, (240, 1)),
        ("11:09", 1, NONE),
        ("11:20", 5, (11, 0)),
        ("08:00", 5, (0, 96)),
        ("08:00", 300, (60, 60)),
    ]:
        with refused("office_taken"):
            book.insert(time, minutes, buffers=buffers)
        with refused("doctor_taken"):
            book.insert(time, minutes, B, WATSON, buffers=buffers)
    book.insert("09:30", 5, doctor=WATSON, buffers=(30, 5))
    moved = book.insert("11:20", 5, doctor=WATSON, buffers=(10, 0))
    with refused("office_taken"):
        book.move(moved, "11:20", 5, buffers=(11, 0))
    with refused("doctor_taken"):
        book.update(moved, f"office_id = {B}, occupied_from = '2027-12-01T11:09:00'")


@pytest.mark.parametrize("reason", [None, "r"])
def test_the_longest_with_the_longest_buffers_is_occupied_to_its_ends(
    book: Book, reason: str | None
) -> None:
    """Two days on the clocks, and a day of buffer before and after: all that a row may have."""
    one = book.insert("2027-12-10T10:00:00", 1440, doctor=WATSON, override_reason=reason)
    book.update(
        one,
        "end_time = '2027-12-12T10:00:00', occupied_from = '2027-12-09T10:00:00',"
        " occupied_until = '2027-12-13T10:00:00'",
    )
    for time in ("2027-12-09T09:56:00", "2027-12-09T10:00:00", "2027-12-13T09:59:00"):
        with refused("office_taken"):
            book.insert(time, 5)
        with refused("doctor_taken"):
            book.insert(time, 5, B, WATSON)
    with refused("office_taken"):
        book.insert("2027-12-14T09:59:00", 5, buffers=(1440, 0))
    with refused("office_taken"):
        book.insert("2027-12-08T09:59:00", 1, buffers=(0, 1441))
    book.insert("2027-12-13T10:00:00", doctor=WATSON)
    book.insert("2027-12-09T09:55:00", 5, doctor=WATSON)


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
                "buffers": dice.choice([NONE, NONE, (5, 0), (0, 240), (1440, 1440)]),
                "office": dice.choice([A, B, C]),
                "doctor": dice.choice([None, WATSON, WHO]),
                "reason": dice.choice([None, None, None, "r"]),
            }
        else:
            row["status"] = dice.choice(["booked", "in_room", "cancelled", "cancelled"])
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
    same = (
        before is not None
        and all(before[name] == row[name] for name in ("office", "doctor"))
        and occupied(before) == occupied(row)
    )
    if row["status"] == "cancelled" or row["reason"] is not None:
        return True
    if before and same and before["status"] != "cancelled" and before["reason"] is None:
        return True
    begins, ends = occupied(row)
    return not any(
        number != one
        and other["status"] != "cancelled"
        and (other["office"] == row["office"] or other["doctor"] == row["doctor"] is not None)
        and occupied(other)[0] < ends
        and begins < occupied(other)[1]
        for number, other in rows.items()
    )


def occupied(row: dict[str, Any]) -> tuple[datetime.datetime, datetime.datetime]:
    """Return from when until when a row occupies its office and doctor."""
    ends = row["begins"] + (row["minutes"] + row["buffers"][1]) * MINUTE
    return row["begins"] - row["buffers"][0] * MINUTE, ends


def write(book: Book, one: int | None, row: dict[str, Any]) -> int:
    """Insert a row, or update the one there is, and return its number."""
    begins = row["begins"].isoformat()
    if one is None:
        return book.insert(
            begins,
            row["minutes"],
            row["office"],
            row["doctor"],
            buffers=row["buffers"],
            override_reason=row["reason"],
        )
    values = {
        "duration_minutes": row["minutes"],
        "office_id": row["office"],
        "doctor_id": row["doctor"],
        "status": row["status"],
        "override_reason": row["reason"],
        **times(begins, row["minutes"], row["buffers"]),
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
        for day, office, doctor in (("full", A, WATSON), ("empty", B, WHO)):
            for minute in range(0, 1440 if day == "full" else 0, 10):
                book.insert(
                    f"{minute // 60:02}:{minute % 60:02}", 3, office, doctor, buffers=(0, 2)
                )
            connection.set_progress_handler(partial(work.update, [day]), 1)
            book.insert("23:55", 5, office, doctor)
            connection.set_progress_handler(None, 1)
    assert work["full"] < 1.5 * work["empty"]


@pytest.mark.parametrize(
    "assignments",
    [
        "duration_minutes = 0",
        "duration_minutes = 1441",
        "end_time = '2027-12-01T10:00:00'",
        "end_time = '2027-12-03T10:01:00', occupied_until = '2027-12-03T10:01:00'",
        "end_time = '2027-12-01T10:16:00'",
        "occupied_from = '2027-12-01T10:01:00'",
        "occupied_until = '2027-12-01T10:14:00'",
        "occupied_from = '2027-11-29T00:00:00', occupied_until = '2027-12-03T00:01:00'",
        "date_time = '2027-12-01T10:15:00'",
        "status = 'gone'",
        "patient_name = ''",
        "patient_phone = ''",
        "note = ''",
        "override_reason = ''",
        "version = 0",
    ],
)
def test_a_row_that_contradicts_itself_is_refused(book: Book, assignments: str) -> None:
    one = book.insert("10:00")
    with pytest.raises(WrongRow):
        book.update(one, assignments)
