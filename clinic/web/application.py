"""Routes and errors put together."""

import logging
from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from clinic.web.problems import HANDLERS, LOGGED, ProblemType, problem_response, refused

log = logging.getLogger(__name__)


def application(
    routes: Sequence[BaseRoute], refusals: Mapping[type[Exception], ProblemType]
) -> ASGIApp:
    """Return the application that serves the routes.

    ``refusals`` says as which type of problem the features' own errors are answered. Their message
    is the detail, and what they have as ``members`` goes with it.
    """

    async def on_refusal(_request: Request, error: Exception) -> Response:
        found = next(found for kind, found in refusals.items() if isinstance(error, kind))
        return problem_response(refused(found, error))

    app = Starlette(
        routes=routes, exception_handlers={**HANDLERS, **dict.fromkeys(refusals, on_refusal)}
    )
    # A redirect would send clients to whatever the Host header says (STACK 6).
    app.router.redirect_slashes = False

    async def without_echo(scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette raises again what it has answered with 500, for uvicorn to log it a second time.
        try:
            await app(scope, receive, send)
        except Exception as error:
            if not scope.get(LOGGED):
                log.exception("An answer broke off: %s", type(error).__name__)

    return without_echo
