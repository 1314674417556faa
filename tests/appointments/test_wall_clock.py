"""The clinic's wall-clock time, around the clock changes of zones that have them."""

import contextlib
import datetime
import importlib.resources
import itertools
import re
import struct
import zoneinfo
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from clinic.registry.wall_clock import WallClock, end_of, exists, moment, read_wall_clock

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
MOSCOW = zoneinfo.ZoneInfo("Europe/Moscow")
# Skipped a whole day when it crossed the date line.
APIA = zoneinfo.ZoneInfo("Pacific/Apia")
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")
# Half an hour of summer time.
LORD_HOWE = zoneinfo.ZoneInfo("Australia/Lord_Howe")
# Two hours of it.
TROLL = zoneinfo.ZoneInfo("Antarctica/Troll")
# Winter time in Ramadan.
CASABLANCA = zoneinfo.ZoneInfo("Africa/Casablanca")


@pytest.mark.parametrize(
    ("text", "zone", "wall_clock"),
    [
        ("2025-12-01T15:30:00", MOSCOW, "2025-12-01T15:30:00"),
        ("2025-12-01 15:30", MOSCOW, "2025-12-01T15:30:00"),
        ("2025-12-01t15:30:00z", MOSCOW, "2025-12-01T18:30:00"),
        ("2025-12-01T15:30:00.25", MOSCOW, "2025-12-01T15:30:00.250000"),
        ("2025-12-01T15:30:00+05:30", MOSCOW, "2025-12-01T13:00:00"),
        # Other forms of ISO 8601, as .NET, Java, PostgreSQL and calendars write them.
        ("2025-12-01T15:30:00.0000000", MOSCOW, "2025-12-01T15:30:00"),
        ("2025-12-01T15:30:00.1234560", MOSCOW, "2025-12-01T15:30:00.123456"),
        ("2025-12-01T15:30:00.250000000Z", MOSCOW, "2025-12-01T18:30:00.250000"),
        ("2025-12-01T15:30:00,5", MOSCOW, "2025-12-01T15:30:00.500000"),
        ("2025-12-01T15:30:00+0300", MOSCOW, "2025-12-01T15:30:00"),
        ("2025-12-01 15:30:00+03", MOSCOW, "2025-12-01T15:30:00"),
        ("2025-12-01T15:30-0330", MOSCOW, "2025-12-01T22:00:00"),
        ("2025-12-01T00:00:00-00:00", MOSCOW, "2025-12-01T03:00:00"),
        ("20251201T153000Z", MOSCOW, "2025-12-01T18:30:00"),
        ("20251201T1530", MOSCOW, "2025-12-01T15:30:00"),
        # Berlin's clocks go from 02:00 to 03:00 on 2026-03-29, at 01:00 UTC ...
        ("2026-03-29T00:59:59Z", BERLIN, "2026-03-29T01:59:59"),
        ("2026-03-29T01:00:00Z", BERLIN, "2026-03-29T03:00:00"),
        ("2026-03-29T01:59:59", BERLIN, "2026-03-29T01:59:59"),
        ("2026-03-29T03:00:00", BERLIN, "2026-03-29T03:00:00"),
        # ... and from 03:00 back to 02:00 on 2026-10-25, at 01:00 UTC.
        ("2026-10-25T00:30:00Z", BERLIN, "2026-10-25T02:30:00"),
        ("2026-10-25T02:30:00", BERLIN, "2026-10-25T02:30:00"),
        ("2026-10-25T02:00:00Z", BERLIN, "2026-10-25T03:00:00"),
        ("2027-11-07T01:30:00-04:00", NEW_YORK, "2027-11-07T01:30:00"),
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
        # The book holds each time of a day once.
        ("2026-10-25T01:00:00Z", BERLIN, "is the second 02:00 of that night in Europe/Berlin"),
        ("2026-10-25T01:59:59.999999Z", BERLIN, "the book holds only the first"),
        ("2027-11-07T01:30:00-05:00", NEW_YORK, "is the second 01:30 of that night"),
        ("2027-04-03T15:00:00Z", LORD_HOWE, "is the second 01:30 of that night"),
        ("2025-02-29T12:00:00", MOSCOW, "is no date and time that exists"),
        ("0000-01-01T00:00:00", MOSCOW, "is no date and time that exists"),
        ("2025-12-01T24:00:00", MOSCOW, "from 00:00 to 23:59"),
        ("2025-12-01T24:00", MOSCOW, "from 00:00 to 23:59"),
        ("20251201T240000Z", MOSCOW, "from 00:00 to 23:59"),
        ("2025-12-01T12:00:60", MOSCOW, "must be a date and time such as"),
        ("2025-12-01T12:00:00+24:00", MOSCOW, "must be a date and time such as"),
        ("2025-12-01T12:00:00+03:60", MOSCOW, "must be a date and time such as"),
        ("2025-12-01T12:00:00+3", MOSCOW, "must be a date and time such as"),
        ("2025-12-01T12:00:00.1234567", MOSCOW, "must be a date and time such as"),
        ("2025-12-01T12:00.5", MOSCOW, "must be a date and time such as"),
        ("2025-12-01T12", MOSCOW, "must be a date and time such as"),
        ("2025-12-01T1200", MOSCOW, "must be a date and time such as"),
        ("20251201T12:00", MOSCOW, "must be a date and time such as"),
        ("01.12.2025 12:00", MOSCOW, "must be a date and time such as"),
        ("12/01/2025 12:00", MOSCOW, "must be a date and time such as"),
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
    time=st.datetimes(
        datetime.datetime(1901, 1, 1),
        datetime.datetime(2199, 1, 1),
        timezones=st.just(datetime.UTC),
    ),
    zone=st.sampled_from([BERLIN, MOSCOW, APIA]),
)
def test_a_moment_is_kept_exactly_or_refused(
    time: datetime.datetime, zone: zoneinfo.ZoneInfo
) -> None:
    if time.astimezone(zone).fold:
        with pytest.raises(ValueError, match="the book holds only the first"):
            read_wall_clock(time.isoformat(), zone)
        return
    wall_clock = read_wall_clock(time.isoformat(), zone)
    assert exists(wall_clock, zone)
    assert read_wall_clock(wall_clock.isoformat(), zone) == wall_clock
    assert moment(wall_clock, zone) == time


@given(text=st.text())
def test_no_text_is_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert read_wall_clock(text, BERLIN)


SCHEMA = TypeAdapter(WallClock).json_schema()


@settings(max_examples=200)
@given(text=st.from_regex(re.compile(SCHEMA["pattern"], re.ASCII), fullmatch=True))
def test_what_the_description_allows_is_refused_only_by_the_calendar(text: str) -> None:
    reasons = []
    try:
        read_wall_clock(text, BERLIN)
    except ValueError as error:
        reasons.append(str(error))
    assert all(re.match("is |must be in the years", reason) for reason in reasons), reasons


@settings(max_examples=200)
@given(
    time=st.datetimes(datetime.datetime(1901, 1, 1), datetime.datetime(2199, 1, 1)),
    changes=st.lists(st.tuples(st.integers(0, 30), st.sampled_from("0123456789:-+.,TtZz /W\n"))),
)
def test_what_is_taken_is_allowed_by_the_description(
    time: datetime.datetime, changes: list[tuple[int, str]]
) -> None:
    text = time.isoformat()
    for place, character in changes:
        text = text[:place] + character + text[place + 1 :]
    with contextlib.suppress(ValueError):
        assert read_wall_clock(text, BERLIN)
        assert re.fullmatch(SCHEMA["pattern"], text)


@given(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2199, 12, 31)), st.timezones())
def test_what_exists_is_what_comes_back(time: datetime.datetime, zone: zoneinfo.ZoneInfo) -> None:
    time = time.replace(fold=0)
    assert exists(time, zone) == (moment(time, zone).astimezone(zone).replace(tzinfo=None) == time)


