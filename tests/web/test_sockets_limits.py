"""Limits of bytes and of time: clients that send too much, or too slowly, or nothing."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clinic.web.serving.incoming import Incoming
from clinic.web.serving.limits import LIMITS, MIB
from tests.process.clinic import ROOT, ClinicProcess
from tests.timing import SLACK_SECONDS
from tests.web.corpus import CHUNKED, get, post
from tests.web.serving import Served, Stage, answers, closes_within, served, until_closed

RECEIVE_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 0.5
SENDS_SECONDS = 4 * RECEIVE_SECONDS
"""How long a client goes on sending if nobody stops it."""
LONG = post(b"Content-Length: 60000")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(
        Stage().app(),
        receive_seconds=RECEIVE_SECONDS,
        keep_alive_seconds=KEEP_ALIVE_SECONDS,
        linger_seconds=0.2,
    ) as server:
        yield server


def test_the_table_says_what_is_promised() -> None:
    assert LIMITS.head_bytes == 16 * 1024
    assert LIMITS.receive_seconds == 10
    # nginx, AWS's load balancers and many others keep an idle connection for 60 s.
    assert LIMITS.keep_alive_seconds > 60


def test_the_readme_tells_of_the_limits_that_stand() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"up to {LIMITS.requests:,} requests in hand, on up to {LIMITS.connections:,}" in text
    assert f"`CLINIC_KEEP_ALIVE_SECONDS` ({LIMITS.keep_alive_seconds:g};" in text


SLOW = {
    "nothing": (b"", b""),
    "half a line": (b"GET /ec", b""),
    "half a head": (get()[:-2], b""),
    "half a body": (LONG + b"{", b""),
    "half a chunk": (post(CHUNKED, body=b"5\r\nab"), b""),
    "no end of a body": (post(CHUNKED, body=b"1\r\na\r\n"), b""),
    "half a trailer": (post(CHUNKED, body=b"0\r\na:"), b""),
    "a second one that stops": (get() + b"GET /", b""),
    "a line byte by byte": (b"GET /", b"a"),
    "a head byte by byte": (get()[:-2] + b"A: ", b"a"),
    "headers one by one": (get()[:-2], b"A: b\r\n"),
    "a body byte by byte": (LONG, b" "),
    "a body chunk by chunk": (post(CHUNKED), b"1\r\na\r\n"),
    "chunk extensions byte by byte": (post(CHUNKED, body=b"1;"), b"a"),
    "trailers one by one": (post(CHUNKED, body=b"0\r\n"), b"A: b\r\n"),
}


def send_slowly(server: Served, begin: bytes, more: bytes) -> tuple[float, bytes]:
    """Send the beginning, then more of it again and again; return for how long, and the answer."""
    with server.connect() as connection:
        connection.sendall(begin)
        began = time.monotonic()
        connection.settimeout(0.1)
        received = b""
        while time.monotonic() - began < SENDS_SECONDS:
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                connection.sendall(more)
                continue
            received += piece
            if not piece:
                break
        return time.monotonic() - began, received


def test_requests_that_do_not_arrive_are_timed_out(server: Served) -> None:
    with ThreadPoolExecutor(len(SLOW)) as clients:
        found = clients.map(lambda parts: send_slowly(server, *parts), SLOW.values())
        for name, (seconds, received) in zip(SLOW, found, strict=True):
            *before, last = answers(received)
            assert last.status == 408, name
            assert last.headers["content-type"] == "application/problem+json"
            assert len(before) == (name == "a second one that stops")
            assert RECEIVE_SECONDS - 0.3 < seconds < RECEIVE_SECONDS + SLACK_SECONDS / 3, name


def test_a_body_that_trickles_in_behind_its_answer_ends(server: Served) -> None:
    seconds, received = send_slowly(server, LONG.replace(b"/echo", b"/early"), b" ")
    assert [answer.status for answer in answers(received)] == [200]
    assert seconds < RECEIVE_SECONDS + SLACK_SECONDS / 3


@pytest.mark.parametrize("before", [b"", get()], ids=["first", "between requests"])
def test_empty_lines_without_end_are_refused(server: Served, before: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(before + b"\r\n" * (LIMITS.head_bytes // 2) + get())
        time.sleep(RECEIVE_SECONDS / 4)
        connection.sendall(b"\r\n" * LIMITS.head_bytes + get())
        statuses = [answer.status for answer in answers(until_closed(connection))]
    assert statuses == [*([200] if before else []), 200, 400]


@pytest.mark.parametrize("more", [b"", b"\r\n"], ids=["silent", "empty lines"])
def test_an_answered_connection_is_kept_for_a_while_only(server: Served, more: bytes) -> None:
    seconds, received = send_slowly(server, get(), more)
    assert [answer.status for answer in answers(received)] == [200]
    assert KEEP_ALIVE_SECONDS - 0.3 < seconds < KEEP_ALIVE_SECONDS + SLACK_SECONDS / 3


def test_a_request_in_time_is_not_hurried(server: Served) -> None:
    body = b"a" * 20
    head = post(b"Content-Length: 20")
    with server.connect() as connection:
        for piece in [head[:10], head[10:], body[:10], body[10:]]:
            connection.sendall(piece)
            time.sleep(RECEIVE_SECONDS / 5)
        connection.shutdown(socket.SHUT_WR)
        assert answers(until_closed(connection))[0].status == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * MIB, 431),
        (get()[:-2] + b"A: " + b"a" * MIB, 431),
        (get()[:-2] + b"A: b\r\n" * 100_000, 431),
        (post(CHUNKED, body=b"0\r\nA: " + b"a" * MIB), 431),
        (post(CHUNKED, body=b"0\r\n" + b"A: b\r\n" * 100_000), 431),
        (post(CHUNKED, body=b"1;" + b"a" * MIB), 400),
        (post(b"Content-Length: 1000000", line=b"POST /nowhere HTTP/1.1") + b"a" * 1_000_000, 404),
    ],
    ids=["line", "header", "headers", "trailer", "trailers", "extension", "body"],
)
def test_a_client_that_sends_too_much_sees_why(server: Served, sent: bytes, status: int) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert [answer.status for answer in answers(until_closed(connection))] == [status]


def test_discarded_bytes_are_counted_for_each_request(server: Served) -> None:
    body = b"a" * (MIB // 2)
    sent = post(b"Content-Length: %d" % len(body), line=b"POST /early HTTP/1.1") + body
    with server.connect() as connection:
        for _ in range(5):
            connection.sendall(sent)
            assert b" 200 " in connection.recv(65536)


def test_a_head_just_below_the_limit_is_taken(server: Served) -> None:
    padding = LIMITS.head_bytes - len(get(b"A: "))
    assert server.ask(get(b"A: " + b"a" * padding))[0].status == 200
    assert server.ask(get(b"A: " + b"a" * (padding + 1)))[0].status == 431
    assert server.ask(get(*[b"A: b"] * 99))[0].status == 200


@pytest.mark.parametrize(
    "endless",
    [b"A: b\r\n", b"a"],
    ids=["trailers", "one trailer"],
)
def test_trailers_without_end_take_no_memory_and_nobodys_time(
    clinic: ClinicProcess, endless: bytes
) -> None:
    head = b"POST /appointment HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    before = resident_kib(clinic)
    with socket.create_connection(("127.0.0.1", clinic.port)) as connection:
        connection.sendall(head + CHUNKED + b"\r\n\r\n2\r\n{}\r\n0\r\nA: ")
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                connection.sendall(endless * (65536 // len(endless)))
    began = time.monotonic()
    assert clinic.http.get("/health/live").status_code == 200
    assert time.monotonic() - began < 1 + SLACK_SECONDS / 3
    assert resident_kib(clinic) - before < 16 * 1024


def test_a_trailer_is_no_header(server: Served) -> None:
    (answer,) = server.ask(post(CHUNKED, body=b"0\r\nIdempotency-Key: a\r\nHost: b\r\n\r\n"))
    assert answer.json["headers"] == [["host", "a"], ["transfer-encoding", "chunked"]]


def test_a_target_that_names_a_host_wins_over_the_header(server: Served) -> None:
    (answer,) = server.ask(b"GET http://b:80/echo?c HTTP/1.1\r\nHost: a\r\nD: e\r\n\r\n")
    assert answer.json == {
        "seen": "GET /echo",
        "query": "c",
        "headers": [["host", "b:80"], ["d", "e"]],
    }


@pytest.mark.alone
@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 16_000,
        get()[:-2] + b"A: " + b"a" * 16_000,
        get()[:-2] + b"A: b\r\n" * 99,
        post(CHUNKED, body=b"0\r\nA: " + b"a" * 16_000),
        post(CHUNKED, body=b"1;" + b"a" * 4_000),
    ],
    ids=["line", "header", "headers", "trailer", "extension"],
)
def test_a_long_request_byte_by_byte_takes_no_longer_for_each_byte(sent: bytes) -> None:
    """Half as many bytes take half the time, or a quarter more of it on a bad day."""

    def seconds(count: int) -> float:
        def once() -> float:
            incoming = Incoming(LIMITS)
            began = time.process_time()
            for i in range(count):
                incoming.feed(sent[i : i + 1])
                if incoming.body is not None:
                    incoming.read_body()
                else:
                    incoming.read_head()
            return time.process_time() - began

        return min(once() for _ in range(5))

    assert seconds(len(sent)) < 4 * seconds(len(sent) // 2)
    assert seconds(len(sent)) / len(sent) < 20e-6


def test_a_crowd_of_one_line_is_one_line_in_the_log(clinic: ClinicProcess) -> None:
    for sent in (b"no http\r\n\r\n", get(b"Connection: Upgrade", b"Upgrade: foo")):
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", clinic.port)) as connection:
                connection.sendall(sent)
                assert connection.recv(100)
    lines = [line for line in clinic.log.splitlines() if "refused" in line or "pgrade" in line]
    assert len(lines) <= 1
    assert "Traceback" not in clinic.log


def resident_kib(clinic: ClinicProcess) -> int:
    status = Path(f"/proc/{clinic.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_a_socket_is_closed_within_the_time_that_it_lingers(server: Served) -> None:
    """A client that goes on sending after its answer is not read for ever."""
    with server.connect() as connection:
        connection.sendall(b"no http\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(100):
                connection.sendall(b"a")
                time.sleep(0.05)
    with server.connect() as connection:
        connection.sendall(b"no http\r\n\r\n")
        assert closes_within(connection, SLACK_SECONDS)
