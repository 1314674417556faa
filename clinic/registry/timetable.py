"""When the clinic, an office and a doctor are open: weekly hours, and the days that are otherwise.

All is wall-clock time of the clinic, and nothing here knows the database: these are plain values
and what follows from them.

Three have to be open for an appointment: the clinic, its office, and its doctor where one is named.
Each is open during its weekly hours; on a day for which it has none, always. Extra openings add to
these, closures take away, whatever else is open then.
"""

import bisect
import datetime
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

DAY = datetime.timedelta(days=1)
MINUTE = datetime.timedelta(minutes=1)
MINUTES_OF_DAY = 24 * 60


class Span(NamedTuple):
    """From one wall-clock time up to another."""

    begins: datetime.datetime
    ends: datetime.datetime


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of one day of the week, in minutes since midnight.

    A doctor's may name the ``office_id`` of the office that they are in.
    """

    opens: int
    closes: int
    office_id: int | None = None

    @property
    def minutes(self) -> int:
        """How long they are."""
        return self.closes - self.opens

    def on(self, day: datetime.date) -> Span:
        """Return them on a day."""
        midnight = datetime.datetime.combine(day, datetime.time())
        return Span(midnight + self.opens * MINUTE, midnight + self.closes * MINUTE)


WHOLE_DAY = Hours(0, MINUTES_OF_DAY)


RANKS: tuple[Literal["clinic", "office", "doctor"], ...] = ("clinic", "office", "doctor")


@dataclass(frozen=True, slots=True)
class Place:
    """Whose hours or closures they are: an office's, a doctor's, of both together, the clinic's."""

    office_id: int | None = None
    doctor_id: int | None = None

    @property
    def narrowest(self) -> Literal["clinic", "office", "doctor"]:
        """What it is: the doctor if it names one, else the office, else the clinic."""
        return RANKS[self.rank]

    @property
    def rank(self) -> int:
        """How narrow it is: the clinic's 0, an office's 1, a doctor's 2."""
        return 2 if self.doctor_id is not None else int(self.office_id is not None)


CLINIC = Place()


def place_of(kind: Literal["office", "doctor"], resource_id: int) -> Place:
    """Return the place that an office or a doctor is."""
    return Place(office_id=resource_id) if kind == "office" else Place(doctor_id=resource_id)


@dataclass(frozen=True, slots=True)
class Week:
    """The weekly hours of a place, from one day to another; None has no end.

    ``days`` are seven, from Monday on, each with its hours in order.
    """

    id: int
    place: Place
    valid_from: datetime.date | None
    valid_until: datetime.date | None
    days: tuple[tuple[Hours, ...], ...]

    def with_resource(self, kind: Literal["office", "doctor"], number: int, into: int) -> "Week":
        """Return the same hours with one office or doctor in the place of another."""
        place = self.place
        if place == place_of(kind, number):
            place = place_of(kind, into)
        days = self.days
        if kind == "office":
            moved: dict[int | None, int | None] = {number: into}
            days = tuple(
                tuple(
                    replace(one, office_id=moved.get(one.office_id, one.office_id)) for one in day
                )
                for day in days
            )
        return replace(self, place=place, days=days)

    def overlaps(self, other: "Week") -> bool:
        """Tell whether both hold on some day."""
        begins = max(one or datetime.date.min for one in (self.valid_from, other.valid_from))
        ends = min(one or datetime.date.max for one in (self.valid_until, other.valid_until))
        return begins <= ends

    def holds_on(self, day: datetime.date) -> bool:
        """Tell whether these are the hours of a day."""
        return (self.valid_from is None or self.valid_from <= day) and (
            self.valid_until is None or day <= self.valid_until
        )


@dataclass(frozen=True, slots=True)
class Exceptional:
    """A closure, or an extra opening, of a place: from one wall-clock time up to another."""

    id: int
    place: Place
    opens: bool
    begins: datetime.datetime
    ends: datetime.datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Closed:
    """Why something is closed: outside of the weekly ``hours`` of a place, or a closure of it."""

    place: Place
    closure: Exceptional | None
    hours: tuple[Span, ...] = ()
    """What the place's weekly hours are on the days in question, if they are the reason."""


