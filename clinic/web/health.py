"""Is the process alive, and is it of use: ``/health/live`` and ``/health/ready``."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True)
class Health:
    """How the process is: of use or not, and the state of each part, by its name."""

    ready: bool
    parts: Mapping[str, str]


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

    return [Route("/health/live", live), Route("/health/ready", ready)]
