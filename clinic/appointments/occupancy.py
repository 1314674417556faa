"""Who has which office and which doctor when, and when they are free."""

import datetime
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from clinic.appointments.appointment import Appointment
from clinic.appointments.requests import Booking
from clinic.appointments.wall_clock import exists
from clinic.database import wall_clock_text

# So many free times are offered to a client whose time is taken.
OFFERS = 3

# What the schema calls its refusals.
TAKEN = frozenset({"office_taken", "doctor_taken"})


@dataclass(frozen=True, slots=True)
class Slot:
    """An office, and a doctor where one is named, from a wall-clock time on for so many minutes."""

    office_number: str
    doctor_name: str | None
    date_time: datetime.datetime
    duration_minutes: int

    @property
    def end_time(self) -> datetime.datetime:
        """The wall-clock time up to which it lasts."""
        return self.date_time + datetime.timedelta(minutes=self.duration_minutes)

    def overlaps(self, other: "Slot") -> bool:
        """Tell whether the two cannot both be had; back to back is no overlap."""
        same_office = self.office_number == other.office_number
        same_doctor = self.doctor_name is not None and self.doctor_name == other.doctor_name
        return (
            (same_office or same_doctor)
            and self.date_time < other.end_time
            and other.date_time < self.end_time
        )


def slot_of(booking: Booking, visit_minutes: int) -> Slot:
    """Return what a booking asks for; ``visit_minutes`` is how long one is that does not say."""
    return Slot(
        booking.office_number,
        booking.doctor_name,
        booking.date_time,
        booking.duration_minutes or visit_minutes,
    )


def occupied_by(appointment: Appointment) -> Slot:
    """Return what an appointment occupies."""
    return Slot(
        appointment.office_number,
        appointment.doctor_name,
        appointment.date_time,
        appointment.duration_minutes,
    )


class SlotTaken(Exception):
    """Somebody else has the office or the doctor at that time."""

    def __init__(
        self, in_the_way: Sequence[Appointment], offers: Sequence[datetime.datetime] = ()
    ) -> None:
        super().__init__(
            "The office or the doctor is taken at that time, and nothing was changed. Take one of "
            "the free times, or say override with a reason to double-book on purpose."
        )
        self.in_the_way = in_the_way
        self.members: dict[str, object] = {
            "in_the_way": [
                {
                    "id": one.id,
                    "office_number": one.office_number,
                    "doctor_name": one.doctor_name,
                    "date_time": wall_clock_text(one.date_time),
                    "end_time": wall_clock_text(one.end_time),
                }
                for one in in_the_way
            ],
            "free_times": [wall_clock_text(time) for time in offers],
        }


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """When the clinic is open, each day, in minutes since midnight."""

    opens: int
    closes: int

    @property
    def minutes(self) -> int:
        """How long it is open on a day."""
        return self.closes - self.opens

    def next_within(
        self, time: datetime.datetime, duration: datetime.timedelta
    ) -> datetime.datetime:
        """Return the first time, from the given one, at which so long a visit fits into a day."""
        midnight = datetime.datetime.combine(time, datetime.time())
        opens = midnight + datetime.timedelta(minutes=self.opens)
        closes = midnight + datetime.timedelta(minutes=self.closes)
        if time + duration > closes:
            return opens + datetime.timedelta(days=1)
        return max(time, opens)


def free_times(
    wanted: Slot,
    taken: Iterable[tuple[datetime.datetime, datetime.datetime]],
    hours: OpeningHours,
    zone: zoneinfo.ZoneInfo,
) -> Iterator[datetime.datetime]:
    """Yield times, from the one wanted on, at which a visit as long fits in without overlap.

    ``taken`` are the spans that are occupied, in the order of their beginnings. Times are in the
    opening hours, none is skipped by the zone's clocks, and no two of them overlap each other. A
    visit that is longer than a day's opening hours fits in nowhere.
    """
    duration = datetime.timedelta(minutes=wanted.duration_minutes)
    if duration > datetime.timedelta(minutes=hours.minutes):
        return

    def next_time(time: datetime.datetime) -> datetime.datetime:
        time = hours.next_within(time, duration)
        while not exists(time, zone):
            time = hours.next_within(time + datetime.timedelta(minutes=1), duration)
        return time

    time = next_time(wanted.date_time)
    for start, end in taken:
        while time + duration <= start:
            yield time
            time = next_time(time + duration)
        if time < end:
            time = next_time(end)
    while True:
        yield time
        time = next_time(time + duration)
