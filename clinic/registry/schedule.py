"""The schedule: weekly hours, closures and openings, as they are set and taken back."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol, Self

from clinic.access import audit
from clinic.database import Connection, Database
from clinic.events import Status
from clinic.registry.memory import Memory
from clinic.registry.queries import (
    delete_exceptional,
    delete_week,
    insert_exceptional,
    insert_week,
    select_exceptional,
    select_exceptional_by_id,
    select_weeks,
    update_week,
)
from clinic.registry.records import NoSuchRecord
from clinic.registry.timetable import Exceptional, Week
from clinic.web.refusals import Refusal, WrongFields

# So many of the appointments that stand in a closure are named with it; the others are on the pages
# that follow.
FIRST_PAGE = 100


@dataclass(frozen=True, slots=True)
class Standing:
    """An appointment that stands in a closure, in a version; never whose it is."""

    id: int
    version: int
    status: Status
    office_number: str
    doctor_name: str | None
    date_time: datetime.datetime
    end_time: datetime.datetime


class HoursOverlap(Refusal):
    """Other weekly hours of the same place hold on some of these days."""

    status = HTTPStatus.CONFLICT
    slug = "hours-overlap"
    title = "Other hours hold on these days"
    explanation = (
        "The clinic, an office or a doctor has one set of weekly hours on a day: id names the set "
        "that holds on some of these days. End it before, or change it."
    )

    def __init__(self, week_id: int) -> None:
        super().__init__(
            f"The weekly hours {week_id} hold on some of these days. End them before, or change "
            "them. Nothing was changed."
        )
        self.members = {"id": week_id}

    @classmethod
    def example(cls) -> Self:
        """Return the refusal because of the weekly hours 1."""
        return cls(1)


class Book(Protocol):
    """What the schedule has to ask of the book of appointments, which stands above it."""

    async def standing(
        self, connection: Connection, closure: Exceptional, limit: int
    ) -> Sequence[Standing]:
        """Return the first appointments that stand in a closure, in order of time."""

    async def count_standing(self, connection: Connection, closure: Exceptional) -> int:
        """Return how many appointments stand in a closure."""


@dataclass(frozen=True, slots=True)
class Made:
    """A closure that was made; the first of the appointments that stand in it, and how many do."""

    closure: Exceptional
    standing: Sequence[Standing]
    standing_count: int


async def page_of(
    book: Book, connection: Connection, closure: Exceptional
) -> tuple[Sequence[Standing], int]:
    """Return the first appointments that stand in a closure, and how many do."""
    standing = await book.standing(connection, closure, FIRST_PAGE)
    if len(standing) < FIRST_PAGE:
        return standing, len(standing)
    return standing, await book.count_standing(connection, closure)


@dataclass(frozen=True)
class Schedule:
    """The face of the schedule."""

    database: Database
    memory: Memory
    book: Book

    async def weeks(self) -> list[Week]:
        """Return all weekly hours, in the order in which they were set."""
        return await select_weeks(self.database)

    async def set_week(self, week: Week) -> Week:
        """Set weekly hours; the id of ``week`` does not count.

        Raises:
            HoursOverlap: others of the same place hold on some of these days.
        """

        async def change(connection: Connection) -> Week:
            await self._check(connection, week)
            made = replace(week, id=await insert_week(connection, week))
            await audit.write(connection, _of_week("hours.set", made))
            return made

        return await self.memory.change(change)

    async def change_week(self, week_id: int, valid_until: datetime.date | None) -> Week:
        """Let weekly hours end on another day, or on none.

        Raises:
            NoSuchRecord: there are none with this id.
            WrongFields: they would end before they begin.
            HoursOverlap: others of the same place hold on some of these days.
        """

        async def change(connection: Connection) -> Week:
            found = [one for one in await select_weeks(connection) if one.id == week_id]
            if not found:
                raise NoSuchRecord
            changed = replace(found[0], valid_until=valid_until)
            begins = changed.valid_from
            if begins is not None and valid_until is not None and valid_until < begins:
                detail = f"must be {begins}, on which they begin, or later; or take them back"
                raise WrongFields([{"pointer": "#/valid_until", "detail": detail}])
            await self._check(connection, changed)
            await update_week(connection, changed)
            await audit.write(connection, _of_week("hours.changed", changed))
            return changed

        return await self.memory.change(change)

    async def remove_week(self, week_id: int) -> None:
        """Take weekly hours back.

        Raises:
            NoSuchRecord: there are none with this id.
        """

        async def change(connection: Connection) -> None:
            if not await delete_week(connection, week_id):
                raise NoSuchRecord
            await audit.write(connection, audit.Change("hours.removed", f"hours/{week_id}"))

        await self.memory.change(change)

    async def exceptional(self, *, opens: bool) -> list[Exceptional]:
        """Return all closures, or all openings, in order of time."""
        return [one for one in await select_exceptional(self.database) if one.opens == opens]

    async def closure(self, number: int) -> Exceptional:
        """Return a closure.

        Raises:
            NoSuchRecord: there is none with this id.
        """
        found = await select_exceptional_by_id(self.database, number, opens=False)
        if found is None:
            raise NoSuchRecord
        return found

    async def close(self, closure: Exceptional) -> Made:
        """Close, and say which appointments stand in it: they stay.

        From then on nobody books in it, from any process, but on purpose.
        """

        async def change(connection: Connection) -> Made:
            made = replace(closure, id=await insert_exceptional(connection, closure))
            await audit.write(connection, _of_exceptional(made))
            return Made(made, *await page_of(self.book, connection, made))

        return await self.memory.change(change)

    async def open(self, opening: Exceptional) -> Exceptional:
        """Open against the weekly hours."""

        async def change(connection: Connection) -> Exceptional:
            made = replace(opening, id=await insert_exceptional(connection, opening))
            await audit.write(connection, _of_exceptional(made))
            return made

        return await self.memory.change(change)

    async def remove_exceptional(self, number: int, *, opens: bool) -> None:
        """Take a closure or an opening back.

        Raises:
            NoSuchRecord: there is none with this id.
        """

        async def change(connection: Connection) -> None:
            if not await delete_exceptional(connection, number, opens=opens):
                raise NoSuchRecord
            name = "opening" if opens else "closure"
            await audit.write(connection, audit.Change(f"{name}.removed", f"{name}/{number}"))

        await self.memory.change(change)

    async def _check(self, connection: Connection, week: Week) -> None:
        for other in await select_weeks(connection):
            if other.id != week.id and other.place == week.place and other.overlaps(week):
                raise HoursOverlap(other.id)


def _of_week(action: str, week: Week) -> audit.Change:
    """Return what the audit has of weekly hours."""
    detail = {
        "office_id": week.place.office_id,
        "doctor_id": week.place.doctor_id,
        "valid_from": week.valid_from,
        "valid_until": week.valid_until,
    }
    return audit.Change(action, f"hours/{week.id}", detail)


def _of_exceptional(made: Exceptional) -> audit.Change:
    """Return what the audit has of a closure or an opening; its reason is for people alone."""
    detail = {
        "office_id": made.place.office_id,
        "doctor_id": made.place.doctor_id,
        "begins": made.begins,
        "ends": made.ends,
    }
    name = "opening" if made.opens else "closure"
    return audit.Change(f"{name}.made", f"{name}/{made.id}", detail)
