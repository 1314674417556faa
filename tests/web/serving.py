"""A server of our own on a thread, with limits that tests need not wait for, and raw clients."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from clinic.cli.run import LOOP
from clinic.supervisor import Lifecycle, Stop
from clinic.web.problems import HANDLERS
from clinic.web.server import HttpServer, Limits, listen
from clinic.web.streaming import stream
from tests.timing import PATIENCE_SECONDS

LARGE_BYTES = 16 * 1024 * 1024
"""More than the system buffers for one connection, even on loopback."""

MEDIUM_BYTES = 256 * 1024
"""Less than that, and more than a client's system buffers if it is told to buffer little."""


@dataclass
class Stage:
    """What the application of a test has seen and waits for."""

    seen: list[str] = field(default_factory=list)
    """Each request: method, path and body."""
    gone: list[str] = field(default_factory=list)
    """Paths of requests whose client left before it was answered."""
    ended: int = 0
    """How many streams were ended in order."""
    open: threading.Event = field(default_factory=threading.Event)
    """Lets the requests go on that wait at ``/wait``."""

    def app(self) -> ASGIApp:
        """Return an application with one address for each thing that a response can be."""
        methods = ["GET", "POST", "DELETE", "OPTIONS"]
        return Starlette(
            routes=[
                Route("/", self._echo, methods=methods),
                Route("/echo", self._echo, methods=methods),
                Route("/health/live", self._echo),
                Route("/early", self._early, methods=["POST"]),
                Route("/wait", self._wait, methods=["GET", "POST"]),
                Route("/large", self._large),
                Route("/medium", self._medium),
                Route("/stream", self._stream),
                Route("/pieces", self._pieces),
            ],
            exception_handlers=HANDLERS,
        )

    async def _echo(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append(f"{request.method} {request.url.path} {body.decode()}".strip())
        return JSONResponse(
            {
                "seen": self.seen[-1],
                "query": request.url.query,
                "headers": [
                    [name.decode("latin-1"), value.decode("latin-1")]
                    for name, value in request.headers.raw
                ],
            }
        )

    async def _early(self, request: Request) -> Response:
        """Answer without reading the body."""
        self.seen.append(f"{request.method} {request.url.path}")
        return JSONResponse({})

    async def _wait(self, request: Request) -> Response:
        await request.body()
        leaving = asyncio.ensure_future(self._until_gone(request))
        while not self.open.is_set() and not leaving.done():
            await asyncio.sleep(0.01)
        leaving.cancel()
        self.seen.append(f"{request.method} {request.url.path}")
        return JSONResponse({})

    async def _until_gone(self, request: Request) -> None:
        message = await request.receive()
        assert message == {"type": "http.disconnect"}
        self.gone.append(request.url.path)

    async def _large(self, _request: Request) -> Response:
        return Response(b"x" * LARGE_BYTES)

    async def _medium(self, _request: Request) -> Response:
        return Response(b"x" * MEDIUM_BYTES)

    async def _stream(self, _request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(LARGE_BYTES // 65536):
                yield b"x" * 65536

        return StreamingResponse(pieces())

    async def _pieces(self, _request: Request) -> Response:
        """Answer as a list does: with generators within one another, and work under way."""

        async def inner() -> AsyncGenerator[str]:
            try:
                while True:
                    await asyncio.sleep(0.001)
                    yield "x" * 65536
            finally:
                self.ended += 1
                await asyncio.sleep(0.01)

        async def outer() -> AsyncIterator[str]:
            async with contextlib.aclosing(inner()) as found:
                async for piece in found:
                    yield piece

        return await stream(outer(), "text/plain")


@dataclass(frozen=True)
class Served:
    """A server that runs; ``stop`` ends it, and returns how long it took."""

    port: int
    stop: Callable[[], float]

    def connect(self, *, receive_bytes: int | None = None) -> socket.socket:
        """Return a connection; its system buffers this much of what its program does not read."""
        connection = socket.socket()
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def ask(self, sent: bytes) -> list["Answer"]:
        """Send bytes, say that this was all, and return everything that is answered."""
        with self.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return answers(until_closed(connection))


@contextlib.contextmanager
def served(app: ASGIApp, *, grace_seconds: float = 10.0, **limits: Any) -> Iterator[Served]:
    """Serve the application on a thread of its own as long as the body runs."""
    stop = Stop()
    up = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve(listener: socket.socket) -> None:
        loops.append(asyncio.get_running_loop())
        server = HttpServer(app, listener, grace_seconds, Limits(**limits))
        await server.run(Lifecycle(stop, up.set))

    def end() -> float:
        began = time.monotonic()
        if thread.is_alive():
            loops[0].call_soon_threadsafe(stop.request)
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
        return time.monotonic() - began

    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(
            target=lambda: anyio.run(serve, listener, backend_options=LOOP), name="server"
        )
        thread.start()
        assert up.wait(PATIENCE_SECONDS)
        try:
            yield Served(port, end)
        finally:
            end()


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body, read as JSON."""
        return json.loads(self.body)


def until_closed(connection: socket.socket) -> bytes:
    """Return all that arrives until the server ends its side."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def answers(received: bytes, *, head_only: bool = False) -> list[Answer]:
    """Return the responses that stand in what was received; it is nothing else."""
    found = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, head
        line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict(one.split(": ", 1) for one in lines)
        if status.startswith("1"):
            continue
        if headers.get("transfer-encoding") == "chunked":
            body, received = chunks(received)
        elif head_only:
            body = b""
        else:
            size = int(headers["content-length"]) if "content-length" in headers else len(received)
            body, received = received[:size], received[size:]
            assert len(body) == size, "the response is cut off"
        found.append(Answer(int(status), headers, body))
    return found


def chunks(received: bytes) -> tuple[bytes, bytes]:
    """Return a chunked body, and what follows it."""
    body = b""
    while True:
        size, _, received = received.partition(b"\r\n")
        length = int(size, 16)
        body += received[:length]
        assert received[length : length + 2] == b"\r\n", "the response is cut off"
        received = received[length + 2 :]
        if not length:
            return body, received


def closes_within(connection: socket.socket, seconds: float) -> bool:
    """Tell whether the server ends the connection, or resets it, within a time."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError, TimeoutError):
        while True:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            if not connection.recv(65536):
                return True
    return time.monotonic() < deadline
