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

# No appointment is longer than a day: what began a day before a time is not in its way.
LONGEST = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Appointment:
    """An appointment in the book; ``date_time`` is the clinic's wall-clock time.

    ``version`` counts its changes, from 1. ``override_reason`` says why it was laid over others on
    purpose, and is None for all that were not.
    """

    id: int
    version: int
    status: Status
    patient_name: str
    office_number: str
    doctor_name: str | None
    date_time: datetime.datetime
    duration_minutes: int
    override_reason: str | None

    @property
    def end_time(self) -> datetime.datetime:
        """The wall-clock time at which its office is free again."""
        return self.date_time + datetime.timedelta(minutes=self.duration_minutes)

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
        """Return what an event may tell of it: everything but the patient, and but the reason.

        A reason is free text, in which a name may stand.
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
