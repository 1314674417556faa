"""Free times: against a model that looks at every minute, and as a desk offers them."""

import asyncio
import datetime
import itertools
import zoneinfo
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.appointments.appointment import Occupancy
from clinic.appointments.availability import (
    MOST_CONFLICTS,
    OFFERS,
    OpeningHours,
    TimeTaken,
    free_times,
)
from clinic.appointments.queries import Gap, Limits, select_conflicts
from clinic.database import Database, Row, Sql
from tests.appointments.desks import booking, desk_on, numbers_at_hand, outcomes, writing

# Zones, each with a time around which its clocks go forward or back, and by how many minutes.
CHANGES = {
    "Europe/Berlin": [("2027-03-28T02:00", 60), ("2027-10-31T02:00", -60)],
    "Africa/Cairo": [("2027-04-30T00:00", 60), ("2027-10-28T23:00", -60)],
    "Australia/Lord_Howe": [("2027-10-03T02:00", 30), ("2027-04-04T01:30", -30)],
    "Pacific/Apia": [("2011-12-30T00:00", 1440)],
}
MINUTE = datetime.timedelta(minutes=1)
DAY = 24 * 60

Span = tuple[int, int]


def offered(  # noqa: PLR0913, PLR0917
    wanted: int, length: int, taken: list[Span], hours: Span, change: Span, until: int
) -> list[int]:
    """Return the free times that are to be offered; all in minutes since one midnight.

    ``change`` is the minute at which clocks go forward or back, and by how much.
    """
    at, shift = change
    blocked = {minute for begins, ends in taken for minute in range(begins, ends)}
    found: list[int] = []
    ended = wanted
    for time in range(wanted, until):
        if len(found) == OFFERS:
            break
        if time < ended or at <= time < at + shift:
            continue
        ends = time + length
        if shift > 0 and time < at <= ends:
            ends += shift
        if shift < 0 and time < at - shift:
            # What is left after the first pass of the repeated time; the second cannot be booked.
            left = ends - (at - shift)
            ends = ends if left < 0 else at - shift + max(0, left + shift)
        midnight = time - time % DAY
        if time < midnight + hours[0] or ends > midnight + hours[1] or ends > until:
            continue
        if blocked.isdisjoint(range(time, ends)):
            found.append(time)
            ended = ends
    return found


spans = st.tuples(st.integers(-DAY, 3 * DAY), st.sampled_from([5, 15, 45, 200, 720, DAY]))
opening_hours = st.sampled_from([(480, 1200), (0, DAY), (0, 90), (100, 200), (1380, DAY), (60, 61)])


