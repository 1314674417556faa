"""Count what was recorded, once and a batch at a time, into tables that any range is read from.

``recorded`` grows by rows; what they add up to is kept by day and by month in ``tally`` and in
``in_use`` (migrations/*/0004.counts.sql). An event may change how its appointment stands, which
then stops to count as it did: ``standing`` says how that was. So all that an event changes is known
without its neighbours, in whatever order they come, and these counts always are those of the events
that are recorded and no longer in ``uncounted``.

Only one transaction counts at a time, and it counts many batches: consumers would otherwise wait
for each other's rows, and update the row of a day for each event.
"""

from clinic.database import Connection, Database, Dialect, Sql

# Any number but that of the lock to migrate (clinic/database/migration.py).
ADVISORY_LOCK = 0x434F554E54  # "COUNT"

# Batches in a transaction. On SQLite nobody books meanwhile.
MOST_BATCHES = {Dialect.SQLITE: 4, Dialect.POSTGRESQL: 40}
# Appointments in a transaction of a recount.
CHUNK = 20_000

SELECT_ANY_UNCOUNTED = "select position from uncounted order by position limit 1"

# What `told` events, and appointments that have `moved` from one standing to another, add to the
# tallies; `sign` is -1 for what they were and 1 for what they are.
TALLIES = """
    select span, measure, first, key, number, sum(n) as n
    from (
        select span, measure, case span when 'day' then day else month end as first, key, number, n
        from (
            select 'event' as measure, day, month, type as key, 0 as number, 1 as n from told
            union all
            select 'office', day, month, office, 0, 1 from told where type = 'appointment.booked'
            union all
            select 'hour', day, month, '', hour_of_week, 1 from told
            where type = 'appointment.booked'
            union all
            select 'lead', day, month, '', lead, 1 from told where type = 'appointment.booked'
            union all
            select 'status', day, month, status, 0, sign from moved
            union all
            select 'waiting', day, month, doctor, waiting, sign from moved where waiting is not null
        ) as changes
        cross join (select 'day' as span union all select 'month') as spans
    ) as spread
    group by span, measure, first, key, number
    having sum(n) <> 0
"""
INSERT_TALLIES = f"""
    insert into tally (span, measure, first, key, number, n)
    {TALLIES}
    order by 1, 2, 3, 4, 5
    on conflict (span, measure, first, key, number) do update set n = tally.n + excluded.n
"""

# How many minutes of an appointment lie within the hours that its place has on its day.
_IN_HOURS = """
    coalesce((
        select sum(
            case when ends < closes then ends else closes end
            - case when begins > opens then begins else opens end
        )
        from open_span as span
        where span.day = used.day and span.kind = used.kind and span.place = used.place
            and opens < ends and closes > begins
    ), 0)
"""
# An appointment without an override lies over no other in its office or with its doctor: so their
# minutes can be added.
USES = f"""
    select
        span, case span when 'day' then day else month end as first, kind, place,
        sum(sign) as appointments, sum(sign * duration_minutes) as minutes,
        sum(sign * overbooked) as overbooked_minutes, sum(sign * in_hours) as minutes_in_hours
    from (
        select
            kind, place, day, month, sign, duration_minutes,
            case when override then duration_minutes else 0 end as overbooked,
            case when override then 0 else {_IN_HOURS} end as in_hours
        from (
            select 'office' as kind, office as place, moved.* from moved
            where status not in ('cancelled', 'no_show')
            union all
            select 'doctor', doctor, moved.* from moved
            where status not in ('cancelled', 'no_show') and doctor <> ''
        ) as used
    ) as changes
    cross join (select 'day' as span union all select 'month') as spans
    group by 1, 2, 3, 4
    having sum(sign) <> 0 or sum(sign * duration_minutes) <> 0 or sum(sign * overbooked) <> 0
        or sum(sign * in_hours) <> 0
"""  # noqa: S608 - our own words only
# A month is found anew from its days; a day only if its hours are not known yet.
INSERT_USES = f"""
    insert into in_use (
        span, first, kind, place, appointments, minutes, overbooked_minutes, minutes_in_hours
    )
    {USES}
    order by 1, 2, 3, 4
    on conflict (span, first, kind, place) do update set
        appointments = in_use.appointments + excluded.appointments,
        minutes = in_use.minutes + excluded.minutes,
        overbooked_minutes = in_use.overbooked_minutes + excluded.overbooked_minutes,
        minutes_in_hours = in_use.minutes_in_hours + excluded.minutes_in_hours,
        days = case when in_use.span = 'day' then in_use.days end
"""
INSERT_MONTHS = """
    insert into counted_hours (month, fingerprint)
    select distinct month, '' from moved
    where true
    on conflict (month) do nothing
"""

