"""The list over HTTP: everything, or what is looked for, page by page, in every form."""

import csv
import datetime
import io
import itertools
import os
import random
import re
import zoneinfo
from pathlib import Path
from typing import Any

import icalendar
import pytest

from clinic.appointments import finding
from clinic.appointments.listing import Sought, select_sought
from clinic.appointments.requests import Change
from clinic.database import Connection, Database, Dialect, Sql
from tests.appointments.desks import booking, desk_on, writing
from tests.appointments.test_routes import fresh, listed, wrong
from tests.process.clinic import ClinicProcess, running

# The session's clinic is there.
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
OFFICES = itertools.count(1)


@pytest.fixture(scope="module")
def records(clinic: ClinicProcess) -> list[dict[str, Any]]:
    """The records of some appointments, booked and changed, in offices of their own."""
    mark = f"L{next(OFFICES)}"
    chance = random.Random(mark)
    found = []
    for number in range(30):
        sent = fresh(
            patient_name=f"{chance.choice(['Ёлкина', 'ŠKODA', 'Straße', 'ΝΊΚΟΣ'])} {mark}",
            office_number=f"{mark}-{number % 3}",
            doctor_name=chance.choice([None, f"Доктор {mark}-{number % 3}"]),
            date_time=f"2031-05-{number % 7 + 1:02}T{number // 3 + 8:02}:30:00",
        )
        path = clinic.http.post("/appointment", json=sent).headers["location"]
        status = chance.choice(["booked", "arrived", "cancelled"])
        found.append(clinic.http.patch(path, json={"status": status}).json())
    return found


def in_order(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: (record["date_time"], record["id"]))


def test_the_list_holds_what_each_record_shows(clinic: ClinicProcess) -> None:
    sent = fresh(date_time="2025-12-01T15:30:00.25", patient_name='"Ё" \\ \u007e🙂')
    path = clinic.http.post("/appointment", json=sent).headers["location"]
    record = clinic.http.get(path).json()
    assert record in listed(clinic)
    assert record in clinic.http.get("/appointment?from=2025-12-01").json()


def test_each_parameter_narrows_the_list(
    clinic: ClinicProcess, records: list[dict[str, Any]]
) -> None:
    days = {"from": "2031-05-01", "to": "2031-05-31"}
    mark = records[0]["office_number"].partition("-")[0]
    sought: list[tuple[dict[str, str], Any]] = [
        ({"office_number": f"{mark}-1"}, lambda one: one["office_number"] == f"{mark}-1"),
        ({"doctor_name": f"Доктор {mark}-2"}, lambda one: one["doctor_name"] == f"Доктор {mark}-2"),
        ({"patient_name": f"ЁЛКИНА {mark}"}, lambda one: one["patient_name"].startswith("Ёлкина")),
        ({"patient_name": f"škoda {mark}"}, lambda one: one["patient_name"].startswith("ŠKODA")),
        ({"patient_name": f"STRASSE {mark}"}, lambda one: one["patient_name"][:6] == "Straße"),
        ({"patient_name": f"νίκος {mark}"}, lambda one: one["patient_name"][:5] == "ΝΊΚΟΣ"),
        (
            {"office_number": f"{mark}-0", "status": "cancelled"},
            lambda one: one["office_number"] == f"{mark}-0" and one["status"] == "cancelled",
        ),
        (
            {"office_number": f"{mark}-0", "from": "2031-05-02", "to": "2031-05-04"},
            lambda one: (
                one["office_number"] == f"{mark}-0"
                and "2031-05-02" <= one["date_time"][:10] <= "2031-05-04"
            ),
        ),
    ]
    for parameters, fits in sought:
        answer = clinic.http.get("/appointment", params=days | parameters)
        assert answer.status_code == 200
        expected = in_order([record for record in records if fits(record)])
        assert answer.json() == expected, parameters
        assert expected, parameters


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("O'Brien", "O’Brien"),
        ("Анна-Мария", "анна\u2011мария"),
        ("Семёнов", "СЕМЕНОВ"),
        ("Işık", "IŞIK"),
        ("Пётр  Ли", "ПЕТР\u00a0ЛИ"),
    ],
)
def test_a_patient_is_found_however_the_name_is_written(
    clinic: ClinicProcess, one: str, other: str
) -> None:
    for name in (one, other):
        path = clinic.http.post("/appointment", json=fresh(patient_name=name)).headers["location"]
        record = clinic.http.get(path).json()
        for sought in (one, other):
            assert record in clinic.http.get("/appointment", params={"patient_name": sought}).json()


