"""Free times, against a model that looks at every minute."""

import datetime
import itertools
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.appointments.occupancy import OFFERS, OpeningHours, Slot, free_times

# Zones, each with a time around which its clocks go forward, and what they skip.
GAPS = {
    "Europe/Berlin": ("2027-03-28T02:00", "2027-03-28T03:00"),
    "Africa/Cairo": ("2027-04-30T00:00", "2027-04-30T01:00"),
    "Pacific/Apia": ("2011-12-30T00:00", "2011-12-31T00:00"),
}
MINUTE = datetime.timedelta(minutes=1)
DAY = 24 * 60

Span = tuple[int, int]


def offered(wanted: int, length: int, taken: list[Span], hours: Span, gap: Span) -> list[int]:
    """Return the free times that are to be offered; all in minutes since one midnight."""
    blocked = {minute for begins, ends in taken for minute in range(begins, ends)}
    found: list[int] = []
    for time in itertools.count(wanted):
        of_day = time % DAY
        if time > wanted + 14 * DAY or len(found) == OFFERS:
            return found
        if found and time < found[-1] + length:
            continue
        if of_day < hours[0] or of_day + length > hours[1] or gap[0] <= time < gap[1]:
            continue
        if blocked.isdisjoint(range(time, time + length)):
            found.append(time)
    raise AssertionError


spans = st.tuples(st.integers(-DAY, 3 * DAY), st.sampled_from([5, 15, 45, 200, 720, DAY]))
opening_hours = st.sampled_from([(480, 1200), (0, DAY), (0, 90), (100, 200), (1380, DAY), (60, 61)])


@pytest.mark.parametrize("zone", GAPS)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    wanted=st.integers(0, DAY),
    length=st.sampled_from([1, 7, 15, 45, 60, 90, 720]),
    lengths=st.lists(spans, max_size=12),
    hours=opening_hours,
)
def test_the_next_times_that_are_free_are_offered(
    zone: str, wanted: int, length: int, lengths: list[Span], hours: Span
) -> None:
    skipped = [datetime.datetime.fromisoformat(time) for time in GAPS[zone]]
    midnight = datetime.datetime.combine(skipped[0], datetime.time()) - datetime.timedelta(hours=24)
    gap = ((skipped[0] - midnight) // MINUTE, (skipped[1] - midnight) // MINUTE)
    # Overrides and others overlap; what is over before the time wanted is not asked for.
    taken = sorted((at, at + minutes) for at, minutes in lengths if at + minutes > wanted)

    def at(minute: int) -> datetime.datetime:
        return midnight + minute * MINUTE

    offers = free_times(
        Slot("A", None, at(wanted), length),
        [(at(begins), at(ends)) for begins, ends in taken],
        OpeningHours(*hours),
        zoneinfo.ZoneInfo(zone),
    )
    expected = [at(minute) for minute in offered(wanted, length, taken, hours, gap)]
    assert list(itertools.islice(offers, OFFERS)) == expected
