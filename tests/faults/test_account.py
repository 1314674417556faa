"""The account finds each way in which the clinic may differ from what it has confirmed."""

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.account import Account, Entry, Kept, as_booked, judge

FIELDS = {"patient_name": "a", "office_number": "1", "date_time": "2027-01-01T08:00:00"}
BOOKED = as_booked(FIELDS | {"duration_minutes": 15})
OTHER = as_booked({**BOOKED.fields, "patient_name": "b", "date_time": "2027-01-01T08:15:00"})
ARRIVED = BOOKED.after("appointment.arrived", status="arrived")
RECORD: dict[str, Any] = {"id": 1, **BOOKED.fields}
NEIGHBOUR: dict[str, Any] = {"id": 2, **OTHER.fields}
EVENTS = [
    ("event 1", "appointment.booked", "appointment/1"),
    ("event 2", "appointment.booked", "appointment/2"),
]
RECORDED = [("event 1", "appointment.booked", 1, 1), ("event 2", "appointment.booked", 2, 1)]
RIGHT = Kept([RECORD, NEIGHBOUR], {"booked": 2, "arrived": 0}, EVENTS, RECORDED, 0)


def confirmed() -> Account:
    return Account([Entry(BOOKED, id=1, stands=BOOKED), Entry(OTHER, id=2, stands=OTHER)])


def judged(kept: Kept, account: Account | None = None) -> set[str]:
    account = account or confirmed()
    judge(account, kept)
    return set(account.violations)


def test_a_book_as_it_was_confirmed_is_clean() -> None:
    assert judged(RIGHT) == set()


WRONG: dict[str, tuple[dict[str, Any], set[str]]] = {
    "lost": ({"book": [RECORD]}, {"lost", "events invented"}),
    "doubled": ({"book": [RECORD, NEIGHBOUR, RECORD | {"id": 3}]}, {"doubled", "overlaps"}),
    "altered": ({"book": [RECORD | {"status": "done"}, NEIGHBOUR]}, {"altered"}),
    "under another id": ({"book": [RECORD | {"id": 3}, NEIGHBOUR]}, {"lost"}),
    "invented": ({"book": [RECORD, NEIGHBOUR, NEIGHBOUR | {"patient_name": "c"}]}, {"invented"}),
    "overlaps": ({"book": [RECORD | {"duration_minutes": 16}, NEIGHBOUR]}, {"overlaps"}),
    "an event lost": ({"log": EVENTS[:1]}, {"events lost", "recorded, not logged", "miscounted"}),
    "an event doubled": (
        {"log": [*EVENTS, ("event 3", *EVENTS[0][1:])]},
        {"events doubled", "not recorded", "miscounted"},
    ),
    "not recorded": ({"recorded": RECORDED[:1]}, {"not recorded"}),
    "recorded twice": ({"recorded": [*RECORDED, RECORDED[0]]}, {"recorded twice"}),
    "miscounted": ({"totals": {"booked": 3}}, {"miscounted"}),
    "set aside": ({"set_aside": 1}, {"set aside"}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_difference_is_found(wrong: str) -> None:
    differs, found = WRONG[wrong]
    assert found <= judged(replace(RIGHT, **differs))


def test_a_booking_that_was_not_answered_may_stand_or_not() -> None:
    absent = replace(
        RIGHT, book=[RECORD], log=EVENTS[:1], recorded=RECORDED[:1], totals={"booked": 1}
    )
    for kept in (RIGHT, absent):
        account = confirmed()
        account.entries[1] = Entry(OTHER, may_stand=[OTHER])
        assert judged(kept, account) == set()


def test_a_booking_that_was_refused_must_not_stand() -> None:
    account = confirmed()
    account.entries[1] = Entry(OTHER)
    assert "invented" in judged(RIGHT, account)


def test_a_change_that_was_not_answered_may_have_come_about_with_its_event() -> None:
    account = confirmed()
    account.entries[0].may_stand.append(ARRIVED)
    arrived = ("event 3", "appointment.arrived", "appointment/1")
    kept = replace(
        RIGHT,
        book=[RECORD | {"status": "arrived"}, NEIGHBOUR],
        log=[*EVENTS, arrived],
        recorded=[*RECORDED, ("event 3", "appointment.arrived", 1, 2)],
        totals={"booked": 2, "arrived": 1},
    )
    assert judged(kept, account) == set()
