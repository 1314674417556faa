"""When an office and a doctor are free, and the refusal of a time at which they are not."""

import datetime
import itertools
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Self

from pydantic import BaseModel, ConfigDict

from clinic.appointments.appointment import EXAMPLE, Appointment, Occupancy
from clinic.registry.names import Name, OfficeNumber
from clinic.appointments.queries import Gap, Limits, select_conflicts
from clinic.appointments.wall_clock import LAST_YEAR, end_of, exists
from clinic.database import Database, ExpensiveReads, wall_clock_text
from clinic.events import Id, WallClockTime
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
    """An appointment that has the office or the doctor at that time; never whose it is."""

    id: Id
    office_number: OfficeNumber
    doctor_name: Name | None
    date_time: WallClockTime
    end_time: WallClockTime


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
                }
                for one in conflicts
            ],
            "free_times": [wall_clock_text(time) for time in offers],
        }

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a time that the example has, with the time after it."""
        return cls([EXAMPLE], [EXAMPLE.end_time])


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """When the clinic is open, each day, in minutes since midnight."""

    opens: int
    closes: int

    @property
    def minutes(self) -> int:
        """How long it is open on a day."""
        return self.closes - self.opens

    def on(self, day: datetime.date) -> tuple[datetime.datetime, datetime.datetime]:
        """Return the wall-clock times at which it opens and closes on a day."""
        midnight = datetime.datetime.combine(day, datetime.time())
        return midnight + self.opens * MINUTE, midnight + self.closes * MINUTE


@dataclass(frozen=True, slots=True)
class Conflicts:
    """What conflicts with an appointment, in order of time, and when it would fit instead.

    Up to ``MOST_CONFLICTS`` and up to ``OFFERS``.
    """

    appointments: Sequence[Appointment]
    free_times: Sequence[datetime.datetime]


@dataclass(frozen=True)
class Availability:
    """What is free in the book, within the clinic's opening hours."""

    database: Database
    zone: zoneinfo.ZoneInfo
    hours: OpeningHours
    _reads: ExpensiveReads = field(default_factory=lambda: ExpensiveReads(PLACES))

    async def conflicts(self, wanted: Appointment, *, new: bool) -> Conflicts:
        """Return what conflicts with an appointment; one that is not ``new`` not with itself.

        Raises:
            Crowded: too many ask for taken times.
            DatabaseUnavailable: the database cannot do it now.
        """
        asked = wanted.occupancy, wanted.duration_minutes, 0 if new else wanted.id
        return await self._reads.read(asked, partial(self._look, *asked))

    async def _look(self, wanted: Occupancy, minutes: int, besides: int) -> Conflicts:
        limits = Limits(wanted.begins + HORIZON, MOST_CONFLICTS, MOST_TAKEN)
        conflicts, gaps = await select_conflicts(self.database, wanted, besides, limits)
        offers = free_times(gaps, minutes, self.hours, self.zone)
        return Conflicts(conflicts, list(itertools.islice(offers, OFFERS)))


def free_times(
    gaps: Iterable[Gap], minutes: int, hours: OpeningHours, zone: zoneinfo.ZoneInfo
) -> Iterator[datetime.datetime]:
    """Yield wall-clock times within the gaps at which an appointment of ``minutes`` fits.

    Times are within the opening hours, none is skipped by the zone's clocks or after
    ``LAST_YEAR``, and no two of the appointments would overlap. One that is longer than a day's
    opening hours fits nowhere.
    """
    for opens, closes in gaps:
        time = opens
        while time < closes and time.year <= LAST_YEAR:
            day_opens, day_closes = hours.on(time.date())
            time = max(time, day_opens)
            if not exists(time, zone):
                time += MINUTE
                continue
            ends = end_of(time, minutes, zone)
            if ends > closes:
                break
            if ends > day_closes:
                time = hours.on(time.date() + datetime.timedelta(days=1))[0]
                continue
            yield time
            time = ends
