"""When something is open: against a model that looks at every quarter of an hour."""

import datetime
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.registry.timetable import (
    CLINIC,
    WHOLE_DAY,
    Closed,
    Exceptional,
    Hours,
    Place,
    Span,
    Timetable,
    Week,
    common,
    merged,
    minus,
)

# A Wednesday; the model knows this day and those around it.
FIRST = datetime.date(2027, 12, 1)
DAYS = 9
DAY = datetime.timedelta(days=1)
MINUTE = datetime.timedelta(minutes=1)
QUARTER = 15 * MINUTE
OFFICE, ELSEWHERE = Place(office_id=1), Place(office_id=2)
WATSON, WHO = Place(doctor_id=11), Place(doctor_id=12)
BOTH = Place(1, 11)


def at(quarter: int) -> datetime.datetime:
    return datetime.datetime.combine(FIRST, datetime.time()) + quarter * QUARTER


def span(begins: int, ends: int) -> Span:
    return Span(at(begins), at(ends))


hours = st.builds(
    lambda opens, length, office: Hours(
        opens * 15, min(24 * 60, (opens + length) * 15), office_id=office
    ),
    st.integers(0, 95),
    st.integers(1, 40),
    st.sampled_from([None, None, 1, 2]),
)
opened_days = st.lists(hours, max_size=2)


def week(place: Place) -> st.SearchStrategy[Week]:
    own = place.doctor_id is not None
    days = opened_days.map(
        lambda found: tuple(
            sorted(
                (one if own else Hours(one.opens, one.closes) for one in found),
                key=lambda one: one.opens,
            )
        )
    )
    day = st.none() | st.integers(-1, DAYS).map(lambda number: FIRST + number * DAY)
    return st.builds(
        lambda one, other, seven: Week(
            1,
            place,
            min(one, other) if one and other else one,
            max(one, other) if one and other else other,
            tuple(seven),
        ),
        day,
        day,
        st.lists(days, min_size=7, max_size=7),
    )


places = st.sampled_from([CLINIC, OFFICE, ELSEWHERE, WATSON, WHO])
weeks = st.lists(places.flatmap(week), max_size=5)
exceptions = st.lists(
    st.builds(
        lambda number, place, opens, begins, length: Exceptional(
            number, place, opens, at(begins), at(begins + length), None
        ),
        st.integers(1, 1000),
        st.sampled_from([CLINIC, OFFICE, ELSEWHERE, WATSON, WHO, BOTH, Place(2, 11)]),
        st.booleans(),
        st.integers(-96, 96 * DAYS),
        st.sampled_from([1, 3, 20, 96, 300]),
    ),
    max_size=6,
    unique_by=lambda one: one.id,
)
wanted = st.sampled_from([OFFICE, BOTH, ELSEWHERE, Place(2, 11), Place(1, 12)])


def parts(place: Place) -> list[Place]:
    """Return all that has to be open for an appointment."""
    found = [CLINIC, Place(office_id=place.office_id)]
    return [*found, Place(doctor_id=place.doctor_id)] if place.doctor_id else found


def concerns(whose: Place, place: Place) -> bool:
    """Tell whether what is said of one place holds for an appointment in another."""
    return whose.office_id in (None, place.office_id) and whose.doctor_id in (
        None,
        place.doctor_id,
    )


def in_week(
    whose: Place, place: Place, quarter: int, all_weeks: list[Week], usual: Hours | None
) -> bool:
    """Tell whether it is within the weekly hours of the clinic, an office or a doctor."""
    time = at(quarter)
    minute = time.hour * 60 + time.minute
    holding = [
        one
        for one in all_weeks
        if one.place == whose
        and (one.valid_from or datetime.date.min) <= time.date()
        and time.date() <= (one.valid_until or datetime.date.max)
    ]
    if not holding:
        return usual is None or usual.opens <= minute < usual.closes
    return any(
        opened.opens <= minute < opened.closes and opened.office_id in (None, place.office_id)
        for one in holding
        for opened in one.days[time.weekday()]
    )


def opens(whose: Place, place: Place, quarter: int, found: list[Exceptional]) -> bool:
    """Tell whether an extra opening opens a part of a place: its own, or of a narrower one."""
    ranks = {CLINIC: 0, Place(office_id=place.office_id): 1}
    return any(
        one.opens
        and one.begins <= at(quarter) < one.ends
        and concerns(one.place, place)
        and ranks.get(one.place, 2) >= ranks.get(whose, 2)
        for one in found
    )


def closures(place: Place, quarter: int, found: list[Exceptional]) -> set[int]:
    return {
        one.id
        for one in found
        if not one.opens and one.begins <= at(quarter) < one.ends and concerns(one.place, place)
    }


def joined(quarters: Iterable[int]) -> list[Span]:
    return list(merged(span(quarter, quarter + 1) for quarter in quarters))


@settings(max_examples=300)
@given(
    all_weeks=weeks,
    found=exceptions,
    place=wanted,
    begins=st.integers(0, 96 * 2),
    length=st.sampled_from([1, 2, 30, 96, 96 * (DAYS - 3)]),
    usual=st.sampled_from([WHOLE_DAY, Hours(480, 1200)]),
)
def test_it_is_open_when_the_clinic_the_office_and_the_doctor_are(  # noqa: PLR0913, PLR0917
    all_weeks: list[Week],
    found: list[Exceptional],
    place: Place,
    begins: int,
    length: int,
    usual: Hours,
) -> None:
    timetable = Timetable(all_weeks, found)
    expected = joined(
        quarter
        for quarter in range(begins, begins + length)
        if not closures(place, quarter, found)
        and all(
            in_week(whose, place, quarter, all_weeks, usual if whose == CLINIC else None)
            or opens(whose, place, quarter, found)
            for whose in parts(place)
        )
    )
    assert timetable.open_spans(place, span(begins, begins + length), usual) == expected


