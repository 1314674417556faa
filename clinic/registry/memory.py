"""What a process knows of the registry, so that a booking asks the database nothing more than before.

It is right as of a version. Whoever writes by it has the statement that writes look at the version, and
judges anew if it is another one by then: so a closure, a rename or a merge counts for every booking from
the moment it is committed, in every process, and nobody has to be told.
"""

import asyncio
import contextlib
import difflib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from clinic.database import Database
from clinic.registry.names import name_key
from clinic.registry.queries import (
    draw_resource_id,
    select_by_keys,
    select_resources,
    select_rules,
    select_version_now,
)
from clinic.registry.records import (
    AppointmentType,
    Kind,
    NewResource,
    NotInUse,
    NotRegistered,
    RegistryChanged,
    Resource,
)
from clinic.registry.timetable import Timetable
from clinic.web.refusals import WrongFields

# Refusals for what is known of the registry, which may not be so any more.
BY_REGISTRY = (NotInUse, NotRegistered, WrongFields)
# So many names are remembered; who uses more asks the database for each.
MOST_NAMES = 20_000
NEAREST = 3


@dataclass(frozen=True)
class Rules:
    """The registry as of a version, but for names: when who is open, and the types by their keys."""

    version: int
    timetable: Timetable
    types: Mapping[str, AppointmentType]


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

    async def current(self) -> Rules:
        """Return what is known, read again from the database if it is of another version now.

        For what is looked for: no statement that writes looks at the version then.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        rules = await self.rules()
        try:
            await self.confirm(rules)
        except RegistryChanged:
            self.forget(rules.version)
            rules = await self.rules()
        return rules

    async def confirm(self, rules: Rules) -> None:
        """Check that the registry is as it is known, before somebody is refused for it.

        Raises:
            RegistryChanged: it has another version now.
            DatabaseUnavailable: the database cannot do it now.
        """
        if await select_version_now(self.database) != rules.version:
            raise RegistryChanged

    @contextlib.asynccontextmanager
    async def judging(self, rules: Rules) -> AsyncIterator[None]:
        """Confirm what is known before a refusal by it leaves the body.

        Raises:
            RegistryChanged: it has another version now.
            DatabaseUnavailable: the database cannot do it now.
        """
        try:
            yield
        except BY_REGISTRY:
            await self.confirm(rules)
            raise

    def forget(self, version: int) -> None:
        """Let a version be read again from the database, unless it is another one already."""
        if self._rules is not None and self._rules.version == version:
            self._rules = None

    async def find(self, kind: Kind, name: str) -> Resource | None:
        """Return the office or doctor of a name, or None if there is none.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        asked = kind, name_key(name)
        found = self._names.get(asked)
        if found is None:
            rules = self._rules
            found = (await select_by_keys(self.database, [asked])).get(asked)
            # What was read before a change must not be remembered after it.
            if found is not None and rules is not None and rules is self._rules:
                if len(self._names) >= MOST_NAMES:
                    self._names.clear()
                self._names[asked] = found
        return found

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
            raise NotRegistered(kind, await self._nearest(kind, name))
        number = await draw_resource_id(self.database)
        return NewResource(number, kind, name, name_key(name))

    async def _nearest(self, kind: Kind, name: str) -> list[str]:
        known = await select_resources(self.database, kind)
        keys = {name_key(one.name): one.name for one in known if one.active}
        close = difflib.get_close_matches(name_key(name), keys, NEAREST, cutoff=0.5)
        return [keys[key] for key in close]
