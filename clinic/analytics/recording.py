"""Record events, however often they are delivered and in whatever order."""

from collections.abc import Sequence

from clinic.analytics.queries import insert_recorded
from clinic.analytics.recorded import recorded
from clinic.database import Connection, utc_now
from clinic.events import read
from clinic.messaging.message import Message


async def record(connection: Connection, messages: Sequence[Message]) -> None:
    """Record the events of a batch: each once, or none of them.

    Raises:
        Unreadable: one of them is no event.
        DatabaseUnavailable: nothing can be recorded now.
    """
    events = [recorded(read(message)) for message in messages]
    # In one order for all, so that two that record the same seldom wait in a circle.
    events.sort(key=lambda event: event.event_id)
    await insert_recorded(connection, events, utc_now())
