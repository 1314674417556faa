"""Closures in their table beside what they were imported as: one function, one statement."""

from collections.abc import Mapping, Sequence

from clinic.database import Connection, Sql
from clinic.registry.queries import exceptional_of
from clinic.registry.timetable import Exceptional

# All closures of a file at once: nobody books until they are there.
INSERT_IMPORTED = Sql(
    sqlite="""
        insert into exceptional_hours (
            office_id, doctor_id, opens, begins, ends, reason, imported_as
        )
        select value->>'office_id', value->>'doctor_id', 0, value->>'begins', value->>'ends',
            value->>'reason', value->>'imported_as'
        from json_each(:closures)
        returning id, imported_as
    """,
    postgresql="""
        insert into exceptional_hours (
            office_id, doctor_id, opens, begins, ends, reason, imported_as
        )
        select office_id, doctor_id, false, begins, ends, reason, imported_as
        from json_to_recordset(cast(:closures as json)) as imported (
            office_id bigint, doctor_id bigint, begins timestamp, ends timestamp, reason text,
            imported_as text
        )
        returning id, imported_as
    """,
)
UPDATE_IMPORTED = Sql(
    sqlite="""
        update exceptional_hours
        set begins = value->>'begins', ends = value->>'ends', reason = value->>'reason'
        from json_each(:closures)
        where exceptional_hours.id = value->>'id'
    """,
    postgresql="""
        update exceptional_hours
        set begins = changed.begins, ends = changed.ends, reason = changed.reason
        from json_to_recordset(cast(:closures as json)) as changed (
            id bigint, begins timestamp, ends timestamp, reason text
        )
        where exceptional_hours.id = changed.id
    """,
)
DELETE_IMPORTED = Sql(
    sqlite="delete from exceptional_hours where id in (select value from json_each(:ids))",
    postgresql="""
        delete from exceptional_hours where id in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        )
    """,
)


async def select_imported(connection: Connection) -> dict[str, Exceptional]:
    """Return the closures that were imported, by what they were imported as."""
    rows = await connection.fetch_all(
        """
        select id, office_id, doctor_id, opens, begins, ends, reason, imported_as
        from exceptional_hours where imported_as is not null
        """
    )
    return {row["imported_as"]: exceptional_of(row) for row in rows}


async def insert_imported(
    connection: Connection, closures: Mapping[str, Exceptional]
) -> dict[str, int]:
    """Keep closures, by what they are imported as; return their ids by the same."""
    values = [
        {
            "office_id": one.place.office_id,
            "doctor_id": one.place.doctor_id,
            **_imported_values(one),
            "imported_as": key,
        }
        for key, one in closures.items()
    ]
    rows = await connection.fetch_all(INSERT_IMPORTED, {"closures": values})
    return {row["imported_as"]: row["id"] for row in rows}


async def update_imported(connection: Connection, closures: Sequence[Exceptional]) -> None:
    """Write down what imported closures have become."""
    values = [{"id": one.id, **_imported_values(one)} for one in closures]
    await connection.execute(UPDATE_IMPORTED, {"closures": values})


async def delete_imported(connection: Connection, ids: Sequence[int]) -> None:
    """Take imported closures back."""
    await connection.execute(DELETE_IMPORTED, {"ids": list(ids)})


def _imported_values(one: Exceptional) -> dict[str, object]:
    return {"begins": one.begins, "ends": one.ends, "reason": one.reason}
