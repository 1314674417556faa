"""Who did what: written in the transaction in which it is done, and never altered.

What becomes of an appointment stands in its events, with who did it; here stands all else: what was
changed of the registry, tokens, what was read of patients in bulk, erased, replayed. No patient
stands in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clinic.access.queries import (
    Asked,
    Deed,
    insert_deed,
    insert_deed_at_once,
    select_deeds,
)
from clinic.acting import Act, acting
from clinic.database import Connection, Database, utc_now

__all__ = ["Asked", "Audit", "Change", "Deed", "write"]


@dataclass(frozen=True)
class Change:
    """What is done, such as ``office.changed``; to what, such as ``office/1``; and more of it."""

    action: str
    subject: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)

    def deed(self, act: Act | None = None) -> Deed:
        """Return it as done now, by whoever acts."""
        act = act or acting()
        return Deed(
            utc_now(), act.actor, act.request_id, self.action, self.subject, dict(self.detail)
        )


async def write(connection: Connection, change: Change, act: Act | None = None) -> None:
    """Write a change into the audit, in its own transaction, as done by whoever acts."""
    await insert_deed(connection, change.deed(act))


@dataclass(frozen=True)
class Audit:
    """The audit of a database."""

    database: Database

    async def read(self, action: str, detail: Mapping[str, object]) -> None:
        """Write down that patients are read in bulk, before they are.

        Raises:
            DatabaseUnavailable: it cannot be written down, so they must not be read.
        """
        await insert_deed_at_once(self.database, Change(action, None, detail).deed())

    async def page(self, asked: Asked, before: int, limit: int) -> Sequence[Deed]:
        """Return the newest deeds that are asked for, from before a position on.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        return await select_deeds(self.database, asked, before, limit)