@pytest.mark.parametrize("zone", [BERLIN, APIA, LORD_HOWE])
def test_just_what_the_clocks_skip_does_not_exist(zone: zoneinfo.ZoneInfo) -> None:
    time = datetime.datetime(2011, 1, 1)
    while time.year == 2011:
        back = moment(time, zone).astimezone(zone).replace(tzinfo=None)
        assert exists(time, zone) == (back == time)
        time += datetime.timedelta(minutes=10)


@pytest.mark.parametrize(
    ("start", "minutes", "zone", "end"),
    [
        ("2027-12-01T15:30:00", 15, BERLIN, "2027-12-01T15:45:00"),
        ("2027-12-01T15:30:00.25", 1440, BERLIN, "2027-12-02T15:30:00.250000"),
        # Clocks go forward from 02:00 to 03:00 ...
        ("2027-03-28T01:30:00", 29, BERLIN, "2027-03-28T01:59:00"),
        ("2027-03-28T01:30:00", 30, BERLIN, "2027-03-28T03:00:00"),
        ("2027-03-28T01:30:00", 60, BERLIN, "2027-03-28T03:30:00"),
        ("2027-03-28T01:30:00", 1440, BERLIN, "2027-03-29T02:30:00"),
        # ... and back from 02:00 to 01:00: what ends in the second pass keeps all of it.
        ("2027-11-07T01:30:00", 15, NEW_YORK, "2027-11-07T01:45:00"),
        ("2027-11-07T01:30:00", 30, NEW_YORK, "2027-11-07T02:00:00"),
        ("2027-11-07T01:30:00", 60, NEW_YORK, "2027-11-07T02:00:00"),
        ("2027-11-07T01:30:00", 90, NEW_YORK, "2027-11-07T02:00:00"),
        ("2027-11-07T01:30:00", 91, NEW_YORK, "2027-11-07T02:01:00"),
        ("2027-11-07T01:59:59.5", 1, NEW_YORK, "2027-11-07T02:00:00"),
        ("2027-11-07T00:30:00", 1440, NEW_YORK, "2027-11-07T23:30:00"),
        ("2027-04-04T01:45:00", 30, LORD_HOWE, "2027-04-04T02:00:00"),
        ("2027-10-03T01:45:00", 30, LORD_HOWE, "2027-10-03T02:45:00"),
        ("2027-03-28T00:30:00", 60, TROLL, "2027-03-28T03:30:00"),
        ("2027-10-31T02:30:00", 60, TROLL, "2027-10-31T03:00:00"),
        ("2027-02-07T02:30:00", 60, CASABLANCA, "2027-02-07T03:00:00"),
        ("2027-03-14T01:30:00", 60, CASABLANCA, "2027-03-14T03:30:00"),
        # A day that is not there.
        ("2011-12-29T23:30:00", 60, APIA, "2011-12-31T00:30:00"),
        ("2011-12-29T23:30:00", 1440, APIA, "2011-12-31T23:30:00"),
    ],
)
def test_an_appointment_lasts_real_minutes(
    start: str, minutes: int, zone: zoneinfo.ZoneInfo, end: str
) -> None:
    assert end_of(read_wall_clock(start, zone), minutes, zone).isoformat() == end


