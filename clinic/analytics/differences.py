"""Compare the counts with what was recorded: ``recount`` mends whatever differs."""

from dataclasses import dataclass

from clinic.analytics.counts import IN_HOURS, LATEST, chunks, rounded
from clinic.analytics.hours import last_of_month
from clinic.analytics.hours_queries import select_counted_hours
from clinic.analytics.queries import Days
from clinic.database import Connection, Sql

# So many of each kind are told: if there are more, these show what is wrong.
MOST = 100


@dataclass(frozen=True)
class Difference:
    """Something that is counted in another way than it was recorded.

    ``what`` says where in which table, ``counted`` what stands there, ``recorded`` what should.
    """

    what: str
    counted: str
    recorded: str


def on_both(template: str) -> Sql:
    """Return a statement with the words of each dialect for what differs."""
    return Sql(
        sqlite=template.format(
            uncounted="select value from uncounted, json_each(event_ids)",
            among="in (select event_id from latest)",
            month="date(first, 'start of month')",
            month_of_day="date(day.first, 'start of month')",
            year="date(first, 'start of year')",
        ),
        postgresql=template.format(
            uncounted="select unnest(event_ids) from uncounted",
            # Of a range PostgreSQL expects a part of the table, and would read all of it.
            among="= any (array(select event_id from latest))",
            month="cast(date_trunc('month', first) as date)",
            month_of_day="cast(date_trunc('month', day.first) as date)",
            year="cast(date_trunc('year', first) as date)",
        ),
    )


# How an appointment of which anything is uncounted stood when it was counted is not known any more.
SELECT_DIFFERENT_STANDING = on_both(
    f"""
    with changed as (
        select distinct appointment_id from recorded
        where appointment_id > :after and appointment_id <= :last
    ),
    latest as ({LATEST}),
    open as (
        select appointment_id from recorded where event_id in ({{uncounted}})
    ),
    compared as (
        select
            0 as counted, appointment_id, version, status, day, begins, ends, duration_minutes,
            override, office, doctor, waiting
        from event_standing where event_id {{among}}
        union all
        select
            1, appointment_id, version, status, day, begins, ends, duration_minutes,
            override, office, doctor, waiting
        from standing where appointment_id > :after and appointment_id <= :last
    )
    select
        appointment_id, max(case when counted = 1 then version end) as counted,
        max(case when counted = 0 then version end) as recorded
    from compared
    where appointment_id not in (select appointment_id from open)
    group by appointment_id
    having count(*) <> 2 or min(version) <> max(version) or min(status) <> max(status)
        or min(day) <> max(day) or min(begins) <> max(begins) or min(ends) <> max(ends)
        or min(duration_minutes) <> max(duration_minutes)
        or count(case when override then 1 end) = 1
        or min(office) <> max(office) or min(doctor) <> max(doctor)
        or count(waiting) = 1 or min(waiting) <> max(waiting)
    order by appointment_id limit :most
    """  # noqa: S608 - our own words only
)

# Each kind of tally by itself, so that no statement takes long.
TALLIED = {
    "event": """
        select day, type as key, 0 as number, count(*) as n from told_event
        where event_id not in ({uncounted}) group by day, type
    """,
    "hour": """
        select day, '' as key, hour_of_week as number, count(*) as n from told_event
        where type = 'appointment.booked' and event_id not in ({uncounted})
        group by day, hour_of_week
    """,
    "lead": """
        select day, '' as key, lead_rounded as number, count(*) as n from told_event
        where type = 'appointment.booked' and event_id not in ({uncounted})
        group by day, lead_rounded
    """,
    "status": """
        select day, status as key, 0 as number, count(*) as n from standing group by day, status
    """,
    "waiting": f"""
        select
            day, doctor as key,
            case when waiting < 0 then 0 else {rounded("waiting")} end as number, count(*) as n
        from standing where waiting is not null group by 1, 2, 3
    """,  # noqa: S608 - our own words only
}


def different_tally(measure: str) -> Sql:
    """Return what compares a kind of tally, by day."""
    return on_both(
        f"""
        select
            'tally {measure} ' || first || ' ' || key || ' ' || number as what,
            cast(sum(counted) as bigint) as counted, cast(sum(n) as bigint) as recorded
        from (
            select first, key, number, n as counted, 0 as n from tally
            where span = 'day' and measure = '{measure}'
            union all
            select day, key, number, 0, n from ({TALLIED[measure]}) as found
        ) as compared
        group by first, key, number
        having sum(counted) <> sum(n)
        order by 1 limit :most
        """  # noqa: S608 - our own words only
    )


