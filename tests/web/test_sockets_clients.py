"""Clients that end their side, leave, or do not take their answer."""

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.clinic import until
from tests.timing import SLACK_SECONDS
from tests.web.corpus import CHUNKED, get, length, post
from tests.web.serving import (
    LARGE_BYTES,
    MEDIUM_BYTES,
    Served,
    Stage,
    answers,
    closes_within,
    served,
    until_closed,
)

PROBE_SECONDS = 0.2
TAKE_SECONDS = 0.6
WAIT = get(line=b"GET /wait HTTP/1.1")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.open.set()


@pytest.fixture
def server(stage: Stage, caplog: pytest.LogCaptureFixture) -> Iterator[Served]:
    """A server whose log holds nothing that would look like a fault of ours."""
    with served(stage.app(), probe_seconds=PROBE_SECONDS, take_seconds=TAKE_SECONDS) as server:
        yield server
        stage.open.set()
        server.stop()
    assert [one.message for one in caplog.records if one.levelno >= logging.ERROR] == []
    assert "Traceback" not in caplog.text


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("sent", [get(), post(length(b"a"), body=b"a"), get() * 5])
def test_a_client_that_has_ended_its_side_is_answered(server: Served, sent: bytes) -> None:
    assert {answer.status for answer in server.ask(sent)} == {200}


def test_a_client_that_has_ended_its_side_is_answered_however_long_it_takes(
    server: Served, stage: Stage
) -> None:
    with server.connect() as connection:
        connection.sendall(WAIT + get())
        connection.shutdown(socket.SHUT_WR)
        time.sleep(5 * PROBE_SECONDS)
        assert stage.gone == []
        stage.open.set()
        received = until_closed(connection)
    assert [answer.status for answer in answers(received)] == [200, 200]
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")


def test_a_client_of_http_1_0_is_sent_nothing_in_between(server: Served, stage: Stage) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /wait HTTP/1.0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(3 * PROBE_SECONDS)
        stage.open.set()
        assert until_closed(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [WAIT, WAIT + get() * 2, post(length(b"a"), body=b"a",
    line=b"POST /wait HTTP/1.1")])  # fmt: skip
@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["close", "reset"])
def test_a_client_that_has_left_is_noticed_while_its_request_runs(
    server: Served, stage: Stage, sent: bytes, leave: object
) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        time.sleep(0.1)
        assert stage.gone == []
        leave(connection)  # type: ignore[operator]
        until(lambda: stage.gone == ["/wait"], 3 * PROBE_SECONDS + SLACK_SECONDS)
    assert not stage.open.is_set()


def test_a_client_that_ends_its_side_and_leaves_later_is_noticed(
    server: Served, stage: Stage
) -> None:
    with server.connect() as connection:
        connection.sendall(WAIT)
        connection.shutdown(socket.SHUT_WR)
        time.sleep(3 * PROBE_SECONDS)
        assert stage.gone == []
    until(lambda: stage.gone == ["/wait"], 3 * PROBE_SECONDS + SLACK_SECONDS)


@pytest.mark.parametrize(
    "sent",
    [
        post(length(b"abc"), body=b"a"),
        post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"),
        get()[:-2],
        b"GET /ec",
    ],
)
def test_a_request_that_will_never_be_whole_is_refused(
    server: Served, stage: Stage, sent: bytes
) -> None:
    assert [answer.status for answer in server.ask(sent)] == [400]
    assert stage.seen == []


def test_nothing_is_said_to_a_client_that_comes_and_goes(server: Served) -> None:
    assert server.ask(b"") == []


@pytest.mark.parametrize("path", [b"/large", b"/stream", b"/echo"])
def test_requests_sent_together_and_a_reset_are_nobodys_fault(server: Served, path: bytes) -> None:
    for _ in range(20):
        connection = server.connect()
        connection.sendall(get(line=b"GET " + path + b" HTTP/1.1") * 3)
        connection.recv(100)
        reset(connection)
    assert server.ask(get())[0].status == 200


