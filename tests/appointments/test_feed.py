"""The feed as calendar programs read it: the right moments, whatever the zone and the reader."""

import dataclasses
import datetime
import importlib.resources
import json
import re
import shutil
import subprocess
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import icalendar
import pytest
import vobject
from hypothesis import given
from hypothesis import strategies as st

from clinic.appointments.appointment import EXAMPLE, Appointment
from clinic.appointments.feed import END, SELECT_CLINIC, beginning, days, entry, utc
from clinic.appointments.search import FeedSearch
from clinic.database import Dialect, migrate, open_database
from clinic.registry.names import tidy
from clinic.registry.wall_clock import exists
from tests.servers import Postgres

CLINIC = "6f1d7a1c3b0e4f0c9b1f5d2f8a7e6c54"
STAMP = "20271120T090000Z"
ICAL_JS = "ical.js@2.2.1"
# In winter and summer, soon and in years, where zones change their clocks, and in Ramadan.
TIMES = [
    datetime.datetime(year, month, day, hour, minute)
    for year in (2027, 2031, 2099)
    for month, day, hour, minute in (
        *((1, 10, 10, 0), (7, 10, 10, 0), (2, 20, 23, 45), (3, 14, 1, 30), (3, 28, 1, 30)),
        *((10, 31, 1, 15), (11, 7, 1, 30), (4, 4, 1, 45), (10, 3, 1, 45)),
    )
]
Found = list[tuple[datetime.datetime, datetime.datetime]]


def appointments(**fields: Any) -> list[Appointment]:
    # The ends on the clocks are the example's; a feed tells the moments.
    told: dict[str, Any] = {"duration_minutes": 60} | fields
    return [
        dataclasses.replace(EXAMPLE, id=number, date_time=time, **told)
        for number, time in enumerate(TIMES, 1)
    ]


def feed_of(
    found: list[Appointment], zone: zoneinfo.ZoneInfo, office: str = "221B", clinic: str = CLINIC
) -> str:
    wanted = FeedSearch(office_number=office)
    return beginning(wanted, zone) + "".join(entry(one, zone, clinic, STAMP) for one in found) + END


def read_by_icalendar(text: str) -> Found:
    return [
        (entry.start, entry.end)
        for entry in icalendar.Calendar.from_ical(text).walk("VEVENT")
        if isinstance(entry, icalendar.Event)
        and isinstance(entry.start, datetime.datetime)
        and isinstance(entry.end, datetime.datetime)
    ]


def read_by_vobject(text: str) -> Found:
    entries = vobject.readOne(text).vevent_list
    return [(entry.dtstart.value, entry.dtend.value) for entry in entries]


def zones() -> Iterator[zoneinfo.ZoneInfo]:
    for key in importlib.resources.files("tzdata").joinpath("zones").read_text("ascii").split():
        yield zoneinfo.ZoneInfo(key)


def moments(found: list[Appointment], zone: zoneinfo.ZoneInfo) -> Found:
    hour = datetime.timedelta(hours=1)
    starts = [one.date_time.replace(tzinfo=zone).astimezone(datetime.UTC) for one in found]
    return [(start, start + hour) for start in starts]


@pytest.mark.parametrize("read", [read_by_icalendar, read_by_vobject])
def test_every_reader_finds_the_right_moments_in_every_zone(read: Callable[[str], Found]) -> None:
    all_found, all_moments = [], []
    text = beginning(FeedSearch(office_number="221B"), zoneinfo.ZoneInfo("UTC"))
    for number, zone in enumerate(zones()):
        # Each zone with some of the times: the readers take a second for a few thousand.
        found = [one for one in appointments()[number % 6 :: 6] if exists(one.date_time, zone)]
        text += "".join(entry(one, zone, f"{CLINIC}-{number}", STAMP) for one in found)
        all_moments += moments(found, zone)
    all_found = read(text + END)
    assert len(all_found) > 2000
    assert all_found == all_moments


@pytest.mark.long
def test_ical_js_finds_the_right_moments_in_every_zone(tmp_path: Path) -> None:
    if not shutil.which("npm"):
        pytest.skip("npm is missing")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", ICAL_JS]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=100)
    (tmp_path / "read.mjs").write_text(
        """
        import ICAL from "ical.js";
        import { readFileSync } from "node:fs";
        const found = JSON.parse(readFileSync("feeds.json", "utf8")).map((feed) =>
            new ICAL.Component(ICAL.parse(feed)).getAllSubcomponents("vevent").map((component) => {
                const event = new ICAL.Event(component);
                return [event.startDate.toUnixTime(), event.endDate.toUnixTime(), event.location];
            }));
        console.log(JSON.stringify(found));
        """,
        "utf-8",
    )
    office = "1; корпус, Б \\ 2"
    feeds, expected = [], []
    for zone in zones():
        found = [one for one in appointments(office_number=office) if exists(one.date_time, zone)]
        feeds.append(feed_of(found, zone))
        expected.append(
            [[one.timestamp() for one in span] + [office] for span in moments(found, zone)]
        )
    (tmp_path / "feeds.json").write_text(json.dumps(feeds), "utf-8")
    read = subprocess.run(
        ["node", "read.mjs"], cwd=tmp_path, check=True, timeout=100, capture_output=True
    )
    assert json.loads(read.stdout) == expected