@settings(max_examples=300)
@given(
    all_weeks=weeks,
    found=exceptions,
    place=wanted,
    begins=st.integers(0, 96 * 3),
    length=st.sampled_from([1, 2, 8, 96]),
)
def test_all_that_is_closed_is_named(
    all_weeks: list[Week], found: list[Exceptional], place: Place, begins: int, length: int
) -> None:
    """Without usual hours: those only say which times are offered."""
    timetable = Timetable(all_weeks, found)
    quarters = range(begins, begins + length)
    closed = timetable.closed(place, span(begins, begins + length))
    named = [one.closure.id for one in closed if one.closure]
    assert sorted(named) == sorted(set().union(*(closures(place, q, found) for q in quarters)))
    outside = [one for one in closed if not one.closure]
    expected = [
        whose
        for whose in parts(place)
        if not all(
            in_week(whose, place, quarter, all_weeks, None) or opens(whose, place, quarter, found)
            for quarter in quarters
        )
    ]
    assert [one.place for one in outside] == expected
    days = {at(quarter).date() for quarter in quarters}
    of_days = [quarter for quarter in range(-96, 96 * (DAYS + 1)) if at(quarter).date() in days]
    for one in outside:
        weekly = (q for q in of_days if in_week(one.place, place, q, all_weeks, None))
        assert list(one.hours) == joined(weekly)
    assert bool(closed) != (
        timetable.open_spans(place, span(begins, begins + length))
        == [span(begins, begins + length)]
    )


def test_nothing_is_said_and_all_is_open() -> None:
    timetable = Timetable([], [])
    assert timetable.always_open
    assert timetable.closed(BOTH, span(0, 96)) == []
    assert timetable.open_spans(BOTH, span(0, 96)) == [span(0, 96)]


MORNINGS = (Hours(8 * 60, 12 * 60),)


def test_a_doctor_is_in_one_office_in_the_morning_and_in_another_after() -> None:
    days = ((Hours(480, 720, office_id=1), Hours(720, 960, office_id=2)),) * 7
    timetable = Timetable([Week(1, WATSON, None, None, days)], [])
    assert timetable.open_spans(BOTH, span(0, 96)) == [span(32, 48)]
    assert timetable.open_spans(Place(2, 11), span(0, 96)) == [span(48, 64)]
    (closed,) = timetable.closed(BOTH, span(47, 49))
    assert closed == Closed(WATSON, None, (span(32, 48),))
    # Whoever else has the office has it all day.
    assert timetable.closed(Place(1, 12), span(0, 96)) == []


@pytest.mark.parametrize("narrow", [OFFICE, WATSON, BOTH])
def test_an_extra_opening_opens_what_stands_above(narrow: Place) -> None:
    clinic = Week(1, CLINIC, None, None, (MORNINGS,) * 7)
    extra = Exceptional(7, narrow, True, at(60), at(64), None)
    timetable = Timetable([clinic], [extra])
    assert timetable.open_spans(BOTH, span(0, 96)) == [span(32, 48), span(60, 64)]
    # ... and for nobody else.
    assert timetable.open_spans(Place(2, 12), span(0, 96)) == [span(32, 48)]


def test_a_closure_stands_above_every_opening() -> None:
    extra = Exceptional(7, BOTH, True, at(40), at(64), None)
    holiday = Exceptional(8, CLINIC, False, at(0), at(96), "a public holiday")
    timetable = Timetable([], [extra, holiday])
    assert timetable.open_spans(BOTH, span(0, 96)) == []
    assert timetable.closed(BOTH, span(41, 42)) == [Closed(CLINIC, holiday)]


def test_hours_up_to_midnight_and_from_midnight_are_one_night() -> None:
    night = (Hours(0, 6 * 60), Hours(22 * 60, 24 * 60))
    timetable = Timetable([Week(1, OFFICE, None, None, (night,) * 7)], [])
    assert timetable.closed(OFFICE, span(90, 100)) == []
    assert timetable.open_spans(OFFICE, span(60, 150)) == [span(88, 120)]


def test_weeks_hold_from_their_first_day_to_their_last() -> None:
    mornings = Week(1, OFFICE, FIRST, FIRST + DAY, (MORNINGS,) * 7)
    never = Week(2, OFFICE, FIRST + 2 * DAY, FIRST + 2 * DAY, ((),) * 7)
    timetable = Timetable([mornings, never], [])
    assert timetable.open_spans(OFFICE, span(-96, 96 * 4)) == [
        span(-96, 0),
        span(32, 48),
        span(96 + 32, 96 + 48),
        span(96 * 3, 96 * 4),
    ]


bounds = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=8)


@given(one=bounds, other=bounds)
def test_spans_are_sets_of_times(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    sets = [
        {quarter for begins, length in found for quarter in range(begins, begins + length)}
        for found in (one, other)
    ]
    some, others = (
        list(merged(span(begins, begins + length) for begins, length in found))
        for found in (one, other)
    )
    assert [some, others] == [joined(quarters) for quarters in sets]
    assert list(common(some, others)) == joined(sets[0] & sets[1])
    assert list(minus(some, others)) == joined(sets[0] - sets[1])