@pytest.mark.parametrize(("zone", "at", "shift"), [(z, *c) for z in CHANGES for c in CHANGES[z]])
@settings(max_examples=100, derandomize=True)
@given(
    wanted=st.integers(0, DAY),
    length=st.sampled_from([1, 7, 15, 45, 60, 90, 720]),
    lengths=st.lists(spans, max_size=12),
    hours=opening_hours,
)
def test_the_next_times_that_are_free_are_offered(  # noqa: PLR0913, PLR0917
    zone: str, at: str, shift: int, wanted: int, length: int, lengths: list[Span], hours: Span
) -> None:
    change = datetime.datetime.fromisoformat(at)
    midnight = datetime.datetime.combine(change, datetime.time()) - datetime.timedelta(hours=24)
    taken = sorted((begins, begins + minutes) for begins, minutes in lengths)
    until = wanted + 14 * DAY

    def clock(minute: int) -> datetime.datetime:
        return midnight + minute * MINUTE

    gaps = [
        Gap(clock(opens), clock(closes))
        for opens, closes in between(wanted, [span for span in taken if span[1] > wanted], until)
    ]
    offers = free_times(gaps, length, OpeningHours(*hours), zoneinfo.ZoneInfo(zone))
    expected = offered(wanted, length, taken, hours, ((change - midnight) // MINUTE, shift), until)
    assert list(itertools.islice(offers, OFFERS)) == [clock(minute) for minute in expected]


def between(wanted: int, taken: list[Span], until: int) -> list[Span]:
    """Return the gaps between spans, in the order of their beginnings."""
    found, busy_until = [], wanted
    for begins, ends in taken:
        if begins > busy_until and begins <= until:
            found.append((busy_until, begins))
        busy_until = max(busy_until, ends)
    return [*found, (busy_until, until)]


def test_nothing_is_offered_in_a_year_that_cannot_be_booked() -> None:
    gap = Gap(datetime.datetime(2199, 12, 31, 19, 50), datetime.datetime(2200, 2, 1))
    offers = list(free_times([gap], 5, OpeningHours(480, 1200), zoneinfo.ZoneInfo("UTC")))
    assert offers == [gap.opens, gap.opens + 5 * MINUTE]


@pytest.mark.anyio
async def test_gaps_are_those_between_the_appointments_of_office_and_doctor(
    database: Database,
) -> None:
    desk = desk_on(database)
    at = "2027-12-01T{}:00".format
    async with writing(desk):
        await desk.book(booking(office_number="A", date_time=at("09:00"), duration_minutes=60))
        gone = await desk.book(booking(office_number="A", date_time=at("10:30")))
        await desk.cancel(gone.appointment_id, lambda _: True)
        await desk.book(booking(office_number="B", doctor_name="1", date_time=at("09:50")))
        over = {"override": True, "reason": "r", "patient_name": "b", "duration_minutes": 90}
        await desk.book(booking(office_number="A", date_time=at("11:00"), **over))
        await desk.book(booking(office_number="A", doctor_name="2", date_time=at("13:00")))
        await desk.book(booking(office_number="B", doctor_name="2", date_time=at("14:00")))
    day = datetime.datetime(2027, 12, 1)

    def clock(hour: int, minute: int = 0) -> datetime.datetime:
        return day.replace(hour=hour, minute=minute)

    async def gaps(most_taken: int) -> list[Gap]:
        wanted = Occupancy("A", "1", clock(9, 15), clock(9, 30))
        limits = Limits(clock(20), most_conflicts=20, most_taken=most_taken)
        return (await select_conflicts(database, wanted, 0, limits))[1]

    assert await gaps(100) == [
        (clock(10, 5), clock(11)),
        (clock(12, 30), clock(13)),
        (clock(13, 15), clock(20)),
    ]
    # Nothing is known of what comes after the second appointment of the office.
    assert await gaps(2) == [(clock(10, 5), clock(11))]


@pytest.mark.anyio
async def test_conflicts_are_named_up_to_a_bound_and_a_repeated_booking_is_still_known(
    database: Database,
) -> None:
    desk = desk_on(database)
    await numbers_at_hand(desk, 2 * MOST_CONFLICTS)
    over = {"override": True, "reason": "r", "duration_minutes": 60}
    async with writing(desk):
        await outcomes(
            *(
                desk.book(booking(**over, patient_name=f"{n}", date_time="2027-12-01T15:00:00"))
                for n in range(MOST_CONFLICTS + 5)
            )
        )
        late = booking(patient_name="z", override=True, reason="r")
        there = await desk.book(late)
        with pytest.raises(TimeTaken) as refused:
            await desk.book(booking(patient_name="other"))
        assert len(refused.value.conflicts) == MOST_CONFLICTS
        again = await desk.book(booking(patient_name="z"))
    assert (again.appointment_id, again.created) == (there.appointment_id, False)


class Looking(Database):
    """A database that counts how often somebody looks into it."""

    looks = 0

    async def look(
        self, statement: str | Sql, values: Mapping[str, object] | None = None
    ) -> list[Row]:
        self.looks += 1
        return await super().look(statement, values)


@pytest.mark.anyio
async def test_a_crowd_that_wants_one_taken_time_is_answered_together(database: Database) -> None:
    looking = Looking(database._engine)
    desk = desk_on(looking)
    await numbers_at_hand(desk, 100)
    async with writing(desk):
        there = await desk.book(booking())
        found = await outcomes(
            *(desk.book(booking(patient_name=f"crowd {number}")) for number in range(40))
        )
        assert {type(one) for one in found} == {TimeTaken}
        assert all([one.id for one in each.conflicts] == [there.appointment_id] for each in found)
        # At most three for each batch that is written: 20, 10, 5 ...
        assert looking.looks < 20
        # Those who leave take nobody along.
        crowd = [asyncio.create_task(desk.book(booking(patient_name=f"{n}"))) for n in range(20)]
        for one in crowd[:15]:
            await asyncio.sleep(0)
            one.cancel()
        found = await outcomes(*crowd)
    assert [type(one) for one in found[15:]] == [TimeTaken] * 5
