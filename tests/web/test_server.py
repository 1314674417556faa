"""Clients that waste our time: over a raw socket, byte by byte."""

import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from clinic.supervisor import Lifecycle, Stop
from clinic.web.server import (
    KEEP_ALIVE_SECONDS,
    LARGEST_HEAD_BYTES,
    RECEIVE_SECONDS,
    HttpServer,
    listen,
)
from tests.process.clinic import ClinicProcess
from tests.timing import PATIENCE_SECONDS

HEAD = b"POST /appointment HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(clinic: ClinicProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", clinic.port), timeout=2 * RECEIVE_SECONDS)


def answer(connection: socket.socket) -> bytes:
    """Return all that the server sends until it hangs up."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def test_an_answer_is_one_packet(clinic: ClinicProcess) -> None:
    with connect(clinic) as connection:
        for _ in range(100):
            connection.sendall(GET)
            assert connection.recv(65536).endswith(b'{"status":"live"}')


@pytest.mark.anyio
async def test_a_head_does_not_wait_for_a_body_that_is_long_in_coming() -> None:
    may_go_on = anyio.Event()

    async def body() -> AsyncIterator[str]:
        await may_go_on.wait()
        yield "done"

    async def answer_slowly(_request: Request) -> Response:
        return StreamingResponse(body())

    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        app = Starlette(routes=[Route("/", answer_slowly)])
        server = HttpServer(app, listener, grace_seconds=5)
        stop = Stop()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, Lifecycle(stop, lambda: None))
            async with await anyio.connect_tcp(*address) as stream:
                await stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                with anyio.fail_after(PATIENCE_SECONDS):
                    assert (await stream.receive()).endswith(b"chunked\r\n\r\n")
                    may_go_on.set()
                    assert b"done" in await stream.receive()
            stop.request()


def test_requests_that_do_not_arrive_are_timed_out(clinic: ClinicProcess) -> None:
    halves = [b"", b"GET /heal", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"]
    with ExitStack() as connections:
        began = time.monotonic()
        for sent in halves:
            connection = connections.enter_context(connect(clinic))
            connection.sendall(sent)
            connections.callback(timed_out, connection)
        trickling = connections.enter_context(connect(clinic))
        trickling.sendall(HEAD + b"Content-Length: 60000\r\n\r\n")
        with pytest.raises(OSError):  # noqa: PT011 - a reset or a broken pipe
            while time.monotonic() - began < 2 * RECEIVE_SECONDS:
                trickling.sendall(b" ")
                time.sleep(0.2)
        assert RECEIVE_SECONDS - 1 < time.monotonic() - began < RECEIVE_SECONDS + 2


def timed_out(connection: socket.socket) -> None:
    received = answer(connection)
    assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"application/problem+json" in received


def test_an_answered_connection_is_not_kept_for_ever(clinic: ClinicProcess) -> None:
    with connect(clinic) as connection:
        began = time.monotonic()
        connection.sendall(GET)
        assert answer(connection).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - began < KEEP_ALIVE_SECONDS + 2


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1_000_000,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100_000,
        b"GET /" + b"x" * 1_000_000,
    ],
    ids=["one large header", "many headers", "a long address"],
)
def test_a_head_without_end_is_refused(clinic: ClinicProcess, head: bytes) -> None:
    with connect(clinic) as connection:
        try:
            connection.sendall(head)
            received = answer(connection)
        except (ConnectionResetError, BrokenPipeError):
            return  # hung up while we were still sending, which is as good an answer
        assert received.startswith(b"HTTP/1.1 431 ")


def test_a_head_of_a_common_size_is_no_problem(clinic: ClinicProcess) -> None:
    with connect(clinic) as connection:
        padding = b"X: " + b"x" * (LARGEST_HEAD_BYTES - 200) + b"\r\n"
        connection.sendall(GET[:-2] + padding + b"Connection: close\r\n\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 200 ")


def test_no_answer_waits_for_an_acknowledgement_of_its_head() -> None:
    """Which clients delay by 40 ms."""
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_requests_sent_together_are_answered_in_order(clinic: ClinicProcess) -> None:
    with connect(clinic) as connection:
        last = GET.replace(b"/live", b"/nothing")[:-2] + b"Connection: close\r\n\r\n"
        connection.sendall(GET * 5 + last)
        received = answer(connection)
    assert received.count(b"HTTP/1.1 200 ") == 5
    assert received.rindex(b"HTTP/1.1 200 ") < received.index(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"no http\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_refused(clinic: ClinicProcess, sent: bytes) -> None:
    with connect(clinic) as connection:
        connection.sendall(sent)
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in received


def test_a_body_too_large_by_its_own_word_is_not_read(clinic: ClinicProcess) -> None:
    with connect(clinic) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 100000\r\n\r\n")
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in received


def test_who_leaves_in_the_middle_disturbs_nobody(clinic: ClinicProcess) -> None:
    for sent in (HEAD, HEAD + b"Content-Length: 100\r\n\r\n{", GET):
        with connect(clinic) as connection:
            connection.sendall(sent)
    assert clinic.http.get("/health/ready").json()["status"] == "ready"
