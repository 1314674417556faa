"""Is the process alive, and is it of use: ``/health/live`` and ``/health/ready``."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clinic.web.description import Answer, Content, Operation
from clinic.web.reading import JSON

PATHS = ("/health/live", "/health/ready")


@dataclass(frozen=True)
class Health:
    """How the process is: of use or not, and the state of each part, by its name."""

    ready: bool
    parts: Mapping[str, str]


def is_health(path: str) -> bool:
    """Tell whether a path is for orchestrators, who are answered whatever else is not."""
    return path.removesuffix("/") in PATHS


def health_routes(look: Callable[[], Awaitable[Health]]) -> list[Route]:
    """Return the routes for orchestrators.

    Alive means that the event loop turns; restart what is not. Ready means that requests, or
    deliveries, are served; send no traffic to what is not. A part that is down while the whole is
    of use leaves the process ready, but ``degraded``.
    """

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_request: Request) -> Response:
        health = await look()
        whole = all(state == "up" for state in health.parts.values())
        status = "unavailable" if not health.ready else "ready" if whole else "degraded"
        code = HTTPStatus.OK if health.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse({"status": status, "parts": dict(health.parts)}, code)

    return [
        Route(path + slash, endpoint)
        for path, endpoint in zip(PATHS, (live, ready), strict=True)
        for slash in ("", "/")
    ]


LIVE = {
    "type": "object",
    "properties": {"status": {"type": "string", "const": "live"}},
    "required": ["status"],
}
READY = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["ready", "degraded", "unavailable"]},
        "parts": {
            "description": "The state of each part, by its name; up is well.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
    },
    "required": ["status", "parts"],
}


def _ready(status: HTTPStatus, text: str, example: Mapping[str, object]) -> Answer:
    return Answer(status=status, text=text, contents={JSON: Content(READY, {"health": example})})


OPERATIONS = (
    Operation(
        name="live",
        group="Health",
        method="GET",
        path="/health/live",
        summary="Is the process alive?",
        text="For orchestrators: restart what is not.",
        answers=[
            Answer(
                status=HTTPStatus.OK,
                text="It is.",
                contents={JSON: Content(LIVE, {"live": {"status": "live"}})},
            )
        ],
    ),
    Operation(
        name="ready",
        group="Health",
        method="GET",
        path="/health/ready",
        summary="Is the process of use?",
        text="For orchestrators: send no requests to what is not. Degraded is of use, with a part "
        "that is down.",
        answers=[
            _ready(
                HTTPStatus.OK,
                "It is.",
                {"status": "ready", "parts": {"http": "up", "relay": "up", "database": "up"}},
            ),
            _ready(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "It is not.",
                {"status": "unavailable", "parts": {"http": "up", "database": "down"}},
            ),
        ],
    ),
)
