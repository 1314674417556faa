"""What stands in a closure: named, listed page by page, and cancelled together with a reason."""

import datetime
import re
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from clinic.appointments.changing import Change
from clinic.appointments.desk import Desk
from clinic.appointments.registry_book import RegistryBook
from clinic.appointments.standing import MOST_CANCELLED, PIECE, Cancelling
from clinic.database import Database, DatabaseUnavailable, OutcomeUnknown
from clinic.registry.memory import Memory
from clinic.registry.records import NoSuchRecord
from clinic.registry.schedule import FIRST_PAGE, Schedule
from clinic.registry.timetable import Exceptional, Place
from tests.appointments.desks import (
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
from tests.registry.test_resources import new_name
from tests.registry.test_schedule import a_monday, ask, post

REASON = "Марта больна"


def close(clinic: ClinicProcess, day: str, **whose: Any) -> dict[str, Any]:
    span: dict[str, Any] = {"begins": f"{day}T09:00:00", "ends": f"{day}T18:00:00"}
    made: dict[str, Any] = post(clinic, "/closure", reason="painters", **span, **whose)
    return made


def cancel(clinic: ClinicProcess, closure: dict[str, Any], **sent: Any) -> httpx.Response:
    return clinic.http.post(
        f"/closure/{closure['id']}/cancellations", json={"reason": REASON, **sent}
    )


def happened(clinic: ClinicProcess, number: int) -> list[tuple[str, object]]:
    events = clinic.http.get(f"/appointment/{number}/events").json()
    return [(one["type"].partition(".")[2], one.get("reason")) for one in events]


def booked(clinic: ClinicProcess, day: str, *times: str, **fields: Any) -> list[int]:
    return [ask(clinic, day, time, **fields).json()["id"] for time in times]


def test_all_that_stands_in_a_closure_is_cancelled_with_a_reason(clinic: ClinicProcess) -> None:
    office, day = new_name("office"), a_monday()
    early, *within = booked(clinic, day, "08:30", "10:00", "11:00", office_number=office)
    closure = close(clinic, day, office_number=office)
    assert [one["id"] for one in closure["appointments"]] == within
    assert closure["appointments_count"] == 2
    assert cancel(clinic, closure).json() == {
        "cancelled": within,
        "cancelled_before": [],
        "not_cancelled": [],
        "left": 0,
    }
    for number in within:
        assert clinic.http.get(f"/appointment/{number}").json()["status"] == "cancelled"
        assert happened(clinic, number) == [("booked", None), ("cancelled", REASON)]
    assert clinic.http.get(f"/appointment/{early}").json()["status"] == "booked"
    # Again, it is done already.
    assert cancel(clinic, closure).json()["cancelled"] == []
    assert happened(clinic, within[0]) == [("booked", None), ("cancelled", REASON)]
    assert clinic.http.get(f"/closure/{closure['id']}/appointments").json() == []


def test_what_cannot_be_cancelled_is_named_with_its_reason(clinic: ClinicProcess) -> None:
    office, day = new_name("office"), a_monday()
    here, waits = booked(clinic, day, "10:00", "11:00", office_number=office)
    clinic.http.patch(f"/appointment/{here}", json={"status": "arrived"})
    closure = close(clinic, day, office_number=office)
    done = cancel(clinic, closure).json()
    assert (done["cancelled"], done["left"]) == ([waits], 0)
    (refused,) = done["not_cancelled"]
    assert (refused["id"], refused["status"]) == (here, "arrived")
    assert "It is arrived" in refused["detail"]
    assert happened(clinic, here) == [("booked", None), ("arrived", None)]


def test_only_what_was_seen_is_cancelled(clinic: ClinicProcess) -> None:
    office, day = new_name("office"), a_monday()
    numbers = booked(clinic, day, "09:00", "10:00", "11:00", "12:00", "13:00", office_number=office)
    seen, renamed, moved, gone, unseen = numbers
    (other,) = booked(clinic, day, "10:00")
    closure = close(clinic, day, office_number=office)
    asked = [{"id": one["id"], "version": one["version"]} for one in closure["appointments"][:4]]
    asked += [{"id": other, "version": 1}, {"id": 10**15, "version": 1}]
    clinic.http.patch(f"/appointment/{renamed}", json={"patient_name": "Another"})
    later = {"date_time": f"{day}T18:00:00"}
    assert clinic.http.patch(f"/appointment/{moved}", json=later).status_code == 200
    clinic.http.delete(f"/appointment/{gone}")
    for again in (False, True):
        done = cancel(clinic, closure, appointments=asked).json()
        assert done["cancelled"] == ([] if again else [seen])
        assert done["cancelled_before"] == ([seen, gone] if again else [gone])
        assert done["left"] == 2
        refused = {one["id"]: one["detail"] for one in done["not_cancelled"]}
        assert sorted(refused) == sorted([renamed, moved, other, 10**15])
        assert refused.pop(renamed).startswith("Somebody has changed it since")
        assert set(refused.values()) == {"It does not stand in the closure."}
    assert happened(clinic, gone) == [("booked", None), ("cancelled", None)]
    assert clinic.http.get(f"/appointment/{unseen}").json()["status"] == "booked"


def test_a_closure_of_a_doctor_in_an_office_has_only_their_appointments(
    clinic: ClinicProcess,
) -> None:
    office, doctor, day = new_name("office"), new_name("doctor"), a_monday()
    both = {"office_number": office, "doctor_name": doctor}
    (within,) = booked(clinic, day, "10:00", **both)
    booked(clinic, day, "11:00", office_number=office)
    booked(clinic, day, "11:00", doctor_name=doctor)
    closure = close(clinic, day, **both)
    assert [one["id"] for one in closure["appointments"]] == [within]
    assert cancel(clinic, closure).json()["cancelled"] == [within]


def test_appointments_in_a_closure_are_listed_page_by_page(clinic: ClinicProcess) -> None:
    office, day = new_name("office"), a_monday()
    times = [f"{hour:02}:{minute:02}" for hour in range(9, 12) for minute in (0, 30)]
    numbers = booked(clinic, day, *times, office_number=office)
    closure = close(clinic, day, office_number=office)
    path, found = f"/closure/{closure['id']}/appointments?limit=4", []
    while path:
        answer = clinic.http.get(path)
        found += answer.json()
        link = re.fullmatch('<(.*)>; rel="next"', answer.headers.get("link", ""))
        path = link[1] if link else ""
    assert [one["id"] for one in found] == numbers
    assert found == closure["appointments"]
    assert clinic.http.get(f"/closure/{closure['id']}/appointments").json() == found


def test_a_closure_that_is_not_there(clinic: ClinicProcess) -> None:
    for path in ("/closure/999999999999", "/closure/x"):
        assert clinic.http.get(f"{path}/appointments").status_code == 404
        answer = clinic.http.post(f"{path}/cancellations", json={"reason": "r"})
        assert (answer.status_code, answer.json()["type"]) == (404, "/docs#no-such-record")


@pytest.mark.parametrize(
    ("sent", "pointer"),
    [
        ({}, "#/reason"),
        ({"reason": ""}, "#/reason"),
        ({"reason": "x" * 501}, "#/reason"),
        ({"reason": "x", "appointments": [1]}, "#/appointments/0"),
        ({"reason": "x", "appointments": [{"id": 1}]}, "#/appointments/0/version"),
        ({"reason": "x", "appointments": [{"id": 1, "version": 1}] * 1001}, "#/appointments"),
    ],
)
def test_wrong_cancellations_are_named(
    clinic: ClinicProcess, sent: dict[str, object], pointer: str
) -> None:
    closure = close(clinic, a_monday(), doctor_name=post_doctor(clinic))
    answer = clinic.http.post(f"/closure/{closure['id']}/cancellations", json=sent)
    assert answer.status_code == 422
    assert pointer in [one["pointer"] for one in answer.json()["errors"]]


def post_doctor(clinic: ClinicProcess) -> str:
    name = new_name("doctor")
    post(clinic, "/doctor", name=name)
    return name


def test_the_reason_for_one_change_is_in_its_history_and_in_no_event(
    clinic: ClinicProcess,
) -> None:
    office, day = new_name("office"), a_monday()
    (number,) = booked(clinic, day, "10:00", office_number=office)
    path = f"/appointment/{number}"
    moved = {"date_time": f"{day}T11:00:00", "patient_name": "Another", "reason": "a flood"}
    assert clinic.http.patch(path, json=moved).json()["override_reason"] is None
    gone = clinic.http.patch(path, json={"status": "cancelled", "reason": REASON})
    assert gone.status_code == 200
    clinic.http.patch(path, json={"status": "booked"})
    assert happened(clinic, number) == [
        ("booked", None),
        ("renamed", "a flood"),
        ("rescheduled", "a flood"),
        ("cancelled", REASON),
        ("reopened", None),
    ]


def the_day(place: Place, day: int = 1) -> Exceptional:
    begins = datetime.datetime(2031, 3, day)
    ends = begins + datetime.timedelta(days=1)
    return Exceptional(0, place, opens=False, begins=begins, ends=ends, reason="r")


@pytest.mark.anyio
async def test_thousands_are_cancelled_a_piece_at_a_time_each_with_its_event(
    database: Database,
) -> None:
    desk, memory = desk_on(database), Memory(database)
    schedule = Schedule(database, memory, RegistryBook(desk._outbox, ZONE))
    count = PIECE * 2 + 5
    async with writing(desk):
        wanted = [
            booking(office_number=f"office {number}", date_time="2031-03-01T10:00:00")
            for number in range(count)
        ]
        await outcomes(*map(desk.book, wanted))
    made = await schedule.close(the_day(Place()))
    assert (len(made.standing), made.standing_count) == (FIRST_PAGE, count)
    # Two at once cancel each once.
    one, other = await outcomes(*(desk.cancel_standing(made.closure.id, REASON) for _ in range(2)))
    assert sorted(one.cancelled + other.cancelled) == sorted(
        number for (number,) in await rows(database, "select id from appointment")
    )
    assert (one.left, other.left) == (0, 0)
    events = await told(database)
    assert len(events) == 2 * count
    assert REASON not in str(events)
    assert {event["data"]["version"] for event in events[count:]} == {2}
    assert await rows(database, "select count(*), min(reason) from change_reason") == [
        (count, REASON)
    ]
    assert count <= MOST_CANCELLED
    with pytest.raises(NoSuchRecord):
        await desk.cancel_standing(10**9, REASON)


@pytest.mark.anyio
async def test_an_outage_in_the_middle_tells_that_some_may_be_cancelled(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, memory = desk_on(database), Memory(database)
    schedule = Schedule(database, memory, RegistryBook(desk._outbox, ZONE))
    async with writing(desk):
        sent = [booking(office_number=f"o{number}") for number in range(PIECE + 3)]
        await outcomes(*map(desk.book, sent))
    closure = the_day(Place())
    closure = replace(closure, begins=datetime.datetime(2027, 1, 1))
    made = await schedule.close(closure)
    whole, begun = database.transaction, 0

    def transaction() -> Any:
        nonlocal begun
        begun += 1
        if begun in failing:
            raise DatabaseUnavailable("away")
        return whole()

    monkeypatch.setattr(database, "transaction", transaction)
    failing = {1}
    with pytest.raises(DatabaseUnavailable) as nothing:
        await desk.cancel_standing(made.closure.id, REASON)
    assert not isinstance(nothing.value, OutcomeUnknown)
    assert (await desk.count_standing(made.closure.id)) == PIECE + 3
    begun, failing = 0, {2}
    with pytest.raises(OutcomeUnknown):
        await desk.cancel_standing(made.closure.id, REASON)
    done = await desk.cancel_standing(made.closure.id, REASON)
    assert (len(done.cancelled), done.left) == (3, 0)
    assert len(await told(database)) == 2 * (PIECE + 3)


@pytest.mark.anyio
async def test_a_closure_that_is_taken_back_meanwhile_ends_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, memory = desk_on(database), Memory(database)
    schedule = Schedule(database, memory, RegistryBook(desk._outbox, ZONE))
    async with writing(desk):
        sent = [booking(office_number=f"o{number}") for number in range(PIECE + 3)]
        await outcomes(*map(desk.book, sent))
    closure = replace(the_day(Place()), begins=datetime.datetime(2027, 1, 1))
    made = await schedule.close(closure)
    cancel_piece = Cancelling._cancel

    async def then_take_it_back(*arguments: Any) -> None:
        await cancel_piece(*arguments)
        connection = arguments[1]
        await connection.execute("delete from exceptional_hours")

    monkeypatch.setattr(Cancelling, "_cancel", then_take_it_back)
    done = await desk.cancel_standing(made.closure.id, REASON)
    assert (len(done.cancelled), done.left) == (PIECE, 0)
    assert len(await told(database)) == PIECE + 3 + PIECE


@pytest.mark.anyio
async def test_one_that_is_moved_out_while_it_is_cancelled_is_one_or_the_other(
    database: Database,
) -> None:
    desk, memory = desk_on(database), Memory(database)
    schedule = Schedule(database, memory, RegistryBook(desk._outbox, ZONE))
    office = await resource_id(desk, "office", "221B")
    async with writing(desk):
        sent = [booking(date_time=f"2031-03-01T{hour:02}:00:00") for hour in range(9, 19)]
        numbers = [one.appointment_id for one in await outcomes(*map(desk.book, sent))]
    made = await schedule.close(the_day(Place(office_id=office)))
    wanted = [
        desk_change(desk, number, f"2031-03-02T{hour:02}:00:00")
        for number, hour in zip(numbers, range(9, 19), strict=True)
    ]
    done, *moved = await outcomes(desk.cancel_standing(made.closure.id, REASON), *wanted)
    assert not [one for one in moved if isinstance(one, Exception)]
    states = await rows(database, "select id, status, date_time, version from appointment")
    for number, status, date_time, version in states:
        assert (status == "cancelled") is (number in done.cancelled)
        assert str(date_time)[:10] == "2031-03-02" or status == "cancelled"
        told_of = [one for one in await told(database) if one["data"]["appointment_id"] == number]
        assert [one["data"]["version"] for one in told_of] == list(range(1, version + 1))


def desk_change(desk: Desk, number: int, time: str) -> Awaitable[object]:
    fields = {"date_time": datetime.datetime.fromisoformat(time)}
    return desk.change(number, Change(fields), lambda _: True)