def test_a_patient_is_found_by_the_beginnings_of_the_name_and_the_end_of_the_phone(
    clinic: ClinicProcess,
) -> None:
    office = f"patients {next(OFFICES)}"
    patients = [
        ("Иван Петров", "+7 (921) 123-45-67"),
        ("Петрова Иванна", "8 921 765 45 67"),
        ("Анна-Мария Иванова", None),
        ("Пётр О'Брайен", "доб. 4567"),
        ("Сергей 50%_", "\u0661\u0662\u0663"),
        ("Сергей \\'", None),
    ]
    for number, (name, phone) in enumerate(patients):
        time = f"2031-09-01T{number + 8:02}:00:00"
        sent = {"patient_name": name, "patient_phone": phone}
        sent |= {"office_number": office, "date_time": time}
        assert clinic.http.post("/appointment", json=sent).status_code == 201
    sought: list[tuple[dict[str, str], list[int]]] = [
        ({"patient": "ива пет"}, [0, 1]),
        ({"patient": "ПЕТР ИВА"}, [0, 1]),
        ({"patient": "иванна"}, [1]),
        ({"patient": "мария"}, [2]),
        ({"patient": "Мария-Анна"}, [2]),
        ({"patient": "нна"}, []),
        ({"patient": "петр"}, [0, 1, 3]),
        ({"patient": "о’брайен"}, [3]),
        ({"patient": "50%"}, [4]),
        ({"patient": "50%_"}, [4]),
        ({"patient": "5_"}, []),
        ({"patient": "%"}, []),
        ({"patient": "\\"}, [5]),
        ({"patient": "серг"}, [4, 5]),
        ({"patient": "-"}, []),
        ({"patient_phone": "4567"}, [0, 1, 3]),
        ({"patient_phone": "45-67"}, [0, 1, 3]),
        ({"patient_phone": "123 45 67"}, [0]),
        ({"patient_phone": "+7 921 123 45 67"}, [0]),
        ({"patient_phone": "123"}, [4]),
        ({"patient_phone": "921"}, []),
        ({"patient_phone": "4567", "patient": "пет"}, [0, 1, 3]),
        ({"patient_phone": "4567", "patient": "ива"}, [0, 1]),
        ({"patient": "ива", "from": "2031-09-02"}, []),
        ({"patient": "ива", "status": "cancelled"}, []),
    ]
    for parameters, expected in sought:
        query = {"office_number": office} | parameters
        found = [
            one["patient_name"] for one in clinic.http.get("/appointment", params=query).json()
        ]
        assert found == [patients[place][0] for place in expected], parameters
        paged = pages(clinic, query | {"limit": "1"})
        assert [one["patient_name"] for one in paged] == found


def test_offices_doctors_and_their_lists_have_many_spellings(clinic: ClinicProcess) -> None:
    mark = f"спелл{next(OFFICES)}"
    sent = fresh(office_number=f"{mark} 7-A", doctor_name=f"Dr. {mark}")
    record = clinic.http.get(clinic.http.post("/appointment", json=sent).headers["location"]).json()
    assert record["office_number"] == f"{mark} 7-A"
    for office in (f"{mark.upper()} 7A", f"№ {mark} (7 а)"):
        for query in ({"office_number": office}, {"doctor_name": f"DR {mark}"}):
            assert clinic.http.get("/appointment", params=query).json() == [record]
            feed = clinic.http.get(
                "/appointment.ics", params=query | {"from": "2025-12-01", "to": "2025-12-01"}
            ).text
            assert f"UID:appointment-{record['id']}@" in feed
    for query in ({"office_number": f"{mark} 7-1"}, {"doctor_name": mark}):
        assert clinic.http.get("/appointment", params=query).json() == []
        assert "VEVENT" not in clinic.http.get("/appointment.ics", params=query).text


