"""Free times: against a model that looks at every minute, and as a desk offers them."""

import asyncio
import dataclasses
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
    Length,
    TimeTaken,
    free_times,
)
from clinic.appointments.conflicts import Limits, select_conflicts
from clinic.database import Database, Row, Sql
from clinic.registry.timetable import Span, merged
from tests.appointments.desks import (
    booking,
    desk_on,
    numbers_at_hand,
    outcomes,
    resource_id,
    writing,
)

# Zones, each with a time around which its clocks go forward or back, and by how many minutes.
CHANGES = {
    "Europe/Berlin": [("2027-03-28T02:00", 60), ("2027-10-31T02:00", -60)],
    "Africa/Cairo": [("2027-04-30T00:00", 60), ("2027-10-28T23:00", -60)],
    "Australia/Lord_Howe": [("2027-10-03T02:00", 30), ("2027-04-04T01:30", -30)],
    "Pacific/Apia": [("2011-12-30T00:00", 1440)],
}
MINUTE = datetime.timedelta(minutes=1)
DAY = 24 * 60

Minutes = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Clocks:
    """Clocks that go forward or back at a minute; all in minutes since one midnight."""

    at: int
    shift: int

    def skip(self, time: int) -> bool:
        return self.at <= time < self.at + self.shift

    def end(self, time: int, length: int) -> int:
        """Return what they show when so many minutes have passed."""
        ends = time + length
        if self.shift > 0 and time < self.at <= ends:
            return ends + self.shift
        if self.shift < 0 and time < self.at - self.shift:
            # What is left after the first pass of the repeated time; the second cannot be booked.
            left = ends - (self.at - self.shift)
            return ends if left < 0 else self.at - self.shift + max(0, left + self.shift)
        return ends

    def start(self, time: int, length: int) -> int:
        """Return what they showed so many minutes before."""
        if self.shift > 0 and time >= self.at + self.shift:
            return time - length - (self.shift if time - length < self.at + self.shift else 0)
        if self.shift < 0 and time >= self.at - self.shift:
            # Real time since the second pass ended; that pass is as long as the shift.
            since = time - (self.at - self.shift)
            if length <= since:
                return time - length
            # In either pass they showed the same, and before it both passes count.
            into = length - since
            return self.at - self.shift - (into if into <= -self.shift else into + self.shift)
        return time - length


def offered(  # noqa: PLR0913, PLR0917
    wanted: int,
    length: Length,
    taken: list[Minutes],
    opened: set[int],
    clocks: Clocks,
    until: int,
) -> list[int]:
    """Return the free times that are to be offered, by a look at every minute."""
    blocked = {minute for begins, ends in taken for minute in range(begins, ends)}
    found: list[int] = []
    free_from = wanted
    for time in range(wanted, until):
        if len(found) == OFFERS:
            break
        if clocks.skip(time):
            continue
        ends = clocks.end(time, length.minutes)
        occupied_from = clocks.start(time, length.before)
        occupied_until = clocks.end(ends, length.after)
        if occupied_from < free_from or occupied_until > until:
            continue
        if not opened.issuperset(range(time, ends)):
            continue
        if blocked.isdisjoint(range(occupied_from, occupied_until)):
            found.append(time)
            free_from = occupied_until
    return found


spans = st.tuples(st.integers(-DAY, 3 * DAY), st.sampled_from([5, 15, 45, 200, 720, DAY]))
opening_hours = st.sampled_from([(480, 1200), (0, DAY), (0, 90), (100, 200), (1380, DAY), (60, 61)])
buffers = st.sampled_from([0, 0, 0, 1, 10, 45, 240])
lengths = st.builds(Length, st.sampled_from([1, 7, 15, 45, 60, 90, 720]), buffers, buffers)


