"""The table of what was recorded: one function, one statement."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clinic.analytics.recorded import Recorded
from clinic.database import Connection, Row, Sql, as_row

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
    sqlite="""
        insert into recorded (
            event_id, type, appointment_id, version, status, office_id, office_number, doctor_id,
            doctor_name, day, hour_of_week, duration_minutes, lead_minutes, occurred_at, recorded_at
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
            value->>'duration_minutes', value->>'lead_minutes', value->>'occurred_at', :now
        from json_each(:events)
        where true
        on conflict (event_id) do nothing
    """,
    postgresql="""
        insert into recorded (
            event_id, type, appointment_id, version, status, office_id, office_number, doctor_id,
            doctor_name, day, hour_of_week, duration_minutes, lead_minutes, occurred_at, recorded_at
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
            cast(:now as timestamptz)
        from json_to_recordset(cast(:events as json)) as told (
            event_id text, type text, appointment_id bigint, version int, status text,
            office_id bigint, office_key text, office_number text, doctor_id bigint,
            doctor_key text, doctor_name text, day date, hour_of_week int, duration_minutes int,
            lead_minutes int, occurred_at timestamptz
        )
        on conflict (event_id) do nothing
    """,
)


async def insert_recorded(
    connection: Connection, events: Sequence[Recorded], now: datetime.datetime
) -> None:
    """Record events; those recorded before are left as they are."""
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


async def select_totals(connection: Connection, days: Days) -> list[Row]:
    """Return ``type`` and ``events`` for each type of event."""
    return await connection.fetch_all(
        """
        select type, count(*) as events from recorded
        where day between :first and :last group by type
        """,
        _range(days),
    )


async def select_booked_per_day(connection: Connection, days: Days) -> list[Row]:
    """Return ``day`` and ``booked`` for each day that has any, in order."""
    return await connection.fetch_all(
        """
        select day, count(*) as booked from recorded
        where type = 'appointment.booked' and day between :first and :last
        group by day order by day
        """,
        _range(days),
    )


# What an office or a doctor of a recorded event is now, and is called: one that was merged into
# another is that other, and one that the registry does not know keeps the name that the event told.
_NAMED = """
    named as (
        select one.id, coalesce(other.id, one.id) as is_now, coalesce(other.name, one.name) as name
        from resource as one left join resource as other on other.id = one.merged_into
    )
"""


async def select_booked_per_office(connection: Connection, days: Days) -> list[Row]:
    """Return ``office_number`` and ``booked`` for each office that has any, in order of names."""
    return await connection.fetch_all(
        f"""
        with {_NAMED}
        select coalesce(named.name, office_number) as office_number, count(*) as booked
        from recorded left join named on named.id = office_id
        where type = 'appointment.booked' and day between :first and :last
        group by named.is_now, coalesce(named.name, recorded.office_number) order by 1
        """,  # noqa: S608 - our own words only
        _range(days),
    )


async def select_booked_per_hour_of_week(connection: Connection, days: Days) -> list[Row]:
    """Return ``hour_of_week`` and ``booked`` for each hour that has any, in order."""
    return await connection.fetch_all(
        """
        select hour_of_week, count(*) as booked from recorded
        where type = 'appointment.booked' and day between :first and :last
        group by hour_of_week order by hour_of_week
        """,
        _range(days),
    )


async def select_lead_minutes(connection: Connection, days: Days) -> Row:
    """Return the ``median`` and the 90th percentile ``p90`` of the lead time, null if nothing.

    Both by nearest rank: the smallest value that at least that share of all does not exceed.
    """
    rows = await connection.fetch_all(
        """
        select
            min(case when rank >= (total * 50 + 99) / 100 then lead_minutes end) as median,
            min(case when rank >= (total * 90 + 99) / 100 then lead_minutes end) as p90
        from (
            select
                lead_minutes,
                row_number() over (order by lead_minutes) as rank,
                count(*) over () as total
            from recorded
            where type = 'appointment.booked' and day between :first and :last
        ) as ranked
        """,
        _range(days),
    )
    return rows[0]


# What is the latest that was told of its appointment, in whatever order it came.
_LATEST = """
    not exists (
        select 1 from recorded later
        where later.appointment_id = recorded.appointment_id and later.version > recorded.version
    )
"""


async def select_standing(connection: Connection, days: Days) -> list[Row]:
    """Return ``status`` and ``appointments``: how many stand how, by the latest event of each."""
    return await connection.fetch_all(
        f"""
        select status, count(*) as appointments from recorded
        where day between :first and :last and {_LATEST}
        group by status
        """,  # noqa: S608 - our own words only
        _range(days),
    )


async def select_occupied_per_office(connection: Connection, days: Days) -> list[Row]:
    """Return ``office_number``, ``minutes`` and ``days``: how long on how many days it is in use.

    By the latest event of each appointment, without those that were cancelled or not kept.
    """
    return await connection.fetch_all(
        f"""
        with {_NAMED}
        select coalesce(named.name, office_number) as office_number,
            sum(duration_minutes) as minutes, count(distinct day) as days
        from recorded left join named on named.id = office_id
        where day between :first and :last and status not in ('cancelled', 'no_show')
            and {_LATEST}
        group by named.is_now, coalesce(named.name, recorded.office_number) order by 1
        """,  # noqa: S608 - our own words only
        _range(days),
    )


async def select_occupied_per_doctor(connection: Connection, days: Days) -> list[Row]:
    """Return ``doctor_name``, ``minutes`` and ``days``, as ``select_occupied_per_office`` does."""
    return await connection.fetch_all(
        f"""
        with {_NAMED}
        select coalesce(named.name, doctor_name) as doctor_name,
            sum(duration_minutes) as minutes, count(distinct day) as days
        from recorded left join named on named.id = doctor_id
        where day between :first and :last and status not in ('cancelled', 'no_show')
            and doctor_name is not null and {_LATEST}
        group by named.is_now, coalesce(named.name, recorded.doctor_name) order by 1
        """,  # noqa: S608 - our own words only
        _range(days),
    )


def _range(days: Days) -> Mapping[str, object]:
    return {"first": days.first, "last": days.last}
