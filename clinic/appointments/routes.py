"""Appointments over HTTP."""

import json
import re
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from clinic.appointments.appointment import Appointment, Booking, NoSuchAppointment
from clinic.appointments.booking import Desk
from clinic.appointments.queries import select_appointment, select_appointments_after
from clinic.web.reading import read_json_object

# A list is read and sent in pieces of so many, so that its memory does not grow with the table.
PIECE = 500

REFUSALS: dict[type[Exception], HTTPStatus] = {NoSuchAppointment: HTTPStatus.NOT_FOUND}


def appointment_routes(desk: Desk) -> list[Route]:
    """Return the routes of appointments; each path is the same with and without a final slash."""

    async def create(request: Request) -> Response:
        sent = await read_json_object(request)
        appointment = await desk.book(Booking.read(sent, desk.zone))
        return JSONResponse(
            {"id": appointment.id, **sent},
            HTTPStatus.CREATED,
            headers={"Location": f"/appointment/{appointment.id}"},
        )

    async def show(request: Request) -> Response:
        appointment_id = read_id(request.path_params["id"])
        async with desk.database.snapshot() as connection:
            appointment = await select_appointment(connection, appointment_id)
        if appointment is None:
            raise NoSuchAppointment
        return JSONResponse(appointment.record())

    async def list_all(_request: Request) -> Response:
        # The first piece is read before the answer begins, so that a database that is away can
        # still be answered with a status.
        first = await piece(0)
        return StreamingResponse(as_json_list(first), media_type="application/json")

    async def piece(after: int) -> list[Appointment]:
        async with desk.database.snapshot() as connection:
            return await select_appointments_after(connection, after, PIECE)

    async def as_json_list(appointments: Sequence[Appointment]) -> AsyncIterator[str]:
        separator = "["
        while appointments:
            yield separator + ",".join(as_json(appointment) for appointment in appointments)
            separator = ","
            appointments = await piece(appointments[-1].id)
        yield "[]" if separator == "[" else "]"

    async def collection(request: Request) -> Response:
        return await (create if request.method == "POST" else list_all)(request)

    return [
        Route("/appointment", collection, methods=["GET", "POST"]),
        Route("/appointment/", collection, methods=["GET", "POST"]),
        Route("/appointment/{id}", show),
        Route("/appointment/{id}/", show),
    ]


def as_json(appointment: Appointment) -> str:
    """Return the full record as JSON text."""
    return json.dumps(appointment.record(), ensure_ascii=False, separators=(",", ":"))


def read_id(text: str) -> int:
    """Return the id in a path.

    Raises:
        NoSuchAppointment: it is no id that could ever be.
    """
    if not re.fullmatch("[0-9]{1,18}", text):
        raise NoSuchAppointment
    return int(text)
