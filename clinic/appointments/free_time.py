"""When the next free times are, and with whom: asked for without being refused first."""

import datetime
import heapq
import itertools
import zoneinfo
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from clinic.appointments.appointment import LONGEST_BUFFER, LONGEST_OCCUPIED
from clinic.appointments.availability import Length, free_times
from clinic.database import Database, Sql, as_wall_clock
from clinic.registry.memory import Rules
from clinic.registry.records import RegistryChanged, Resource
from clinic.registry.timetable import Hours, Place, Span, merged, minus

# Days that are looked through at a time, the first time; then twice as many each time.
FIRST_DAYS = 1
DAY = datetime.timedelta(days=1)

# What is taken of some offices and doctors, as JSON: rows take several times as long.
SELECT_TAKEN = Sql(
    sqlite="""
        select (select version from registry) as version,
            json_group_array(json_array(resource_id, occupied_from, occupied_until)) as taken
        from (
            select office_id as resource_id, occupied_from, occupied_until from appointment
            where office_id in (select value from json_each(:offices)) and status <> 'cancelled'
                and date_time > :earliest and date_time < :beyond
            union all
            select doctor_id, occupied_from, occupied_until from appointment
            where doctor_id in (select value from json_each(:doctors)) and status <> 'cancelled'
                and date_time > :earliest and date_time < :beyond
        )
    """,
    postgresql="""
        select (select version from registry) as version,
            json_agg(json_build_array(resource_id, occupied_from, occupied_until)) as taken
        from (
            select office_id as resource_id, occupied_from, occupied_until from appointment
            where office_id in (
                    select cast(value as bigint)
                    from json_array_elements_text(cast(:offices as json))
                )
                and status <> 'cancelled' and date_time > :earliest and date_time < :beyond
            union all
            select doctor_id, occupied_from, occupied_until from appointment
            where doctor_id in (
                    select cast(value as bigint)
                    from json_array_elements_text(cast(:doctors as json))
                )
                and status <> 'cancelled' and date_time > :earliest and date_time < :beyond
        ) as found
    """,
)


Taken = Mapping[int, Sequence[Span]]
"""What is taken of offices and doctors, by their ids, in order."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which free times are asked for.

    ``offices`` and ``doctors`` are those that would do; without doctors it is an appointment with
    none. ``span`` is when it may begin. Without ``step_minutes`` times are as early as possible.
    """

    offices: Sequence[Resource]
    doctors: Sequence[Resource]
    length: Length
    span: Span
    step_minutes: int | None


@dataclass(frozen=True, slots=True, order=True)
class FreeTime:
    """A time at which an appointment fits, with an office, and a doctor if one was asked for."""

    date_time: datetime.datetime
    end_time: datetime.datetime
    office_number: str
    doctor_name: str | None


@dataclass(frozen=True)
class Finder:
    """Finds free times by the rules of a version of the registry.

    ``usual`` are the clinic's hours on days for which none are set.
    """

    database: Database
    rules: Rules
    zone: zoneinfo.ZoneInfo
    usual: Hours

    async def find(self, wanted: Wanted, most: int) -> list[FreeTime]:
        """Return the first free times, in order of time; of each doctor one at a time.

        Raises:
            RegistryChanged: the registry has another version now.
            DatabaseUnavailable: the database cannot do it now.
        """
        found: list[FreeTime] = []
        begins, days = wanted.span.begins, FIRST_DAYS
        while begins < wanted.span.ends and len(found) < most:
            span = Span(begins, min(begins + days * DAY, wanted.span.ends))
            taken = await self._select_taken(wanted, span)
            found += itertools.islice(self._times(wanted, span, taken), most - len(found))
            begins, days = span.ends, 2 * days
        return found

    async def _select_taken(self, wanted: Wanted, span: Span) -> Taken:
        """Return what is taken, by the ids of resources, for appointments that begin in a span."""
        (row,) = await self.database.look(
            SELECT_TAKEN,
            {
                "offices": [one.id for one in wanted.offices],
                "doctors": [one.id for one in wanted.doctors],
                "earliest": span.begins - LONGEST_OCCUPIED,
                "beyond": _last_end(span) + LONGEST_BUFFER,
            },
        )
        if row["version"] != self.rules.version:
            raise RegistryChanged
        taken: defaultdict[int, list[Span]] = defaultdict(list)
        for resource_id, begins, ends in from_json(row["taken"] or "[]"):
            taken[resource_id].append(Span(as_wall_clock(begins), as_wall_clock(ends)))
        return {resource_id: list(merged(spans)) for resource_id, spans in taken.items()}

    def _times(self, wanted: Wanted, span: Span, taken: Taken) -> Iterator[FreeTime]:
        """Yield the free times that begin in a span, in order."""
        doctors: Sequence[Resource | None] = [*wanted.doctors] or [None]
        return heapq.merge(*(self._times_of(one, wanted, span, taken) for one in doctors))

    def _times_of(
        self, doctor: Resource | None, wanted: Wanted, span: Span, taken: Taken
    ) -> Iterator[FreeTime]:
        """Yield the free times of a doctor in order, at each time in one office."""
        offered = (self._times_in(office, doctor, wanted, span, taken) for office in wanted.offices)
        last: datetime.datetime | None = None
        for one in heapq.merge(*offered):
            if doctor is None or one.date_time != last:
                last = one.date_time
                yield one

    def _times_in(
        self, office: Resource, doctor: Resource | None, wanted: Wanted, span: Span, taken: Taken
    ) -> Iterator[FreeTime]:
        """Yield the free times of a doctor in an office, in order."""
        # An appointment that begins in the span may end after it, and need a buffer before it.
        whole = Span(span.begins - LONGEST_BUFFER, _last_end(span))
        occupied: Iterable[Span] = taken.get(office.id, ())
        if doctor is not None:
            occupied = merged([*occupied, *taken.get(doctor.id, ())])
        place = Place(office.id, doctor.id if doctor else None)
        opened = self.rules.timetable.open_spans(place, Span(span.begins, whole.ends), self.usual)
        free = list(minus([whole], occupied))
        for time in free_times(free, opened, wanted.length, self.zone, wanted.step_minutes):
            if time >= span.ends:
                return
            ends = wanted.length.at(time, self.zone).own.ends
            yield FreeTime(time, ends, office.name, doctor.name if doctor else None)


def _last_end(span: Span) -> datetime.datetime:
    """Return until when an appointment that begins in a span may occupy anything."""
    return span.ends + LONGEST_OCCUPIED
