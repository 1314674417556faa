"""The clinic's wall-clock time, around the clock changes of zones that have them."""

import contextlib
import datetime
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.appointments.wall_clock import exists, read_wall_clock

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
MOSCOW = zoneinfo.ZoneInfo("Europe/Moscow")
# Skipped a whole day when it crossed the date line.
APIA = zoneinfo.ZoneInfo("Pacific/Apia")


@pytest.mark.parametrize(
    ("text", "zone", "wall_clock"),
    [
        ("2025-12-01T15:30:00", MOSCOW, "2025-12-01T15:30:00"),
        ("2025-12-01 15:30", MOSCOW, "2025-12-01T15:30:00"),
        ("2025-12-01t15:30:00z", MOSCOW, "2025-12-01T18:30:00"),
        ("2025-12-01T15:30:00.25", MOSCOW, "2025-12-01T15:30:00.250000"),
        ("2025-12-01T15:30:00+05:30", MOSCOW, "2025-12-01T13:00:00"),
        # Berlin's clocks go from 02:00 to 03:00 on 2026-03-29, at 01:00 UTC ...
        ("2026-03-29T00:59:59Z", BERLIN, "2026-03-29T01:59:59"),
        ("2026-03-29T01:00:00Z", BERLIN, "2026-03-29T03:00:00"),
        ("2026-03-29T01:59:59", BERLIN, "2026-03-29T01:59:59"),
        ("2026-03-29T03:00:00", BERLIN, "2026-03-29T03:00:00"),
        # ... and from 03:00 back to 02:00 on 2026-10-25, at 01:00 UTC.
        ("2026-10-25T00:30:00Z", BERLIN, "2026-10-25T02:30:00"),
        ("2026-10-25T01:30:00Z", BERLIN, "2026-10-25T02:30:00"),
        ("2026-10-25T02:30:00", BERLIN, "2026-10-25T02:30:00"),
    ],
)
def test_times_are_read(text: str, zone: zoneinfo.ZoneInfo, wall_clock: str) -> None:
    assert read_wall_clock(text, zone).isoformat() == wall_clock
    assert read_wall_clock(text, zone).tzinfo is None


@pytest.mark.parametrize(
    ("text", "zone", "says"),
    [
        ("2026-03-29T02:00:00", BERLIN, "is skipped by the clocks of Europe/Berlin"),
        ("2026-03-29T02:59:59.999999", BERLIN, "is skipped"),
        ("2011-12-30T12:00:00", APIA, "is skipped by the clocks of Pacific/Apia"),
        ("2025-02-29T12:00:00", MOSCOW, "is no date and time that exists"),
        ("2025-12-01T24:00:00", MOSCOW, "is no date and time that exists"),
        ("2025-12-01T12:00:60", MOSCOW, "is no date and time that exists"),
        ("2025-12-01T12:00:00+24:00", MOSCOW, "is no date and time that exists"),
        ("0001-01-01T00:00:00+14:00", MOSCOW, "is no date and time that exists"),
        ("9999-12-31T23:59:59-14:00", MOSCOW, "is no date and time that exists"),
        ("1899-12-31T12:00:00", MOSCOW, "must be in the years"),
        ("2200-01-01T00:00:00", MOSCOW, "must be in the years"),
        ("2025-12-01", MOSCOW, "must be a date and time such as"),
        ("1764603000", MOSCOW, "must be a date and time such as"),
        ("2025-W49-1T12:00", MOSCOW, "must be a date and time such as"),
        ("٢٠٢٥-12-01T12:00:00", MOSCOW, "must be a date and time such as"),
        ("2025-12-01T12:00:00\n", MOSCOW, "must be a date and time such as"),
        ("", MOSCOW, "must be a date and time such as"),
    ],
)
def test_what_is_no_time_is_refused(text: str, zone: zoneinfo.ZoneInfo, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_wall_clock(text, zone)


@given(
    moment=st.datetimes(
        datetime.datetime(1901, 1, 1),
        datetime.datetime(2199, 1, 1),
        timezones=st.just(datetime.UTC),
    ),
    zone=st.sampled_from([BERLIN, MOSCOW, APIA]),
)
def test_every_moment_has_a_wall_clock_time_that_exists(
    moment: datetime.datetime, zone: zoneinfo.ZoneInfo
) -> None:
    wall_clock = read_wall_clock(moment.isoformat(), zone)
    assert exists(wall_clock, zone)
    assert read_wall_clock(wall_clock.isoformat(), zone) == wall_clock


@given(text=st.text())
def test_no_text_is_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert read_wall_clock(text, BERLIN)


@given(
    st.datetimes(
        min_value=datetime.datetime(1900, 1, 1), max_value=datetime.datetime(2199, 12, 31)
    ),
    st.timezones(),
)
def test_what_exists_is_what_comes_back(time: datetime.datetime, zone: zoneinfo.ZoneInfo) -> None:
    moment = time.replace(tzinfo=zone).astimezone(datetime.UTC)
    assert exists(time, zone) == (moment.astimezone(zone).replace(tzinfo=None) == time)


@pytest.mark.parametrize("zone", [BERLIN, APIA, zoneinfo.ZoneInfo("Australia/Lord_Howe")])
def test_just_what_the_clocks_skip_does_not_exist(zone: zoneinfo.ZoneInfo) -> None:
    time = datetime.datetime(2011, 1, 1)
    while time.year == 2011:
        moment = time.replace(tzinfo=zone).astimezone(datetime.UTC)
        assert exists(time, zone) == (moment.astimezone(zone).replace(tzinfo=None) == time)
        time += datetime.timedelta(minutes=10)
