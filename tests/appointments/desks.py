"""Desks and writers on real databases, for tests that speak to them without HTTP."""

import asyncio
import contextlib
import datetime
import json
import zoneinfo
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any

import anyio

from clinic.appointments.appointment import NewAppointment
from clinic.appointments.desk import Desk
from clinic.appointments.numbers import draw_numbers
from clinic.appointments.requests import Booking
from clinic.database import Database
from clinic.messaging.outbox import Outbox
from clinic.registry.memory import Memory
from clinic.registry.names import name_key
from clinic.registry.queries import draw_resource_id, insert_resources
from clinic.registry.records import Kind, NewResource
from clinic.registry.timetable import Hours
from clinic.supervisor import Lifecycle, Stop

ZONE = zoneinfo.ZoneInfo("Europe/Berlin")
HOURS = Hours(8 * 60, 20 * 60)
SENT = {
    "patient_name": "Иван Иванов",
    "office_number": "221B",
    "date_time": "2027-12-01T15:30:00",
}
OVERLAPS = """
    select a.id, b.id from appointment a join appointment b
        on a.id < b.id and a.occupied_from < b.occupied_until
        and b.occupied_from < a.occupied_until
        and (a.office_id = b.office_id or a.doctor_id = b.doctor_id)
    where a.status <> 'cancelled' and b.status <> 'cancelled'
        and a.override_reason is null and b.override_reason is null
"""
# The offices of all appointments, one row each.
OFFICES = """
    select office.name from appointment join resource as office on office.id = office_id
"""
# An appointment of somebody else, who keeps to the schema and to nothing else of ours.
WRITE = """
    insert into appointment (
        patient_name, patient_key, office_id, doctor_id, date_time, duration_minutes, end_time,
        occupied_from, occupied_until
    )
    values ('x', 'x', :office_id, :doctor_id, :at, 15, :until, :at, :until)
"""


def desk_on(database: Database) -> Desk:
    outbox = Outbox(database, datetime.timedelta(hours=1))
    memory = Memory(database)
    return Desk(database, outbox, memory, zone=ZONE, appointment_minutes=15, usual=HOURS)


async def numbers_at_hand(
    desk: Desk, count: int, *, offices: Iterable[str] = (), doctors: Iterable[str] = ()
) -> None:
    """Have a desk draw numbers and learn names in advance, as one that has been busy has.

    Names that are not registered are.
    """
    desk._numbers._drawn.extend(await draw_numbers(desk._database, count))
    await desk._memory.rules()
    for name in offices:
        await resource_id(desk, "office", name)
    for name in doctors:
        await resource_id(desk, "doctor", name)


async def resource_id(desk: Desk, kind: Kind, name: str) -> int:
    """Return the id of an office or a doctor, which is registered if it is not."""
    if await desk._memory.find(kind, name) is None:
        new = NewResource(await draw_resource_id(desk._database), kind, name, name_key(name))
        async with desk._database.transaction() as connection:
            await insert_resources(connection, [new])
    found = await desk._memory.find(kind, name)
    assert found is not None
    return found.id


def booking(**fields: Any) -> NewAppointment:
    return Booking.read(SENT | fields, ZONE).wanted()


@contextlib.asynccontextmanager
async def writing(*desks: Desk) -> AsyncIterator[None]:
    """Let the desks' writers write while the body runs, and what still waits after it."""
    stop = Stop()
    async with anyio.create_task_group() as tasks:
        for desk in desks:
            tasks.start_soon(desk.writer.run, Lifecycle(stop, lambda: None))
        try:
            yield
        finally:
            stop.request()


async def outcomes(*waiting: Awaitable[Any]) -> list[Any]:
    """Return what each got, be it an exception."""
    async with asyncio.timeout(60):
        return await asyncio.gather(*waiting, return_exceptions=True)


async def rows(database: Database, sql: str) -> list[tuple[Any, ...]]:
    async with database.snapshot() as connection:
        return [tuple(row.values()) for row in await connection.fetch_all(sql)]


async def told(database: Database) -> list[dict[str, Any]]:
    """Return every event, in the order of the log."""
    found = await rows(database, "select body from event order by position")
    return [json.loads(body) for (body,) in found]
