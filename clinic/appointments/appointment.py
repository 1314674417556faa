"""The appointment: what it is, and what may become of it."""

import datetime
from dataclasses import dataclass

from clinic.database import wall_clock_text
from clinic.events import AppointmentFacts, Status

# From each status on, or a step back.
MOVES: dict[Status, tuple[Status, ...]] = {
    "booked": ("arrived", "no_show", "cancelled"),
    "arrived": ("done", "booked"),
    "done": ("arrived",),
    "no_show": ("booked",),
    "cancelled": ("booked",),
}

# No appointment is longer than a day of real time.
LONGEST = datetime.timedelta(days=1)
# On the clinic's clocks it may look longer, where they go forward: by a whole day in Pacific/Apia
# on 2011-12-30. The schema counts on this bound, too.
LONGEST_ON_CLOCKS = datetime.timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """An office, and a doctor where one is named, from one wall-clock time up to another."""

    office_number: str
    doctor_name: str | None
    begins: datetime.datetime
    ends: datetime.datetime

    def overlaps(self, other: "Occupancy") -> bool:
        """Tell whether the two cannot both be had; back to back is no overlap."""
        same_office = self.office_number == other.office_number
        same_doctor = self.doctor_name is not None and self.doctor_name == other.doctor_name
        return (
            (same_office or same_doctor) and self.begins < other.ends and other.begins < self.ends
        )


@dataclass(frozen=True, slots=True)
class NewAppointment:
    """What the desk is asked to book; without ``duration_minutes`` the clinic's usual length.

    ``override_reason`` says why to book it over others on purpose.
    """

    patient_name: str
    office_number: str
    date_time: datetime.datetime
    doctor_name: str | None = None
    duration_minutes: int | None = None
    override_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Appointment:
    """An appointment in the book.

    ``date_time`` is the clinic's wall-clock time, and ``end_time`` the one from which its office is
    free again: ``duration_minutes`` of real time later. ``version`` counts its changes, from 1.
    ``override_reason`` says why it was booked over others on purpose, and is None otherwise.
    """

    id: int
    version: int
    status: Status
    patient_name: str
    office_number: str
    doctor_name: str | None
    date_time: datetime.datetime
    duration_minutes: int
    end_time: datetime.datetime
    override_reason: str | None

    @property
    def occupancy(self) -> Occupancy:
        """What it occupies, unless it is cancelled."""
        return Occupancy(self.office_number, self.doctor_name, self.date_time, self.end_time)

    def is_same(self, other: "Appointment") -> bool:
        """Tell whether it is for the same patient, with the same office and doctor, just then."""
        return self.patient_name == other.patient_name and self.occupancy == other.occupancy

    def record(self) -> dict[str, object]:
        """Return the full record as clients know it, with the time under both of its names."""
        time = wall_clock_text(self.date_time)
        return {
            "id": self.id,
            "patient_name": self.patient_name,
            "office_number": self.office_number,
            "date_time": time,
            "doctor_name": self.doctor_name,
            "appointment_datetime": time,
            "duration_minutes": self.duration_minutes,
            "status": self.status,
            "override_reason": self.override_reason,
        }

    def facts(self, time_zone: str) -> AppointmentFacts:
        """Return what an event may tell of it: everything but the patient and the reason.

        A reason is free text and may hold a name.
        """
        return AppointmentFacts(
            appointment_id=self.id,
            version=self.version,
            status=self.status,
            office_number=self.office_number,
            doctor_name=self.doctor_name,
            date_time=self.date_time,
            time_zone=time_zone,
            duration_minutes=self.duration_minutes,
            override=self.override_reason is not None,
        )


class NoSuchAppointment(Exception):
    """There is no appointment with this id."""

    def __init__(self) -> None:
        super().__init__(str(self.__doc__))


class IllegalMove(Exception):
    """The appointment cannot go from its status to the one asked for."""

    def __init__(self, current: Status, wanted: Status) -> None:
        moves = MOVES[current]
        super().__init__(
            f"It is {current}, and from there it can become {' or '.join(moves)}, not {wanted}."
        )
        self.members: dict[str, object] = {"status_now": current, "legal": list(moves)}


class Stale(Exception):
    """The appointment has changed since the client last read it."""

    def __init__(self) -> None:
        super().__init__(
            "The appointment was changed by somebody else in the meantime. Read it again, and then "
            "change it if that is still what you want. Nothing was changed."
        )
