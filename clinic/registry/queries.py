"""The tables of the registry: one function, one statement."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from clinic.database import Connection, Database, Row, Sql, as_day, as_wall_clock
from clinic.registry.records import AppointmentType, Kind, NewResource, Resource
from clinic.registry.timetable import Exceptional, Hours, Place, Week

Reads = Connection | Database

# All that says when something is open, and which types there are, as of one version. Each is one
# JSON text, for rows take several times as long.
SELECT_RULES = Sql(
    sqlite="""
        select version, (
            select json_group_array(json_object(
                'id', id, 'office_id', office_id, 'doctor_id', doctor_id,
                'valid_from', valid_from, 'valid_until', valid_until, 'days', json(days)
            )) from weekly_hours
        ) as weeks, (
            select json_group_array(json_object(
                'id', id, 'office_id', office_id, 'doctor_id', doctor_id, 'opens', opens,
                'begins', begins, 'ends', ends, 'reason', reason
            )) from exceptional_hours
        ) as exceptions, (
            select json_group_array(json_object(
                'id', id, 'key', key, 'name', name, 'active', active,
                'duration_minutes', duration_minutes,
                'buffer_before_minutes', buffer_before_minutes,
                'buffer_after_minutes', buffer_after_minutes, 'colour', colour,
                'offices', json(offices), 'doctors', json(doctors)
            )) from appointment_type
        ) as types
        from registry
    """,
    postgresql="""
        select version, (
            select json_agg(json_build_object(
                'id', id, 'office_id', office_id, 'doctor_id', doctor_id,
                'valid_from', valid_from, 'valid_until', valid_until, 'days', cast(days as json)
            )) from weekly_hours
        ) as weeks, (
            select json_agg(json_build_object(
                'id', id, 'office_id', office_id, 'doctor_id', doctor_id, 'opens', opens,
                'begins', begins, 'ends', ends, 'reason', reason
            )) from exceptional_hours
        ) as exceptions, (
            select json_agg(json_build_object(
                'id', id, 'key', key, 'name', name, 'active', active,
                'duration_minutes', duration_minutes,
                'buffer_before_minutes', buffer_before_minutes,
                'buffer_after_minutes', buffer_after_minutes, 'colour', colour,
                'offices', cast(offices as json), 'doctors', cast(doctors as json)
            )) from appointment_type
        ) as types
        from registry
    """,
)


async def select_rules(
    target: Reads,
) -> tuple[int, list[Week], list[Exceptional], dict[str, AppointmentType]]:
    """Return the version, weekly hours, closures and openings, and the types by their keys."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    (row,) = await read(SELECT_RULES)
    weeks = [week_of(one) for one in from_json(row["weeks"] or "[]")]
    exceptions = [exceptional_of(one) for one in from_json(row["exceptions"] or "[]")]
    types = {one["key"]: type_of(one) for one in from_json(row["types"] or "[]")}
    return row["version"], weeks, exceptions, types


def week_of(row: Mapping[str, Any]) -> Week:
    """Return weekly hours as they stand in a row, or in JSON made of one."""
    days = row["days"] if isinstance(row["days"], list) else from_json(row["days"])
    return Week(
        id=row["id"],
        place=Place(row["office_id"], row["doctor_id"]),
        valid_from=None if row["valid_from"] is None else as_day(row["valid_from"]),
        valid_until=None if row["valid_until"] is None else as_day(row["valid_until"]),
        days=tuple(tuple(Hours(*hours) for hours in day) for day in days),
    )


def exceptional_of(row: Mapping[str, Any]) -> Exceptional:
    """Return a closure or an opening as it stands in a row, or in JSON made of one."""
    return Exceptional(
        id=row["id"],
        place=Place(row["office_id"], row["doctor_id"]),
        opens=bool(row["opens"]),
        begins=as_wall_clock(row["begins"]),
        ends=as_wall_clock(row["ends"]),
        reason=row["reason"],
    )


def type_of(row: Mapping[str, Any]) -> AppointmentType:
    """Return an appointment type as it stands in a row, or in JSON made of one."""
    return AppointmentType(
        id=row["id"],
        name=row["name"],
        active=bool(row["active"]),
        duration_minutes=row["duration_minutes"],
        buffer_before_minutes=row["buffer_before_minutes"],
        buffer_after_minutes=row["buffer_after_minutes"],
        colour=row["colour"],
        offices=_ids(row["offices"]),
        doctors=_ids(row["doctors"]),
    )


def _ids(value: str | list[int] | None) -> frozenset[int] | None:
    if value is None:
        return None
    return frozenset(from_json(value) if isinstance(value, str) else value)


