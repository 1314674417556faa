"""What is kept of an event."""

import datetime
from dataclasses import dataclass

from clinic.events import Event
from clinic.messaging.message import Unreadable
from clinic.registry.names import name_key

# What a column of type integer holds: more than 4,000 years.
LONGEST_LEAD_MINUTES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is kept of an event, in the form in which it is added up.

    ``version`` counts an appointment's events: the one with the highest says how it stands now.
    ``day`` and ``hour_of_week`` (0 is Monday from 00:00, 167 Sunday from 23:00) are those of the
    appointment on the clinic's clocks, and ``begins_minute`` is its minute of the day;
    ``lead_minutes`` is how long before the appointment the event happened, and negative for what
    was entered afterwards. Events from before there was a registry have no ``office_id`` and no
    ``doctor_id``; these are found by the keys of their names.
    """

    event_id: str
    type: str
    appointment_id: int
    version: int
    status: str
    office_id: int | None
    office_key: str | None
    office_number: str
    doctor_id: int | None
    doctor_key: str | None
    doctor_name: str | None
    day: datetime.date
    hour_of_week: int
    duration_minutes: int
    lead_minutes: int
    occurred_at: datetime.datetime
    begins_minute: int
    override: bool


def recorded(event: Event) -> Recorded:
    """Return what is to be kept of an event.

    Raises:
        Unreadable: its times or texts fit no table, and never will.
    """
    facts = event.data
    try:
        lead = facts.starts_at - event.time
        occurred_at = event.time.astimezone(datetime.UTC)
    except OverflowError:  # in UTC it would be before the year 1, or after 9999
        raise Unreadable("no event of ours: a time of it is in no year from 1 to 9999") from None
    lead_minutes = lead // datetime.timedelta(minutes=1)
    if abs(lead_minutes) > LONGEST_LEAD_MINUTES:
        raise Unreadable("no event of ours: it happened thousands of years from its appointment")
    if any("\0" in text for text in (event.id, facts.office_number, facts.doctor_name or "")):
        raise Unreadable("no event of ours: a text of it has a NUL")  # PostgreSQL takes none
    return Recorded(
        event_id=event.id,
        type=event.type,
        appointment_id=facts.appointment_id,
        version=facts.version,
        status=facts.status,
        office_id=facts.office_id,
        office_key=None if facts.office_id else name_key(facts.office_number),
        office_number=facts.office_number,
        doctor_id=facts.doctor_id,
        doctor_key=None if facts.office_id else facts.doctor_name and name_key(facts.doctor_name),
        doctor_name=facts.doctor_name,
        day=facts.date_time.date(),
        hour_of_week=facts.date_time.weekday() * 24 + facts.date_time.hour,
        duration_minutes=facts.duration_minutes,
        lead_minutes=lead_minutes,
        occurred_at=occurred_at,
        begins_minute=facts.date_time.hour * 60 + facts.date_time.minute,
        override=facts.override,
    )
