"""What the registry has to ask of the book: what stands in a closure; to make two resources one."""

import dataclasses
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass

from clinic.appointments.appointment import Appointment
from clinic.appointments.queries import SELECT, appointment_of, update_appointment
from clinic.appointments.standing import count_standing, select_standing
from clinic.database import Connection, Sql, utc_now
from clinic.events import EventType, tell
from clinic.messaging.outbox import Outbox
from clinic.registry.records import Kind, Resource
from clinic.registry.schedule import Standing
from clinic.registry.takeover import overlapping_pairs
from clinic.registry.timetable import Exceptional

# Appointments that are read and written at a time.
PIECE = 500

OCCUPIED: dict[Kind, str] = {
    "office": """
        select id, occupied_from, occupied_until, office_id as resource_id from appointment
        where office_id in (:one, :other) and status <> 'cancelled'
        order by occupied_from, id
    """,
    "doctor": """
        select id, occupied_from, occupied_until, doctor_id as resource_id from appointment
        where doctor_id in (:one, :other) and status <> 'cancelled'
        order by occupied_from, id
    """,
}
# Ordinary appointments go over before the overrides that were laid over them: what is there already
# when an ordinary one comes would refuse it.
PASSES = ("override_reason is null", "override_reason is not null")


@dataclass(frozen=True)
class RegistryBook:
    """The book of appointments, as the registry has to ask it."""

    outbox: Outbox
    zone: zoneinfo.ZoneInfo

    async def standing(
        self, connection: Connection, closure: Exceptional, limit: int
    ) -> Sequence[Standing]:
        """Return the first appointments that stand in a closure, in order of time."""
        found = await select_standing(connection, closure, limit)
        return [
            Standing(
                id=one.id,
                version=one.version,
                status=one.status,
                office_number=one.office_number,
                doctor_name=one.doctor_name,
                date_time=one.date_time,
                end_time=one.end_time,
            )
            for one in found
        ]

    async def count_standing(self, connection: Connection, closure: Exceptional) -> int:
        """Return how many appointments stand in a closure."""
        return await count_standing(connection, closure)

    async def overlaps(
        self, connection: Connection, kind: Kind, one: int, other: int
    ) -> Sequence[tuple[int, int]]:
        """Return the pairs of appointments, one of each of two resources, that overlap."""
        rows = await connection.fetch_all(OCCUPIED[kind], {"one": one, "other": other})
        whose = {row["id"]: row["resource_id"] for row in rows}
        pairs = overlapping_pairs(
            [(row["id"], row["occupied_from"], row["occupied_until"]) for row in rows]
        )
        return [pair for pair in pairs if whose[pair[0]] != whose[pair[1]]]

    async def move(
        self, connection: Connection, kind: Kind, source: Resource, into: Resource
    ) -> int:
        """Give all appointments of a resource to another, each with its event; return how many."""
        count = 0
        for condition in PASSES:
            select = (
                f"{SELECT} where appointment.{kind}_id = :source and {condition} "
                "order by appointment.id limit :piece"
            )
            # Whoever changes or erases one of them at this moment comes before or after.
            statement = Sql(sqlite=select, postgresql=select + " for update of appointment")
            while rows := await connection.fetch_all(
                statement, {"source": source.id, "piece": PIECE}
            ):
                for row in rows:
                    await self._move_one(connection, kind, appointment_of(row), into)
                count += len(rows)
        return count

    async def _move_one(
        self, connection: Connection, kind: Kind, appointment: Appointment, into: Resource
    ) -> None:
        happened: EventType = "appointment.reassigned"
        fields: dict[str, object] = {"doctor_id": into.id, "doctor_name": into.name}
        if kind == "office":
            happened = "appointment.rescheduled"
            fields = {"office_id": into.id, "office_number": into.name}
        moved = dataclasses.replace(
            appointment,
            version=appointment.version + 1,
            **fields,  # type: ignore[arg-type] # names and types are those above
        )
        await update_appointment(connection, moved, appointment)
        event = tell(happened, moved.facts(self.zone.key), utc_now())
        await self.outbox.append(connection, [event.message()])
