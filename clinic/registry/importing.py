"""Import closures from a file: first what that would do, then all of it or nothing.

What a closure was imported as stands beside it, so that the same file again changes nothing, and a
later version of it changes what has changed.
"""

import datetime
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic_core import from_json, to_json

from clinic.access import audit
from clinic.database import Connection, Database
from clinic.registry.calendar_file import KIND as CALENDAR
from clinic.registry.calendar_file import is_calendar, read_calendar
from clinic.registry.closure_file import MOST_WRONG, Contents, Entry, Origin, Wrong
from clinic.registry.imported import (
    delete_imported,
    insert_imported,
    select_imported,
    update_imported,
)
from clinic.registry.memory import Memory
from clinic.registry.queries import hold_version, select_exceptional
from clinic.registry.records import Kind, NotRegistered, RegistryChanged
from clinic.registry.schedule import FIRST_PAGE, Book, Standing, page_of
from clinic.registry.table_file import read_table
from clinic.registry.timetable import Exceptional, Place


@dataclass(frozen=True, slots=True)
class Planned:
    """What becomes of one closure, and how many appointments stand in it then.

    ``before`` is None if it is new, ``after`` if it goes. ``imported_as`` is what it is known by.
    """

    imported_as: str
    before: Exceptional | None
    after: Exceptional | None
    standing_count: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import does, by a version of the registry: nothing, if a line is wrong.

    ``known`` closures are there already as they stand in the file; ``cancelled`` are events that
    the file calls off. ``standing`` are the first appointments in the closures that are new or
    changed, in order of time.
    """

    version: int
    new: Sequence[Planned]
    changed: Sequence[Planned]
    gone: Sequence[Planned]
    known: int
    cancelled: int
    wrong: Sequence[Wrong]
    standing: Sequence[Standing]

    @property
    def changes_anything(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.new or self.changed or self.gone)


def read_closures(data: bytes, zone: zoneinfo.ZoneInfo, today: datetime.date) -> Contents:
    """Return what a file of closures says, be it an iCalendar file or a table."""
    return (read_calendar if is_calendar(data) else read_table)(data, zone, today)


@dataclass(frozen=True)
class Importing:
    """Closures from files. ``book`` says which appointments stand in them."""

    database: Database
    memory: Memory
    book: Book

    async def plan(
        self, contents: Contents, office_number: str | None = None, doctor_name: str | None = None
    ) -> Plan:
        """Return what it does to import a file; closures that name nobody are those of the names.

        Raises:
            NotRegistered: there is no office or doctor of the name that was given.
            DatabaseUnavailable: the database cannot do it now.
        """
        rules = await self.memory.current()
        own = await self._place(office_number, doctor_name)
        found: dict[str, Exceptional] = {}
        lines: dict[str, int] = {}
        wrong = list(contents.wrong)
        for entry in contents.entries:
            if len(wrong) >= MOST_WRONG:
                break  # to look for the nearest names of each takes too long
            try:
                one = await self._closure(entry, own)
            except NotRegistered as error:
                wrong.append(Wrong(entry.line, unknown(error)))
                continue
            key = key_of(entry.origin, one.place)
            if key in found:
                wrong.append(Wrong(entry.line, f"is line {lines[key]} again: leave one of the two"))
            found[key], lines[key] = one, entry.line
        async with self.database.snapshot() as connection:
            changes = await self._compare(connection, found, contents, own)
        wrong.sort(key=lambda one: one.line)
        return replace(changes, version=rules.version, wrong=wrong)

    async def carry_out(self, plan: Plan) -> dict[str, int]:
        """Do what was planned; return the ids of the closures that are new, by ``imported_as``.

        Raises:
            RegistryChanged: the registry has changed since, and nothing was done: plan again.
            OutcomeUnknown: it may have been done or not; to import the file again is safe.
            DatabaseUnavailable: the database cannot do it now.
        """

        async def change(connection: Connection) -> dict[str, int]:
            # The change that is being made is a version itself.
            if await hold_version(connection) != plan.version + 1:
                raise RegistryChanged
            await delete_imported(connection, [one.before.id for one in plan.gone if one.before])
            await update_imported(connection, [one.after for one in plan.changed if one.after])
            new = {one.imported_as: one.after for one in plan.new if one.after}
            made = await insert_imported(connection, new)
            await audit.write(connection, _audited(plan, made))
            return made

        return await self.memory.change(change)

    async def _compare(
        self,
        connection: Connection,
        found: Mapping[str, Exceptional],
        contents: Contents,
        own: Place,
    ) -> Plan:
        there = await select_imported(connection)
        closed = {
            (one.place, one.begins, one.ends)
            for one in await select_exceptional(connection)
            if not one.opens
        }
        new: list[Planned] = []
        changed: list[Planned] = []
        standing: dict[int, Standing] = {}
        for key, wanted in found.items():
            one, before = wanted, there.get(key)
            if before is not None:
                # Its office or doctor may have been merged into another since.
                one = replace(wanted, id=before.id, place=before.place)
            # Some publishers give everything another UID each time.
            if one == before or (not before and (one.place, one.begins, one.ends) in closed):
                continue
            page, count = await page_of(self.book, connection, one)
            standing |= {appointment.id: appointment for appointment in page}
            (changed if before else new).append(Planned(key, before, one, count))
        known = len(found) - len(new) - len(changed)
        gone = [
            Planned(key, before, None)
            for key, before in there.items()
            if key not in found and _is_gone(key, before, contents, own)
        ]
        first = sorted(standing.values(), key=lambda one: (one.date_time, one.id))[:FIRST_PAGE]
        return Plan(0, new, changed, gone, known, contents.cancelled, (), first)

    async def _closure(self, entry: Entry, own: Place) -> Exceptional:
        place = own
        if entry.office_number is not None or entry.doctor_name is not None:
            place = await self._place(entry.office_number, entry.doctor_name)
        begins, ends = entry.span
        return Exceptional(0, place, opens=False, begins=begins, ends=ends, reason=entry.reason)

    async def _place(self, office_number: str | None, doctor_name: str | None) -> Place:
        return Place(
            await self._id_of("office", office_number), await self._id_of("doctor", doctor_name)
        )

    async def _id_of(self, kind: Kind, name: str | None) -> int | None:
        if name is None:
            return None
        found = await self.memory.find(kind, name)
        if found is None:
            raise NotRegistered(kind, await self.memory.nearest(kind, name))
        return found.id


def key_of(origin: Origin, place: Place) -> str:
    """Return what stands beside a closure that was imported: what it is in its file, and whose."""
    parts = [origin.kind, place.office_id, place.doctor_id, origin.uid, origin.occurrence]
    return to_json(parts).decode()


def _is_gone(key: str, before: Exceptional, contents: Contents, own: Place) -> bool:
    """Tell whether a file that has said all of a UID says nothing of this closure."""
    kind, office_id, doctor_id, uid, _ = from_json(key)
    return (
        kind == CALENDAR
        and uid in contents.uids
        and Place(office_id, doctor_id) == own
        and contents.window.begins <= before.begins < contents.window.ends
    )


def unknown(error: NotRegistered) -> str:
    """Return what to say of a name that nobody has."""
    nearest = ", ".join(map(str, error.nearest))
    what = f"there is no {error.kind} of this name"
    return f"{what}: did you mean {nearest}?" if nearest else f"{what}: register it, or correct it"


def _audited(plan: Plan, made: Mapping[str, int]) -> audit.Change:
    """Return what the audit has of an import: the ids of the closures that it touched."""
    detail = {
        "made": sorted(made.values()),
        "changed": sorted(one.after.id for one in plan.changed if one.after),
        "removed": sorted(one.before.id for one in plan.gone if one.before),
    }
    return audit.Change("closures.imported", None, detail)
