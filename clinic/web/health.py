"""Is the process alive, and is it ready: ``/health/live`` and ``/health/ready``."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Content, Endpoint
from clinic.web.reading import JSON

PATHS = ("/health/live", "/health/ready")


@dataclass(frozen=True)
class Health:
    """The health of the process: whether it is ready, and the state of each part, by its name.

    ``tells`` says whether the client may know more than whether to send requests.
    """

    ready: bool
    parts: Mapping[str, str]
    tells: bool = True


def is_health(path: str) -> bool:
    """Tell whether a path is for orchestrators, which are answered even when nothing else is."""
    return path.removesuffix("/") in PATHS


Look = Callable[[Request], Awaitable[Health]]


async def live(_look: Look, _request: Request) -> Response:
    """Answer whether the event loop turns; an orchestrator restarts what does not."""
    return JSONResponse({"status": "live"})


async def ready(look: Look, request: Request) -> Response:
    """Answer whether requests, or deliveries, are served; a part that is down only degrades."""
    health = await look(request)
    whole = all(state == "up" for state in health.parts.values())
    status = "unavailable" if not health.ready else "ready" if whole else "degraded"
    code = HTTPStatus.OK if health.ready else HTTPStatus.SERVICE_UNAVAILABLE
    parts = {"parts": dict(health.parts)} if health.tells else {}
    return JSONResponse({"status": status, **parts}, code)


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
            "description": "The state of each part, by its name: up if it works. Only told to "
            "clients with a token, if tokens are needed.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
    },
    "required": ["status"],
}


def _ready(status: HTTPStatus, text: str, example: Mapping[str, object]) -> Answer:
    return Answer(status=status, text=text, contents={JSON: Content(READY, {"health": example})})


ENDPOINTS: tuple[Endpoint[Look], ...] = (
    Endpoint(
        method="GET",
        path="/health/live",
        handler=live,
        needs=Permission.OPEN,
        name="live",
        group="Health",
        summary="Check that the process is alive",
        text="For orchestrators: restart a process that does not answer.",
        answers=[
            Answer(
                status=HTTPStatus.OK,
                text="It is alive.",
                contents={JSON: Content(LIVE, {"live": {"status": "live"}})},
            )
        ],
    ),
    Endpoint(
        method="GET",
        path="/health/ready",
        handler=ready,
        needs=Permission.OPEN,
        name="ready",
        group="Health",
        summary="Check that the process can serve requests",
        text="For orchestrators: send requests only to a process that is ready or degraded. A "
        "degraded one serves requests, though one of its parts is down.",
        answers=[
            _ready(
                HTTPStatus.OK,
                "It can.",
                {"status": "ready", "parts": {"http": "up", "relay": "up", "database": "up"}},
            ),
            _ready(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "It cannot.",
                {"status": "unavailable", "parts": {"http": "up", "database": "down"}},
            ),
        ],
    ),
)
