"""What was recorded and what it adds up to: one function, one statement."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clinic.analytics.hours import first_of_month, first_of_year, last_of_month, last_of_year
from clinic.analytics.recorded import Recorded
from clinic.database import Connection, Database, Row, Sql, as_row
from clinic.registry.timetable import DAY

# Days are compared as dates or, on SQLite, as text in the same order.
FIRST_DAY: Final = datetime.date.min
LAST_DAY: Final = datetime.date.max


@dataclass(frozen=True)
class Days:
    """A range of days, both ends included."""

    first: datetime.date = FIRST_DAY
    last: datetime.date = LAST_DAY


# An event from before there was a registry names an office and a doctor, which are registered by
# now; the office 0 is one that nobody knows, of a clinic whose log was put together by hand.
INSERT_RECORDED = Sql(
    sqlite=(
        """
        insert into uncounted (event_ids)
        select event_ids
        from (
            select json_group_array(distinct value->>'event_id') as event_ids, count(*) as events
            from json_each(:events)
            where value->>'event_id' not in (select event_id from recorded)
        )
        where events > 0
        """,
        """
        insert into recorded (
            event_id, type, appointment_id, version, status, office_id, office_number, doctor_id,
            doctor_name, day, hour_of_week, duration_minutes, lead_minutes, occurred_at,
            recorded_at, begins_minute, override
        )
        select
            value->>'event_id', value->>'type', value->>'appointment_id', value->>'version',
            value->>'status',
            coalesce(value->>'office_id', (
                select resource_id from resource_key
                where kind = 'office' and key = value->>'office_key'
            ), 0),
            value->>'office_number',
            coalesce(value->>'doctor_id', (
                select resource_id from resource_key
                where kind = 'doctor' and key = value->>'doctor_key'
            )),
            value->>'doctor_name', value->>'day', value->>'hour_of_week',
            value->>'duration_minutes', value->>'lead_minutes', value->>'occurred_at', :now,
            value->>'begins_minute', value->>'override'
        from json_each(:events)
        where true
        on conflict (event_id) do nothing
        """,
    ),
    postgresql="""
        with made as (
            insert into recorded (
                event_id, type, appointment_id, version, status, office_id, office_number,
                doctor_id, doctor_name, day, hour_of_week, duration_minutes, lead_minutes,
                occurred_at, recorded_at, begins_minute, override
            )
            select
                event_id, type, appointment_id, version, status,
                coalesce(office_id, (
                    select resource_id from resource_key where kind = 'office' and key = office_key
                ), 0),
                office_number,
                coalesce(doctor_id, (
                    select resource_id from resource_key where kind = 'doctor' and key = doctor_key
                )),
                doctor_name, day, hour_of_week, duration_minutes, lead_minutes, occurred_at,
                cast(:now as timestamptz), begins_minute, override
            from json_to_recordset(cast(:events as json)) as told (
                event_id text, type text, appointment_id bigint, version int, status text,
                office_id bigint, office_key text, office_number text, doctor_id bigint,
                doctor_key text, doctor_name text, day date, hour_of_week int,
                duration_minutes int, lead_minutes int, occurred_at timestamptz,
                begins_minute int, override boolean
            )
            on conflict (event_id) do nothing
            returning event_id
        )
        insert into uncounted (event_ids)
        select event_ids
        from (select array_agg(event_id) as event_ids from made) as batch
        where event_ids is not null
    """,
)


async def insert_recorded(
    connection: Connection, events: Sequence[Recorded], now: datetime.datetime
) -> None:
    """Record events, to be counted later; those recorded before are left as they are."""
    rows = [as_row(event) for event in events]
    await connection.execute(INSERT_RECORDED, {"events": rows, "now": now})


SELECT_RECORDED = Sql(
    sqlite="""
        select event_id from recorded where event_id in (select value from json_each(:ids))
    """,
    postgresql="""
        select event_id
        from json_array_elements_text(cast(:ids as json)) as asked (id)
        join recorded on event_id = id
    """,
)


async def select_recorded(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Return the ids among these whose events are recorded."""
    rows = await connection.fetch_all(SELECT_RECORDED, {"ids": list(ids)})
    return {row["event_id"] for row in rows}


