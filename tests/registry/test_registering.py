"""Names that bookings register: one record for all spellings, whoever comes first with one."""

import asyncio
import dataclasses
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from clinic.appointments.appointment import Appointment
from clinic.appointments.availability import ClosedThen, TimeTaken
from clinic.appointments.booking import Confirmation
from clinic.appointments.desk import Desk
from clinic.appointments.requests import Change
from clinic.appointments.search import Search
from clinic.database import Database, Row, open_database
from clinic.registry.names import name_key
from clinic.registry.queries import (
    begin_change,
    insert_exceptional,
    move_keys,
    select_by_keys,
    update_resource,
)
from clinic.registry.records import NotInUse, NotRegistered, Resource
from clinic.registry.timetable import CLINIC, Exceptional
from clinic.web.refusals import WrongFields
from tests.appointments.desks import (
    OFFICES,
    ZONE,
    booking,
    desk_on,
    outcomes,
    resource_id,
    rows,
    told,
    writing,
)
from tests.process.clinic import ClinicProcess

NUMBERS = itertools.count(1)
SPELLINGS = ["221B", "221 b", "№ 221-B", "221В", "(221.b)", "#221B"]


@pytest.fixture
async def two(database: Database, database_url: str) -> AsyncIterator[list[Desk]]:
    """Two desks on one database, each with connections of its own, as two processes have."""
    async with open_database(database_url) as other:
        desks = [desk_on(database), desk_on(other)]
        async with writing(*desks):
            yield desks


async def registered(database: Database) -> list[str]:
    return [name for (name,) in await rows(database, "select name from resource order by name")]


async def become(database: Database, what: Resource, **fields: Any) -> None:
    """Let an office or a doctor be otherwise from now on, whoever remembers it as it was."""
    async with database.transaction() as connection:
        await begin_change(connection)
        await update_resource(connection, dataclasses.replace(what, **fields))


def test_three_spellings_of_an_office_are_one_office(clinic: ClinicProcess) -> None:
    mark = f"кабинет {next(NUMBERS)}"
    sent = {"date_time": "2031-10-01T10:00:00"}
    names = [f"{mark} В", f"{mark}-B", f"№ {mark.upper()}b"]
    answers = [
        clinic.http.post(
            "/appointment", json=sent | {"patient_name": f"{number}", "office_number": name}
        )
        for number, name in enumerate(names)
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 409]
    for answer in answers[1:]:
        (conflict,) = answer.json()["conflicts"]
        assert (conflict["id"], conflict["office_number"]) == (answers[0].json()["id"], names[0])
    # It is the same booking in another spelling, and is confirmed as it was sent.
    again = sent | {"patient_name": "0", "office_number": names[1]}
    answer = clinic.http.post("/appointment", json=again)
    assert (answer.status_code, answer.json()) == (200, {"id": answers[0].json()["id"]} | again)


def test_spellings_of_a_doctor_are_one_doctor(clinic: ClinicProcess) -> None:
    doctor = f"Dr. {next(NUMBERS)} Watson"
    for number, (name, status) in enumerate([(doctor, 201), (doctor.lower(), 409)]):
        sent = {
            "patient_name": "a",
            "office_number": f"{doctor} in {number}",
            "doctor_name": name,
            "date_time": "2031-10-01T10:00:00",
        }
        assert clinic.http.post("/appointment", json=sent).status_code == status


@pytest.mark.anyio
async def test_one_name_from_two_desks_at_once_is_one_record(
    two: list[Desk], database: Database
) -> None:
    for day in range(1, 11):
        name = f"day {day}"
        found = await outcomes(
            *(
                desk.book(
                    booking(
                        office_number=spelling.format(name),
                        doctor_name=spelling.format(f"Dr. {name}"),
                        date_time=f"2027-12-{day:02}T{10 + number}:00:00",
                    )
                )
                for number, (desk, spelling) in enumerate(
                    itertools.product(two, ["{}", "№ {}", "{}."])
                )
            )
        )
        assert [one.created for one in found if isinstance(one, Confirmation)] == [True] * 6
    assert len(await registered(database)) == 20
    counts = "select count(*) as c from appointment group by office_id, doctor_id"
    assert await rows(database, counts) == [(6,)] * 10
    # What is told of them has the ids that they have.
    stored = await rows(database, "select id, office_id, doctor_id from appointment order by id")
    events = [event["data"] for event in await told(database)]
    names = ("appointment_id", "office_id", "doctor_id")
    assert sorted(tuple(event[name] for name in names) for event in events) == stored