def test_what_takes_up_time_on_a_day_is_in_its_list(clinic: ClinicProcess) -> None:
    office = f"night {next(OFFICES)}"
    sent: list[tuple[str, int]] = [
        ("2031-08-01T23:30:00", 30),
        ("2031-08-02T00:00:00", 15),
        ("2031-08-02T12:00:00", 1440),
        ("2031-08-03T23:30:00", 60),
        ("2031-08-04T23:59:59.5", 1),
        ("2031-08-06T00:00:00", 15),
    ]
    ids = [
        clinic.http.post(
            "/appointment",
            json=fresh(office_number=office, date_time=time, duration_minutes=minutes),
        ).json()["id"]
        for time, minutes in sent
    ]
    on_days = {
        ("2031-07-31", "2031-07-31"): [],
        ("2031-08-01", "2031-08-01"): [0],
        ("2031-08-02", "2031-08-02"): [1, 2],
        ("2031-08-03", "2031-08-03"): [2, 3],
        ("2031-08-04", "2031-08-04"): [3, 4],
        ("2031-08-05", "2031-08-05"): [4],
        ("2031-08-03", "2031-08-05"): [2, 3, 4],
        ("2031-08-06", None): [5],
        (None, "2031-08-03"): [0, 1, 2, 3],
        (None, "9999-12-31"): [0, 1, 2, 3, 4, 5],
    }
    for (first, last), places in on_days.items():
        query = {"office_number": office}
        query |= {"from": first} if first else {}
        query |= {"to": last} if last else {}
        expected = [ids[place] for place in places]
        assert [one["id"] for one in pages(clinic, query | {"limit": "2"})] == expected, query
        assert [one["id"] for one in clinic.http.get("/appointment", params=query).json()] == (
            expected
        )
        lines = clinic.http.get("/appointment", params=query, headers={"Accept": "text/csv"})
        rows = csv.DictReader(io.StringIO(lines.content.decode("utf-8-sig"), newline=""))
        assert [int(row["id"]) for row in rows] == expected
        if first and last:
            feed = clinic.http.get("/appointment.ics", params=query).text
            assert [int(one) for one in re.findall("UID:appointment-([0-9]+)@", feed)] == expected


def pages(clinic: ClinicProcess, query: dict[str, str]) -> list[dict[str, Any]]:
    """Return what all pages hold, one after the other."""
    answer = clinic.http.get("/appointment", params=query)
    found: list[dict[str, Any]] = answer.json()
    while "next" in answer.links:
        answer = clinic.http.get(answer.links["next"]["url"])
        found += answer.json()
    return found


FAR = ["0001-01-01", "0001-01-02", "0001-01-03", "1899-12-31", "2199-12-31", "9999-12-30"]
FAR += ["9999-12-31"]


@pytest.mark.parametrize(("first", "last"), list(itertools.combinations_with_replacement(FAR, 2)))
def test_every_day_can_be_asked_for(clinic: ClinicProcess, first: str, last: str) -> None:
    office = "far"
    clinic.http.post(
        "/appointment", json=fresh(office_number=office, date_time="2031-08-01T10:00:00")
    )
    everything = first < "2031" < last
    for days in ({"from": first, "to": last}, {"from": first}, {"to": last}):
        query = days | {"office_number": office}
        for accept in ("application/json", "text/csv"):
            for limit in ({}, {"limit": "1"}):
                answer = clinic.http.get(
                    "/appointment", params=query | limit, headers={"Accept": accept}
                )
                assert answer.status_code == 200
                assert ("2031-08-01" in answer.text) or not everything
        feed = clinic.http.get("/appointment.ics", params=query)
        assert feed.status_code == 200
        assert feed.text.endswith("END:VCALENDAR\r\n")
        assert ("20310801T080000Z" in feed.text) or not everything or len(days) == 1
        assert clinic.http.get("/analytics", params=days).status_code == 200


