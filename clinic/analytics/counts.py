"""Count what was recorded, once and a batch at a time, into tables that any range is read from.

``recorded`` grows by rows; what they add up to is kept by day and by month in ``tally`` and in
``in_use`` (migrations/*/0004.counts.sql). An event may change how its appointment stands, which
then stops to count as it did: ``standing`` says how that was. So all that an event changes is known
without its neighbours, in whatever order they come, and these counts always are those of the events
that are recorded and no longer in ``uncounted``.

Only one transaction counts at a time, and it counts many batches: consumers would otherwise wait
for each other's rows, and update the row of a day for each event.
"""

from collections.abc import AsyncIterator

from clinic.database import Connection, Database, Dialect, Sql
from clinic.events import LARGEST_ID

# Any number but that of the lock to migrate (clinic/database/migration.py).
ADVISORY_LOCK = 0x434F554E54  # "COUNT"

# Batches in a transaction. On SQLite nobody books meanwhile.
MOST_BATCHES = {Dialect.SQLITE: 8, Dialect.POSTGRESQL: 40}
# Events in a statement of a recount.
CHUNK = 20_000

SELECT_UNCOUNTED = "select min(position) as first, max(position) as last from uncounted"

# Whatever has fewer binary digits is counted exactly.
DIGITS = 7


def rounded(minutes: str) -> str:
    """Return the expression of minutes that are rounded towards 0 to seven binary digits."""
    rungs = " ".join(
        f"when abs({minutes}) < {1 << shift + DIGITS} then {1 << shift}"
        for shift in range(32 - DIGITS)
    )
    return f"{minutes} - {minutes} % case {rungs} end"


# What `told` events add to the tallies, and appointments that have `moved` from one standing to
# another; `sign` is -1 for what they were and 1 for what they are.
CHANGES = f"""
    select 'event' as measure, day, month, year, type as key, 0 as number, count(*) as n
    from told group by day, month, year, type
    union all
    select 'hour', day, month, year, '', hour_of_week, count(*)
    from told where type = 'appointment.booked' group by day, month, year, hour_of_week
    union all
    select 'lead', day, month, year, '', lead_rounded, count(*)
    from told where type = 'appointment.booked' group by day, month, year, lead_rounded
    union all
    select 'status', day, month, year, status, 0, sum(sign)
    from moved group by day, month, year, status having sum(sign) <> 0
    union all
    select
        'waiting', day, month, year, doctor,
        case when waiting < 0 then 0 else {rounded("waiting")} end as rounded, sum(sign)
    from moved where waiting is not null
    group by day, month, year, doctor, rounded having sum(sign) <> 0
"""  # noqa: S608 - our own words only
INSERT_TALLIES = """
    insert into tally (span, measure, first, key, number, n)
    select 'day', measure, day, key, number, n from changes
    union all
    select 'month', measure, month, key, number, sum(n) from changes
    group by measure, month, key, number
    union all
    select 'year', measure, year, key, number, sum(n) from changes
    group by measure, year, key, number
    order by 1, 2, 3, 4, 5
    on conflict (span, measure, first, key, number) do update set n = tally.n + excluded.n
"""