# No day is in it.
NEVER = Days(LAST_DAY, FIRST_DAY)

# A range is read as its whole years, the whole months around these, and the days around those; or,
# where there are no years, as its whole months and the days around them.
MONTHS_AND_DAYS = {"month": "month", "day_before": "day", "day_after": "day"}
YEARS_MONTHS_AND_DAYS = {
    "year": "year",
    "month_before": "month",
    "month_after": "month",
    "day_before": "day",
    "day_after": "day",
}


def within(table: str, parts: Mapping[str, str], condition: str = "true") -> str:
    """Return what selects a table's rows of a range, whose parts have spans.

    Put together rather than asked for by ``or``, for which SQLite compares each row with others.
    """
    return " union all ".join(
        f"select * from {table} where span = '{span}' and {condition}"  # noqa: S608
        f" and first between :first_{part} and :last_{part}"
        for part, span in parts.items()
    )


def months_and_days(days: Days) -> Row:
    """Return the whole months of a range, and the days before and after them."""
    before, months, after = split(days, first_of_month, last_of_month)
    parts = {"month": months, "day_before": before, "day_after": after}
    return _limits(parts)


def years_months_and_days(days: Days) -> Row:
    """Return the whole years of a range, the months before and after them, and the other days."""
    day_before, months, day_after = split(days, first_of_month, last_of_month)
    month_before, years, month_after = split(months, first_of_year, last_of_year)
    parts = {"year": years, "month_before": month_before, "month_after": month_after}
    return _limits(parts | {"day_before": day_before, "day_after": day_after})


def _limits(parts: Mapping[str, Days]) -> Row:
    firsts = {f"first_{name}": part.first for name, part in parts.items()}
    return firsts | {f"last_{name}": part.last for name, part in parts.items()}


def split(
    days: Days,
    first_of: Callable[[datetime.date], datetime.date],
    last_of: Callable[[datetime.date], datetime.date],
) -> tuple[Days, Days, Days]:
    """Return the whole months, or years, within a range, and what is before and after them."""
    if days.first > days.last:
        return NEVER, NEVER, NEVER
    first, last = days.first, days.last
    if first != first_of(first):
        if last_of(first) >= last:
            return days, NEVER, NEVER
        first = last_of(first) + DAY
    if last != last_of(last):
        if first_of(last) <= first:
            return days, NEVER, NEVER
        last = first_of(last) - DAY
    before = NEVER if first == days.first else Days(days.first, first - DAY)
    after = NEVER if last == days.last else Days(last + DAY, days.last)
    return before, Days(first, last), after


COUNTS = within("tally", YEARS_MONTHS_AND_DAYS, "measure in ('event', 'hour', 'status')")
MEASURES = within("tally", YEARS_MONTHS_AND_DAYS, "measure in ('lead', 'waiting')")
USES = within("in_use", MONTHS_AND_DAYS)


async def select_tallies(connection: Connection, days: Days) -> list[Row]:
    """Return ``measure``, ``key``, ``number`` and how many there are, ``n``, of a range."""
    return await connection.fetch_all(
        f"""
        select measure, key, number, cast(sum(n) as bigint) as n
        from ({COUNTS}) as tally
        group by measure, key, number
        having sum(n) <> 0
        """,  # noqa: S608 - our own words only
        years_months_and_days(days),
    )


