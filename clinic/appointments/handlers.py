"""What each endpoint of appointments does: read the request, ask the desk, write the answer."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from http import HTTPStatus
from urllib.parse import urlencode

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from clinic.appointments.appointment import Appointment, NoSuchAppointment
from clinic.appointments.desk import Desk
from clinic.appointments.idempotency import IdempotencyKey
from clinic.appointments.requests import Booking, Change
from clinic.appointments.search import FeedSearch, FreeTimeSearch, Search, cursor
from clinic.appointments.spreadsheet import as_csv
from clinic.database import wall_clock_text
from clinic.web.callers import NotAllowed, Permission, caller_of, may
from clinic.web.conditions import entity_tag, is_known, may_change
from clinic.web.headers import header, preferred
from clinic.web.reading import CHANGE_TYPES, JSON, read_id, read_json_object
from clinic.web.streaming import stream

CSV = "text/csv"
CALENDAR = "text/calendar"
# A list of up to so many is what a desk looks at; the audit has the others.
FEW = 50
MOST_DIGITS = 5


async def book(desk: Desk, request: Request) -> Response:
    """Book, and confirm just what was sent."""
    sent = await read_json_object(request)
    booking = Booking.read(sent, desk.zone)
    key = IdempotencyKey.read(header(request.scope, b"idempotency-key"), sent)
    confirmed = await desk.book(booking.wanted(), key)
    return Response(
        to_json({"id": confirmed.appointment_id, **sent}),
        HTTPStatus.CREATED if confirmed.created else HTTPStatus.OK,
        headers={"Location": f"/appointment/{confirmed.appointment_id}"},
        media_type=JSON,
    )


async def show(desk: Desk, request: Request) -> Response:
    """Show an appointment, unless the client has it in this version."""
    appointment = await desk.show(read_id(request, NoSuchAppointment))
    if is_known(request, appointment.version):
        tag = entity_tag(appointment.version)
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})
    return record_response(appointment, personal=may(request, Permission.DESK))


async def change(desk: Desk, request: Request) -> Response:
    """Change an appointment, and show it as it is now."""
    sent = await read_json_object(request, CHANGE_TYPES)
    wanted = Change.read(sent, desk.zone).wanted()
    allowed = partial(may_change, request)
    return record_response(await desk.change(read_id(request, NoSuchAppointment), wanted, allowed))


async def cancel(desk: Desk, request: Request) -> Response:
    """Cancel an appointment, and show it as it is now."""
    allowed = partial(may_change, request)
    return record_response(await desk.cancel(read_id(request, NoSuchAppointment), allowed))


async def history(desk: Desk, request: Request) -> Response:
    """List the events of an appointment."""
    personal = may(request, Permission.DESK)
    events = await desk.history(read_id(request, NoSuchAppointment), personal=personal)
    return Response(f"[{','.join(events)}]", media_type=JSON)


async def search(desk: Desk, request: Request) -> Response:
    """List appointments: all, those that are sought, or one page of these."""
    wanted = Search.of(request)
    personal = may(request, Permission.DESK)
    if not personal and wanted.of_patient:
        raise NotAllowed(Permission.DESK)  # what is found tells of what was asked for
    media_type = preferred(request.scope, (JSON, CSV))
    if wanted.limit is not None:
        return await page(desk, request, wanted, wanted.limit, media_type)
    if media_type == CSV:
        return await stream(as_lines(desk.search(wanted), personal=personal), CSV)
    if request.query_params:
        return await stream(as_list(desk.search(wanted), personal=personal), JSON)
    return await stream(desk.everything(personal=personal), JSON)


def is_bulk(request: Request) -> bool:
    """Tell whether a list may show more patients at once than a desk looks at."""
    limit = request.query_params.get("limit", "")
    few = limit.isdecimal() and len(limit) < MOST_DIGITS and int(limit) <= FEW
    return not few and may(request, Permission.DESK)


async def page(
    desk: Desk, request: Request, wanted: Search, limit: int, media_type: str
) -> Response:
    """Return a page of what is sought, with a link to the next."""
    personal = may(request, Permission.DESK)
    # One more than asked for, to know whether there is a next page.
    found = await desk.page(wanted, limit + 1)
    shown = found[:limit]
    headers = {"Vary": "Accept"}
    if len(found) > limit:
        query = dict(request.query_params) | {"after": cursor(shown[-1].date_time, shown[-1].id)}
        headers["Link"] = f'</appointment?{urlencode(query)}>; rel="next"'
    if media_type == CSV:
        body = as_csv(shown, header=True, personal=personal)
    else:
        body = f"[{as_json(shown, personal=personal)}]"
    return Response(body, media_type=media_type, headers=headers)


async def calendar(desk: Desk, request: Request) -> Response:
    """Return the calendar feed of an office or a doctor."""
    wanted = FeedSearch.of(request)
    good_for = caller_of(request).feed
    if good_for is not None and good_for != wanted.key:
        raise NotAllowed(Permission.READ)
    return await stream(desk.calendar(wanted), CALENDAR)


async def free_times(desk: Desk, request: Request) -> Response:
    """List the next free times."""
    found = await desk.free_times(FreeTimeSearch.of(request))
    records = [
        {
            "date_time": wall_clock_text(one.date_time),
            "end_time": wall_clock_text(one.end_time),
            "office_number": one.office_number,
            "doctor_name": one.doctor_name,
        }
        for one in found
    ]
    return Response(to_json(records), media_type=JSON)


async def as_list(
    found: AsyncIterator[Sequence[Appointment]], *, personal: bool
) -> AsyncIterator[str]:
    """Yield a JSON list of records, piece by piece."""
    separator = "["
    async for piece in found:
        if piece or separator == "[":
            yield separator + as_json(piece, personal=personal)
        separator = ","
    yield "]"


async def as_lines(
    found: AsyncIterator[Sequence[Appointment]], *, personal: bool
) -> AsyncIterator[str]:
    """Yield lines of CSV, piece by piece."""
    header = True
    async for piece in found:
        yield as_csv(piece, header=header, personal=personal)
        header = False


def as_json(appointments: Sequence[Appointment], *, personal: bool) -> str:
    """Return full records as JSON, with commas between them."""
    return ",".join(to_json(one.record(personal=personal)).decode() for one in appointments)


def record_response(appointment: Appointment, *, personal: bool = True) -> Response:
    """Return the answer that shows an appointment as it is now."""
    tag = entity_tag(appointment.version)
    return Response(
        to_json(appointment.record(personal=personal)), headers={"ETag": tag}, media_type=JSON
    )