@pytest.mark.parametrize("limit", [1, 4, 10, 30, 500])
def test_pages_follow_each_other_without_gap_or_overlap(
    clinic: ClinicProcess, records: list[dict[str, Any]], limit: int
) -> None:
    office = records[0]["office_number"]
    expected = in_order([one for one in records if one["office_number"] == office])
    query = {"office_number": office, "limit": str(limit)}
    assert pages(clinic, query) == expected
    answer = clinic.http.get("/appointment", params=query)
    assert answer.json() == expected[:limit]
    assert ("next" in answer.links) == (len(expected) > limit)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "#/limit"),
        ("limit=501", "#/limit"),
        ("limit=ten", "#/limit"),
        ("limit=٣", "#/limit"),
        ("after=x", "#/after"),
        ("after=2025-12-01T15:30:00", "#/after"),
        ("after=9999999999999999999,1", "#/after"),
        ("after=2027-12-01T15:30:00-05:00,1", "#/after"),
        ("after=2027-12-01T15:30:00%2B00:00,1", "#/after"),
        ("after=2027-12-01T15:30:00Z,1", "#/after"),
        ("after=2027-12-01T24:00:00,1", "#/after"),
        ("after=2027-12-01T15:30,1", "#/after"),
        ("after=2027-12-01T15:30:00.1234567,1", "#/after"),
        ("after=2027-02-30T15:30:00,1", "#/after"),
        ("after=0000-01-01T00:00:00,1", "#/after"),
        ("after=2027-W48-3T15:30:00,1", "#/after"),
        ("after=2027-12-01T15:30:00,", "#/after"),
        ("after=2027-12-01T15:30:00,-1", "#/after"),
        ("from=2027-12-01T00:00:00", "#/from"),
        ("to=20271201", "#/to"),
        ("to=2027-02-30", "#/to"),
        ("status=gone", "#/status"),
        ("from=2025-12-02&to=2025-12-01", "#/to"),
        ("from=today", "#/from"),
        ("office_number=", "#/office_number"),
        ("patient_name=%00", "#/patient_name"),
        ("limit=1&limit=2", "#/limit"),
        ("patient=", "#/patient"),
        ("patient_phone=12", "#/patient_phone"),
        ("patient_phone=x-1(2)x", "#/patient_phone"),
        ("patient_phone=", "#/patient_phone"),
        ("patient=%00", "#/patient"),
        ("patients=x", "#"),
    ],
)
def test_a_wrong_parameter_is_named(clinic: ClinicProcess, query: str, pointer: str) -> None:
    assert wrong(clinic.http.get(f"/appointment?{query}")).keys() == {pointer}


# What is sent, and what stands in the cell.
CELLS = {
    "=1+1": "'=1+1",
    "+7 900": "'+7 900",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "＝1": "'＝1",
    "＋1": "'＋1",
    "－1": "'－1",
    "＠A": "'＠A",
    "Ли;=1+1;x": "Ли;'=1+1;x",
    "Ли, -1": "Ли,' -1",
    'quo"te': 'quo"te',
    "com,ma": "com,ma",
    "Ёлкина": "Ёлкина",
}