def test_appointments_meet_by_the_clock_just_when_they_meet_in_reality() -> None:
    """In every zone there is, around each change of its clocks in these years."""
    begins, ends = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2026, 2033))
    found = ((zone, change) for zone in zones() for change in changes(zone, begins, ends))
    assert check_each_kind(found) > 40


@pytest.mark.long
def test_the_same_at_each_change_in_the_history_of_all_zones() -> None:
    found = ((zone, change) for zone in zones() for change in noted_changes(zone.key))
    assert check_each_kind(found) > 500


SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)
WEEK = datetime.timedelta(days=7)
# Before and after a change, not all in full minutes.
AROUND = [MINUTE * count for count in (-1450, -185, -95, -61, -60, -59, -31, -30, -1, 0, 1, 59)]
AROUND += [-SECOND, SECOND, -SECOND / 2, MINUTE * -44 + SECOND / 4]
LENGTHS = [1, 15, 29, 30, 45, 59, 60, 61, 90, 120, 121, 180, 240, 1439, 1440]


def check_each_kind(found: Iterable[tuple[zoneinfo.ZoneInfo, datetime.datetime]]) -> int:
    """Check around changes of clocks, once for those that are alike; return how many were not."""
    seen = set()
    for zone, change in found:
        near = (-2 * DAY, -DAY, -SECOND, datetime.timedelta(), DAY, 2 * DAY)
        offsets = tuple((change + step).astimezone(zone).utcoffset() for step in near)
        kind = (offsets, (change - SECOND).astimezone(zone).time())
        if kind not in seen:
            seen.add(kind)
            check_ends(zone, change)
    return len(seen)


def check_ends(zone: zoneinfo.ZoneInfo, change: datetime.datetime) -> None:
    for around in AROUND:
        begins = (change + around).astimezone(zone)
        if begins.fold:
            continue
        start = begins.replace(tzinfo=None)
        latest = start
        for minutes in LENGTHS:
            end = end_of(start, minutes, zone)
            really = moment(start, zone) + minutes * MINUTE
            said = f"{zone.key}: {start} + {minutes} min -> {end}"
            assert exists(end, zone), said
            assert start < end <= start + minutes * MINUTE + datetime.timedelta(days=1), said
            assert end >= latest, said
            latest = end
            # Whoever begins at the end or later does not meet it; whoever begins before it does.
            assert moment(end, zone) >= really, said
            for share in range(20):
                other = start + (end - start) * share / 20
                if exists(other, zone):
                    assert moment(other, zone) < really, f"{said}, {other}"
            last = end - SECOND / 4
            if exists(last, zone):
                assert moment(last, zone) < really, said


def zones() -> Iterator[zoneinfo.ZoneInfo]:
    for key in importlib.resources.files("tzdata").joinpath("zones").read_text("ascii").split():
        yield zoneinfo.ZoneInfo(key)


def changes(
    zone: zoneinfo.ZoneInfo, begins: datetime.datetime, ends: datetime.datetime
) -> Iterator[datetime.datetime]:
    """Yield the moments at which a zone's offset changes; none that lasts less than a week."""

    def offset(time: datetime.datetime) -> datetime.timedelta | None:
        return time.astimezone(zone).utcoffset()

    time = begins
    while time < ends:
        low, high = time, time + WEEK
        if offset(low) != offset(high):
            while high - low > SECOND:
                middle = low + (high - low) // SECOND // 2 * SECOND
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            yield high
        time += WEEK


def noted_changes(key: str) -> Iterable[datetime.datetime]:
    """Return the changes from 1900 on in a zone's file (RFC 8536), and some by its rule."""
    content = (importlib.resources.files("tzdata.zoneinfo") / key).read_bytes()
    second = content.index(b"TZif", 4)  # the part with 64 bits
    (count,) = struct.unpack_from(">l", content, second + 32)
    seconds = struct.unpack_from(f">{count}q", content, second + 44)
    first, *years = (
        datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (1900, 2037, 2040, 2198)
    )
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    noted = (epoch + value * SECOND for value in seconds if value > first.timestamp())
    zone = zoneinfo.ZoneInfo(key)
    return itertools.chain(noted, *(changes(zone, year, year + 53 * WEEK) for year in years))
