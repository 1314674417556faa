"""Closures from files, in the book: new, known, changed, gone; all of it or nothing."""

import datetime
from dataclasses import dataclass
from typing import Any

import pytest

from clinic.appointments.availability import ClosedThen
from clinic.appointments.registry_book import RegistryBook
from clinic.database import Database
from clinic.registry.closure_file import MOST_WRONG
from clinic.registry.importing import Importing, Plan, read_closures
from clinic.registry.records import NotRegistered, RegistryChanged
from clinic.registry.registry import Registry, ResourceChange
from clinic.registry.schedule import Schedule
from clinic.registry.timetable import Exceptional, Place
from tests.appointments.desks import ZONE, booking, desk_on, writing
from tests.registry.test_closure_files import TODAY, calendar

pytestmark = pytest.mark.anyio

XMAS = "UID:x|SUMMARY:Christmas|DTSTART;VALUE=DATE:20271225"
MAY = "UID:m|SUMMARY:May|DTSTART;VALUE=DATE:20200501|RRULE:FREQ=YEARLY"


@dataclass
class Clinic:
    """All that an import works with, on a database of its own."""

    database: Database

    def __post_init__(self) -> None:
        self.desk = desk_on(self.database)
        self.memory = self.desk._memory
        book = RegistryBook(self.desk._outbox, ZONE)
        self.schedule = Schedule(self.database, self.memory, book)
        self.registry = Registry(self.database, self.memory, book)
        self.importing = Importing(self.database, self.memory, book)

    async def plan(self, text: str, today: datetime.date = TODAY, **whose: str) -> Plan:
        return await self.importing.plan(read_closures(text.encode(), ZONE, today), **whose)

    async def bring_in(self, text: str, **whose: Any) -> Plan:
        plan = await self.plan(text, **whose)
        assert plan.wrong == []
        ids = await self.importing.carry_out(plan)
        assert len(ids) == len(plan.new)
        return plan

    async def closures(self) -> list[tuple[str, str | None]]:
        found = await self.schedule.exceptional(opens=False)
        return [(f"{one.begins:%Y-%m-%d}", one.reason) for one in found]


@pytest.fixture
def clinic(database: Database) -> Clinic:
    return Clinic(database)


def outline(plan: Plan) -> tuple[int, int, int, int]:
    return len(plan.new), len(plan.changed), len(plan.gone), plan.known


MAYS = [("2027-05-01", "May"), ("2028-05-01", "May"), ("2029-05-01", "May")]


async def test_the_same_file_twice_doubles_nothing(clinic: Clinic) -> None:
    text = calendar(XMAS, MAY)
    planned = await clinic.plan(text)
    assert outline(planned) == (4, 0, 0, 0)
    assert await clinic.closures() == []  # so far it was only said
    assert outline(await clinic.bring_in(text)) == (4, 0, 0, 0)
    there = await clinic.closures()
    assert there == [MAYS[0], ("2027-12-25", "Christmas"), *MAYS[1:]]
    again = await clinic.bring_in(text)
    assert (outline(again), again.changes_anything) == ((0, 0, 0, 4), False)
    assert await clinic.closures() == there
    # A year later it goes on.
    later = await clinic.plan(text, today=TODAY.replace(year=2028))
    assert outline(later) == (1, 0, 0, 3)


async def test_a_later_version_changes_what_has_changed(clinic: Clinic) -> None:
    await clinic.bring_in(calendar(XMAS, MAY))
    before = {one.begins: one.id for one in await clinic.schedule.exceptional(opens=False)}
    moved = XMAS.replace("20271225", "20271226").replace("Christmas", "Boxing Day")
    named = MAY.replace("SUMMARY:May", "SUMMARY:May Day")
    plan = await clinic.bring_in(calendar(moved, named))
    assert outline(plan) == (0, 4, 0, 0)
    assert ("2027-12-26", "Boxing Day") in await clinic.closures()
    assert await clinic.closures() == [
        ("2027-05-01", "May Day"),
        ("2027-12-26", "Boxing Day"),
        ("2028-05-01", "May Day"),
        ("2029-05-01", "May Day"),
    ]
    after = {one.begins: one.id for one in await clinic.schedule.exceptional(opens=False)}
    assert sorted(after.values()) == sorted(before.values())


