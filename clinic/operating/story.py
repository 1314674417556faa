"""The whole way of each event of an appointment: told, published, tried, recorded or set aside.

The plain list of events (``GET /appointment/{id}/events``) stays what readers of CloudEvents know.
The story has an address of its own, because it is another thing: it changes while an event travels.
"""

import datetime
from collections import defaultdict
from collections.abc import Sequence

from pydantic_core import from_json

from clinic.database import Database, Row
from clinic.events import subject_of
from clinic.messaging.attempts import select_attempts
from clinic.messaging.outbox import select_publications
from clinic.operating.operations import moment
from clinic.operating.queries import select_events_of, select_stays

Step = dict[str, object]


async def story_of(database: Database, appointment_id: int) -> list[dict[str, object]] | None:
    """Return the story of each event of an appointment, oldest first; None if it has no event.

    Raises:
        DatabaseUnavailable: the database cannot do it now.
    """
    async with database.snapshot() as connection:
        events = await select_events_of(connection, subject_of(appointment_id))
        ids = [event["id"] for event in events]
        attempts = await select_attempts(connection, ids)
        stays = await select_stays(connection, ids)
        publications = await select_publications(connection, ids)
    if not events:
        return None
    attempts_of, stays_of, published = (
        by_event(attempts),
        by_event(stays),
        by_event(publications),
    )
    return [
        {
            "id": event["id"],
            "type": event["type"],
            "version": from_json(event["body"])["data"]["version"],
            "state": state_of(event, stays_of[event["id"]]),
            "story": in_order(
                {"at": told_at(event), "what": "told"},
                *publications_of(event, published[event["id"]]),
                *steps(event, attempts_of[event["id"]], stays_of[event["id"]]),
            ),
        }
        for event in events
    ]


def state_of(event: Row, stays: Sequence[Row]) -> str:
    """Return where an event is now."""
    if event["recorded_at"] is not None:
        return "recorded"
    last = stays[-1]["state"] if stays else ""
    if last == "waiting":
        return "not_solved"
    if event["open"] is not None:
        return "published" if event["published_at"] is not None else "to_be_published"
    # Neither open nor anywhere: somebody took it out of the queue, and nobody knows where it is.
    return "discarded" if last == "discarded" else "missing"


def by_event(rows: Sequence[Row]) -> defaultdict[str, list[Row]]:
    """Return rows by the event that they are about."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["event_id"]].append(row)
    return found


def publications_of(event: Row, publications: Sequence[Row]) -> list[Step]:
    """Return when an event was published, each time; the last stands in the outbox, if it is open.

    An event that was published once and is closed has none: nobody wrote down when that was.
    """
    moments = {moment(one["published_at"]) for one in publications}
    if event["published_at"] is not None:
        moments.add(moment(event["published_at"]))
    return [
        {"at": at, "what": "published", "times": times}
        for times, at in enumerate(sorted(filter(None, moments)), 1)
    ]


def in_order(*steps: Step) -> list[Step]:
    """Return steps in the order of time; what nobody knows the time of stands last."""
    last = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    return sorted(steps, key=lambda step: step["at"] or last)  # type: ignore[arg-type, return-value]


def steps(event: Row, attempts: Sequence[Row], stays: Sequence[Row]) -> list[Step]:
    """Return what became of an event after it was published."""
    found: list[Step] = []
    found += [
        {
            "at": moment(one["failed_at"]),
            "what": "attempt",
            "delivery": one["delivery"],
            "kind": one["kind"],
            "text": one["text"],
            "process": f"{one['host']}:{one['pid']}",
        }
        for one in attempts
    ]
    for one in stays:
        stay = {"not_solved_id": one["position"]}
        found.append(
            {
                "at": moment(one["set_aside_at"]),
                "what": "set_aside",
                "kind": one["kind"],
                "reason": one["reason"],
                **stay,
            }
        )
        if one["state"] != "waiting":
            step = {"what": one["state"], **stay, "operation_id": one["operation_id"]}
            step |= {"by": one["planned_by"], "reason": one["why"]}
            found.append({"at": moment(one["ended_at"]), **step})
    if event["recorded_at"] is not None:
        found.append({"at": moment(event["recorded_at"]), "what": "recorded"})
    return found


def told_at(event: Row) -> datetime.datetime:
    """Return when an event happened."""
    return datetime.datetime.fromisoformat(from_json(event["body"])["time"])