SELECT_BY_KEYS = Sql(
    sqlite="""
        select resource_key.kind, resource_key.key, resource.id, resource.name, resource.active,
            resource.merged_into
        from json_each(:keys)
        join resource_key
            on resource_key.kind = value->>'kind' and resource_key.key = value->>'key'
        join resource on resource.id = resource_key.resource_id
    """,
    postgresql="""
        select resource_key.kind, resource_key.key, resource.id, resource.name, resource.active,
            resource.merged_into
        from json_to_recordset(cast(:keys as json)) as asked (kind text, key text)
        join resource_key using (kind, key)
        join resource on resource.id = resource_key.resource_id
    """,
)


async def select_by_keys(
    target: Reads, keys: Sequence[tuple[Kind, str]]
) -> dict[tuple[Kind, str], Resource]:
    """Return the resources that have these keys, by kind and key."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(SELECT_BY_KEYS, {"keys": [{"kind": kind, "key": key} for kind, key in keys]})
    return {(row["kind"], row["key"]): resource_of(row) for row in rows}


def resource_of(row: Row) -> Resource:
    """Return an office or a doctor as it stands in a row."""
    return Resource(
        id=row["id"],
        kind=row["kind"],
        name=row["name"],
        active=bool(row["active"]),
        merged_into=row["merged_into"],
    )


async def select_resources(target: Reads, kind: Kind) -> list[Resource]:
    """Return all offices, or all doctors, in order of their names."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(
        """
        select id, kind, name, active, merged_into from resource
        where kind = :kind order by name, id
        """,
        {"kind": kind},
    )
    return [resource_of(row) for row in rows]


async def select_resource(target: Reads, kind: Kind, resource_id: int) -> Resource | None:
    """Return the office or the doctor with an id, or None if there is none."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(
        """
        select id, kind, name, active, merged_into from resource
        where kind = :kind and id = :id
        """,
        {"kind": kind, "id": resource_id},
    )
    return resource_of(rows[0]) if rows else None


DRAW_RESOURCE_ID = Sql(
    sqlite=(
        # SQLite makes this row with the first resource, which needs an id before.
        """
        insert into sqlite_sequence (name, seq)
        select 'resource', (select coalesce(max(id), 0) from resource)
        where not exists (select 1 from sqlite_sequence where name = 'resource')
        """,
        "update sqlite_sequence set seq = seq + 1 where name = 'resource'",
        "select seq as id from sqlite_sequence where name = 'resource'",
    ),
    postgresql="select nextval(pg_get_serial_sequence('resource', 'id')) as id",
)


async def draw_resource_id(database: Database) -> int:
    """Return an id that no resource has and that nobody else is given."""
    (row,) = await database.at_once(DRAW_RESOURCE_ID)
    return int(row["id"])


# Registers what nobody has registered meanwhile: of two at once PostgreSQL has one wait for the
# other.
INSERT_RESOURCES = Sql(
    sqlite=(
        """
        insert into resource (id, kind, name)
        select value->>'id', value->>'kind', value->>'name' from json_each(:resources)
        where not exists (
            select 1 from resource_key
            where resource_key.kind = value->>'kind' and resource_key.key = value->>'key'
        )
        """,
        """
        insert into resource_key (kind, key, resource_id)
        select value->>'kind', value->>'key', value->>'id'
        from json_each(:resources) join resource on resource.id = value->>'id'
        """,
        """
        select resource.id from json_each(:resources) join resource on resource.id = value->>'id'
        """,
    ),
    postgresql="""
        with asked as (
            select * from json_to_recordset(cast(:resources as json))
                as asked (id bigint, kind text, name text, key text)
        ),
        keyed as (
            insert into resource_key (kind, key, resource_id)
            select kind, key, id from asked
            on conflict do nothing
            returning resource_id
        )
        insert into resource (id, kind, name)
        select id, kind, name from asked join keyed on keyed.resource_id = asked.id
        returning id
    """,
)


async def insert_resources(connection: Connection, resources: Sequence[NewResource]) -> set[int]:
    """Register offices and doctors, no two of one key; return the ids of those that were new."""
    rows = [{"id": one.id, "kind": one.kind, "name": one.name, "key": one.key} for one in resources]
    found = await connection.fetch_all(INSERT_RESOURCES, {"resources": rows})
    return {row["id"] for row in found}


DELETE_RESOURCES = Sql(
    sqlite=(
        "delete from resource_key where resource_id in (select value from json_each(:ids))",
        "delete from resource where id in (select value from json_each(:ids))",
    ),
    postgresql="""
        with unkeyed as (
            delete from resource_key where resource_id in (
                select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
            )
        )
        delete from resource where id in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        )
    """,
)


async def delete_resources(connection: Connection, ids: Sequence[int]) -> None:
    """Take back what was registered in this transaction for bookings that were not made."""
    await connection.execute(DELETE_RESOURCES, {"ids": list(ids)})


SELECT_VERSION = "select version from registry"


async def select_version(database: Database) -> int:
    """Return the version of the registry."""
    (row,) = await database.look(SELECT_VERSION)
    return int(row["version"])


# Nobody changes the registry until the transaction ends.
HOLD_VERSION = Sql(sqlite=SELECT_VERSION, postgresql=SELECT_VERSION + " for share")


async def hold_version(connection: Connection) -> int:
    """Return the version of the registry, which stays so until the transaction ends."""
    (row,) = await connection.fetch_all(HOLD_VERSION)
    return int(row["version"])


async def begin_change(connection: Connection) -> None:
    """Raise the version. Bookings that are being written are done first; others judge anew."""
    await connection.execute("update registry set version = version + 1")


async def insert_key(connection: Connection, kind: Kind, key: str, resource_id: int) -> int | None:
    """Give a resource another key; return whose it is if it is another's."""
    await connection.execute(
        """
        insert into resource_key (kind, key, resource_id) values (:kind, :key, :resource_id)
        on conflict do nothing
        """,
        {"kind": kind, "key": key, "resource_id": resource_id},
    )
    rows = await connection.fetch_all(
        "select resource_id from resource_key where kind = :kind and key = :key",
        {"kind": kind, "key": key},
    )
    owner = int(rows[0]["resource_id"])
    return None if owner == resource_id else owner


