"""Record events, however often they are delivered and in whatever order."""

from collections.abc import Sequence
from dataclasses import dataclass

from clinic.analytics.queries import insert_recorded
from clinic.analytics.recorded import recorded
from clinic.database import Database, utc_now
from clinic.events import read
from clinic.messaging.message import Message


@dataclass(frozen=True)
class Ledger:
    """Where analytics records what it is told."""

    database: Database

    async def record(self, messages: Sequence[Message]) -> None:
        """Record the events of a batch in one transaction: each once, or none of them.

        Raises:
            Unreadable: one of them is no event.
            DatabaseUnavailable: nothing can be recorded now.
        """
        events = [recorded(read(message)) for message in messages]
        async with self.database.transaction() as connection:
            await insert_recorded(connection, events, utc_now())
