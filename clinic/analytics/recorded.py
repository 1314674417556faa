"""What is kept of an event."""

import datetime
from dataclasses import dataclass

from clinic.events import Event


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is kept of an event, in the form in which it is added up.

    ``version`` counts an appointment's events: the one with the highest says how it stands now.
    ``day`` and ``hour_of_week`` (0 is Monday from 00:00, 167 Sunday from 23:00) are those of the
    appointment on the clinic's clocks; ``lead_minutes`` is how long before the appointment the
    event happened, and negative for what was entered afterwards.
    """

    event_id: str
    type: str
    appointment_id: int
    version: int
    status: str
    office_number: str
    doctor_name: str | None
    day: datetime.date
    hour_of_week: int
    duration_minutes: int
    lead_minutes: int
    occurred_at: datetime.datetime


def recorded(event: Event) -> Recorded:
    """Return what is to be kept of an event."""
    facts = event.data
    lead = facts.starts_at - event.time
    return Recorded(
        event_id=event.id,
        type=event.type,
        appointment_id=facts.appointment_id,
        version=facts.version,
        status=facts.status,
        office_number=facts.office_number,
        doctor_name=facts.doctor_name,
        day=facts.date_time.date(),
        hour_of_week=facts.date_time.weekday() * 24 + facts.date_time.hour,
        duration_minutes=facts.duration_minutes,
        lead_minutes=lead // datetime.timedelta(minutes=1),
        occurred_at=event.time.astimezone(datetime.UTC),
    )