async def update_resource(connection: Connection, resource: Resource) -> None:
    """Write down what an office or a doctor has become."""
    await connection.execute(
        """
        update resource set name = :name, active = :active, merged_into = :merged_into
        where id = :id
        """,
        {
            "id": resource.id,
            "name": resource.name,
            "active": resource.active,
            "merged_into": resource.merged_into,
        },
    )


async def move_keys(connection: Connection, resource_id: int, into: int) -> None:
    """Let all names of a resource mean another, also of what was merged into it before."""
    values = {"resource_id": resource_id, "into": into}
    await connection.execute(
        "update resource_key set resource_id = :into where resource_id = :resource_id", values
    )
    await connection.execute(
        "update resource set merged_into = :into where merged_into = :resource_id", values
    )


SELECT_TYPES = "select id, offices, doctors from appointment_type"
UPDATE_TYPE_OFFERS = """
    update appointment_type set offices = :offices, doctors = :doctors where id = :id
"""


async def replace_in_types(connection: Connection, kind: Kind, resource_id: int, into: int) -> None:
    """Have a resource offer what another has offered so far."""
    column = "offices" if kind == "office" else "doctors"
    for row in await connection.fetch_all(SELECT_TYPES):
        those = _ids(row[column])
        if those is not None and resource_id in those:
            changed = sorted(those - {resource_id} | {into})
            offers = {"offices": row["offices"], "doctors": row["doctors"], column: changed}
            await connection.execute(UPDATE_TYPE_OFFERS, {"id": row["id"], **offers})


async def insert_week(connection: Connection, week: Week) -> int:
    """Keep weekly hours, and return their id."""
    rows = await connection.fetch_all(
        """
        insert into weekly_hours (office_id, doctor_id, valid_from, valid_until, days)
        values (:office_id, :doctor_id, :valid_from, :valid_until, :days)
        returning id
        """,
        {
            "office_id": week.place.office_id,
            "doctor_id": week.place.doctor_id,
            "valid_from": week.valid_from,
            "valid_until": week.valid_until,
            "days": _days_json(week),
        },
    )
    return int(rows[0]["id"])


async def insert_exceptional(connection: Connection, one: Exceptional) -> int:
    """Keep a closure or an opening, and return its id."""
    rows = await connection.fetch_all(
        """
        insert into exceptional_hours (office_id, doctor_id, opens, begins, ends, reason)
        values (:office_id, :doctor_id, :opens, :begins, :ends, :reason)
        returning id
        """,
        {
            "office_id": one.place.office_id,
            "doctor_id": one.place.doctor_id,
            "opens": one.opens,
            "begins": one.begins,
            "ends": one.ends,
            "reason": one.reason,
        },
    )
    return int(rows[0]["id"])