@pytest.mark.anyio
async def test_one_time_under_a_new_name_from_two_desks_is_had_by_one(
    two: list[Desk], database: Database
) -> None:
    for day in range(1, 11):
        spellings = [f"{day} {name}" for name in SPELLINGS]
        found = await outcomes(
            *(
                desk.book(
                    booking(
                        patient_name=f"{number}",
                        office_number=spelling,
                        date_time=f"2027-12-{day:02}T10:00:00",
                    )
                )
                for number, (desk, spelling) in enumerate(itertools.product(two, spellings))
            )
        )
        assert Counter(map(type, found)) == {Confirmation: 1, TimeTaken: 11}
    assert await registered(database) == sorted(name for (name,) in await rows(database, OFFICES))
    assert len(await told(database)) == 10


@pytest.mark.anyio
async def test_changes_to_a_new_name_from_two_desks_are_to_one_record(
    two: list[Desk], database: Database
) -> None:
    for day in range(1, 6):
        made = [
            await two[0].book(
                booking(office_number="old", date_time=f"2027-12-{day:02}T{10 + number}:00:00")
            )
            for number in range(4)
        ]
        found = await outcomes(
            *(
                desk.change(
                    one.appointment_id,
                    Change.read(
                        {"office_number": spelling, "doctor_name": "Dr. Who"}, ZONE
                    ).wanted(),
                    lambda _: True,
                )
                for one, desk, spelling in zip(
                    made,
                    two * 2,
                    [f"new {day}", f"New-{day}", f"№ new {day}", f"NEW {day}"],
                    strict=True,
                )
            )
        )
        assert {type(one) for one in found} == {Appointment}
        assert len({one.office_id for one in found}) == 1
        assert len({one.doctor_id for one in found}) == 1
    assert len(await registered(database)) == 1 + 5 + 1


@pytest.mark.anyio
async def test_what_is_refused_registers_nothing(database: Database) -> None:
    desk = desk_on(database)
    async with writing(desk):
        there = await desk.book(booking(doctor_name="Dr. Who"))
        before = await registered(database)
        found = await outcomes(
            desk.book(booking(office_number="new", doctor_name="dr who", patient_name="b")),
            desk.book(booking(doctor_name="Dr. New", patient_name="c")),
        )
        assert [type(one) for one in found] == [TimeTaken, TimeTaken]
        other = await desk.book(booking(office_number="other", date_time="2027-12-01T10:00:00"))
        move = {
            "office_number": "new",
            "doctor_name": "Dr. Who",
            "date_time": "2027-12-01T15:30:00",
        }
        with pytest.raises(TimeTaken) as refused:
            await desk.change(
                other.appointment_id, Change.read(move, ZONE).wanted(), lambda _: True
            )
        assert [one.id for one in refused.value.conflicts] == [there.appointment_id]
    assert await registered(database) == sorted([*before, "other"])


@pytest.mark.anyio
async def test_a_closed_registry_takes_no_new_names_and_knows_the_nearest(
    database: Database,
) -> None:
    desk = desk_on(database)
    await resource_id(desk, "office", "221B")
    await resource_id(desk, "office", "Hall")
    await resource_id(desk, "doctor", "221C")
    desk._memory.closed = True
    async with writing(desk):
        assert (await desk.book(booking(office_number="221 b"))).created
        with pytest.raises(NotRegistered) as refused:
            await desk.book(booking(office_number="221"))
        assert refused.value.members == {"pointer": "#/office_number", "nearest": ["221B"]}
        with pytest.raises(NotRegistered) as refused:
            await desk.book(booking(doctor_name="Dr. Who"))
        assert refused.value.members == {"pointer": "#/doctor_name", "nearest": []}
    assert await registered(database) == ["221B", "221C", "Hall"]


