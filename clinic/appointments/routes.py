"""Appointments over HTTP."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import urlencode

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clinic.appointments.appointment import Appointment, IllegalMove, NoSuchAppointment, Stale
from clinic.appointments.availability import SlotTaken
from clinic.appointments.desk import Desk
from clinic.appointments.idempotency import BadKey, IdempotencyKey, KeyReused
from clinic.appointments.requests import Booking, Change
from clinic.appointments.search import FeedSearch, Search, cursor
from clinic.appointments.spreadsheet import as_csv
from clinic.web.conditions import entity_tag, is_known, may_change
from clinic.web.headers import header, preferred
from clinic.web.leaving import ends_with_client
from clinic.web.problems import ProblemType
from clinic.web.reading import JSON, read_json_object
from clinic.web.streaming import stream

CSV = "text/csv"
CALENDAR = "text/calendar"
# A change is a merge patch (RFC 7396): what is not in it stays as it is.
CHANGE_TYPES = (JSON, "application/merge-patch+json")

REFUSALS: dict[type[Exception], ProblemType] = {
    NoSuchAppointment: ProblemType(
        HTTPStatus.NOT_FOUND, "no-such-appointment", "There is no such appointment"
    ),
    SlotTaken: ProblemType(HTTPStatus.CONFLICT, "slot-taken", "That time is taken"),
    IllegalMove: ProblemType(HTTPStatus.CONFLICT, "illegal-move", "Not from this status"),
    Stale: ProblemType(HTTPStatus.PRECONDITION_FAILED, "stale", "Changed in the meantime"),
    BadKey: ProblemType(HTTPStatus.BAD_REQUEST, "bad-key", "Not an Idempotency-Key"),
    KeyReused: ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY, "key-reused", "The Idempotency-Key was used before"
    ),
}


@dataclass(frozen=True)
class AppointmentRoutes:
    """The routes of appointments; each path is the same with and without a final slash."""

    desk: Desk

    def routes(self) -> list[Route]:
        """Return the routes."""
        table = (
            ("/appointment", ["GET", "POST"], self._collection),
            ("/appointment.ics", ["GET"], ends_with_client(self._feed)),
            ("/appointment/{id}", ["GET", "PATCH", "DELETE"], self._one),
            ("/appointment/{id}/events", ["GET"], self._history),
        )
        return [
            Route(path + slash, endpoint, methods=methods)
            for path, methods, endpoint in table
            for slash in ("", "/")
        ]

    async def _collection(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._create(request)
        return await ends_with_client(self._list)(request)

    async def _one(self, request: Request) -> Response:
        match request.method:
            case "PATCH":
                return await self._change(request)
            case "DELETE":
                return await self._cancel(request)
            case _:
                return await self._show(request)

    async def _create(self, request: Request) -> Response:
        sent = await read_json_object(request)
        booking = Booking.read(sent, self.desk.zone)
        key = IdempotencyKey.read(header(request.scope, b"idempotency-key"), sent)
        confirmed = await self.desk.book(booking.wanted(), key)
        return Response(
            to_json({"id": confirmed.appointment_id, **sent}),
            HTTPStatus.CREATED if confirmed.created else HTTPStatus.OK,
            headers={"Location": f"/appointment/{confirmed.appointment_id}"},
            media_type=JSON,
        )

    async def _show(self, request: Request) -> Response:
        appointment = await self.desk.show(read_id(request))
        if is_known(request, appointment.version):
            tag = entity_tag(appointment.version)
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})
        return record_response(appointment)

    async def _change(self, request: Request) -> Response:
        sent = await read_json_object(request, CHANGE_TYPES)
        wanted = Change.read(sent, self.desk.zone).wanted()
        allowed = partial(may_change, request)
        return record_response(await self.desk.change(read_id(request), wanted, allowed))

    async def _cancel(self, request: Request) -> Response:
        allowed = partial(may_change, request)
        return record_response(await self.desk.cancel(read_id(request), allowed))

    async def _history(self, request: Request) -> Response:
        told = await self.desk.history(read_id(request))
        return Response(f"[{','.join(told)}]", media_type=JSON)

    async def _list(self, request: Request) -> Response:
        search = Search.of(request)
        media_type = preferred(request.scope, (JSON, CSV))
        if search.limit is not None:
            return await self._page(request, search, search.limit, media_type)
        if media_type == CSV:
            return await stream(as_lines(self.desk.search(search)), CSV)
        if request.query_params:
            return await stream(as_list(self.desk.search(search)), JSON)
        return await stream(self.desk.everything(), JSON)

    async def _page(
        self, request: Request, search: Search, limit: int, media_type: str
    ) -> Response:
        # One more than asked for, to know whether there is a next page.
        found = await self.desk.page(search, limit + 1)
        page = found[:limit]
        headers = {"Vary": "Accept"}
        if len(found) > limit:
            query = dict(request.query_params) | {"after": cursor(page[-1].date_time, page[-1].id)}
            headers["Link"] = f'</appointment?{urlencode(query)}>; rel="next"'
        body = as_csv(page, header=True) if media_type == CSV else f"[{as_json(page)}]"
        return Response(body, media_type=media_type, headers=headers)

    async def _feed(self, request: Request) -> Response:
        search = FeedSearch.of(request)
        return await stream(self.desk.calendar(search), CALENDAR)


async def as_list(found: AsyncIterator[Sequence[Appointment]]) -> AsyncIterator[str]:
    """Yield a JSON list of records, piece by piece."""
    separator = "["
    async for piece in found:
        if piece or separator == "[":
            yield separator + as_json(piece)
        separator = ","
    yield "]"


async def as_lines(found: AsyncIterator[Sequence[Appointment]]) -> AsyncIterator[str]:
    """Yield lines of CSV, piece by piece."""
    header = True
    async for piece in found:
        yield as_csv(piece, header=header)
        header = False


def as_json(appointments: Sequence[Appointment]) -> str:
    """Return full records as JSON, with commas between them."""
    return ",".join(to_json(appointment.record()).decode() for appointment in appointments)


def record_response(appointment: Appointment) -> Response:
    """Return the answer that shows an appointment as it is now."""
    tag = entity_tag(appointment.version)
    return Response(to_json(appointment.record()), headers={"ETag": tag}, media_type=JSON)


def read_id(request: Request) -> int:
    """Return the id in the path.

    Raises:
        NoSuchAppointment: it is no id that could ever be.
    """
    text: str = request.path_params["id"]
    if not re.fullmatch("[0-9]{1,18}", text):
        raise NoSuchAppointment
    return int(text)
