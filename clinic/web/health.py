"""Is the process alive, and is it ready: ``/health/live`` and ``/health/ready``."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clinic.supervisor import Report, State
from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Content, Endpoint
from clinic.web.reading import JSON

PATHS = ("/health/live", "/health/ready")


@dataclass(frozen=True)
class Backlog:
    """The events that are neither recorded nor set aside: how many, and how old the oldest is."""

    open: int
    oldest_seconds: float


@dataclass(frozen=True)
class Health:
    """The health of the process: whether it is ready, and what each part does, by its name.

    ``backlog`` is None if it cannot be read; ``behind`` says that its oldest event is older than it
    should be. ``tells`` says whether the client may know more than whether to send requests.
    """

    ready: bool
    parts: Mapping[str, Report]
    backlog: Backlog | None = None
    behind: bool = False
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
    whole = all(one.state is State.UP for one in health.parts.values()) and not health.behind
    status = "unavailable" if not health.ready else "ready" if whole else "degraded"
    code = HTTPStatus.OK if health.ready else HTTPStatus.SERVICE_UNAVAILABLE
    told = {"status": status} | (details(health) if health.tells else {})
    return JSONResponse(told, code)


def details(health: Health) -> dict[str, object]:
    """Return what only clients with a token are told."""
    parts = {
        name: {
            "state": str(one.state),
            "since": one.since.isoformat(timespec="seconds").replace("+00:00", "Z"),
            **({"why": one.why} if one.why else {}),
        }
        for name, one in health.parts.items()
    }
    return {"parts": parts, "events": health.backlog and asdict(health.backlog)}


LIVE = {
    "type": "object",
    "properties": {"status": {"type": "string", "const": "live"}},
    "required": ["status"],
}
PART = {
    "type": "object",
    "properties": {
        "state": {"type": "string", "enum": [str(state) for state in State]},
        "since": {"type": "string", "format": "date-time"},
        "why": {"type": "string"},
    },
    "required": ["state", "since"],
}
READY = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["ready", "degraded", "unavailable"]},
        "parts": {
            "description": "What each part does, by its name: since when, and if it is not up, "
            "why. Only told to clients with a token, if tokens are needed; and so are the events.",
            "type": "object",
            "additionalProperties": PART,
        },
        "events": {
            "description": "The events of the whole clinic that are neither recorded nor set aside "
            "yet: how many, and how many seconds ago the oldest happened; null if the database "
            "does not say.",
            "type": ["object", "null"],
            "properties": {"open": {"type": "integer"}, "oldest_seconds": {"type": "number"}},
            "required": ["open", "oldest_seconds"],
        },
    },
    "required": ["status"],
}


UP = {"state": "up", "since": "2027-12-01T07:00:00Z"}
DOWN = {
    "state": "down",
    "since": "2027-12-01T09:30:00Z",
    "why": "PostgreSQL db.example:5432/clinic cannot be reached",
}
NONE_OPEN = {"open": 0, "oldest_seconds": 0.0}


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
        "degraded one serves requests, though one of its parts is down, or events are not recorded "
        "in time (CLINIC_BEHIND_SECONDS).",
        answers=[
            _ready(
                HTTPStatus.OK,
                "It can.",
                {"status": "ready", "parts": {"http": UP, "database": UP}, "events": NONE_OPEN},
            ),
            _ready(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "It cannot.",
                {"status": "unavailable", "parts": {"http": UP, "database": DOWN}, "events": None},
            ),
        ],
    ),
)
