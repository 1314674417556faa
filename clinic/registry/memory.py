"""What a process remembers of the registry, so that most bookings need not ask for it.

It is right as of a version. A statement that books by it looks at the version, and does nothing if
it is another one by then: the booking is judged anew. So a closure, a rename or a merge counts for
every booking from the moment it is committed, in every process, and no process has to be told.
"""

import asyncio
import difflib
import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import anyio.to_thread

from clinic.database import Connection, Database, DatabaseUnavailable, again_if_lost
from clinic.registry.names import name_key
from clinic.registry.queries import (
    begin_change,
    draw_resource_id,
    select_by_keys,
    select_resources,
    select_rules,
    select_version,
)
from clinic.registry.records import (
    AppointmentType,
    Kind,
    NewResource,
    NotInUse,
    NotRegistered,
    Resource,
)
from clinic.registry.timetable import Timetable

Result = TypeVar("Result")

# So many names are remembered; who uses more asks the database for each.
MOST_NAMES = 20_000
NEAREST = 3
# To compare two names of 200 characters takes 1.2 ms. Compared are their beginnings, and of all
# names those that have the most pairs of characters in common with the one that was asked for.
COMPARED = 40
MOST_COMPARED = 50


@dataclass(frozen=True)
class Rules:
    """The registry as of a version, without names: who is open when, and the types by key."""

    version: int
    timetable: Timetable
    types: Mapping[str, AppointmentType]


@dataclass
class _Look:
    """A look at the database for names, for all who ask before it begins."""

    asked: set[tuple[Kind, str]] = field(default_factory=set)
    found: dict[tuple[Kind, str], Resource] | None = None
    error: DatabaseUnavailable | None = None


@dataclass
class Memory:
    """The registry of a database, as far as this process has asked for it.

    With ``closed`` a name that is not registered is refused; else the first booking registers it.
    """

    database: Database
    closed: bool = False
    _rules: Rules | None = None
    _names: dict[tuple[Kind, str], Resource] = field(default_factory=dict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    # The next look for names, which has not begun, and of which there is one at a time.
    _next: _Look | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def rules(self) -> Rules:
        """Return what is known, read from the database if nothing is.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        while self._rules is None:
            async with self._reading:
                if self._rules is None:
                    version, weeks, exceptions, types = await select_rules(self.database)
                    self._names.clear()
                    self._rules = Rules(version, Timetable(weeks, exceptions), types)
        return self._rules

    def forget(self, version: int | None = None) -> None:
        """Let the registry be read again, unless what is known is of another version already."""
        if self._rules is not None and version in (None, self._rules.version):
            self._rules = None

    async def current(self) -> Rules:
        """Return what is known, read again if the registry has another version now.

        For what is looked for, of which no statement that writes looks at the version.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        rules = await self.rules()
        return rules if await self.is_current(rules) else await self.rules()

    async def is_current(self, rules: Rules) -> bool:
        """Tell whether the registry still has this version; if not, forget it.

        Nothing is refused by what is remembered unless it is.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        current = await select_version(self.database) == rules.version
        if not current:
            self.forget(rules.version)
        return current

    async def change(self, change: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Change the registry in a transaction, and raise its version.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """

        async def transact() -> Result:
            async with self.database.transaction() as connection:
                # Before anything is read: nobody books from here on until this is committed.
                await begin_change(connection)
                return await change(connection)

        result = await again_if_lost(transact)
        self.forget()
        return result

    async def find(self, kind: Kind, name: str) -> Resource | None:
        """Return the office or doctor of a name, or None if there is none.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        asked = kind, name_key(name)
        found = self._names.get(asked)
        if found is None:
            rules = self._rules
            found = await self._look_up(asked)
            # What was read before a change must not be remembered after it.
            if found is not None and rules is not None and rules is self._rules:
                if len(self._names) >= MOST_NAMES:
                    self._names.clear()
                self._names[asked] = found
        return found

    async def _look_up(self, asked: tuple[Kind, str]) -> Resource | None:
        """Ask the database for a name, together with all who ask for any until it is asked.

        One that has begun already is not shared: it may have missed what was registered since.
        """
        look = self._next = self._next or _Look()
        look.asked.add(asked)
        async with self._looking:
            if look.found is None and look.error is None:
                # Whoever comes from here on needs a later one.
                self._next = None if self._next is look else self._next
                try:
                    look.found = await select_by_keys(self.database, sorted(look.asked))
                except DatabaseUnavailable as error:
                    look.error = error
        if look.error is not None:
            raise look.error
        return (look.found or {}).get(asked)

    async def to_book(self, kind: Kind, name: str) -> Resource | NewResource:
        """Return the office or doctor of a name, for a booking: one to register if there is none.

        Raises:
            NotInUse: it is booked no more.
            NotRegistered: there is none, and bookings register none.
            DatabaseUnavailable: the database cannot do it now.
        """
        found = await self.find(kind, name)
        if found is not None:
            if not found.active:
                raise NotInUse(kind)
            return found
        if self.closed:
            raise NotRegistered(kind, await self.nearest(kind, name))
        number = await draw_resource_id(self.database)
        return NewResource(number, kind, name, name_key(name))

    async def nearest(self, kind: Kind, name: str) -> list[str]:
        """Return the registered names that are most like one that is not."""
        known = await select_resources(self.database, kind)
        names = [one.name for one in known if one.active]
        # In a thread: where thousands are registered it takes longer than others may wait.
        return await anyio.to_thread.run_sync(most_alike, name, names)


def most_alike(name: str, names: Sequence[str]) -> list[str]:
    """Return up to ``NEAREST`` of the names that are most like one, the most alike first."""
    asked = name_key(name)[:COMPARED]
    keys = {name_key(one)[:COMPARED]: one for one in names}
    pairs = _pairs(asked)
    likely = heapq.nlargest(MOST_COMPARED, keys, key=lambda key: len(pairs & _pairs(key)))
    return [keys[key] for key in difflib.get_close_matches(asked, likely, NEAREST, cutoff=0.5)]


def _pairs(key: str) -> set[str]:
    return {key[place : place + 2] for place in range(len(key))}
