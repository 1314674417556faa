"""Record events, however often they are delivered and in whatever order.

Anybody may publish to the queue. So a message only says which event to record, and the event is
recorded as it stands in the clinic's own log.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from clinic.analytics.queries import insert_recorded, select_recorded
from clinic.analytics.recorded import Recorded, recorded
from clinic.database import Connection, utc_now
from clinic.events import Event, read
from clinic.messaging.consumer import Standing
from clinic.messaging.message import Message, Unreadable, may_be_an_id, shown
from clinic.messaging.outbox import select_events

log = logging.getLogger(__name__)

OTHER_ID = "no event of ours: its message_id is not the id of the event in its body"
NOT_LOGGED = (
    "no event of this clinic's log has this id; where another clinic, or a copy of this one, uses "
    "the same queue, give each a vhost of its own"
)


async def record(
    connection: Connection, messages: Sequence[Message]
) -> Sequence[Unreadable | None]:
    """Record the events of a batch, each once.

    Return for each message, in order, None if its event is recorded, or why it has none.

    Raises:
        DatabaseUnavailable: nothing can be recorded now.
    """
    ids = ids_of(messages)
    logged = await select_events(connection, ids) if ids else {}
    events: list[Recorded] = []
    failures: list[Unreadable | None] = []
    for message in messages:
        failure: Unreadable | None = None
        try:
            events.append(recorded(read_from_log(message, logged)))
        except Unreadable as unreadable:
            # The traceback refers to this frame: with it, a cycle would keep the batch in memory.
            failure = unreadable.with_traceback(None)
        failures.append(failure)
    # Sorted, or consumers that record the same events would deadlock.
    events.sort(key=lambda event: event.event_id)
    if events:
        await insert_recorded(connection, events, utc_now())
    return failures


async def recognise(connection: Connection, messages: Sequence[Message]) -> Sequence[Standing]:
    """Return the standing of each message, in order.

    Raises:
        DatabaseUnavailable: the database cannot tell now.
    """
    ids = ids_of(messages)
    logged = await select_events(connection, ids) if ids else {}
    known = await select_recorded(connection, list(logged)) if logged else set()
    return [
        Standing.FOREIGN
        if not is_its_event(message, logged)
        else Standing.HANDLED
        if message.id in known
        else Standing.OPEN
        for message in messages
    ]


def ids_of(messages: Sequence[Message]) -> list[str]:
    """Return the ids of the messages that may have an event of ours."""
    return [message.id for message in messages if may_be_an_id(message.id)]


def read_from_log(message: Message, logged: Mapping[str, str]) -> Event:
    """Return the event of a message as it stands in the log.

    ``logged`` has the bodies of events by id.

    Raises:
        Unreadable: the message has none.
    """
    body = logged.get(message.id)
    if body == message.body:
        return read(message)
    if read(message).id != message.id:
        raise Unreadable(OTHER_ID)
    if body is None:
        raise Unreadable(NOT_LOGGED)
    log.warning(
        "message %s differs from the event in the log; what the log has was recorded",
        shown(message.id),
    )
    return read(replace(message, body=body))


def is_its_event(message: Message, logged: Mapping[str, str]) -> bool:
    """Return whether a message is the event that the log has under its id."""
    body = logged.get(message.id)
    if body is None or body == message.body:
        return body is not None
    try:
        return read(message).id == message.id
    except Unreadable:
        return False
