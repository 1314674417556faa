"""Appointment types, as they are set and changed."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from clinic.access import audit
from clinic.database import Connection, Database
from clinic.registry.memory import Memory
from clinic.registry.names import name_key
from clinic.registry.queries import insert_type, select_types, update_type
from clinic.registry.records import AppointmentType, NameTaken, NoSuchRecord


@dataclass(frozen=True)
class Types:
    """The face of the appointment types."""

    database: Database
    memory: Memory

    async def all(self) -> list[AppointmentType]:
        """Return all types, in order of their names; also those that are not in use."""
        return [*(await select_types(self.database)).values()]

    async def show(self, type_id: int) -> AppointmentType:
        """Return a type.

        Raises:
            NoSuchRecord: there is none with this id.
        """
        return _found(await select_types(self.database), type_id)

    async def add(self, kind: AppointmentType) -> AppointmentType:
        """Add a type; the id of ``kind`` does not count.

        Raises:
            NameTaken: another type has this name.
        """
        return await self.memory.change(partial(self._add, kind=kind))

    async def change(self, type_id: int, fields: dict[str, Any]) -> AppointmentType:
        """Change fields of a type; what is booked stays as it is.

        Raises:
            NoSuchRecord: there is none with this id.
            NameTaken: another type has this name.
        """
        return await self.memory.change(partial(self._alter, type_id=type_id, fields=fields))

    async def _add(self, connection: Connection, kind: AppointmentType) -> AppointmentType:
        key = name_key(kind.name)
        made = await insert_type(connection, kind, key)
        if made is None:
            raise NameTaken((await select_types(connection))[key].id)
        added = replace(kind, id=made)
        await audit.write(connection, _of_type("appointment_type.added", added))
        return added

    async def _alter(
        self, connection: Connection, type_id: int, fields: dict[str, Any]
    ) -> AppointmentType:
        known = await select_types(connection)
        changed = replace(_found(known, type_id), **fields)
        owner = known.get(name_key(changed.name))
        if owner is not None and owner.id != type_id:
            raise NameTaken(owner.id)
        await update_type(connection, changed, name_key(changed.name))
        await audit.write(connection, _of_type("appointment_type.changed", changed))
        return changed


def _of_type(action: str, kind: AppointmentType) -> audit.Change:
    """Return what the audit has of a type: as it is from then on."""
    return audit.Change(action, f"appointment-type/{kind.id}", asdict(kind))


def _found(known: dict[str, AppointmentType], type_id: int) -> AppointmentType:
    for one in known.values():
        if one.id == type_id:
            return one
    raise NoSuchRecord
