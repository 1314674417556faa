"""What went wrong, as problem details (RFC 9457)."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from clinic.database import OutcomeUnknown
from clinic.supervisor import Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# Marks a request in its scope whose failure has been logged.
LOGGED = "clinic.logged"
# When to ask again while something is away: the supervisor and the pools try at least this often.
RETRY_AFTER_SECONDS = 2
NOT_NOW = "The clinic cannot do this right now. Send the same request again a little later."
# A booking that stands already is confirmed as it is, and a change that is made already is none.
MAYBE_DONE = (
    "This may have been done or not: the database did not answer in time. Send the very same "
    "request again a little later: what was done already is not done twice."
)

# Pydantic's words are for programmers; these are for whoever filled in the field.
WORDS = {
    "missing": "is required",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_too_short": "must not be empty",
}


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem that a program may want to tell from others of the same status.

    Its URI is where ``/docs`` explains it.
    """

    status: HTTPStatus
    name: str
    title: str

    @property
    def uri(self) -> str:
        """The reference that stands as ``type`` in the answer."""
        return f"/docs#{self.name}"


class Problem(Exception):
    """An answer that tells a client what is wrong and what to do about it.

    ``detail`` is for a person to read; ``members`` are further members of the JSON object. Neither
    ever quotes a patient's name.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def having(self, members: Mapping[str, object]) -> "Problem":
        """Return the same problem with other members."""
        return Problem(self.status, self.detail, headers=self.headers, **members)


def invalid(errors: Sequence[Mapping[str, str]]) -> Problem:
    """Return the problem that names wrong fields: each with a ``pointer`` to it and a ``detail``.

    The form is RFC 9457's own example for several errors at once.
    """
    names = ", ".join(error["pointer"].removeprefix("#/") or "the body" for error in errors)
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"Correct what is wrong and send it again: {names}. Nothing was stored.",
        errors=list(errors),
    )


def wrong_fields(error: ValidationError) -> list[dict[str, str]]:
    """Return what is wrong with each field that a model refused: ``pointer`` and ``detail``."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        {
            "pointer": "/".join(["#", *(str(part) for part in one["loc"])]),
            "detail": WORDS.get(one["type"], one["msg"]),
        }
        for one in errors
    ]


def refused(kind: ProblemType, error: Exception, root_path: str = "") -> Problem:
    """Return the problem that a feature's own error is; what it has as ``members`` goes with it."""
    uri = root_path + kind.uri
    members = {"type": uri, "title": kind.title, **getattr(error, "members", {})}
    return Problem(kind.status, str(error), **members)


def problem_details(problem: Problem) -> dict[str, object]:
    """Return the JSON object that tells of a problem."""
    return {
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": int(problem.status),
        "detail": problem.detail,
        **problem.members,
    }


def problem_response(problem: Problem) -> Response:
    """Return the HTTP response that tells of a problem."""
    return Response(
        json.dumps(problem_details(problem), ensure_ascii=False),
        problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


async def on_problem(_request: Request, error: Problem) -> Response:
    """Answer a problem that a route raised."""
    return problem_response(error)


async def on_http_exception(request: Request, error: HTTPException) -> Response:
    """Answer what the framework itself refuses: an unknown path, a wrong method."""
    details = {
        HTTPStatus.NOT_FOUND: "There is nothing at this address.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible here; see Allow.",
    }
    status = HTTPStatus(error.status_code)
    detail = details.get(status, status.description or status.phrase)
    return problem_response(Problem(status, detail, headers=error.headers))


async def on_validation_error(_request: Request, error: ValidationError) -> Response:
    """Answer input that a model refused."""
    return problem_response(invalid(wrong_fields(error)))


async def on_unavailable(request: Request, error: Exception) -> Response:
    """Answer that something we need is away, and when to ask again."""
    # Not louder: a client may ask a thousand times a second, and the relay reports the outage.
    log.debug("%s %s answered 503: %s", request.method, route_of(request), error)
    return problem_response(
        Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            MAYBE_DONE if isinstance(error, OutcomeUnknown) else NOT_NOW,
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    )


async def on_disconnect(_request: Request, _error: Exception) -> Response:
    """Answer nobody: the client left before its request was complete, and nothing was done."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer that the fault is ours, and log it."""
    log.error("%s %s failed", request.method, route_of(request), exc_info=error)
    request.scope[LOGGED] = True
    return problem_response(
        Problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "The fault is the clinic's, not yours; it was logged. Whether the request was carried "
            "out is not certain: look before you send it again.",
        )
    )


HANDLERS: dict[type[Exception], Any] = {
    Problem: on_problem,
    HTTPException: on_http_exception,
    ValidationError: on_validation_error,
    Unavailable: on_unavailable,
    ClientDisconnect: on_disconnect,
    Exception: on_bug,
}


def route_of(request: Request) -> str:
    """Return the template of the route, never the path itself: a path may hold anything."""
    route = request.scope.get("route")
    return getattr(route, "path", "(no route)")
