"""When offices and doctors are open on a day, past or to come, as the registry says now."""

import bisect
import calendar
import datetime
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import anyio.to_thread

from clinic.registry.timetable import (
    CLINIC,
    DAY,
    MINUTE,
    Exceptional,
    Hours,
    Place,
    Span,
    Timetable,
    Week,
    merged,
)

Kind = Literal["office", "doctor"]
Minutes = tuple[int, int]
"""From one minute of a day up to another."""

REGISTERED = "#"
"""With this and its id an office or a doctor is named whom the registry knows."""


@dataclass(frozen=True)
class OpenHours:
    """The weekly hours, closures and openings of everyone, as of a ``version`` of the registry.

    ``usual`` are the clinic's hours on days for which it has none. ``merged_into`` says into whom
    an office or a doctor was merged, whose hours theirs are.
    """

    version: int
    weeks: Sequence[Week]
    exceptions: Sequence[Exceptional]
    merged_into: Mapping[int, int]
    usual: Hours
    _fingerprints: dict[datetime.date, str] = field(default_factory=dict)
    _places: dict[tuple[Kind, int | None], list[Place]] = field(default_factory=dict)
    _exceptional: dict[tuple[Kind, int | None], frozenset[datetime.date]] = field(
        default_factory=dict
    )
    _ordinary: dict[tuple[Kind, int | None, int, int], tuple[Minutes, ...]] = field(
        default_factory=dict
    )

    def resource(self, place: str) -> int | None:
        """Return the id of what an office or a doctor is by now, None if the registry has none."""
        if not place.startswith(REGISTERED):
            return None
        found = int(place.removeprefix(REGISTERED))
        while found in self.merged_into:
            found = self.merged_into[found]
        return found

    def on(self, kind: Kind, place: str, day: datetime.date) -> tuple[Minutes, ...]:
        """Return when an office or a doctor is open on a day, in order.

        A doctor is where their hours are, in whatever offices. Whom the registry does not know is
        open when the clinic is.
        """
        number = self.resource(place)
        if day in self._exceptional_days(kind, number):
            return self._found(kind, number, day)
        # All weekdays between two changes of the weekly hours are alike.
        which = kind, number, bisect.bisect_right(self._changes, day), day.weekday()
        if which not in self._ordinary:
            self._ordinary[which] = self._found(kind, number, day)
        return self._ordinary[which]

    async def fingerprints(self, months: Iterable[datetime.date]) -> dict[datetime.date, str]:
        """Return a text for each month: another one when the hours on its days may be others."""
        asked = list(months)
        if not self._fingerprints.keys() >= set(asked):
            # Where many hours and closures are set it takes longer than others may wait.
            await anyio.to_thread.run_sync(lambda: [self._fingerprint(month) for month in asked])
        return {month: self._fingerprint(month) for month in asked}

    def _fingerprint(self, month: datetime.date) -> str:
        if month not in self._fingerprints:
            last = last_of_month(month)
            holding = [
                what for first, until, what in self._items if first <= last and until >= month
            ]
            text = "\n".join([repr(self.usual), repr(sorted(self.merged_into.items())), *holding])
            self._fingerprints[month] = hashlib.sha256(text.encode()).hexdigest()
        return self._fingerprints[month]

    @cached_property
    def _timetable(self) -> Timetable:
        return Timetable(self.weeks, self.exceptions)

    @cached_property
    def _changes(self) -> list[datetime.date]:
        """The days from which other weekly hours hold."""
        begins = {week.valid_from for week in self.weeks if week.valid_from}
        ends = {week.valid_until for week in self.weeks if week.valid_until}
        return sorted(begins | {day + DAY for day in ends if day < datetime.date.max})

    @cached_property
    def _items(self) -> list[tuple[datetime.date, datetime.date, str]]:
        """All that is said of hours: from which day, until which, and what."""
        found = [
            (
                week.valid_from or datetime.date.min,
                week.valid_until or datetime.date.max,
                repr((week.place, week.valid_from, week.valid_until, week.days)),
            )
            for week in self.weeks
        ]
        found += [
            (one.begins.date(), one.ends.date(), repr((one.place, one.opens, one.begins, one.ends)))
            for one in self.exceptions
        ]
        return sorted(found)

    def _places_of(self, kind: Kind, number: int | None) -> list[Place]:
        """Return where an office or a doctor may be open."""
        which = kind, number
        if which in self._places:
            return self._places[which]
        if number is None:
            found = [CLINIC]
        elif kind == "office":
            found = [Place(office_id=number)]
        else:
            offices = {
                hours.office_id
                for week in self.weeks
                if week.place.doctor_id == number
                for hours in (one for day in week.days for one in day)
            }
            offices |= {
                one.place.office_id for one in self.exceptions if one.place.doctor_id == number
            }
            named = sorted(one for one in offices if one is not None)
            found = [Place(None, number), *(Place(office, number) for office in named)]
        self._places[which] = found
        return found

    def _exceptional_days(self, kind: Kind, number: int | None) -> frozenset[datetime.date]:
        """Return the days on which something is closed or open against the weekly hours."""
        which = kind, number
        if which not in self._exceptional:
            concerned = {CLINIC}
            for place in self._places_of(kind, number):
                concerned |= {place, Place(place.office_id), Place(None, place.doctor_id)}
            self._exceptional[which] = frozenset(
                day for one in self.exceptions if one.place in concerned for day in days_of(one)
            )
        return self._exceptional[which]

    def _found(self, kind: Kind, number: int | None, day: datetime.date) -> tuple[Minutes, ...]:
        if day == datetime.date.max:  # its end has no name
            return ()
        midnight = datetime.datetime.combine(day, datetime.time())
        whole = Span(midnight, midnight + DAY)
        spans: Iterable[Span] = (
            span
            for place in self._places_of(kind, number)
            for span in self._timetable.open_spans(place, whole, self.usual)
        )
        minutes = (
            ((span.begins - midnight) // MINUTE, (span.ends - midnight) // MINUTE)
            for span in merged(spans)
        )
        return tuple((opens, closes) for opens, closes in minutes if opens < closes)


def days_of(exceptional: Exceptional) -> Iterator[datetime.date]:
    """Yield the days on which a closure or an opening is."""
    day = exceptional.begins.date()
    while day <= exceptional.ends.date():
        yield day
        if day == datetime.date.max:
            return
        day += DAY


def first_of_month(day: datetime.date) -> datetime.date:
    """Return the first day of a day's month."""
    return day.replace(day=1)


def last_of_month(day: datetime.date) -> datetime.date:
    """Return the last day of a day's month."""
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def first_of_year(day: datetime.date) -> datetime.date:
    """Return the first day of a day's year."""
    return datetime.date(day.year, 1, 1)


def last_of_year(day: datetime.date) -> datetime.date:
    """Return the last day of a day's year."""
    return datetime.date(day.year, 12, 31)
