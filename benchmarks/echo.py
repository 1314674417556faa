"""Limit: the same server and models, storing nothing. python -m benchmarks.echo PORT."""

import itertools
import socket
import sys
import zoneinfo
from http import HTTPStatus

import anyio
from pydantic_core import from_json, to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clinic.appointments.requests import Booking
from clinic.cli.run import LOOP, tune_python
from clinic.supervisor import Service, Supervisor
from clinic.web.server import HttpServer, listen

ZONE = zoneinfo.ZoneInfo("UTC")
NUMBERS = itertools.count(1)


async def create(request: Request) -> Response:
    """Read and validate a booking, and answer as if it were booked."""
    sent = from_json(await request.body(), allow_inf_nan=False)
    Booking.read(sent, ZONE)
    number = next(NUMBERS)
    headers = {"Location": f"/appointment/{number}"}
    body = to_json({"id": number, **sent})
    return Response(body, HTTPStatus.CREATED, headers=headers, media_type="application/json")


async def ready(_request: Request) -> Response:
    """Say that we are here."""
    return JSONResponse({"status": "ready"})


async def serve(listener: socket.socket) -> None:
    """Serve until killed."""
    routes = [Route("/appointment", create, methods=["POST"]), Route("/health/ready", ready)]
    server = HttpServer(Starlette(routes=routes), listener, grace_seconds=1)
    await Supervisor([Service("http", server.run)], grace_seconds=1).run()


if __name__ == "__main__":
    with listen("127.0.0.1", int(sys.argv[1])) as listening:
        tune_python()
        anyio.run(serve, listening, backend_options=LOOP)