@pytest.mark.anyio
async def test_what_becomes_of_a_name_counts_at_once_for_those_who_remember_it(
    two: list[Desk], database: Database
) -> None:
    for desk, hour in zip(two, (8, 9), strict=True):
        at = f"2027-12-01T{hour:02}:00:00"
        assert (await desk.book(booking(office_number="old", date_time=at))).created
    office = await resource_id(two[1], "office", "other")
    old = await two[0]._memory.find("office", "old")
    assert old is not None
    await become(database, old, name="new name")
    made = await two[1].book(booking(office_number="OLD"))
    assert (await two[1].show(made.appointment_id)).office_number == "new name"
    assert (await told(database))[-1]["data"]["office_number"] == "new name"
    await become(database, old, active=False)
    with pytest.raises(NotInUse):
        await two[1].book(booking(office_number="old", date_time="2027-12-02T10:00:00"))
    await become(database, old, active=True)
    async with database.transaction() as connection:
        await begin_change(connection)
        await move_keys(connection, old.id, office)
    moved = await two[1].book(booking(office_number="old", date_time="2027-12-03T10:00:00"))
    assert (await two[1].show(moved.appointment_id)).office_id == office
    with pytest.raises(TimeTaken):
        await two[0].book(
            booking(office_number="other", patient_name="b", date_time="2027-12-03T10:00:00")
        )


@pytest.mark.anyio
async def test_a_closure_counts_at_once_for_those_who_have_judged_already(
    two: list[Desk], database: Database
) -> None:
    await two[0].book(booking(date_time="2027-12-01T10:00:00"))
    begins = booking(date_time="2027-12-01T12:00:00").date_time
    holiday = Exceptional(0, CLINIC, False, begins, begins.replace(hour=16), "a holiday")
    async with database.transaction() as connection:
        await begin_change(connection)
        await insert_exceptional(connection, holiday)
        # They judge by what they remember, and then wait for this.
        waiting = [
            asyncio.create_task(desk.book(booking(patient_name=f"{number}")))
            for number, desk in enumerate(two)
        ]
        await asyncio.sleep(0.2)
        assert not any(one.done() for one in waiting)
    found = await outcomes(*waiting)
    assert [type(one) for one in found] == [ClosedThen, ClosedThen]
    for one in found:
        (closed,) = one.members["closed"]
        assert (closed["what"], closed["reason"]) == ("clinic", "a holiday")
        assert one.members["free_times"][0] == "2027-12-01T16:00:00"
    over = booking(override=True, reason="urgent")
    assert (await two[1].book(over)).created


@pytest.mark.anyio
async def test_a_name_that_was_found_while_the_registry_changed_is_not_remembered(
    database: Database,
) -> None:
    """The lookup began under one version and ended under the next."""
    desk = desk_on(database)
    await resource_id(desk, "office", "old")
    asked: tuple[str, str] = ("office", "old")
    rules = await desk._memory.rules()

    class Slow(Database):
        async def look(self, statement: object, values: object = None) -> list[Row]:
            found = await super().look(statement, values)  # type: ignore[arg-type]
            desk._memory.forget(rules.version)
            return found

    desk._memory.database = Slow(database._engine)
    desk._memory._names.clear()
    found = await desk._memory.find("office", "old")
    assert isinstance(found, Resource)
    assert asked not in desk._memory._names
    assert (await select_by_keys(database, [("office", "old")]))["office", "old"] == found


async def closes(database: Database, *, from_now_on: bool) -> None:
    """Let the clinic be closed for some hours, or not any more."""
    begins = booking(date_time="2027-12-01T12:00:00").date_time
    holiday = Exceptional(0, CLINIC, False, begins, begins.replace(hour=16), "a holiday")
    async with database.transaction() as connection:
        await begin_change(connection)
        if from_now_on:
            await insert_exceptional(connection, holiday)
        else:
            await connection.execute("delete from exceptional_hours")


async def take_up_type(database: Database, name: str) -> None:
    """Let there be another appointment type, with a buffer."""
    async with database.transaction() as connection:
        await begin_change(connection)
        await connection.execute(
            """
            insert into appointment_type (
                key, name, duration_minutes, buffer_before_minutes, buffer_after_minutes
            )
            values (:key, :name, 30, 10, 20)
            """,
            {"key": name_key(name), "name": name},
        )


