"""Why appointments were changed: kept beside the event log, and never in it.

An event is published, and free text may hold a name. So a reason stands in a table of its own, by
the version that the change made, which is in the event as well.
"""

from collections.abc import Mapping, Sequence

from pydantic_core import from_json, to_json

from clinic.appointments.appointment import Appointment
from clinic.database import Connection, Sql

INSERT_REASONS = Sql(
    sqlite="""
        insert into change_reason (appointment_id, version, reason)
        select value->>'appointment_id', value->>'version', :reason from json_each(:changes)
    """,
    postgresql="""
        insert into change_reason (appointment_id, version, reason)
        select appointment_id, version, cast(:reason as text)
        from json_to_recordset(cast(:changes as json))
            as change (appointment_id bigint, version integer)
    """,
)


async def insert_reasons(
    connection: Connection, changed: Sequence[Appointment], reason: str | None
) -> None:
    """Keep why appointments came to these versions, if anybody has said so."""
    if reason is not None and changed:
        changes = [{"appointment_id": one.id, "version": one.version} for one in changed]
        await connection.execute(INSERT_REASONS, {"changes": changes, "reason": reason})


DELETE_REASONS = Sql(
    sqlite="""
        delete from change_reason where appointment_id in (select value from json_each(:ids))
    """,
    postgresql="""
        delete from change_reason where appointment_id in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        )
    """,
)


async def delete_reasons(connection: Connection, ids: Sequence[int]) -> None:
    """Forget why appointments were changed: free text may hold a name."""
    await connection.execute(DELETE_REASONS, {"ids": list(ids)})


async def select_reasons(connection: Connection, appointment_id: int) -> dict[int, str]:
    """Return why an appointment came to its versions, by these."""
    rows = await connection.fetch_all(
        "select version, reason from change_reason where appointment_id = :id",
        {"id": appointment_id},
    )
    return {row["version"]: row["reason"] for row in rows}


def with_reasons(events: Sequence[str], reasons: Mapping[int, str]) -> list[str]:
    """Return events as JSON, each with the ``reason`` that was given for it, if any."""
    if not reasons:
        return list(events)
    found = []
    for body in events:
        event = from_json(body)
        reason = reasons.get(event["data"]["version"])
        found.append(body if reason is None else to_json(event | {"reason": reason}).decode())
    return found
