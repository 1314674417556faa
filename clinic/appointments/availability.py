"""When an office and a doctor are free, and the refusal of a time at which they are not."""

import datetime
import itertools
import zoneinfo
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from clinic.appointments.appointment import EXAMPLE, Appointment, Occupancy
from clinic.appointments.conflicts import Limits, select_conflicts
from clinic.database import Database, ExpensiveReads, wall_clock_text
from clinic.events import Id, WallClockTime
from clinic.registry.names import Name, OfficeNumber
from clinic.registry.timetable import (
    CLINIC,
    DAY,
    Closed,
    Exceptional,
    Hours,
    Place,
    Span,
    Timetable,
    common,
)
from clinic.registry.wall_clock import LAST_YEAR, end_of, exists, start_before
from clinic.web.refusals import Refusal

# A refusal offers this many free times ...
OFFERS = 3
# ... and names this many conflicts: a time may have been overbooked thousands of times.
MOST_CONFLICTS = 20
# Free times are looked for so far ahead: clinics plan no further.
HORIZON = datetime.timedelta(days=56)
# ... and among this many appointments of an office and a doctor, for a refusal to stay cheap: four
# days on which every quarter of an hour is taken.
MOST_TAKEN = 200
# Connections that refusals may use at a time, of the ten that a process has: a crowd that asks for
# taken times must leave some to those who book.
PLACES = 2

# What the schema calls its refusals.
TAKEN = frozenset({"office_taken", "doctor_taken"})

MINUTE = datetime.timedelta(minutes=1)


class Conflict(BaseModel):
    """An appointment that has the office or the doctor at that time; never whose it is.

    With the buffers of its type it occupies them from ``occupied_from`` up to ``occupied_until``.
    """

    id: Id
    office_number: OfficeNumber
    doctor_name: Name | None
    date_time: WallClockTime
    end_time: WallClockTime
    occupied_from: WallClockTime
    occupied_until: WallClockTime


class _ConflictsAndOffers(BaseModel):
    """The conflicts, and the next times at which there is none."""

    model_config = ConfigDict(extra="allow")

    conflicts: list[Conflict]
    free_times: list[WallClockTime]


class TimeTaken(Refusal):
    """Another appointment has the office or the doctor at that time."""

    status = HTTPStatus.CONFLICT
    slug = "time-taken"
    title = "That time is taken"
    explanation = (
        "Another appointment has the office or the doctor at that time. Take one of the free "
        "times, or send it again with override and a reason to double-book on purpose."
    )
    detail = (
        "The office or the doctor is taken at that time, and nothing was changed. Take one of "
        "the free times, or say override with a reason to double-book on purpose."
    )
    Members = _ConflictsAndOffers

    def __init__(
        self, conflicts: Sequence[Appointment], offers: Sequence[datetime.datetime] = ()
    ) -> None:
        super().__init__()
        self.conflicts = conflicts
        self.members = {
            "conflicts": [
                {
                    "id": one.id,
                    "office_number": one.office_number,
                    "doctor_name": one.doctor_name,
                    "date_time": wall_clock_text(one.date_time),
                    "end_time": wall_clock_text(one.end_time),
                    "occupied_from": wall_clock_text(one.occupied_from),
                    "occupied_until": wall_clock_text(one.occupied_until),
                }
                for one in conflicts
            ],
            "free_times": [wall_clock_text(time) for time in offers],
        }

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a time that the example has, with the time after it."""
        return cls([EXAMPLE], [EXAMPLE.end_time])


class _Open(BaseModel):
    """From when until when it is open then."""

    begins: WallClockTime
    ends: WallClockTime


class _ClosedPart(BaseModel):
    """What is closed, and why: a closure with its times, or the weekly hours."""

    what: Literal["clinic", "office", "doctor"]
    reason: str | None
    begins: WallClockTime | None
    ends: WallClockTime | None
    hours: list[_Open]


class _ClosedAndOffers(BaseModel):
    """All that is closed then, and the next times at which nothing is."""

    model_config = ConfigDict(extra="allow")

    closed: list[_ClosedPart]
    free_times: list[WallClockTime]


class ClosedThen(Refusal):
    """The clinic, the office or the doctor does not work at that time."""

    status = HTTPStatus.CONFLICT
    slug = "closed"
    title = "Closed at that time"
    explanation = (
        "The clinic, the office or the doctor is closed at that time: by a closure, or outside of "
        "the weekly hours. Take one of the free times, or send it again with override and a reason "
        "to book all the same."
    )
    detail = (
        "The clinic, the office or the doctor is closed at that time, and nothing was changed. "
        "Take one of the free times, or say override with a reason to book all the same."
    )
    Members = _ClosedAndOffers

    def __init__(self, closed: Sequence[Closed], offers: Sequence[datetime.datetime] = ()) -> None:
        super().__init__()
        self.members = {
            "closed": [_told(one) for one in closed],
            "free_times": [wall_clock_text(time) for time in offers],
        }

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a public holiday."""
        day = EXAMPLE.date_time.replace(hour=0, minute=0)
        holiday = Exceptional(1, CLINIC, False, day, day + DAY, "a public holiday")
        return cls([Closed(CLINIC, holiday)], [EXAMPLE.date_time + DAY])