async def select_percentiles(connection: Connection, days: Days) -> list[Row]:
    """Return ``measure``, ``key``, how many there are (``n``), their ``median`` and ``p90``.

    Minutes are rounded as in the counts. ``measure`` is ``lead``; ``waiting``, with the doctor as
    the ``key``; or ``waiting of all``. The percentiles are by nearest rank: the smallest value that
    at least that share of all does not exceed.
    """
    return await connection.fetch_all(
        f"""
        with merged as (
            select '#' || id as key, '#' || merged_into as now from resource
            where merged_into is not null
        ),
        counted as (
            select measure, coalesce(now, key) as key, number, sum(n) as n
            from ({MEASURES}) as tally left join merged using (key)
            group by 1, 2, 3
            having sum(n) > 0
        ),
        measured as (
            select measure, key, number, n from counted where measure = 'lead' or key <> ''
            union all
            select 'waiting of all', '', number, sum(n) from counted where measure = 'waiting'
            group by number
        ),
        ranked as (
            select
                measure, key, number,
                cast(sum(n) over (partition by measure, key order by number) as bigint) as upto,
                cast(sum(n) over (partition by measure, key) as bigint) as total
            from measured
        )
        select
            measure, key, total as n,
            min(case when upto >= (total * 50 + 99) / 100 then number end) as median,
            min(case when upto >= (total * 90 + 99) / 100 then number end) as p90
        from ranked
        group by measure, key, total
        """,  # noqa: S608 - our own words only
        years_months_and_days(days),
    )


async def select_booked_per_day(connection: Connection, days: Days) -> list[Row]:
    """Return ``day`` and ``booked`` for each day that has any, in order."""
    return await connection.fetch_all(
        """
        select first as day, n as booked from tally
        where span = 'day' and measure = 'event' and key = 'appointment.booked'
            and first between :first and :last
        order by first
        """,
        {"first": days.first, "last": days.last},
    )


async def select_uses(connection: Connection, days: Days) -> list[Row]:
    """Return how offices and doctors are in use, by ``kind`` and ``place``, of a range.

    ``booked``, ``appointments``, ``minutes``, ``overbooked_minutes``, ``minutes_in_hours``,
    ``minutes_open`` and ``days``, all sums.
    """
    return await connection.fetch_all(
        f"""
        select
            kind, place, cast(sum(booked) as bigint) as booked,
            cast(sum(appointments) as bigint) as appointments,
            cast(sum(minutes) as bigint) as minutes,
            cast(sum(overbooked_minutes) as bigint) as overbooked_minutes,
            cast(sum(minutes_in_hours) as bigint) as minutes_in_hours,
            cast(sum(case when appointments > 0 then minutes_open end) as bigint) as minutes_open,
            cast(sum(case when appointments > 0 then days end) as bigint) as days
        from ({USES}) as in_use
        group by kind, place
        """,  # noqa: S608 - our own words only
        months_and_days(days),
    )


SELECT_USED_DAYS = Sql(
    sqlite="""
        select first as day, kind, place, minutes_open from in_use
        where span = 'day' and first between :first and :last and appointments > 0
            and place in (select value from json_each(:places))
    """,
    postgresql="""
        select first as day, kind, place, minutes_open from in_use
        where span = 'day' and first between :first and :last and appointments > 0
            and place in (select json_array_elements_text(cast(:places as json)))
    """,
)


async def select_used_days(connection: Connection, days: Days, places: Iterable[str]) -> list[Row]:
    """Return ``day``, ``kind``, ``place`` and ``minutes_open`` of days that these are in use."""
    values = {"first": days.first, "last": days.last, "places": list(places)}
    return await connection.fetch_all(SELECT_USED_DAYS, values)


async def select_names(connection: Connection) -> list[Row]:
    """Return ``id``, ``name`` and ``merged_into`` of all offices and doctors."""
    return await connection.fetch_all("select id, name, merged_into from resource")


async def select_merged(database: Database) -> dict[int, int]:
    """Return into whom each office or doctor was merged that was, by id."""
    rows = await database.look("select id, merged_into from resource where merged_into is not null")
    return {row["id"]: row["merged_into"] for row in rows}
