"""The registry: all that can be done with offices and doctors, for HTTP, pages and commands."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict

from clinic.access import audit
from clinic.database import Connection, Database
from clinic.registry.memory import Memory
from clinic.registry.names import name_key
from clinic.registry.queries import (
    delete_week,
    draw_resource_id,
    insert_key,
    insert_resources,
    move_exceptional,
    move_keys,
    replace_in_types,
    select_by_keys,
    select_resource,
    select_resources,
    select_weeks,
    update_resource,
    update_week,
)
from clinic.registry.records import Kind, NameTaken, NewResource, NoSuchRecord, Resource
from clinic.registry.timetable import place_of
from clinic.web.refusals import Refusal

# Pairs of appointments that a refused merge names.
MOST_PAIRS = 20


class _Pairs(BaseModel):
    """Ids of appointments that overlap, two and two."""

    model_config = ConfigDict(extra="allow")

    conflicts: list[tuple[int, int]]


class MergeOverlaps(Refusal):
    """Appointments of the two overlap, so they cannot be one."""

    status = HTTPStatus.CONFLICT
    slug = "merge-overlaps"
    title = "Their appointments overlap"
    explanation = (
        "Two offices or two doctors cannot become one while appointments of the one overlap those "
        "of the other: conflicts has the ids, two and two. Move or cancel one of each first."
    )
    detail = (
        "Appointments of the two overlap, and nothing was changed. Move or cancel one of each "
        "pair, then merge again."
    )
    Members = _Pairs

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.members = {"conflicts": [list(pair) for pair in pairs[:MOST_PAIRS]]}

    @classmethod
    def example(cls) -> Self:
        """Return the refusal for one pair."""
        return cls([(1, 2)])


class CannotMerge(Refusal):
    """What was asked for is no merge of two records in use."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "cannot-merge"
    title = "They cannot be merged"
    explanation = (
        "merged_into must be the id of another record of the same kind that was not merged itself; "
        "and a record that was merged cannot be changed any more."
    )
    detail = (
        "merged_into must be the id of another record of this kind, neither of them merged before. "
        "Nothing was changed."
    )


class Book(Protocol):
    """What the registry has to ask of the book of appointments, which stands above it."""

    async def overlaps(
        self, connection: Connection, kind: Kind, one: int, other: int
    ) -> Sequence[tuple[int, int]]:
        """Return the pairs of ordinary appointments of two resources that overlap, by their ids."""

    async def move(
        self, connection: Connection, kind: Kind, source: Resource, into: Resource
    ) -> int:
        """Give all appointments of a resource to another, each with its event; return how many."""


@dataclass(frozen=True)
class ResourceChange:
    """What is to become of an office or a doctor; None leaves it as it is."""

    name: str | None = None
    active: bool | None = None
    merged_into: int | None = None

    def of(self, kind: Kind, resource_id: int) -> audit.Change:
        """Return what the audit has of it."""
        wanted = {"name": self.name, "active": self.active, "merged_into": self.merged_into}
        detail = {name: value for name, value in wanted.items() if value is not None}
        return audit.Change(f"{kind}.changed", f"{kind}/{resource_id}", detail)


@dataclass(frozen=True)
class Registry:
    """The face of the registry."""

    database: Database
    memory: Memory
    book: Book

    async def all(self, kind: Kind) -> list[Resource]:
        """Return all offices, or all doctors, in order of their names."""
        return await select_resources(self.database, kind)

    async def show(self, kind: Kind, resource_id: int) -> Resource:
        """Return an office or a doctor.

        Raises:
            NoSuchRecord: there is none with this id.
        """
        return _found(await select_resource(self.database, kind, resource_id))

    async def register(self, kind: Kind, name: str) -> Resource:
        """Register an office or a doctor.

        Raises:
            NameTaken: another one has this name, or had it once.
        """
        number = await draw_resource_id(self.database)
        new = NewResource(number, kind, name, name_key(name))
        async with self.database.transaction() as connection:
            if not await insert_resources(connection, [new]):
                asked = kind, new.key
                raise NameTaken((await select_by_keys(connection, [asked]))[asked].id)
            await audit.write(connection, new.registered())
        return await self.show(kind, number)

    async def change(self, kind: Kind, resource_id: int, wanted: ResourceChange) -> Resource:
        """Rename an office or a doctor, take it out of use or into it, or merge it into another.

        What is booked follows a name, stays with what is not in use, and goes over with a merge.

        Raises:
            NoSuchRecord: there is none with this id.
            NameTaken: another one has the name, or had it once.
            CannotMerge: it is the same, or one of the two was merged before.
            MergeOverlaps: appointments of the two overlap.
        """
        return await self.memory.change(
            partial(self._change, kind=kind, resource_id=resource_id, wanted=wanted)
        )

    async def _change(
        self, connection: Connection, kind: Kind, resource_id: int, wanted: ResourceChange
    ) -> Resource:
        current = _found(await select_resource(connection, kind, resource_id))
        if current.merged_into is not None:
            raise CannotMerge
        await audit.write(connection, wanted.of(kind, resource_id))
        if wanted.merged_into is not None:
            return await self._merge(connection, current, wanted.merged_into)
        if wanted.name is not None:
            owner = await insert_key(connection, kind, name_key(wanted.name), resource_id)
            if owner is not None:
                raise NameTaken(owner)
        changed = replace(
            current,
            name=current.name if wanted.name is None else wanted.name,
            active=current.active if wanted.active is None else wanted.active,
        )
        await update_resource(connection, changed)
        return changed

    async def _merge(self, connection: Connection, source: Resource, into_id: int) -> Resource:
        into = await select_resource(connection, source.kind, into_id)
        if into is None or into.merged_into is not None or into.id == source.id:
            raise CannotMerge
        pairs = await self.book.overlaps(connection, source.kind, source.id, into.id)
        if pairs:
            raise MergeOverlaps(pairs)
        await self.book.move(connection, source.kind, source, into)
        await move_keys(connection, source.id, into.id)
        await replace_in_types(connection, source.kind, source.id, into.id)
        await self._merge_schedules(connection, source, into)
        merged = replace(source, active=False, merged_into=into.id)
        await update_resource(connection, merged)
        return merged

    async def _merge_schedules(
        self, connection: Connection, source: Resource, into: Resource
    ) -> None:
        """Have closures, openings and hours mean the one that is left.

        Where both have weekly hours, those of the one that is left hold.
        """
        weeks = await select_weeks(connection)
        theirs = place_of(source.kind, source.id)
        has_hours = any(week.place == place_of(source.kind, into.id) for week in weeks)
        for week in weeks:
            if week.place == theirs and has_hours:
                await delete_week(connection, week.id)
                continue
            changed = week.with_resource(source.kind, source.id, into.id)
            if changed != week:
                await update_week(connection, changed)
        await move_exceptional(connection, source.kind, source.id, into.id)


def _found(resource: Resource | None) -> Resource:
    if resource is None:
        raise NoSuchRecord
    return resource
