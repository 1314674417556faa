"""What is kept of an event, and which events fit no table."""

import datetime
from dataclasses import replace
from typing import Any

import pytest

from clinic.analytics.recorded import LONGEST_LEAD_MINUTES, recorded
from clinic.messaging.message import Unreadable
from tests.analytics.test_report import booked

(EVENT,) = booked(seed=1, count=1)
FIRST, LAST = datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59)


def at(moment: datetime.datetime, hours: int = 0) -> datetime.datetime:
    return moment.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=hours)))


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"time": at(FIRST, 14)}, {}),
        ({"time": at(LAST, -12)}, {}),
        ({}, {"date_time": FIRST, "time_zone": "Asia/Tokyo"}),
        ({}, {"date_time": LAST, "time_zone": "America/New_York"}),
        ({"time": at(FIRST)}, {"date_time": LAST}),
        ({"time": at(LAST)}, {"date_time": FIRST, "time_zone": "America/New_York"}),
        ({"id": "\0"}, {}),
        ({}, {"office_number": "a\0b"}),
        ({}, {"doctor_name": "\0"}),
    ],
)
def test_what_fits_no_table_can_never_be_recorded(
    change: dict[str, Any], facts: dict[str, Any]
) -> None:
    with pytest.raises(Unreadable):
        recorded(replace(EVENT, **change, data=replace(EVENT.data, **facts)))


def test_the_longest_lead_fits() -> None:
    lead = datetime.timedelta(minutes=LONGEST_LEAD_MINUTES)
    starts_at = datetime.datetime(4500, 1, 1, tzinfo=datetime.UTC)
    facts = replace(EVENT.data, date_time=starts_at.replace(tzinfo=None), time_zone="UTC")
    for time in (starts_at - lead, starts_at + lead):
        kept = recorded(replace(EVENT, time=time, data=facts))
        assert abs(kept.lead_minutes) == LONGEST_LEAD_MINUTES