# Characters with a meaning in the format, and of one to four bytes.
awkward = st.text(st.sampled_from('a;,\\:"nN=é中🙂Ё '), min_size=1, max_size=200)
awkward = awkward.map(tidy).filter(bool)


@given(office=awkward.filter(lambda text: len(text) <= 50), doctor=awkward | st.none())
def test_every_text_comes_as_it_was_written(office: str, doctor: str | None) -> None:
    zone = zoneinfo.ZoneInfo("Europe/Moscow")
    found = appointments(office_number=office, doctor_name=doctor)[:1]
    text = feed_of(found, zone, office)
    calendar = icalendar.Calendar.from_ical(text)
    (event,) = calendar.walk("VEVENT")
    assert str(event["location"]) == office
    assert str(event["summary"]) == "Appointment 1 (booked)" + (f", {doctor}" if doctor else "")
    read = vobject.readOne(text).vevent
    assert read.location.value == office
    unfolded = text.replace("\r\n ", "")
    # Readers do not know it; it is written as the other texts are.
    location = unfolded.partition("\r\nLOCATION:")[2].partition("\r\n")[0]
    assert f"\r\nX-WR-CALNAME:{location}\r\n" in unfolded
    lines = text.encode().split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) <= 75 and line.decode() and b"\n" not in line for line in lines)


def test_the_name_of_a_calendar_is_escaped_as_text() -> None:
    zone = zoneinfo.ZoneInfo("Europe/Moscow")
    wanted = FeedSearch(office_number="1; корпус, Б \\ 2", doctor_name="Ватсон")
    assert "\r\nX-WR-CALNAME:1\\; корпус\\, Б \\\\ 2\\, Ватсон\r\n" in beginning(wanted, zone)
    assert "\r\nX-WR-TIMEZONE:Europe/Moscow\r\n" in beginning(wanted, zone)


def test_what_no_calendar_may_know_is_not_in_it() -> None:
    secret = dict.fromkeys(("patient_name", "patient_phone", "note", "override_reason"), "Секрет")
    found = appointments(**secret, status="cancelled")
    text = feed_of(found, zoneinfo.ZoneInfo("UTC"))
    assert "Секрет" not in text
    assert text.count("STATUS:CANCELLED") == len(TIMES)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, ("2026-10-26", "2027-11-27")),
        ("2026-11-26", None, ("2026-11-26", "2027-11-27")),
        ("2031-05-01", None, ("2031-05-01", "2032-05-01")),
        (None, "2020-05-01", ("2020-03-31", "2020-05-01")),
        (None, "2031-05-01", ("2026-10-26", "2031-05-01")),
        ("9999-12-31", None, ("9999-12-31", "9999-12-31")),
        (None, "0001-01-01", ("0001-01-01", "0001-01-01")),
    ],
)
def test_a_feed_is_of_days_in_order_whichever_is_given(
    first: str | None, last: str | None, expected: tuple[str, str]
) -> None:
    given_days = {name: day for name, day in (("from", first), ("to", last)) if day}
    wanted = FeedSearch.model_validate(given_days | {"office_number": "7"})
    found = days(wanted, datetime.date(2026, 11, 26))
    assert tuple(map(str, found)) == expected


def test_moments_are_written_in_whole_seconds() -> None:
    assert utc(datetime.datetime(2027, 1, 2, 3, 4, 5, 999_999, datetime.UTC)) == "20270102T030405Z"


@pytest.mark.anyio
@pytest.mark.parametrize("dialect", list(Dialect))
async def test_a_clinic_keeps_its_identity_and_no_other_has_it(
    request: pytest.FixtureRequest, dialect: Dialect, tmp_path: Path
) -> None:
    urls = [f"sqlite:///{tmp_path / name}" for name in ("one", "other")]
    if dialect is Dialect.POSTGRESQL:
        server: Postgres = request.getfixturevalue("postgres")
        urls = [server.create_database(name) for name in ("one_clinic", "other_clinic")]
    seen = []
    for url in urls:
        migrate(url)
        for _ in range(2):
            async with open_database(url) as database:
                (row,) = await database.look(SELECT_CLINIC)
                seen.append(row["id"])
            assert migrate(url) == []
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert all(re.fullmatch("[0-9a-f]{32}", identity) for identity in seen)
    if dialect is Dialect.POSTGRESQL:
        for name in ("one_clinic", "other_clinic"):
            server.drop_database(name)
