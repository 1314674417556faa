"""Exceptions that routes raise, answered as problem details."""

import logging
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from clinic.database import OutcomeUnknown
from clinic.supervisor import Unavailable
from clinic.web.refusals import (
    MaybeDone,
    NoSuchAddress,
    NoSuchMethod,
    NotNow,
    OurFault,
    Refusal,
    WrongFields,
    wrong_fields,
)

log = logging.getLogger(__name__)

# Marks a request in its scope whose failure has been logged.
LOGGED = "clinic.logged"
NO_ROUTE = "(no route)"


def answer(request: Request, refusal: Refusal) -> Response:
    """Return the response to a request that is refused."""
    return refusal.response(request.scope.get("root_path", ""))


async def on_refusal(request: Request, error: Refusal) -> Response:
    """Answer what a route refuses."""
    return answer(request, error)


async def on_http_exception(request: Request, error: HTTPException) -> Response:
    """Answer what the framework itself refuses: an unknown path, a wrong method."""
    if error.headers and "Allow" in error.headers:
        return answer(request, NoSuchMethod(request.method, error.headers["Allow"]))
    return answer(request, NoSuchAddress())


async def on_validation_error(request: Request, error: ValidationError) -> Response:
    """Answer input that a model refused."""
    return answer(request, WrongFields(wrong_fields(error)))


async def on_unavailable(request: Request, error: Exception) -> Response:
    """Answer that something we need is away, and when to ask again."""
    # Not louder: a client may ask a thousand times a second, and the relay reports the outage.
    log.debug("%s %s answered 503: %s", request.method, route_of(request), error)
    return answer(request, MaybeDone() if isinstance(error, OutcomeUnknown) else NotNow())


async def on_disconnect(_request: Request, _error: Exception) -> Response:
    """Answer nobody: the client left before its request was complete, and nothing was done."""
    return Response(status_code=400)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer that the fault is ours, and log it."""
    log.error("%s %s failed", request.method, route_of(request), exc_info=error)
    request.scope[LOGGED] = True
    return answer(request, OurFault())


HANDLERS: dict[type[Exception], Any] = {
    Refusal: on_refusal,
    HTTPException: on_http_exception,
    ValidationError: on_validation_error,
    Unavailable: on_unavailable,
    ClientDisconnect: on_disconnect,
    Exception: on_bug,
}


def route_of(request: Request) -> str:
    """Return the template of the route, never the path itself: a path may hold anything."""
    route = request.scope.get("route")
    return getattr(route, "path", NO_ROUTE)
