"""What is not solved, over HTTP; and the story of an appointment."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from clinic.acting import acting
from clinic.database import Row
from clinic.messaging.message import Message
from clinic.operating.operations import (
    NoSuchMessage,
    NoSuchOperation,
    Operation,
    Operations,
    advice,
    moment,
    preview,
)
from clinic.operating.requests import Filter, Listing, NewOperation, OperationChange, Page
from clinic.operating.selection import Selection
from clinic.operating.story import story_of
from clinic.registry.memory import Memory
from clinic.registry.records import NoSuchRecord, NotRegistered
from clinic.registry.registry import Registry
from clinic.web.callers import Permission, may
from clinic.web.reading import (
    CHANGE_TYPES,
    JSON,
    names_of,
    read_fields,
    read_id,
    read_json_object,
    read_query,
)

MOST_OPERATIONS = 50


@dataclass(frozen=True)
class NotSolved:
    """What the handlers work with."""

    operations: Operations
    registry: Registry
    memory: Memory

    async def offices(self) -> dict[int, str]:
        """Return the names of all offices by their ids."""
        return {one.id: one.name for one in await self.registry.all("office")}

    async def office_id(self, name: str | None) -> int | None:
        """Return the id of an office; None for None.

        Raises:
            NotRegistered: there is none of this name.
        """
        if name is None:
            return None
        found = await self.memory.find("office", name)
        if found is None:
            raise NotRegistered("office", await self.memory.nearest("office", name))
        return found.id

    async def selection(self, asked: Filter, ids: list[int] | None = None) -> Selection:
        """Return what a client asked for.

        Raises:
            NotRegistered: there is no office of this name.
        """
        return Selection(
            ids=None if ids is None else tuple(ids),
            kind=asked.kind,
            event_type=asked.event_type,
            office_id=await self.office_id(asked.office_number),
            after=asked.since,
            before=asked.until,
        )


def shown(
    value: object,
    headers: Mapping[str, str] | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    """Return the response that shows something."""
    return Response(to_json(value), status, headers, JSON)


def row_record(row: Row, offices: Mapping[int, str]) -> dict[str, object]:
    """Return a message of the list as clients know it."""
    return {
        "id": row["position"],
        "event_id": row["event_id"],
        "event_type": row["event_type"],
        "office_number": offices.get(row["office_id"]),
        "kind": row["kind"],
        "reason": row["reason"],
        "deliveries": row["deliveries"],
        "set_aside_at": moment(row["set_aside_at"]),
        "state": row["state"],
        "ended_at": moment(row["ended_at"]),
        "operation_id": row["operation_id"],
    }


def group_record(row: Row) -> dict[str, object]:
    """Return a kind of error as clients know it."""
    return {
        "kind": row["kind"],
        "messages": row["messages"],
        "first_at": moment(row["first_at"]),
        "last_at": moment(row["last_at"]),
    }


def operation_record(operation: Operation, offices: Mapping[int, str]) -> dict[str, object]:
    """Return an operation as clients know it."""
    selection = operation.selection
    return {
        "id": operation.id,
        "verb": operation.verb,
        "status": operation.status,
        "preview": preview(operation),
        "filter": {
            "ids": selection.ids,
            "kind": selection.kind,
            "event_type": selection.event_type,
            "office_number": offices.get(selection.office_id or 0),
            "since": selection.after,
            "until": selection.before,
        },
        "up_to": operation.up_to,
        "messages": operation.messages,
        "recorded": operation.recorded,
        "foreign": operation.foreign_messages,
        "reason": operation.reason,
        "rate": operation.rate,
        "planned_by": operation.planned_by,
        "planned_at": operation.planned_at,
        "started_at": operation.started_at,
        "ended_at": operation.ended_at,
        "trouble": operation.trouble,
        "results": operation.results,
    }


def message_record(message: Message, *, personal: bool = True) -> dict[str, str | None]:
    """Return a message as it can be shown: bytes that are no UTF-8 are replaced.

    One that is not ours may hold anything, also a patient's name: what is not ``personal`` is
    without the body.
    """

    def plain(text: str) -> str:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    return {
        "id": plain(message.id),
        "type": plain(message.type),
        "subject": plain(message.subject),
        "body": plain(message.body) if personal else None,
    }


async def listed(part: NotSolved, request: Request) -> Response:
    """List what is not solved, and count it by the kind of error."""
    asked = Listing.model_validate(read_query(request, names_of(Listing)))
    selection = await part.selection(asked)
    groups = await part.operations.groups(selection)
    rows = await part.operations.waiting(selection, asked.past, asked.limit)
    offices = await part.offices()
    record = {
        "waiting": sum(row["messages"] for row in groups),
        "in_queue": await part.operations.in_queue(),
        "groups": [group_record(row) for row in groups],
        "messages": [row_record(row, offices) for row in rows],
    }
    return shown(record, next_page(request, "/not-solved", rows, asked.limit))


def next_page(request: Request, path: str, rows: list[Row], limit: int) -> dict[str, str]:
    """Return the header that leads to the next page, if there may be one."""
    if len(rows) < limit:
        return {}
    query = dict(request.query_params) | {"past": str(rows[-1]["position"])}
    return {"Link": f'<{path}?{urlencode(query)}>; rel="next"'}


async def show(part: NotSolved, request: Request) -> Response:
    """Show a message that was set aside, the attempts at it, and what to do."""
    found = await part.operations.show(read_id(request, NoSuchMessage))
    # Our own events have no patients.
    personal = found.row["event_id"] is not None or may(request, Permission.DESK)
    attempts = [
        {
            "failed_at": moment(one["failed_at"]),
            "delivery": one["delivery"],
            "kind": one["kind"],
            "text": one["text"],
            "traceback": one["traceback"],
            "process": f"{one['host']}:{one['pid']}",
        }
        for one in found.attempts
    ]
    record = {
        **row_record(found.row, await part.offices()),
        "advice": advice(found.row),
        "attempts": attempts,
        "message": found.message and message_record(found.message, personal=personal),
    }
    return shown(record)


async def plan(part: NotSolved, request: Request) -> Response:
    """Plan an operation, and answer what it is about."""
    asked = read_fields(NewOperation, await read_json_object(request), {})
    selection = await part.selection(asked, asked.ids)
    planned = await part.operations.plan(
        asked.verb, selection, acting().actor, asked.reason, asked.rate
    )
    record = operation_record(planned, await part.offices())
    location = {"Location": f"/operation/{planned.id}"}
    return shown(record, location, HTTPStatus.CREATED)


async def operations(part: NotSolved, _request: Request) -> Response:
    """List the newest operations."""
    offices = await part.offices()
    found = await part.operations.newest(MOST_OPERATIONS)
    return shown([operation_record(one, offices) for one in found])


async def show_operation(part: NotSolved, request: Request) -> Response:
    """Show an operation, and how far it has come."""
    found = await part.operations.show_operation(read_id(request, NoSuchOperation))
    return shown(operation_record(found, await part.offices()))


async def results(part: NotSolved, request: Request) -> Response:
    """List what an operation has dealt with, message by message."""
    operation_id = read_id(request, NoSuchOperation)
    asked = Page.model_validate(read_query(request, names_of(Page)))
    rows = await part.operations.dealt_with(operation_id, asked.past, asked.limit)
    offices = await part.offices()
    path = f"/operation/{operation_id}/messages"
    return shown(
        [row_record(row, offices) for row in rows], next_page(request, path, rows, asked.limit)
    )


async def change(part: NotSolved, request: Request) -> Response:
    """Start an operation, or stop it."""
    operation_id = read_id(request, NoSuchOperation)
    asked = read_fields(OperationChange, await read_json_object(request, CHANGE_TYPES), {})
    changed = await part.operations.bring_to(operation_id, asked.status)
    return shown(operation_record(changed, await part.offices()))


async def story(part: NotSolved, request: Request) -> Response:
    """Tell the whole way of each event of an appointment."""
    appointment_id = read_id(request, NoSuchRecord)
    told = await story_of(part.operations.database, appointment_id)
    if told is None:
        raise NoSuchRecord
    return shown({"appointment_id": appointment_id, "events": told})
