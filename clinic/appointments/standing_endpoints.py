"""What stands in a closure, over HTTP: listed page by page, and cancelled together."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from clinic.appointments.appointment import Appointment
from clinic.appointments.desk import Desk
from clinic.appointments.search import Cursor, PageSize, cursor
from clinic.appointments.standing import MOST_CANCELLED, Cancellation
from clinic.database import wall_clock_text
from clinic.events import Id, Status
from clinic.registry.names import Reason
from clinic.registry.records import NoSuchRecord
from clinic.registry.requests import STRICT
from clinic.registry.schedule import FIRST_PAGE
from clinic.registry.schedule_endpoints import STANDING, StandingRecord
from clinic.registry.schedule_requests import fields_at_most
from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Body, Content, Endpoint, Header
from clinic.web.reading import (
    JSON,
    names_of,
    read_fields,
    read_id,
    read_json_object,
    read_query,
    without_defaults,
)
from clinic.web.refusals import MaybeDone, NotNow


class Page(BaseModel):
    """Which page of the appointments in a closure a client wants."""

    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)

    limit: PageSize = FIRST_PAGE
    after: Cursor | None = None


class Seen(BaseModel):
    """An appointment to cancel, in the version in which it was seen."""

    model_config = STRICT

    id: Id
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]


class Together(BaseModel):
    """Why appointments in a closure are cancelled, and which; without a list, all."""

    model_config = STRICT

    reason: Reason
    appointments: Annotated[
        list[Annotated[Seen, fields_at_most(2)]] | None, Field(max_length=MOST_CANCELLED)
    ] = None


class NotCancelledRecord(BaseModel):
    """An appointment that was not cancelled, and why; without a status it is not there."""

    id: Id
    status: Status | None
    detail: str


class CancellationRecord(BaseModel):
    """What became of appointments in a closure, by their ids."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    cancelled: list[Id]
    cancelled_before: list[Id]
    not_cancelled: list[NotCancelledRecord]
    left: int


def standing_record(one: Appointment) -> dict[str, object]:
    """Return an appointment that stands in a closure; never whose it is."""
    return {
        "id": one.id,
        "version": one.version,
        "status": one.status,
        "office_number": one.office_number,
        "doctor_name": one.doctor_name,
        "date_time": wall_clock_text(one.date_time),
        "end_time": wall_clock_text(one.end_time),
    }


def cancellation_record(done: Cancellation) -> dict[str, object]:
    """Return what became of appointments in a closure, as clients know it."""
    return {
        "cancelled": done.cancelled,
        "cancelled_before": done.cancelled_before,
        "not_cancelled": [
            {"id": one.id, "status": one.status, "detail": one.detail} for one in done.not_cancelled
        ],
        "left": done.left,
    }


async def list_standing(desk: Desk, request: Request) -> Response:
    """List a page of the appointments that stand in a closure."""
    closure_id = read_id(request, NoSuchRecord)
    page = Page.model_validate(read_query(request, names_of(Page)))
    # One more than asked for, to know whether there is a next page.
    found = await desk.standing(closure_id, page.limit + 1, page.after)
    shown = found[: page.limit]
    headers = {}
    if len(found) > page.limit:
        query = {"limit": page.limit, "after": cursor(shown[-1].date_time, shown[-1].id)}
        headers["Link"] = f'</closure/{closure_id}/appointments?{urlencode(query)}>; rel="next"'
    body = to_json([standing_record(one) for one in shown])
    return Response(body, headers=headers, media_type=JSON)


async def cancel_standing(desk: Desk, request: Request) -> Response:
    """Cancel appointments that stand in a closure, and say which were and which were not."""
    sent = read_fields(Together, await read_json_object(request), {})
    versions: Mapping[int, int] | None = None
    if sent.appointments is not None:
        versions = {one.id: one.version for one in sent.appointments}
    done = await desk.cancel_standing(read_id(request, NoSuchRecord), sent.reason, versions)
    return Response(to_json(cancellation_record(done)), media_type=JSON)


ON_ONE: dict[str, Any] = {"group": "Hours", "ids": {"id": 1}}
LINK = Header(
    name="Link",
    text="The next page, if there is one.",
    example='</closure/1/appointments?limit=100&after=2027-12-25T15%3A30%3A00%2C1>; rel="next"',
    always=False,
)
DONE = Cancellation([1], [], [], 0)

ENDPOINTS: tuple[Endpoint[Desk], ...] = (
    Endpoint(
        method="GET",
        path="/closure/{id}/appointments",
        handler=list_standing,
        needs=Permission.READ,
        name="list_appointments_in_closure",
        summary="List the appointments that stand in a closure",
        text="Those that are booked, arrived or in_room, in the order of their times.",
        query=Page,
        queries=[{}, {"limit": "1"}],
        answers=[
            Answer(
                text="The appointments.",
                contents={JSON: Content(StandingRecord, {"standing": [STANDING]}, many=True)},
                headers=[LINK],
            )
        ],
        refusals=[NoSuchRecord, NotNow],
        **ON_ONE,
    ),
    Endpoint(
        method="POST",
        path="/closure/{id}/cancellations",
        handler=cancel_standing,
        needs=Permission.DESK,
        audited=True,
        name="cancel_appointments_in_closure",
        summary="Cancel the appointments that stand in a closure",
        text="With a reason, which stays in the history of each. Without appointments, all that "
        f"are booked, but at most {MOST_CANCELLED} at a time: left says how many are still to be "
        "cancelled, and the same request again cancels them. With appointments, those, each only "
        "in the version in which it was seen. Sending it again cancels nothing twice.",
        body=Body(
            media_types=[JSON],
            content=Content(
                Together,
                {
                    "all": {"reason": "the heating is broken"},
                    "some": {
                        "reason": "the heating is broken",
                        "appointments": [{"id": 1, "version": 1}],
                    },
                },
            ),
        ),
        answers=[
            Answer(
                text="Which were cancelled, and which were not and why.",
                contents={
                    JSON: Content(CancellationRecord, {"cancelled": cancellation_record(DONE)})
                },
            )
        ],
        refusals=[NoSuchRecord, NotNow, MaybeDone],
        **ON_ONE,
    ),
)