@pytest.mark.parametrize("query", ["", "&limit=500"])
def test_csv_holds_the_same_and_no_formula(clinic: ClinicProcess, query: str) -> None:
    office = f"csv {next(OFFICES)}"
    for number, name in enumerate(CELLS):
        sent = {"patient_name": name, "office_number": office}
        at = f"2031-06-01T{number + 8:02}:00:00"
        assert clinic.http.post("/appointment", json=sent | {"date_time": at}).status_code == 201
    answer = clinic.http.get(
        f"/appointment?office_number={office}{query}", headers={"Accept": "text/csv"}
    )
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert answer.content.startswith(b"\xef\xbb\xbf")  # for Excel
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert [row["patient_name"] for row in rows] == list(CELLS.values())
    records = clinic.http.get(f"/appointment?office_number={office}").json()
    assert [row["id"] for row in rows] == [str(record["id"]) for record in records]
    assert rows[0]["date_time"] == "2031-06-01T08:00:00"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("text/*", "text/csv; charset=utf-8"),
        ("application/json, text/csv", "application/json"),
        ("application/json;q=0.5, text/csv;q=0.9", "text/csv; charset=utf-8"),
        ("text/csv;q=0, */*", "application/json"),
        ("image/png", "application/json"),
        ("text/csv;q=nonsense", "application/json"),
        ("", "application/json"),
    ],
)
def test_the_form_is_what_the_client_prefers(
    clinic: ClinicProcess, accept: str, media_type: str
) -> None:
    answer = clinic.http.get("/appointment?limit=1", headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type


def test_a_feed_tells_when_an_office_or_doctor_is_taken_and_by_whom_not(
    clinic: ClinicProcess, records: list[dict[str, Any]]
) -> None:
    office = records[0]["office_number"]
    days = {"from": "2031-05-01", "to": "2031-05-31"}
    answer = clinic.http.get("/appointment.ics", params={"office_number": office} | days)
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    assert records[0]["patient_name"] not in answer.text
    entries = icalendar.Calendar.from_ical(answer.text).walk("VEVENT")
    expected = in_order([one for one in records if one["office_number"] == office])
    uids = [str(entry["uid"]).partition("@") for entry in entries]
    assert [uid for uid, _, _ in uids] == [f"appointment-{record['id']}" for record in expected]
    assert len({identity for _, _, identity in uids}) == 1
    for entry, record in zip(entries, expected, strict=True):
        assert isinstance(entry, icalendar.Event)
        assert isinstance(entry.start, datetime.datetime)
        begins = entry.start.astimezone(BERLIN).replace(tzinfo=None)
        assert begins.isoformat() == record["date_time"]
        assert entry.end == entry.start + datetime.timedelta(minutes=record["duration_minutes"])
        cancelled = record["status"] == "cancelled"
        assert entry["status"] == ("CANCELLED" if cancelled else "CONFIRMED")
    doctor = next(one["doctor_name"] for one in records if one["doctor_name"])
    answer = clinic.http.get("/appointment.ics", params={"doctor_name": doctor} | days)
    count = sum(one["doctor_name"] == doctor for one in records)
    assert answer.text.count("BEGIN:VEVENT") == count
    assert wrong(clinic.http.get("/appointment.ics")).keys() == {"#"}


MAY = datetime.date(2031, 5, 1)
MORNING = datetime.datetime(2031, 5, 1, 10)
EVENING_BEFORE = datetime.datetime(2031, 4, 30, 23, 45)
READ_FROM: list[tuple[Sought, str]] = [
    (Sought(), "appointment_time"),
    (Sought(first_day=MAY), "appointment_time"),
    (Sought(first_day=MAY, last_day=MAY + datetime.timedelta(days=1)), "appointment_time"),
    (Sought(office_id=7), "appointment_office"),
    (Sought(office_id=7, first_day=MAY), "appointment_office"),
    (Sought(first_day=datetime.date(2031, 7, 15)), "appointment_time"),
    (Sought(first_day=MAY, after=(MORNING, 7)), "appointment_time"),
    (Sought(first_day=MAY, after=(EVENING_BEFORE, 7)), "appointment_time"),
    (Sought(first_day=MAY), "appointment_overnight"),
    (Sought(first_day=datetime.date.min, last_day=datetime.date.max), "appointment_time"),
    (Sought(doctor_id=207), "appointment_doctor"),
    (Sought(patient_key="имя 7"), "appointment_patient"),
    (Sought(status="no_show"), "appointment_status"),
    (Sought(after=(MORNING, 7)), "appointment_time"),
    (Sought(office_id=7, after=(MORNING, 7)), "appointment_office"),
]


BEGINNINGS = ["ива", "и", "анна", "о'", "50%", "_", "\\", "'", "ма", "а"]


@pytest.mark.anyio
@pytest.mark.parametrize("scanned", [2, 1000])
async def test_a_rare_patient_is_found_by_an_index_as_by_looking_through(
    database: Database, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    monkeypatch.setattr(finding, "MOST_SCANNED", scanned)
    chance = random.Random(7)
    words = ["иван", "иванна", "анна", "о'брайен", "50%_", "\\'", "мария", "а", "_б", "%"]
    desk = desk_on(database)
    patients: list[tuple[str, str]] = []
    async with writing(desk):
        for number in range(40):
            name = chance.choice([" ", "-"]).join(chance.sample(words, chance.choice([1, 2, 3])))
            phone = "".join(chance.choice("12") for _ in range(5))
            at = f"2031-09-{number // 10 + 1:02}T{number % 10 + 8:02}:00:00"
            made = await desk.book(booking(patient_name="x", patient_phone=phone, date_time=at))
            wanted = Change.read({"patient_name": name}, desk.zone).wanted()
            await desk.change(made.appointment_id, wanted, lambda _: True)
            patients.append((name, phone))
    for _ in range(100):
        beginnings = chance.sample(BEGINNINGS, chance.choice([0, 1, 1, 2]))
        end = chance.choice([None, "1", "21", "121"]) if beginnings else "212"
        limit = chance.choice([1, 3, 50])
        expected = [
            name
            for name, phone in patients
            if phone.endswith(end or "")
            and all(
                any(word.startswith(one) for word in name.replace("-", " ").split())
                for one in beginnings
            )
        ][:limit]
        sought = Sought(words=tuple(beginnings), phone_end=end and end[::-1])
        async with database.snapshot() as connection:
            found = await select_sought(connection, sought, limit)
        assert [one.patient_name for one in found] == expected, (beginnings, end)


@pytest.mark.anyio
async def test_a_long_list_is_streamed(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    async with database.transaction() as connection:
        await fill(connection, 50_000)
    with running(tmp_path, DATABASE_URL=database_url) as clinic:
        clinic.http.get("/appointment?limit=1")
        before = resident_bytes(clinic)
        with clinic.http.stream("GET", "/appointment") as answer:
            pieces = answer.iter_raw()
            size = len(next(pieces))
            most = before
            for piece in pieces:
                size += len(piece)
                if size % 10 == 0:
                    most = max(most, resident_bytes(clinic))
        assert size > 50_000 * 150
        assert most - before < 32 * 2**20
        assert len(clinic.http.get("/appointment").json()) == 50_000


def resident_bytes(clinic: ClinicProcess) -> int:
    """Return how much memory a process holds."""
    pages = Path(f"/proc/{clinic.process.pid}/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.anyio
async def test_a_page_is_read_from_an_index_in_order(database: Database) -> None:
    """A plan that sorts, or reads the table, would cost more the more there is."""
    async with database.transaction() as connection:
        await fill(connection, 50_000)
        await connection.execute("analyze appointment")
        plan: list[str] = []
        explain = "explain query plan" if database.dialect is Dialect.SQLITE else "explain"
        fetch_all = connection.fetch_all

        async def explained(sql: Any, values: Any = None) -> Any:
            rows = await fetch_all(f"{explain} {sql}", values)
            plan.extend(str(list(row.values())[-1]) for row in rows)
            return []

        connection.fetch_all = explained  # type: ignore[method-assign]
        for sought, index in READ_FROM:
            plan.clear()
            await select_sought(connection, sought, 50)
            assert any(index in step for step in plan), (sought, plan)
            for step in plan:
                assert not re.search("(?i)sort|temp|seq scan|^scan [a-z]+$", step), (sought, plan)


PLACES = Sql(
    sqlite="""
        insert into resource (id, kind, name)
        select value->>'id', value->>'kind', value->>'name' from json_each(:rows)
    """,
    postgresql="""
        insert into resource (id, kind, name)
        select id, kind, name from json_to_recordset(cast(:rows as json)) as r (
            id bigint, kind text, name text
        )
    """,
)
MANY = Sql(
    sqlite="""
        insert into appointment (patient_name, patient_key, office_id, doctor_id, date_time,
            duration_minutes, end_time, occupied_from, occupied_until, status)
        select 'a', value->>'patient', value->>'office', value->>'doctor', value->>'begins', 15,
            value->>'ends', value->>'begins', value->>'ends', value->>'status'
        from json_each(:rows)
    """,
    postgresql="""
        insert into appointment (patient_name, patient_key, office_id, doctor_id, date_time,
            duration_minutes, end_time, occupied_from, occupied_until, status)
        select 'a', patient, office, doctor, begins, 15, ends, begins, ends, status
        from json_to_recordset(cast(:rows as json)) as r (
            patient text, office bigint, doctor bigint, begins timestamp, ends timestamp,
            status text
        )
    """,
)


async def fill(connection: Connection, count: int) -> None:
    """Write appointments, of which ten times as many match any filter as stand on a page."""
    places = [{"id": n, "kind": "office", "name": f"{n}"} for n in range(1, 102)]
    places += [{"id": n, "kind": "doctor", "name": f"Доктор {n}"} for n in range(201, 304)]
    await connection.execute(PLACES, {"rows": places})
    begins = datetime.datetime(2031, 1, 1)
    quarter = datetime.timedelta(minutes=15)
    rows = [
        {
            "patient": f"имя {n % 97}",
            "office": 1 + n % 101,
            "doctor": 201 + n % 103,
            "begins": begins + n * quarter,
            "ends": begins + n * quarter + quarter,
            "status": "booked" if n % 89 else "no_show",
        }
        for n in range(count)
    ]
    await connection.execute(MANY, {"rows": rows})