_STANDING = """
    appointment_id, version, status, day, month, begins, ends, duration_minutes, override, office,
    doctor, waiting
"""
INSERT_STANDING = f"""
    insert into standing ({_STANDING})
    select {_STANDING} from moved where sign = 1
    order by appointment_id
    on conflict (appointment_id) do update set
        version = excluded.version, status = excluded.status, day = excluded.day,
        month = excluded.month, begins = excluded.begins, ends = excluded.ends,
        duration_minutes = excluded.duration_minutes, override = excluded.override,
        office = excluded.office, doctor = excluded.doctor, waiting = excluded.waiting
"""  # noqa: S608 - our own words only

# One statement, which sees one state of the database throughout: what others record meanwhile is
# neither seen nor counted by any part of it.
COUNT_BATCHES = Sql(
    sqlite=(
        "create temp table if not exists taken (position integer primary key)",
        "delete from taken",
        "insert into taken select position from uncounted order by position limit :batches",
        "drop table if exists temp.told",
        """
        create temp table told as
        select told_event.*
        from taken cross join uncounted using (position)
        cross join json_each(event_ids) as id
        cross join told_event on event_id = id.value
        """,
        "drop table if exists temp.moved",
        f"""
        create temp table moved as
        select -1 as sign, {_STANDING} from standing
        where appointment_id in (select appointment_id from told)
        union all
        select 1, {_STANDING} from standing_now
        where appointment_id in (select appointment_id from told)
        """,  # noqa: S608 - our own words only
        INSERT_TALLIES,
        INSERT_USES,
        INSERT_MONTHS,
        INSERT_STANDING,
        "delete from uncounted where position in (select position from taken)",
        "select count(*) as events from told",
    ),
    postgresql=f"""
        with taken as (
            delete from uncounted
            where position = any (array(
                select position from uncounted order by position limit :batches
            ))
            returning event_ids
        ),
        told as materialized (
            select told_event.*
            from taken cross join lateral unnest(event_ids) as id
            join told_event on event_id = id
        ),
        changed as materialized (select distinct appointment_id from told),
        moved as materialized (
            select -1 as sign, {_STANDING} from changed join standing using (appointment_id)
            union all
            select 1, {_STANDING} from changed join standing_now using (appointment_id)
        ),
        tallied as ({INSERT_TALLIES}),
        used as ({INSERT_USES}),
        months as ({INSERT_MONTHS}),
        stand as ({INSERT_STANDING})
        select count(*) as events from told
    """,  # noqa: S608 - our own words only
)


async def hold_counts(connection: Connection, *, wait: bool = True) -> bool:
    """Keep others from counting until the transaction ends; tell whether that was possible.

    On SQLite a transaction that writes does so in any case. Without ``wait`` it is not possible
    while another one counts.
    """
    if connection.dialect is Dialect.SQLITE:
        return True
    which = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    (row,) = await connection.fetch_all(f"select {which}({ADVISORY_LOCK})")
    return row[which] is not False


async def any_uncounted(database: Database) -> bool:
    """Tell whether anything was recorded that is not counted yet."""
    return bool(await database.look(SELECT_ANY_UNCOUNTED))


async def count_batches(connection: Connection) -> int:
    """Count the batches that were recorded first; return how many events they had."""
    batches = MOST_BATCHES[connection.dialect]
    (row,) = await connection.fetch_all(COUNT_BATCHES, {"batches": batches})
    return int(row["events"])