# How many minutes of an appointment lie within the hours that its place has on its day. Those of an
# override are not asked for: without them no appointment lies over another in its office or with
# its doctor, so that minutes can be added.
IN_HOURS = """
    coalesce((
        select sum(
            case when ends < closes then ends else closes end
            - case when begins > opens then begins else opens end
        )
        from open_span as span
        where span.day = {of}.day and span.kind = '{kind}' and span.place = {of}.{kind}
            and opens < ends and closes > begins and not override
    ), 0)
"""
# Not within the statement below: tests/mutations reads it as SQL.
IN_HOURS_OF_OFFICE = IN_HOURS.format(kind="office", of="moved")
IN_HOURS_OF_DOCTOR = IN_HOURS.format(kind="doctor", of="moved")
USES = f"""
    select
        kind, place, day, month, sum(booked) as booked, sum(appointments) as appointments,
        sum(minutes) as minutes, sum(overbooked_minutes) as overbooked_minutes,
        sum(minutes_in_hours) as minutes_in_hours
    from (
        select
            'office' as kind, office as place, day, month, count(*) as booked, 0 as appointments,
            0 as minutes, 0 as overbooked_minutes, 0 as minutes_in_hours
        from told where type = 'appointment.booked' group by office, day, month
        union all
        select
            'office', office, day, month, 0, sum(sign), sum(sign * duration_minutes),
            sum(case when override then sign * duration_minutes else 0 end),
            sum(sign * {IN_HOURS_OF_OFFICE})
        from moved where status not in ('cancelled', 'no_show') group by office, day, month
        union all
        select
            'doctor', doctor, day, month, 0, sum(sign), sum(sign * duration_minutes),
            sum(case when override then sign * duration_minutes else 0 end),
            sum(sign * {IN_HOURS_OF_DOCTOR})
        from moved where status not in ('cancelled', 'no_show') and doctor <> ''
        group by doctor, day, month
    ) as parts
    group by kind, place, day, month
"""  # noqa: S608 - our own words only
# A month is found anew from its days; a day only if its hours are not known yet.
INSERT_USES = """
    insert into in_use (
        span, first, kind, place, booked, appointments, minutes, overbooked_minutes,
        minutes_in_hours
    )
    select
        'day', day, kind, place, booked, appointments, minutes, overbooked_minutes, minutes_in_hours
    from uses
    union all
    select distinct 'month', month, kind, place, 0, 0, 0, 0, 0 from uses
    order by 1, 2, 3, 4
    on conflict (span, first, kind, place) do update set
        booked = in_use.booked + excluded.booked,
        appointments = in_use.appointments + excluded.appointments,
        minutes = in_use.minutes + excluded.minutes,
        overbooked_minutes = in_use.overbooked_minutes + excluded.overbooked_minutes,
        minutes_in_hours = in_use.minutes_in_hours + excluded.minutes_in_hours,
        days = case when in_use.span = 'day' then in_use.days end
"""
INSERT_MONTHS = """
    insert into counted_hours (month, fingerprint)
    select distinct month, '' from uses
    where true
    on conflict (month) do nothing
"""

_STANDING = """
    appointment_id, version, status, day, month, year, begins, ends, duration_minutes, override,
    office, doctor, waiting
"""
INSERT_STANDING = f"""
    insert into standing ({_STANDING})
    select {_STANDING} from moved where sign = 1
    order by appointment_id
    on conflict (appointment_id) do update set
        version = excluded.version, status = excluded.status, day = excluded.day,
        month = excluded.month, year = excluded.year, begins = excluded.begins,
        ends = excluded.ends,
        duration_minutes = excluded.duration_minutes, override = excluded.override,
        office = excluded.office, doctor = excluded.doctor, waiting = excluded.waiting
"""  # noqa: S608 - our own words only

# Found one by one: PostgreSQL may know nothing of the table yet, and would read all of it.
LATEST = """
    select (
        select event_id from recorded where recorded.appointment_id = changed.appointment_id
        order by version desc, event_id desc limit 1
    ) as event_id
    from changed
"""

# What has yet to be counted, and what was counted of a chunk of appointments. (An event is recorded
# and uncounted by one transaction, so that it is in one of these, whatever others record.)
TAKE_BATCHES = Sql(
    sqlite="""
        insert into taken
        select position, event_ids from uncounted order by position limit :batches
    """,
    postgresql="""
        delete from uncounted
        where position = any (array(
            select position from uncounted order by position limit :batches
        ))
        returning event_ids
    """,
)
TAKE_CHUNK = Sql(
    sqlite="""
        insert into taken
        select null, json_group_array(event_id) from recorded
        where appointment_id > :after and appointment_id <= :last
            and event_id not in (select value from uncounted, json_each(event_ids))
    """,
    postgresql="""
        select array_agg(event_id) as event_ids from recorded
        where appointment_id > :after and appointment_id <= :last
            and event_id not in (select unnest(event_ids) from uncounted)
    """,
)


