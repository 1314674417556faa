"""The appointment: what it is, and what may become of it."""

import datetime
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from pydantic import BaseModel, ConfigDict

from clinic.database import wall_clock_text
from clinic.events import AppointmentFacts, Status
from clinic.web.refusals import Refusal

# From each status on, or a step back.
TRANSITIONS: dict[Status, tuple[Status, ...]] = {
    "booked": ("arrived", "no_show", "cancelled"),
    "arrived": ("in_room", "done", "booked"),
    "in_room": ("done", "arrived"),
    "done": ("in_room", "arrived"),
    "no_show": ("booked",),
    "cancelled": ("booked",),
}

# No appointment is longer than a day of real time.
LONGEST = datetime.timedelta(days=1)
# On the clinic's clocks it may look longer, where they go forward: by a whole day in Pacific/Apia
# on 2011-12-30. The schema counts on this bound, too.
LONGEST_ON_CLOCKS = datetime.timedelta(days=2)
# With buffers before and after, of hours each, which the clocks may make longer, too.
LONGEST_BUFFER = datetime.timedelta(days=1)
LONGEST_OCCUPIED = LONGEST_ON_CLOCKS + 2 * LONGEST_BUFFER


ERASED = "(erased)"
"""What stands for a name, and for a reason, once they were erased; nobody is booked by it."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """An office, and a doctor where one is named, from one wall-clock time up to another."""

    office_id: int
    doctor_id: int | None
    begins: datetime.datetime
    ends: datetime.datetime

    def overlaps(self, other: "Occupancy") -> bool:
        """Tell whether the two cannot both be had; back to back is no overlap."""
        same_office = self.office_id == other.office_id
        same_doctor = self.doctor_id is not None and self.doctor_id == other.doctor_id
        return (
            (same_office or same_doctor) and self.begins < other.ends and other.begins < self.ends
        )


@dataclass(frozen=True, slots=True)
class NewAppointment:
    """What the desk is asked to book.

    Without ``duration_minutes`` it has the length of its type, or the clinic's usual one.
    ``override_reason`` says why to book it over others, or while something is closed, on purpose.
    """

    patient_name: str
    office_number: str
    date_time: datetime.datetime
    doctor_name: str | None = None
    appointment_type: str | None = None
    duration_minutes: int | None = None
    patient_phone: str | None = None
    note: str | None = None
    override_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Appointment:
    """An appointment in the book.

    ``date_time`` is the clinic's wall-clock time, and ``end_time`` the one ``duration_minutes`` of
    real time later; with the buffers of its type its office and doctor are occupied from
    ``occupied_from`` up to ``occupied_until``. ``version`` counts its changes, from 1.
    ``office_number``, ``doctor_name`` and ``appointment_type`` are the names that these have now.
    ``override_reason`` says why it was booked on purpose over others, or while something was
    closed, and is None otherwise.
    """

    id: int
    version: int
    status: Status
    patient_name: str
    patient_phone: str | None
    note: str | None
    office_id: int
    office_number: str
    doctor_id: int | None
    doctor_name: str | None
    type_id: int | None
    appointment_type: str | None
    date_time: datetime.datetime
    duration_minutes: int
    end_time: datetime.datetime
    occupied_from: datetime.datetime
    occupied_until: datetime.datetime
    override_reason: str | None

    @property
    def occupancy(self) -> Occupancy:
        """What it occupies, unless it is cancelled."""
        return Occupancy(self.office_id, self.doctor_id, self.occupied_from, self.occupied_until)

    def is_same(self, other: "Appointment") -> bool:
        """Tell whether it is for the same patient, with the same office and doctor, just then."""
        return self.patient_name == other.patient_name and self.occupancy == other.occupancy

    def record(self, *, personal: bool = True) -> dict[str, object]:
        """Return the full record as clients know it, with the time under both of its names.

        What is not ``personal`` says nothing of the patient: what may be free text is null, too.
        """
        time = wall_clock_text(self.date_time)
        return {
            "id": self.id,
            "patient_name": self.patient_name if personal else None,
            "office_number": self.office_number,
            "date_time": time,
            "doctor_name": self.doctor_name,
            "appointment_datetime": time,
            "appointment_type": self.appointment_type,
            "duration_minutes": self.duration_minutes,
            "status": self.status,
            "patient_phone": self.patient_phone if personal else None,
            "note": self.note if personal else None,
            "override_reason": self.override_reason if personal else None,
        }

    def facts(self, time_zone: str) -> AppointmentFacts:
        """Return what an event may tell of it: everything but the patient, the note and the reason.

        These are free text and may hold a name.
        """
        return AppointmentFacts(
            appointment_id=self.id,
            version=self.version,
            status=self.status,
            office_id=self.office_id,
            office_number=self.office_number,
            doctor_id=self.doctor_id,
            doctor_name=self.doctor_name,
            appointment_type=self.appointment_type,
            date_time=self.date_time,
            time_zone=time_zone,
            duration_minutes=self.duration_minutes,
            override=self.override_reason is not None,
        )


class NoSuchAppointment(Refusal):
    """There is no appointment with this id."""

    status = HTTPStatus.NOT_FOUND
    slug = "no-such-appointment"
    title = "There is no such appointment"
    explanation = "There is no appointment with this id."
    detail = "There is no appointment with this id."


class _Transitions(BaseModel):
    """The status of the appointment, and those that it can come to from there."""

    model_config = ConfigDict(extra="allow")

    status_now: Status
    legal: list[Status]


class IllegalTransition(Refusal):
    """The appointment cannot go from its status to the one asked for."""

    status = HTTPStatus.CONFLICT
    slug = "illegal-transition"
    title = "Its status cannot become this one"
    explanation = (
        "The appointment cannot go from its status to the one asked for; legal names those it can."
    )
    Members = _Transitions

    def __init__(self, current: Status, wanted: Status) -> None:
        legal = TRANSITIONS[current]
        super().__init__(
            f"It is {current}, and from there it can become {' or '.join(legal)}, not {wanted}."
        )
        self.members = {"status_now": current, "legal": list(legal)}

    @classmethod
    def example(cls) -> Self:
        """Return the refusal to cancel what is done."""
        return cls("done", "cancelled")


class Stale(Refusal):
    """The appointment has changed since the client last read it."""

    status = HTTPStatus.PRECONDITION_FAILED
    slug = "stale"
    title = "Changed in the meantime"
    explanation = (
        "The appointment is not in the version that If-Match names, or is in one that "
        "If-None-Match names: mostly, somebody has changed it since it was read. Read it again, "
        "and then change it if that is still what you want."
    )
    detail = (
        "The appointment is not in a version that the request is for (If-Match, If-None-Match): "
        "somebody may have changed it in the meantime. Read it again, and then change it if that "
        "is still what you want. Nothing was changed."
    )


EXAMPLE = Appointment(
    id=1,
    version=1,
    status="booked",
    patient_name="Иван Иванов",
    patient_phone=None,
    note=None,
    office_id=1,
    office_number="221B",
    doctor_id=None,
    doctor_name=None,
    type_id=None,
    appointment_type=None,
    date_time=datetime.datetime(2027, 12, 1, 15, 30),  # noqa: DTZ001 - wall-clock time
    duration_minutes=15,
    end_time=datetime.datetime(2027, 12, 1, 15, 45),  # noqa: DTZ001
    occupied_from=datetime.datetime(2027, 12, 1, 15, 30),  # noqa: DTZ001
    occupied_until=datetime.datetime(2027, 12, 1, 15, 45),  # noqa: DTZ001
    override_reason=None,
)
"""The appointment in the examples of the API's description."""
