"""The index of what is set aside: a row for each stay of a message in not solved.

The broker's queue is the truth. The consumer writes a row when it has set a message aside; whoever
walks through the queue corrects what differs (``clinic/operating/walking.py``).
"""

import datetime
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clinic.database import Connection, Sql, as_row
from clinic.messaging.message import Message

# In bytes, as JSON. The index keeps a whole message only where the log has no such event, and a
# larger one only once it is discarded.
LARGEST_KEPT = 64 * 1024
# Of a message that nobody of ours set aside.
UNKNOWN_KIND = "Unknown"

INSERT_SET_ASIDE = Sql(
    sqlite="""
        insert into set_aside (
            key, event_id, event_type, office_id, kind, reason, deliveries, set_aside_at, message
        )
        select
            value->>'key', value->>'event_id', value->>'event_type', value->>'office_id',
            value->>'kind', value->>'reason', value->>'deliveries', value->>'set_aside_at',
            value->>'message'
        from json_each(:rows)
        returning position
    """,
    postgresql="""
        insert into set_aside (
            key, event_id, event_type, office_id, kind, reason, deliveries, set_aside_at, message
        )
        select
            key, event_id, event_type, office_id, kind, reason, deliveries, set_aside_at, message
        from json_to_recordset(cast(:rows as json)) as told (
            key text, event_id text, event_type text, office_id bigint, kind text, reason text,
            deliveries int, set_aside_at timestamptz, message text
        )
        returning position
    """,
)


@dataclass(frozen=True, slots=True)
class Description:
    """What the index tells of a message: which kind of event it is, and of which office."""

    event_type: str | None = None
    office_id: int | None = None


Describe = Callable[[Message], Description]
"""Tell what a message is about; never fails, and never tells anything of a patient."""


def nothing_known(message: Message) -> Description:
    """Describe a message by nothing."""
    del message
    return Description()


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row of the index, as it begins.

    ``key`` is the broker's; ``event_id`` that of a message which is an event of our log. Others
    are kept whole, in ``message``, unless they are large.
    """

    key: str
    event_id: str | None
    event_type: str | None
    office_id: int | None
    kind: str
    reason: str
    deliveries: int | None
    set_aside_at: datetime.datetime
    message: str | None


async def insert_set_aside(connection: Connection, rows: Sequence[SetAside]) -> set[int]:
    """Write what was set aside into the index; return the positions of the rows."""
    values = {"rows": [as_row(one) for one in rows]}
    return {row["position"] for row in await connection.fetch_all(INSERT_SET_ASIDE, values)}


def packed(message: Message) -> str:
    """Return a message as text that every database takes, whatever is in it."""
    return json.dumps([message.id, message.type, message.subject, message.body])


def packed_if_small(message: Message) -> str | None:
    """Return a message as text, or None if it is too large to be kept twice."""
    if len(message.body) > LARGEST_KEPT:
        return None
    text = packed(message)
    return text if len(text) <= LARGEST_KEPT else None


def unpacked(text: str) -> Message:
    """Return the message that a text stands for."""
    return Message(*json.loads(text))


def kind_of(reason: str) -> str:
    """Return the kind of error that a reason in the queue tells of (``settlement.py``)."""
    if reason.startswith("unreadable: a message of the older project"):
        return "OlderMessage"
    if reason.startswith("unreadable: "):
        return "Unreadable"
    found = re.search(r", at last with (\w+)", reason)
    return found[1] if found else UNKNOWN_KIND