@pytest.mark.parametrize(("zone", "at", "shift"), [(z, *c) for z in CHANGES for c in CHANGES[z]])
@settings(max_examples=100, derandomize=True)
@given(
    wanted=st.integers(0, DAY),
    length=lengths,
    found=st.lists(spans, max_size=12),
    hours=opening_hours,
    extra=st.lists(spans, max_size=3),
)
def test_the_next_times_that_are_free_are_offered(  # noqa: PLR0913, PLR0917
    zone: str,
    at: str,
    shift: int,
    wanted: int,
    length: Length,
    found: list[Minutes],
    hours: Minutes,
    extra: list[Minutes],
) -> None:
    change = datetime.datetime.fromisoformat(at)
    midnight = datetime.datetime.combine(change, datetime.time()) - datetime.timedelta(hours=24)
    taken = sorted((begins, begins + minutes) for begins, minutes in found)
    until = wanted + 14 * DAY
    open_minutes = {
        minute
        for opens, closes in (
            *((day + hours[0], day + hours[1]) for day in range(0, until, DAY)),
            *((begins, begins + minutes) for begins, minutes in extra),
        )
        for minute in range(max(opens, wanted), min(closes, until))
    }

    def clock(minute: int) -> datetime.datetime:
        return midnight + minute * MINUTE

    free = [
        Span(clock(begins), clock(ends))
        for begins, ends in between(wanted, [span for span in taken if span[1] > wanted], until)
        if begins < ends
    ]
    opened = merged(Span(clock(minute), clock(minute + 1)) for minute in open_minutes)
    offers = free_times(free, list(opened), length, zoneinfo.ZoneInfo(zone))
    clocks = Clocks((change - midnight) // MINUTE, shift)
    expected = offered(wanted, length, taken, open_minutes, clocks, until)
    assert list(itertools.islice(offers, OFFERS)) == [clock(minute) for minute in expected]


def between(wanted: int, taken: list[Minutes], until: int) -> list[Minutes]:
    """Return the gaps between spans, in the order of their beginnings."""
    found, busy_until = [], wanted
    for begins, ends in taken:
        if begins > busy_until and begins <= until:
            found.append((busy_until, begins))
        busy_until = max(busy_until, ends)
    return [*found, (busy_until, until)]


@settings(max_examples=100, derandomize=True)
@given(
    step=st.sampled_from([5, 15, 20, 60, 90]),
    length=lengths,
    begins=st.integers(0, DAY),
    lasts=st.integers(1, DAY),
    opens=st.integers(0, DAY),
)
def test_in_steps_all_times_that_are_free_are_offered(
    step: int, length: Length, begins: int, lasts: int, opens: int
) -> None:
    midnight = datetime.datetime(2027, 12, 1)
    free = Span(midnight + begins * MINUTE, midnight + (begins + lasts) * MINUTE)
    opened = Span(midnight + opens * MINUTE, midnight + 2 * DAY * MINUTE)
    found = free_times([free], [opened], length, zoneinfo.ZoneInfo("Europe/Berlin"), step)
    assert list(found) == [
        time
        for day in (0, DAY)
        for minute in range(0, DAY, step)
        for time in [midnight + (day + minute) * MINUTE]
        if time >= opened.begins
        and time + length.minutes * MINUTE <= opened.ends
        and time - length.before * MINUTE >= free.begins
        and time + (length.minutes + length.after) * MINUTE <= free.ends
    ]


def test_nothing_is_offered_in_a_year_that_cannot_be_booked() -> None:
    gap = Span(datetime.datetime(2199, 12, 31, 23, 50), datetime.datetime(2200, 2, 1))
    offers = list(free_times([gap], [gap], Length(5), zoneinfo.ZoneInfo("UTC")))
    assert offers == [gap.begins, gap.begins + 5 * MINUTE]


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
        await desk.book(booking(office_number="A", date_time="2027-12-03T10:00:00"))
        office = await resource_id(desk, "office", "A")
        doctor = await resource_id(desk, "doctor", "1")
    day, later = datetime.datetime(2027, 12, 1), datetime.timedelta(days=1)

    def clock(hour: int, minute: int = 0) -> datetime.datetime:
        return day.replace(hour=hour, minute=minute)

    async def gaps(most_taken: int, days: int = 0) -> list[Span]:
        wanted = Occupancy(office, doctor, clock(9, 15), clock(9, 30))
        until = clock(20) + days * later
        limits = Limits(until, most_conflicts=20, most_taken=most_taken)
        return (await select_conflicts(database, wanted, 0, limits))[1]

    assert await gaps(100) == [
        (clock(10, 5), clock(11)),
        (clock(12, 30), clock(13)),
        (clock(13, 15), clock(20)),
    ]
    # Of what comes after the last that was read nothing is known: it may have a day of buffer.
    assert await gaps(2) == []
    assert await gaps(4, days=3) == [
        (clock(10, 5), clock(11)),
        (clock(12, 30), clock(13)),
        (clock(13, 15), clock(10) + later),
    ]


@pytest.mark.anyio
async def test_conflicts_are_named_up_to_a_bound_and_a_repeated_booking_is_still_known(
    database: Database,
) -> None:
    desk = desk_on(database)
    await numbers_at_hand(desk, 2 * MOST_CONFLICTS, offices=["221B"])
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
    await numbers_at_hand(desk, 100, offices=["221B"])
    looking.looks = 0
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