@pytest.mark.anyio
async def test_nobody_is_refused_for_what_is_not_so_any_more(
    two: list[Desk], database: Database
) -> None:
    """No statement that writes tells a desk that it only refuses by what it remembers."""
    desk = two[1]
    await closes(database, from_now_on=True)
    with pytest.raises(ClosedThen):
        await desk.book(booking())
    await closes(database, from_now_on=False)
    made = await desk.book(booking())
    assert made.created
    with pytest.raises(WrongFields):
        await desk.book(booking(appointment_type="Check-up", date_time="2027-12-02T10:00:00"))
    await take_up_type(database, "Check-up")
    typed = await desk.book(booking(appointment_type="check up", date_time="2027-12-02T10:00:00"))
    assert (await desk.show(typed.appointment_id)).appointment_type == "Check-up"
    await take_up_type(database, "Surgery")
    change = Change.read({"appointment_type": "surgery"}, ZONE).wanted()
    changed = await desk.change(made.appointment_id, change, lambda _: True)
    assert (changed.appointment_type, changed.duration_minutes) == ("Surgery", 30)
    old = await desk._memory.find("office", "221B")
    assert old is not None
    await become(database, old, active=False)
    move = Change.read({"office_number": "221 b"}, ZONE).wanted()
    other = await two[0].book(booking(office_number="other", date_time="2027-12-03T10:00:00"))
    with pytest.raises(NotInUse):
        await desk.change(other.appointment_id, move, lambda _: True)
    await become(database, old, active=True)
    moved = await desk.change(other.appointment_id, move, lambda _: True)
    assert moved.office_id == old.id


@pytest.mark.anyio
async def test_an_appointment_of_a_type_that_a_desk_does_not_know_yet_is_changed(
    two: list[Desk], database: Database
) -> None:
    here, there = two
    await here.book(booking(office_number="other"))
    await take_up_type(database, "Check-up")
    made = await there.book(booking(appointment_type="Check-up"))
    arrived = Change.read({"status": "arrived"}, ZONE).wanted()
    changed = await here.change(made.appointment_id, arrived, lambda _: True)
    assert (changed.status, changed.appointment_type) == ("arrived", "Check-up")
    later = Change.read({"date_time": "2027-12-01T16:00:00"}, ZONE).wanted()
    changed = await here.change(made.appointment_id, later, lambda _: True)
    spans = (changed.occupied_from, changed.date_time, changed.end_time, changed.occupied_until)
    assert [f"{time:%H:%M}" for time in spans] == ["15:50", "16:00", "16:30", "16:50"]


@pytest.mark.anyio
async def test_lists_follow_a_merge_in_every_process(two: list[Desk], database: Database) -> None:
    here, there = two
    await there.book(booking(office_number="old"))
    other = await resource_id(there, "office", "other")
    await there.book(booking(office_number="other", patient_name="b"))
    sought = Search.model_validate({"office_number": "old"})
    assert len(await here.page(sought, 10)) == 1
    old = await resource_id(here, "office", "old")
    async with database.transaction() as connection:
        await begin_change(connection)
        await move_keys(connection, old, other)
    assert [one.patient_name for one in await here.page(sought, 10)] == ["b"]


@pytest.mark.anyio
async def test_a_crowd_that_wants_a_new_name_and_is_refused_is_answered(
    two: list[Desk], database: Database
) -> None:
    """Each refusal takes the name back, and the others still want it."""
    await two[0].book(booking(doctor_name="d"))
    wanted = [
        booking(office_number="new", doctor_name="d", patient_name=f"p{number}")
        for number in range(60)
    ]
    found = await outcomes(*(two[n % 2].book(one) for n, one in enumerate(wanted)))
    assert Counter(type(one) for one in found) == {TimeTaken: 60}
    assert "new" not in await registered(database)


@pytest.mark.anyio
async def test_a_crowd_books_under_a_new_name_together(two: list[Desk], database: Database) -> None:
    wanted = [
        booking(office_number=SPELLINGS[number % 6], date_time=f"2027-12-01T10:{number:02}:00")
        for number in range(60)
    ]
    found = await outcomes(*(two[n % 2].book(one) for n, one in enumerate(wanted)))
    kinds = Counter(type(one) for one in found)
    assert kinds[Confirmation] >= 2
    assert kinds[Confirmation] + kinds[TimeTaken] == 60
    assert len(await registered(database)) == 1