async def test_what_the_file_takes_back_is_gone(clinic: Clinic) -> None:
    await clinic.bring_in(calendar(XMAS, MAY))
    off = XMAS + "|STATUS:CANCELLED"
    moved = MAY.replace("20200501", "20200502")
    less = MAY + "|EXDATE;VALUE=DATE:20280501"
    assert outline(await clinic.plan(calendar(off))) == (0, 0, 1, 0)
    assert outline(await clinic.plan(calendar(less))) == (0, 0, 1, 2)
    assert outline(await clinic.plan(calendar(moved))) == (3, 0, 3, 0)
    # Of what it does not name it says nothing.
    assert outline(await clinic.plan(calendar(XMAS))) == (0, 0, 0, 1)
    await clinic.bring_in(calendar(off, moved))
    assert [day for day, _ in await clinic.closures()] == ["2027-05-02", "2028-05-02", "2029-05-02"]


async def test_other_uids_each_time_double_nothing(clinic: Clinic) -> None:
    """As of publishers who draw them anew; nor what somebody has closed by hand."""
    await clinic.bring_in(calendar(XMAS))
    assert outline(await clinic.plan(calendar(XMAS.replace("UID:x", "UID:y")))) == (0, 0, 0, 1)
    begins = datetime.datetime(2027, 12, 31)
    ends = datetime.datetime(2028, 1, 1)
    await clinic.schedule.close(
        Exceptional(0, Place(), opens=False, begins=begins, ends=ends, reason="by hand")
    )
    assert outline(await clinic.plan(calendar("UID:e|SUMMARY:x|DTSTART:20271231"))) == (0, 0, 0, 1)


async def test_one_file_for_two_offices_is_of_each(clinic: Clinic) -> None:
    for name in ("221B", "7"):
        await clinic.registry.register("office", name)
    await clinic.registry.register("doctor", "Dr. Watson")
    for whose in ({"office_number": "221 b"}, {"office_number": "7"}, {"doctor_name": "dr watson"}):
        assert outline(await clinic.bring_in(calendar(XMAS), **whose)) == (1, 0, 0, 0)
        assert outline(await clinic.bring_in(calendar(XMAS), **whose)) == (0, 0, 0, 1)
    off = calendar(XMAS + "|STATUS:CANCELLED")
    assert outline(await clinic.bring_in(off, office_number="7")) == (0, 0, 1, 0)
    assert len(await clinic.closures()) == 2
    with pytest.raises(NotRegistered) as caught:
        await clinic.plan(calendar(XMAS), office_number="221C")
    assert list(caught.value.nearest) == ["221B"]


async def test_what_was_imported_for_an_office_follows_it_into_another(clinic: Clinic) -> None:
    one = await clinic.registry.register("office", "one")
    two = await clinic.registry.register("office", "two")
    await clinic.bring_in(calendar(XMAS), office_number="one")
    await clinic.registry.change("office", one.id, ResourceChange(merged_into=two.id))
    for name in ("one", "two"):
        plan = await clinic.plan(calendar(XMAS), office_number=name)
        assert outline(plan) == (0, 0, 0, 1)


