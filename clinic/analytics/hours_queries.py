"""The hours by which minutes in use are counted, one function a statement.

What is counted of a day by its hours is found when a day of an office or a doctor is first in use,
and anew when the registry says something else of the hours of its month.
"""

import datetime
from collections.abc import Sequence

from clinic.analytics.hours import first_of_month, last_of_month
from clinic.analytics.queries import Days
from clinic.database import Connection, Row, Sql, as_day


async def select_counted_hours(connection: Connection, days: Days) -> dict[datetime.date, str]:
    """Return by what hours the months that have any days of a range were counted."""
    rows = await connection.fetch_all(
        """
        select month, fingerprint from counted_hours
        where month between :first and :last order by month
        """,
        {"first": first_of_month(days.first), "last": days.last},
    )
    return {as_day(row["month"]): row["fingerprint"] for row in rows}


FORGET_HOURS = Sql(
    sqlite=(
        "delete from open_span where day between :first and :last",
        "update in_use set days = null where span = 'day' and first between :first and :last",
        "update in_use set days = null where span = 'month' and first = :first",
        "update counted_hours set fingerprint = :fingerprint where month = :first",
    ),
    postgresql="""
        with closed as (delete from open_span where day between :first and :last),
        days as (
            update in_use set days = null where span = 'day' and first between :first and :last
        ),
        months as (update in_use set days = null where span = 'month' and first = :first)
        update counted_hours set fingerprint = :fingerprint where month = :first
    """,
)


async def forget_hours(connection: Connection, month: datetime.date, fingerprint: str) -> None:
    """Have a month's hours found anew, which have this fingerprint now."""
    values = {"first": month, "last": last_of_month(month), "fingerprint": fingerprint}
    await connection.execute(FORGET_HOURS, values)


async def select_unknown_days(connection: Connection, days: Days, limit: int) -> list[Row]:
    """Return ``day``, ``kind`` and ``place`` of those whose hours on a day have yet to be found.

    Those of the first days, in order.
    """
    return await connection.fetch_all(
        """
        select first as day, kind, place from in_use
        where span = 'day' and days is null and first between :first and :last
        order by first limit :limit
        """,
        {"first": days.first, "last": days.last, "limit": limit},
    )


INSERT_OPEN_SPANS = Sql(
    sqlite="""
        insert into open_span (day, kind, place, opens, closes)
        select value->>'day', value->>'kind', value->>'place', value->>'opens', value->>'closes'
        from json_each(:spans)
        where true
        on conflict do nothing
    """,
    postgresql="""
        insert into open_span (day, kind, place, opens, closes)
        select day, kind, place, opens, closes
        from json_to_recordset(cast(:spans as json)) as found (
            day date, kind text, place text, opens int, closes int
        )
        on conflict do nothing
    """,
)


async def insert_open_spans(connection: Connection, spans: Sequence[Row]) -> None:
    """Write down hours: ``day``, ``kind``, ``place``, ``opens`` and ``closes``."""
    await connection.execute(INSERT_OPEN_SPANS, {"spans": list(spans)})


# Rows that are there already are found by their keys, whatever a planner knows of the tables.
UPDATE_KNOWN_DAYS = Sql(
    sqlite="""
        insert into in_use (
            span, first, kind, place, booked, appointments, minutes, overbooked_minutes,
            minutes_in_hours, minutes_open, days
        )
        select
            'day', value->>'day', value->>'kind', value->>'place', 0, 0, 0, 0, 0,
            value->>'minutes_open', 1
        from json_each(:known)
        where true
        on conflict (span, first, kind, place) do update set
            days = 1, minutes_open = excluded.minutes_open, minutes_in_hours = 0
    """,
    postgresql="""
        insert into in_use (
            span, first, kind, place, booked, appointments, minutes, overbooked_minutes,
            minutes_in_hours, minutes_open, days
        )
        select 'day', day, kind, place, 0, 0, 0, 0, 0, minutes_open, 1
        from json_to_recordset(cast(:known as json)) as known (
            day date, kind text, place text, minutes_open int
        )
        on conflict (span, first, kind, place) do update set
            days = 1, minutes_open = excluded.minutes_open, minutes_in_hours = 0
    """,
)


async def update_known_days(connection: Connection, known: Sequence[Row]) -> None:
    """Note that hours are written down: ``day``, ``kind``, ``place`` and ``minutes_open``."""
    await connection.execute(UPDATE_KNOWN_DAYS, {"known": list(known)})


async def update_minutes_in_hours(connection: Connection, days: Days) -> None:
    """Find again how many minutes in use on days of a range lie in the hours written down."""
    await connection.execute(
        """
        insert into in_use (
            span, first, kind, place, booked, appointments, minutes, overbooked_minutes,
            minutes_in_hours
        )
        select
            'day', used.day, used.kind, used.place, 0, 0, 0, 0,
            sum(
                case when ends < closes then ends else closes end
                - case when begins > opens then begins else opens end
            )
        from (
            select day, 'office' as kind, office as place, begins, ends from standing
            where day between :first and :last
                and status not in ('cancelled', 'no_show') and not override
            union all
            select day, 'doctor', doctor, begins, ends from standing
            where day between :first and :last
                and status not in ('cancelled', 'no_show') and not override and doctor <> ''
        ) as used
        cross join open_span
        where open_span.day = used.day and open_span.kind = used.kind
            and open_span.place = used.place and opens < ends and closes > begins
        group by used.day, used.kind, used.place
        on conflict (span, first, kind, place) do update set
            minutes_in_hours = excluded.minutes_in_hours
        """,
        {"first": days.first, "last": days.last},
    )


async def select_unknown_months(connection: Connection, days: Days) -> list[datetime.date]:
    """Return the months within a range that have yet to be added up from their days."""
    rows = await connection.fetch_all(
        """
        select distinct first from in_use
        where span = 'month' and days is null and first between :first and :last
        """,
        {"first": days.first, "last": days.last},
    )
    return [as_day(row["first"]) for row in rows]


async def update_month(connection: Connection, month: datetime.date) -> None:
    """Add a month up from its days, for those whose hours on all of them are known."""
    await connection.execute(
        """
        update in_use as whole
        set booked = found.booked, appointments = found.appointments, minutes = found.minutes,
            overbooked_minutes = found.overbooked_minutes,
            minutes_in_hours = found.minutes_in_hours, minutes_open = found.minutes_open,
            days = found.days
        from (
            select
                kind, place, sum(booked) as booked, sum(appointments) as appointments,
                sum(minutes) as minutes,
                sum(overbooked_minutes) as overbooked_minutes,
                sum(minutes_in_hours) as minutes_in_hours,
                coalesce(sum(case when appointments > 0 then minutes_open end), 0) as minutes_open,
                coalesce(sum(case when appointments > 0 then days end), 0) as days
            from in_use
            where span = 'day' and first between :first and :last
            group by kind, place
            having count(*) = count(days)
        ) as found
        where whole.span = 'month' and whole.first = :first and whole.days is null
            and whole.kind = found.kind and whole.place = found.place
        """,
        {"first": month, "last": last_of_month(month)},
    )
