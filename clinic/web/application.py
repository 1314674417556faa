"""Routes and errors put together."""

import logging
import re
import time
from collections.abc import Awaitable, Collection, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from clinic import metrics
from clinic.acting import ANONYMOUS, Act, act_as
from clinic.web.browsers import REQUEST_ID, KnowsHost, add_answer_headers, refusal
from clinic.web.callers import RENEWED
from clinic.web.headers import below, headers_by_name
from clinic.web.health import is_health
from clinic.web.problems import HANDLERS, LOGGED, NO_ROUTE

log = logging.getLogger(__name__)

# The headers that hold paths.
LINKS = frozenset({b"location", b"link"})
# What scripts of the origins that are let in may send and read, beyond what all may; and for how
# long a browser need not ask again what it may send.
READ_HEADERS = ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Request-ID"]
TOLD_HEADERS = ["ETag", "Link", "Location", "Retry-After", "X-Request-ID"]
PREFLIGHT_SECONDS = 600
# By which request something was done (https://http.dev/x-request-id); we take over what looks so.
GIVEN = re.compile(b"[0-9A-Za-z._:/+=@-]{1,100}")
# https://www.w3.org/TR/trace-context/#traceparent-header
TRACE = re.compile(b"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def application(
    routes: Sequence[BaseRoute],
    knows: KnowsHost,
    root_path: str = "",
    origins: Collection[str] = frozenset(),
) -> ASGIApp:
    """Return the application that serves the routes.

    ``knows`` says of a Host header whether it names the clinic. ``root_path`` is what the path
    begins with at a proxy, such as ``/clinic``; requests may come with it or without. Pages of the
    ``origins`` may use the clinic from a browser, with a token that they send; no others may.
    """
    app: Any = Starlette(routes=routes, exception_handlers=HANDLERS)
    # A redirect would send clients to any host that the Host header names (docs/libraries.md).
    app.router.redirect_slashes = False
    if origins:
        app = CORSMiddleware(
            app,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            allow_headers=READ_HEADERS,
            expose_headers=TOLD_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        scope["root_path"] = root_path
        request_id = given_id(scope) or str(uuid7())
        act_as(Act(ANONYMOUS, request_id, given_trace(scope)))
        send = answering(scope, under(root_path, send) if root_path else send, request_id)
        refused = refusal(scope, knows, origins)
        if refused is not None and not is_health(scope["path"].removeprefix(root_path)):
            await refused.response(root_path)(scope, receive, send)
            return
        # Starlette raises again what it has answered with 500, for uvicorn to log it a second time.
        try:
            await app(scope, receive, send)
        except Exception as error:
            if not scope.get(LOGGED):
                log.exception("An answer broke off: %s", type(error).__name__)

    return guarded


def answering(scope: Scope, send: Send, request_id: str) -> Send:
    """Return what sends the answer to a request, with what each has, and counts it."""
    began = time.perf_counter()
    identified = (REQUEST_ID, request_id.encode("ascii"))

    def sending(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = message["headers"]
            headers.append(identified)
            if RENEWED in scope:
                headers.append((b"set-cookie", scope[RENEWED].encode("ascii")))
            add_answer_headers(headers)
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            metrics.answered(scope["method"], route, message["status"], began)
        return send(message)

    return sending


def given_id(scope: Scope) -> str | None:
    """Return the id that a client or proxy gives its request, if it is one that we take over."""
    value = headers_by_name(scope).get(REQUEST_ID)
    return str(value, "ascii") if value and GIVEN.fullmatch(value) else None


def given_trace(scope: Scope) -> str | None:
    """Return the trace that a request is part of, if its client says so."""
    value = headers_by_name(scope).get(b"traceparent")
    return str(value, "ascii") if value and TRACE.fullmatch(value) else None


def under(root_path: str, send: Send) -> Send:
    """Return what sends an answer whose links to paths of the clinic lead there from outside."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, below(root_path, value.decode("latin-1")).encode("latin-1"))
                if name in LINKS
                else (name, value)
                for name, value in message["headers"]
            ]
        await send(message)

    return sending