async def test_rows_of_a_table_name_whose_they_are(clinic: Clinic) -> None:
    office = await clinic.registry.register("office", "221B")
    doctor = await clinic.registry.register("doctor", "Dr. Watson")
    text = (
        "from;to;reason;office;doctor\n2027-12-24;2027-12-24;a;;\n2027-12-24;2027-12-24;b;221 b;\n"
        "2027-12-24;2027-12-24;c;;dr watson\n2027-12-24;2027-12-24;d;221B;Dr. Watson\n"
    )
    await clinic.bring_in(text)
    found = await clinic.schedule.exceptional(opens=False)
    assert {one.reason: one.place for one in found} == {
        "a": Place(),
        "b": Place(office_id=office.id),
        "c": Place(doctor_id=doctor.id),
        "d": Place(office.id, doctor.id),
    }
    assert outline(await clinic.bring_in(text)) == (0, 0, 0, 4)
    assert outline(await clinic.bring_in(text.replace(";a;", ";another;"))) == (0, 1, 0, 3)
    # Its `from` and `to` are what a row without an id is known by; one with an id may move.
    with_id = "id,from,to,reason\n1,2027-12-29,2027-12-29,x\n"
    assert outline(await clinic.bring_in(with_id)) == (1, 0, 0, 0)
    assert outline(await clinic.bring_in(with_id.replace("29", "30"))) == (0, 1, 0, 0)


async def test_a_wrong_line_keeps_everything_from_being_imported(clinic: Clinic) -> None:
    await clinic.registry.register("office", "221B")
    await clinic.registry.register("doctor", "Dr. Watson")
    plan = await clinic.plan(
        "from,to,reason,office,doctor\n2027-12-24,2027-12-24,a,,\n2027-12-24,2027-12-24,b,221C,\n"
        "2027-12-24,2027-12-24,c,,Dr. Whatson\n2027-12-24,2027-12-24,again,,\n"
        "2027-12-24,2027-12-24,d,zzz,\n2027-12-24,2027-12-24,e,221B,\n"
        "2027-12-24,2027-12-24,f,221 b,"
    )
    assert [(one.line, one.detail) for one in plan.wrong] == [
        (3, "there is no office of this name: did you mean 221B?"),
        (4, "there is no doctor of this name: did you mean Dr. Watson?"),
        (5, "is line 2 again: leave one of the two"),
        (6, "there is no office of this name: register it, or correct it"),
        (8, "is line 7 again: leave one of the two"),
    ]


async def test_a_file_of_unknown_names_is_soon_refused(clinic: Clinic) -> None:
    rows = "".join(f"2027-12-24,2027-12-24,x,office {number}\n" for number in range(500))
    plan = await clinic.plan("from,to,reason,office\n" + rows)
    assert len(plan.wrong) == MOST_WRONG


async def test_the_appointments_in_new_closures_are_named(clinic: Clinic) -> None:
    async with writing(clinic.desk):
        within = await clinic.desk.book(booking(date_time="2027-12-25T10:00:00"))
        await clinic.desk.book(booking(date_time="2027-12-27T10:00:00"))
    plan = await clinic.bring_in(calendar(XMAS, MAY))
    assert [one.id for one in plan.standing] == [within.appointment_id]
    assert [one.standing_count for one in plan.new] == [0, 1, 0, 0]
    longer = calendar(XMAS + "|DTEND;VALUE=DATE:20271228", MAY)
    assert [one.standing_count for one in (await clinic.plan(longer)).changed] == [2]


async def test_a_plan_counts_for_what_it_was_made_of(clinic: Clinic) -> None:
    plan = await clinic.plan(calendar(XMAS))
    other = Clinic(clinic.database)
    await other.bring_in(calendar(MAY))
    with pytest.raises(RegistryChanged):
        await clinic.importing.carry_out(plan)
    assert await clinic.closures() == MAYS
    assert outline(await clinic.bring_in(calendar(XMAS))) == (1, 0, 0, 0)


async def test_another_process_refuses_bookings_in_what_was_imported(clinic: Clinic) -> None:
    other = Clinic(clinic.database)
    async with writing(other.desk):
        await other.desk.book(booking(date_time="2027-12-24T10:00:00"))
        await clinic.bring_in(calendar(XMAS))
        with pytest.raises(ClosedThen):
            await other.desk.book(booking(date_time="2027-12-25T10:00:00"))