@pytest.mark.parametrize("path", [b"/large", b"/stream", b"/echo"])
def test_a_head_is_answered_without_a_body_at_once(server: Served, path: bytes) -> None:
    head = get(line=b"HEAD " + path + b" HTTP/1.1")
    with server.connect() as connection:
        connection.sendall(head * 3 + get(b"Connection: close"))
        received = until_closed(connection)
    assert received.count(b"HTTP/1.1 200 ") == 4
    assert len(received) < 4000


@pytest.mark.parametrize("path", [b"/large", b"/stream"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_an_answer_that_is_not_taken_ends_the_connection(
    server: Served, path: bytes, version: bytes
) -> None:
    with server.connect() as connection:
        connection.sendall(get(line=b"GET " + path + b" HTTP/" + version))
        time.sleep(0.1)
        began = time.monotonic()
        while is_served(connection, server) and time.monotonic() - began < 20:
            time.sleep(0.05)
        assert TAKE_SECONDS - 0.3 < time.monotonic() - began < TAKE_SECONDS + SLACK_SECONDS
        with pytest.raises(ConnectionResetError):
            until_closed(connection)


def is_served(connection: socket.socket, server: Served) -> bool:
    """Tell whether the server's end of the connection is there, by the system's table."""
    port = connection.getsockname()[1]
    here, there = f"0100007F:{server.port:04X}", f"0100007F:{port:04X}"
    table = Path("/proc/net/tcp").read_text().splitlines()
    return any(line.split()[1:3] == [here, there] for line in table)


def test_a_client_that_takes_a_byte_now_and_then_is_cut_off(server: Served) -> None:
    with server.connect(receive_bytes=4096) as connection:
        connection.sendall(get(line=b"GET /stream HTTP/1.1"))
        began = time.monotonic()
        while is_served(connection, server) and time.monotonic() - began < 20:
            connection.recv(1)
            time.sleep(0.02)
        assert time.monotonic() - began < 3 * TAKE_SECONDS + SLACK_SECONDS


def test_a_client_that_takes_its_time_gets_all_of_it(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(get(b"Connection: close", line=b"GET /large HTTP/1.1"))
        received = 0
        began = time.monotonic()
        while piece := connection.recv(256 * 1024):
            received += len(piece)
            if time.monotonic() - began < 4 * TAKE_SECONDS:
                time.sleep(0.05)
    assert received > LARGE_BYTES


def test_a_client_that_sends_much_and_reads_nothing_is_not_answered_for_ever(
    server: Served, stage: Stage
) -> None:
    """The systems on both sides buffer megabytes; the clinic buffers one answer."""
    with server.connect(receive_bytes=4096) as connection:
        connection.setblocking(False)
        request = get(b"A: " + b"a" * 8000)
        sent = 0
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 20:
                try:
                    sent += connection.send(request * 10)
                except BlockingIOError:
                    time.sleep(0.01)
        assert len(stage.seen) < 2000


@pytest.mark.parametrize("path", [b"/large", b"/stream"])
def test_a_stop_does_not_wait_for_clients_that_take_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture, path: bytes
) -> None:
    with (
        served(stage.app(), grace_seconds=30, stopping_take_seconds=0.3) as server,
        ExitStack() as connections,
    ):
        for _ in range(20):
            connection = connections.enter_context(server.connect())
            connection.sendall(get(line=b"GET " + path + b" HTTP/1.1"))
        time.sleep(0.3)
        assert server.stop() < 0.3 + SLACK_SECONDS
    assert [one.message for one in caplog.records if one.levelno >= logging.ERROR] == []
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("reads", [False, True], ids=["takes nothing", "reads on"])
def test_a_streamed_answer_is_ended_in_order_at_a_stop(
    stage: Stage, caplog: pytest.LogCaptureFixture, *, reads: bool
) -> None:
    with (
        served(stage.app(), grace_seconds=2, stopping_take_seconds=0.3) as server,
        ExitStack() as connections,
    ):
        for _ in range(5):
            connection = connections.enter_context(server.connect())
            connection.sendall(get(line=b"GET /pieces HTTP/1.1"))
            if reads:
                reader = threading.Thread(target=read_slowly, args=[connection])
                reader.start()
                connections.callback(reader.join)
        time.sleep(0.3)
        assert server.stop() < 2 + SLACK_SECONDS
        assert stage.ended == 5
    logged = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert [one.name for one in logged] == ["uvicorn.error"] * reads
    assert "Traceback" not in caplog.text


def read_slowly(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            time.sleep(0.01)


def test_a_streamed_answer_is_ended_when_its_client_has_left(server: Served, stage: Stage) -> None:
    for leave in (socket.socket.close, reset):
        connection = server.connect()
        connection.sendall(get(line=b"GET /pieces HTTP/1.1"))
        connection.recv(1000)
        leave(connection)
    until(lambda: stage.ended == 2)


def test_a_stop_lets_a_client_take_the_answer_in_hand(stage: Stage) -> None:
    with (
        served(stage.app(), grace_seconds=30, stopping_take_seconds=1.0) as server,
        server.connect() as connection,
    ):
        connection.sendall(get(line=b"GET /large HTTP/1.1"))
        connection.recv(1000)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        received = 0
        while piece := connection.recv(128 * 1024):
            received += len(piece)
            time.sleep(0.01)
        stopping.join()
    assert received > LARGE_BYTES - 1000


@pytest.mark.parametrize(
    "rest", [b"zz\r\n", b"1\r\na", b""], ids=["malformed", "cut off", "missing"]
)
def test_a_request_that_is_answered_is_not_answered_again(server: Served, rest: bytes) -> None:
    """However wrong the rest of its body is: the client would take a second answer for the next."""
    with server.connect() as connection:
        connection.sendall(post(CHUNKED, line=b"POST /early HTTP/1.1"))
        (answer,) = answers(connection.recv(65536))
        assert answer.status == 200
        connection.sendall(rest)
        connection.shutdown(socket.SHUT_WR)
        assert until_closed(connection) == b""


def test_a_stop_answers_requests_that_are_under_way(stage: Stage) -> None:
    """A proxy does not send a POST again if its connection is closed without an answer."""
    with (
        served(stage.app(), grace_seconds=30, last_call_seconds=2) as server,
        server.connect() as kept,
        server.connect() as fresh,
    ):
        kept.sendall(get())
        kept.recv(65536)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        until(lambda: is_refused(server))
        for connection in (kept, fresh):
            connection.sendall(post(length(b"a"), body=b"a"))
            (answer,) = answers(until_closed(connection))
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
        stopping.join()


def is_refused(server: Served) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", server.port)) != 0


def test_a_stop_ends_idle_connections_at_once(stage: Stage) -> None:
    with served(stage.app(), grace_seconds=30) as server, ExitStack() as connections:
        fresh = connections.enter_context(server.connect())
        kept = connections.enter_context(server.connect())
        kept.sendall(get())
        kept.recv(65536)
        began = connections.enter_context(server.connect())
        began.sendall(b"GET /ec")
        time.sleep(0.1)
        assert server.stop() < SLACK_SECONDS
        assert all(closes_within(one, SLACK_SECONDS) for one in (fresh, kept, began))


def test_an_answer_in_the_system_s_buffers_must_be_taken_as_well(server: Served) -> None:
    """The answer fits into our system's buffers, but not into those of the client's system."""
    with server.connect(receive_bytes=4096) as connection:
        connection.sendall(get(line=b"GET /medium HTTP/1.1"))
        began = time.monotonic()
        while is_served(connection, server) and time.monotonic() - began < 20:
            time.sleep(0.05)
        assert time.monotonic() - began < 2 * TAKE_SECONDS + SLACK_SECONDS


def test_a_client_that_takes_it_late_is_kept(server: Served) -> None:
    with server.connect(receive_bytes=4096) as connection:
        connection.sendall(get(line=b"GET /medium HTTP/1.1"))
        time.sleep(1.5 * TAKE_SECONDS)
        received = b""
        while len(received) < MEDIUM_BYTES:
            received += connection.recv(65536)
        time.sleep(2 * TAKE_SECONDS)
        connection.sendall(get(b"Connection: close"))
        assert answers(received + until_closed(connection))[1].status == 200