def _told(closed: Closed) -> dict[str, object]:
    closure = closed.closure
    return {
        "what": closed.place.narrowest,
        "reason": closure and closure.reason,
        "begins": closure and wall_clock_text(closure.begins),
        "ends": closure and wall_clock_text(closure.ends),
        "hours": [
            {"begins": wall_clock_text(begins), "ends": wall_clock_text(ends)}
            for begins, ends in closed.hours
        ],
    }


@dataclass(frozen=True, slots=True)
class Length:
    """How long an appointment is, and its buffers before and after; in minutes."""

    minutes: int
    before: int = 0
    after: int = 0

    def at(self, time: datetime.datetime, zone: zoneinfo.ZoneInfo) -> "Extent":
        """Return what an appointment at a wall-clock time takes up."""
        ends = end_of(time, self.minutes, zone)
        return Extent(
            Span(time, ends),
            Span(
                start_before(time, self.before, zone) if self.before else time,
                end_of(ends, self.after, zone) if self.after else ends,
            ),
        )


class Extent(NamedTuple):
    """An appointment's own time, and the time for which its office and doctor are occupied."""

    own: Span
    occupied: Span


@dataclass(frozen=True, slots=True)
class Conflicts:
    """What conflicts with an appointment, in order of time, and when it would fit instead.

    Up to ``MOST_CONFLICTS`` and up to ``OFFERS``.
    """

    appointments: Sequence[Appointment]
    free_times: Sequence[datetime.datetime]


@dataclass(frozen=True)
class Availability:
    """What is free in the book; ``usual`` are the clinic's hours on days for which none are set."""

    database: Database
    zone: zoneinfo.ZoneInfo
    usual: Hours
    _reads: ExpensiveReads = field(default_factory=lambda: ExpensiveReads(PLACES))

    async def conflicts(
        self, wanted: Appointment, length: Length, timetable: Timetable, *, new: bool
    ) -> Conflicts:
        """Return what conflicts with an appointment; one that is not ``new`` not with itself.

        Raises:
            Crowded: too many ask for taken times.
            DatabaseUnavailable: the database cannot do it now.
        """
        asked = wanted.occupancy, wanted.date_time, length, 0 if new else wanted.id, timetable
        return await self._reads.read(asked, partial(self._look, *asked))

    async def _look(
        self,
        wanted: Occupancy,
        time: datetime.datetime,
        length: Length,
        besides: int,
        timetable: Timetable,
    ) -> Conflicts:
        until = wanted.begins + HORIZON
        limits = Limits(until, MOST_CONFLICTS, MOST_TAKEN)
        conflicts, free = await select_conflicts(self.database, wanted, besides, limits)
        place = Place(wanted.office_id, wanted.doctor_id)
        opened = timetable.open_spans(place, Span(time, until), self.usual)
        offers = free_times(free, opened, length, self.zone)
        return Conflicts(conflicts, list(itertools.islice(offers, OFFERS)))


def free_times(
    free: Sequence[Span],
    opened: Sequence[Span],
    length: Length,
    zone: zoneinfo.ZoneInfo,
    step_minutes: int | None = None,
) -> Iterator[datetime.datetime]:
    """Yield wall-clock times at which an appointment of a length fits.

    It is within what is ``opened``, and with its buffers within what is ``free``; both are in order
    and without overlaps. No time is skipped by the zone's clocks or after ``LAST_YEAR``. Times are
    as early as possible and no two of the appointments overlap, buffers included, unless
    ``step_minutes`` asks for all that are so many minutes apart, counted from midnight.
    """
    for gap in free:
        free_from = gap.begins
        for begins, ends in common([gap], opened):
            time = begins if step_minutes is None else _next_step(begins, step_minutes)
            while time < ends and time.year <= LAST_YEAR:
                later = time + (MINUTE if step_minutes is None else step_minutes * MINUTE)
                if not exists(time, zone):
                    time = later
                    continue
                own, occupied = length.at(time, zone)
                if own.ends > ends or occupied.ends > gap.ends:
                    break
                if occupied.begins >= free_from:
                    yield time
                    if step_minutes is None:
                        free_from = later = occupied.ends
                time = later


def _next_step(time: datetime.datetime, step_minutes: int) -> datetime.datetime:
    midnight = datetime.datetime.combine(time.date(), datetime.time())
    steps = -((midnight - time) // (step_minutes * MINUTE))
    return midnight + steps * step_minutes * MINUTE