def count(take: Sql) -> Sql:
    """Return what counts the events that are taken.

    On PostgreSQL it is one statement, which sees one state of the database throughout: no part of
    it sees what others record meanwhile.
    """
    return Sql(
        sqlite=(
            "create temp table if not exists taken (position integer, event_ids text)",
            "delete from taken",
            *take.on(Dialect.SQLITE),
            "drop table if exists temp.told",
            """
            create temp table told as
            select told_event.*
            from taken cross join json_each(event_ids) as id
            cross join told_event on event_id = id.value
            """,
            "drop table if exists temp.moved",
            f"""
            create temp table moved as
            with changed as (select distinct appointment_id from told),
            latest as materialized ({LATEST})
            select -1 as sign, {_STANDING} from changed cross join standing using (appointment_id)
            union all
            select 1, {_STANDING} from latest cross join event_standing using (event_id)
            """,  # noqa: S608 - our own words only
            "drop table if exists temp.changes",
            f"create temp table changes as {CHANGES}",
            INSERT_TALLIES,
            "drop table if exists temp.uses",
            f"create temp table uses as {USES}",
            INSERT_USES,
            INSERT_MONTHS,
            INSERT_STANDING,
            "delete from uncounted where position in (select position from taken)",
            "select count(*) as events from told",
        ),
        postgresql=f"""
            with taken as ({take.postgresql}),
            told as materialized (
                select told_event.*
                from taken cross join lateral unnest(event_ids) as id
                join told_event on event_id = id
            ),
            changed as materialized (select distinct appointment_id from told),
            latest as materialized ({LATEST}),
            moved as materialized (
                select -1 as sign, {_STANDING} from changed join standing using (appointment_id)
                union all
                select 1, {_STANDING} from latest join event_standing using (event_id)
            ),
            changes as materialized ({CHANGES}),
            tallied as ({INSERT_TALLIES}),
            uses as materialized ({USES}),
            used as ({INSERT_USES}),
            months as ({INSERT_MONTHS}),
            stand as ({INSERT_STANDING})
            select count(*) as events from told
        """,  # noqa: S608 - our own words only
    )


COUNT_BATCHES = count(TAKE_BATCHES)
COUNT_CHUNK = count(TAKE_CHUNK)


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


async def select_uncounted(database: Database) -> tuple[int, int] | None:
    """Return the positions of the first and the last uncounted batch, None if there is none."""
    (row,) = await database.look(SELECT_UNCOUNTED)
    return None if row["first"] is None else (row["first"], row["last"])


async def count_batches(connection: Connection) -> int:
    """Count the batches that were recorded first; return how many events they had."""
    batches = MOST_BATCHES[connection.dialect]
    (row,) = await connection.fetch_all(COUNT_BATCHES, {"batches": batches})
    return int(row["events"])


FORGET_TALLIES = Sql(
    sqlite=(
        "delete from tally",
        "delete from in_use",
        "delete from open_span",
        "delete from counted_hours",
    ),
    postgresql="""
        with tallies as (delete from tally),
        uses as (delete from in_use),
        spans as (delete from open_span)
        delete from counted_hours
    """,
)
DELETE_STANDING = "delete from standing where appointment_id > :after and appointment_id <= :last"
SELECT_LAST_OF_CHUNK = """
    select max(appointment_id) as last
    from (
        select appointment_id from recorded where appointment_id > :after
        order by appointment_id limit :events
    ) as chunk
"""


async def recount(connection: Connection) -> int:
    """Count all anew that was recorded and counted; return how many events that are.

    What is still uncounted stays so. The hours of offices and doctors are found anew when somebody
    asks for the numbers.
    """
    await hold_counts(connection)
    await connection.execute(FORGET_TALLIES)
    events, end = 0, 0
    async for after, last in chunks(connection):
        await connection.execute(DELETE_STANDING, {"after": after, "last": last})
        (row,) = await connection.fetch_all(COUNT_CHUNK, {"after": after, "last": last})
        events, end = events + int(row["events"]), last
    await connection.execute(DELETE_STANDING, {"after": end, "last": LARGEST_ID})
    return events


async def chunks(connection: Connection) -> AsyncIterator[tuple[int, int]]:
    """Yield all appointments of which anything is recorded, some thousand events at a time.

    Each time as the id after which they begin, and the last.
    """
    after = 0
    while True:
        asked = {"after": after, "events": CHUNK}
        (row,) = await connection.fetch_all(SELECT_LAST_OF_CHUNK, asked)
        if row["last"] is None:
            return
        yield after, row["last"]
        after = row["last"]