async def select_exceptional_by_id(
    target: Reads, number: int, *, opens: bool
) -> Exceptional | None:
    """Return the closure or the opening with an id, or None if there is none."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(
        """
        select id, office_id, doctor_id, opens, begins, ends, reason from exceptional_hours
        where id = :id and opens = :opens
        """,
        {"id": number, "opens": opens},
    )
    return exceptional_of(rows[0]) if rows else None


async def select_weeks(target: Reads) -> list[Week]:
    """Return all weekly hours, in the order in which they were set."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(
        """
        select id, office_id, doctor_id, valid_from, valid_until, days from weekly_hours
        order by id
        """
    )
    return [week_of(row) for row in rows]


async def update_week(connection: Connection, week: Week) -> None:
    """Write down what weekly hours have become."""
    await connection.execute(
        """
        update weekly_hours
        set office_id = :office_id, doctor_id = :doctor_id, valid_until = :valid_until, days = :days
        where id = :id
        """,
        {
            "id": week.id,
            "office_id": week.place.office_id,
            "doctor_id": week.place.doctor_id,
            "valid_until": week.valid_until,
            "days": _days_json(week),
        },
    )


def _days_json(week: Week) -> list[list[list[int | None]]]:
    return [[[one.opens, one.closes, one.office_id] for one in day] for day in week.days]


MOVE_EXCEPTIONAL: dict[Kind, str] = {
    "office": "update exceptional_hours set office_id = :into where office_id = :resource_id",
    "doctor": "update exceptional_hours set doctor_id = :into where doctor_id = :resource_id",
}


async def move_exceptional(connection: Connection, kind: Kind, resource_id: int, into: int) -> None:
    """Have closures and openings of an office or a doctor be those of another."""
    values = {"resource_id": resource_id, "into": into}
    await connection.execute(MOVE_EXCEPTIONAL[kind], values)


async def delete_week(connection: Connection, week_id: int) -> bool:
    """Take weekly hours back; return whether there were any with this id."""
    rows = await connection.fetch_all(
        "delete from weekly_hours where id = :id returning id", {"id": week_id}
    )
    return bool(rows)


async def select_exceptional(target: Reads) -> list[Exceptional]:
    """Return all closures and openings, in order of time."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(
        """
        select id, office_id, doctor_id, opens, begins, ends, reason from exceptional_hours
        order by begins, id
        """
    )
    return [exceptional_of(row) for row in rows]


async def delete_exceptional(connection: Connection, number: int, *, opens: bool) -> bool:
    """Take a closure or an opening back; return whether there was one with this id."""
    rows = await connection.fetch_all(
        "delete from exceptional_hours where id = :id and opens = :opens returning id",
        {"id": number, "opens": opens},
    )
    return bool(rows)


INSERT_TYPE = """
    insert into appointment_type (
        key, name, duration_minutes, buffer_before_minutes, buffer_after_minutes, colour, offices,
        doctors
    )
    values (
        :key, :name, :duration_minutes, :buffer_before_minutes, :buffer_after_minutes, :colour,
        :offices, :doctors
    )
    on conflict do nothing
    returning id
"""


async def insert_type(connection: Connection, kind: AppointmentType, key: str) -> int | None:
    """Keep an appointment type, and return its id; None if another has the key."""
    rows = await connection.fetch_all(INSERT_TYPE, {"key": key, **_type_values(kind)})
    return int(rows[0]["id"]) if rows else None


UPDATE_TYPE = """
    update appointment_type
    set key = :key, name = :name, active = :active, duration_minutes = :duration_minutes,
        buffer_before_minutes = :buffer_before_minutes,
        buffer_after_minutes = :buffer_after_minutes, colour = :colour, offices = :offices,
        doctors = :doctors
    where id = :id
"""


async def update_type(connection: Connection, kind: AppointmentType, key: str) -> None:
    """Write down what an appointment type has become."""
    values = {"id": kind.id, "key": key, "active": kind.active, **_type_values(kind)}
    await connection.execute(UPDATE_TYPE, values)


def _type_values(kind: AppointmentType) -> dict[str, object]:
    return {
        "name": kind.name,
        "duration_minutes": kind.duration_minutes,
        "buffer_before_minutes": kind.buffer_before_minutes,
        "buffer_after_minutes": kind.buffer_after_minutes,
        "colour": kind.colour,
        "offices": None if kind.offices is None else sorted(kind.offices),
        "doctors": None if kind.doctors is None else sorted(kind.doctors),
    }


async def select_types(target: Reads) -> dict[str, AppointmentType]:
    """Return all appointment types by their keys, in order of their names."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(
        """
        select id, key, name, active, duration_minutes, buffer_before_minutes,
            buffer_after_minutes, colour, offices, doctors
        from appointment_type order by name, id
        """
    )
    return {row["key"]: type_of(row) for row in rows}