class Timetable:
    """The weekly hours, closures and openings of everyone, and what follows from them."""

    def __init__(self, weeks: Iterable[Week], exceptions: Iterable[Exceptional]) -> None:
        self._weeks: dict[Place, list[Week]] = {}
        for week in weeks:
            self._weeks.setdefault(week.place, []).append(week)
        closures: defaultdict[Place, list[Exceptional]] = defaultdict(list)
        openings: defaultdict[Place, list[Exceptional]] = defaultdict(list)
        for one in exceptions:
            (openings if one.opens else closures)[one.place].append(one)
        self._closures = {place: _Sorted(found) for place, found in closures.items()}
        self._openings = {place: _Sorted(found) for place, found in openings.items()}

    @property
    def always_open(self) -> bool:
        """Whether nothing is ever closed."""
        return not self._weeks and not self._closures

    def closed(self, place: Place, span: Span) -> list[Closed]:
        """Return all reasons for which an appointment cannot be in a place then; none if it can."""
        if self.always_open:
            return []
        found = [
            Closed(one.place, one)
            for whose in self._named_by(place)
            for one in _within(self._closures, whose, span)
        ]
        for whose in _three(place):
            if whose not in self._weeks:
                continue
            hours = self._open(whose, place, span, WHOLE_DAY)
            if any(minus([span], hours)):
                weekly = self._weekly(whose, place, _days_of(span), WHOLE_DAY)
                found.append(Closed(whose, None, tuple(merged(weekly))))
        return found

    def open_spans(self, place: Place, span: Span, usual: Hours = WHOLE_DAY) -> list[Span]:
        """Return when within a span a place is open, in order.

        ``usual`` are the clinic's hours on days for which it has none.
        """
        found = [span]
        for whose in _three(place):
            if whose == CLINIC or whose in self._weeks:
                hours = self._open(whose, place, span, usual if whose == CLINIC else WHOLE_DAY)
                found = list(common(found, hours))
        closed = [
            Span(one.begins, one.ends)
            for whose in self._named_by(place)
            for one in _within(self._closures, whose, span)
        ]
        return list(minus(found, merged(closed)))

    def _named_by(self, place: Place) -> set[Place]:
        """Return the places of which whatever is said holds for a place."""
        return {
            Place(office_id, doctor_id)
            for office_id in {None, place.office_id}
            for doctor_id in {None, place.doctor_id}
        }

    def _open(self, whose: Place, place: Place, span: Span, usual: Hours) -> list[Span]:
        """Return when one of the three is open, but for closures."""
        found = list(self._weekly(whose, place, _days_of(span), usual))
        # An opening of a doctor opens office and clinic for that doctor, and one of an office the
        # clinic for that office: it would open nothing otherwise.
        for named in self._named_by(place):
            if named.rank >= whose.rank:
                found += [
                    Span(one.begins, one.ends) for one in _within(self._openings, named, span)
                ]
        return list(merged(found))

    def _weekly(
        self,
        whose: Place,
        place: Place,
        days: Iterable[datetime.date],
        usual: Hours,
    ) -> Iterator[Span]:
        weeks = self._weeks.get(whose, ())
        for day in days:
            holding = [week for week in weeks if week.holds_on(day)]
            if not holding:
                yield usual.on(day)
            for week in holding:
                for hours in week.days[day.weekday()]:
                    if hours.office_id in (None, place.office_id):
                        yield hours.on(day)


class _Sorted:
    """Exceptions in order of time, found by a span that they overlap."""

    def __init__(self, found: Sequence[Exceptional]) -> None:
        self._all = sorted(found, key=lambda one: (one.begins, one.id))
        self._begins = [one.begins for one in self._all]
        # The latest end of all up to each: before it nothing lasts so long.
        self._ends = list(itertools.accumulate((one.ends for one in self._all), max))

    def within(self, span: Span) -> Iterator[Exceptional]:
        """Yield those that overlap a span, the latest first."""
        last = bisect.bisect_left(self._begins, span.ends)
        for index in range(last - 1, -1, -1):
            if self._ends[index] <= span.begins:
                return
            if self._all[index].ends > span.begins:
                yield self._all[index]


def _within(exceptions: dict[Place, _Sorted], place: Place, span: Span) -> Iterator[Exceptional]:
    found = exceptions.get(place)
    return found.within(span) if found is not None else iter(())


def _three(place: Place) -> list[Place]:
    """Return the clinic, the office and the doctor of a place, those that it names."""
    found = [CLINIC]
    if place.office_id is not None:
        found.append(Place(office_id=place.office_id))
    if place.doctor_id is not None:
        found.append(Place(doctor_id=place.doctor_id))
    return found


def _days_of(span: Span) -> Iterator[datetime.date]:
    day, last = span.begins.date(), (span.ends - datetime.timedelta(microseconds=1)).date()
    while day <= last:
        yield day
        day += DAY


def merged(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield spans in order, those that meet or overlap as one."""
    whole: Span | None = None
    for span in sorted(spans):
        if whole is not None and span.begins <= whole.ends:
            whole = Span(whole.begins, max(whole.ends, span.ends))
            continue
        if whole is not None:
            yield whole
        whole = span
    if whole is not None:
        yield whole


def common(some: Sequence[Span], others: Sequence[Span]) -> Iterator[Span]:
    """Yield what two have in common; each is in order, and no two spans of it overlap."""
    left, right = 0, 0
    while left < len(some) and right < len(others):
        begins = max(some[left].begins, others[right].begins)
        ends = min(some[left].ends, others[right].ends)
        if begins < ends:
            yield Span(begins, ends)
        if some[left].ends < others[right].ends:
            left += 1
        else:
            right += 1


def minus(spans: Iterable[Span], others: Iterable[Span]) -> Iterator[Span]:
    """Yield what is left of spans without others; each is in order, and no two overlap."""
    others = list(others)
    first = 0
    for span in spans:
        left = span.begins
        while first < len(others) and others[first].ends <= left:
            first += 1
        for other in itertools.islice(others, first, None):
            if other.begins >= span.ends:
                break
            if left < other.begins:
                yield Span(left, other.begins)
            left = max(left, other.ends)
        if left < span.ends:
            yield Span(left, span.ends)
