"""Listen, serve, and end clients that waste our time."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from clinic.supervisor import Lifecycle
from clinic.web.problems import MEDIA_TYPE

# From its first byte to its last a request may take this long; so may a client's silence before
# its first.
RECEIVE_SECONDS = 10.0
# A head is read in pieces of up to 64 KiB; past this many bytes no further piece is read.
LARGEST_HEAD_BYTES = 16 * 1024
# Below the 1,024 open files that systems commonly allow a process.
MOST_CONNECTIONS = 900
# An answered connection is kept this long for the next request.
KEEP_ALIVE_SECONDS = 5


class CannotListen(Exception):
    """The address cannot be listened on; the message says why and what to change."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that a port in use is known before anything starts.

    Raises:
        CannotListen: the port is in use or not allowed, or the host is not one of this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # Python's own text of the error repeats the address, except for an unknown host's.
        reason = (
            os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)
        )
        raise CannotListen(
            f"cannot listen on {host}:{port}: {reason}. "
            "Choose another with --port (CLINIC_PORT) or --host (CLINIC_HOST)"
        ) from error
    # Or each answer's body waits 40 ms for the client to acknowledge the head. asyncio sees to that
    # only on sockets made with IPPROTO_TCP; ours are not, and those accepted take after this one.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@dataclass(frozen=True)
class HttpServer:
    """The service that answers HTTP requests on a socket that listens already."""

    app: ASGIApp
    listener: socket.socket
    grace_seconds: float

    async def run(self, lifecycle: Lifecycle) -> None:
        """Serve until asked to stop, then answer the requests in hand; a service."""
        config = uvicorn.Config(
            self.app,
            http=_PatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,  # it would log query strings, and so patients' names
            proxy_headers=False,  # nobody here asks who the client is
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            # uvicorn cancels what is left; a moment before the supervisor would.
            timeout_graceful_shutdown=max(1, int(self.grace_seconds) - 1),
        )
        # uvicorn closes the socket it is given, and a restart needs it again.
        await _Server(config, lifecycle, self.listener).serve(sockets=[self.listener.dup()])


class _Server(uvicorn.Server):
    """uvicorn as one service among others: it stops when told, and leaves the signals alone."""

    def __init__(
        self, config: uvicorn.Config, lifecycle: Lifecycle, listener: socket.socket
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._lifecycle.up()

    async def on_tick(self, counter: int) -> bool:
        return self._lifecycle.stopping or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._lifecycle.stopping:
            self._listener.close()  # or the system would go on taking connections for us
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _HeadWithBody:
    """A transport that sends a head together with what follows it: one packet instead of two.

    uvicorn writes each by itself, and uvloop sends at once what is written: two calls of the system
    here, and two at the client's, are a sixth of what a short answer takes (benchmarks/README.md).
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        elif data.endswith(b"\r\n\r\n"):
            # Not for ever: what follows may be long in coming.
            self._held = data
            self._loop.call_soon(self._let_go)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._let_go()
        self._transport.close()

    def _let_go(self) -> None:
        if self._held and not self._transport.is_closing():
            held, self._held = self._held, b""
            self._transport.write(held)


class _PatientProtocol(HttpToolsProtocol):
    """HTTP/1.1 with what uvicorn lacks: a deadline for a request, a limit for its head."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes: int | None = 0
    """Bytes of a head that have arrived; None while its body is awaited."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", _HeadWithBody(transport, self.loop))
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            if self._deadline is None:
                self._arm()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > LARGEST_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large.")

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        self._disarm()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, f"{msg} It is no HTTP/1.1.")

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(RECEIVE_SECONDS, self._time_out)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_out(self) -> None:
        self._deadline = None
        if self._head_bytes is None and self.cycle.response_started:
            self.transport.close()  # answered already, and still the body trickles in
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.")

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer outside of any application, and hang up."""
        if self.transport.is_closing():
            return
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": status.phrase,
            "status": int(status),
            "detail": detail,
        }
        body = json.dumps(problem).encode()
        head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close"
        self.transport.write(STATUS_LINE[status] + head.encode() + b"\r\n\r\n" + body)
        self.transport.close()