COLUMNS = ("appointments", "minutes", "overbooked_minutes", "minutes_in_hours")
_DIFFER = " or ".join(f"sum(sign * {column}) <> 0" for column in COLUMNS)
_COUNTED = " || ' ' || ".join(
    f"sum(case when sign = 1 then {column} else 0 end)" for column in COLUMNS
)
_RECORDED = " || ' ' || ".join(
    f"sum(case when sign = -1 then {column} else 0 end)" for column in COLUMNS
)


def uses_of(kind: str) -> str:
    """Return what selects how offices, or doctors, are in use by each appointment."""
    return f"""
        select
            -1, day, '{kind}', {kind}, 1, duration_minutes,
            case when override then duration_minutes else 0 end,
            {IN_HOURS.format(kind=kind, of="standing")}
        from standing
        where day between :first and :last and status not in ('cancelled', 'no_show')
            and {kind} <> ''
    """  # noqa: S608 - our own words only


COMPARISONS = {
    **{f"tally {measure}": different_tally(measure) for measure in TALLIED},
    "sums": on_both(
        """
        select
            'tally ' || span || ' ' || measure || ' ' || first || ' ' || key || ' ' || number
                as what,
            cast(sum(counted) as bigint) as counted, cast(sum(n) as bigint) as recorded
        from (
            select span, measure, first, key, number, n as counted, 0 as n from tally
            where span <> 'day'
            union all
            select 'month', measure, {month}, key, number, 0, n from tally where span = 'day'
            union all
            select 'year', measure, {year}, key, number, 0, n from tally where span = 'day'
        ) as compared
        group by span, measure, first, key, number
        having sum(counted) <> sum(n)
        order by 1 limit :most
        """
    ),
    "booked": on_both(
        """
        select
            'in_use ' || first || ' office ' || place || ' booked' as what,
            cast(sum(booked) as bigint) as counted, cast(sum(n) as bigint) as recorded
        from (
            select first, place, booked, 0 as n from in_use
            where span = 'day' and kind = 'office'
            union all
            select day, office, 0, count(*) from told_event
            where type = 'appointment.booked' and event_id not in ({uncounted})
            group by day, office
        ) as compared
        group by first, place
        having sum(booked) <> sum(n)
        order by 1 limit :most
        """
    ),
    "in use by month": on_both(
        f"""
        select
            'in_use ' || first || ' ' || kind || ' ' || place as what,
            {_COUNTED} as counted, {_RECORDED} as recorded
        from (
            select
                1 as sign, first, kind, place, appointments + booked as appointments, minutes,
                overbooked_minutes, minutes_in_hours
            from in_use where span = 'month' and days is not null
            union all
            select
                -1, {{month}}, kind, place, appointments + booked, minutes, overbooked_minutes,
                minutes_in_hours
            from in_use as day
            where span = 'day' and exists (
                select 1 from in_use as whole
                where whole.span = 'month' and whole.days is not null
                    and whole.kind = day.kind and whole.place = day.place
                    and whole.first = {{month_of_day}}
            )
        ) as compared
        group by first, kind, place
        having {_DIFFER}
        order by 1 limit :most
        """  # noqa: S608 - our own words only
    ),
}


# A month at a time.
SELECT_DIFFERENT_USES = f"""
    select
        'in_use ' || first || ' ' || kind || ' ' || place as what,
        {_COUNTED} as counted, {_RECORDED} as recorded
    from (
        select
            1 as sign, first, kind, place, appointments, minutes, overbooked_minutes,
            minutes_in_hours
        from in_use where span = 'day' and first between :first and :last
        union all {uses_of("office")}
        union all {uses_of("doctor")}
    ) as compared
    group by first, kind, place
    having {_DIFFER}
    order by 1 limit :most
"""  # noqa: S608 - our own words only


async def differences(connection: Connection) -> list[Difference]:
    """Return what is counted in another way than it was recorded; nothing if all is right.

    Ask in a snapshot: it is right at any moment, whatever is recorded and counted meanwhile. At
    most ``MOST`` of a kind are told.
    """
    found: list[Difference] = []
    async for after, last in chunks(connection):
        values = {"after": after, "last": last, "most": MOST - len(found)}
        rows = await connection.fetch_all(SELECT_DIFFERENT_STANDING, values)
        found += [
            Difference(
                f"standing {row['appointment_id']}",
                f"version {row['counted']}",
                f"version {row['recorded']}",
            )
            for row in rows
        ]
        if len(found) >= MOST:
            break
    for month in await select_counted_hours(connection, Days()):
        days = {"first": month, "last": last_of_month(month)}
        rows = await connection.fetch_all(SELECT_DIFFERENT_USES, {**days, "most": MOST})
        found += [Difference(row["what"], row["counted"], row["recorded"]) for row in rows]
    for comparison in COMPARISONS.values():
        rows = await connection.fetch_all(comparison, {"most": MOST})
        found += [
            Difference(row["what"], str(row["counted"]), str(row["recorded"])) for row in rows
        ]
    return found
