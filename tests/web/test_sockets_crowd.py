"""More clients than there are places: who is served, who makes room, what the log says."""

import contextlib
import logging
import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from clinic.web.serving.limits import RESERVED_DESCRIPTORS, Limits
from clinic.web.serving.tally import Happened, Tally
from tests.process.clinic import ClinicProcess, running, until
from tests.timing import SLACK_SECONDS
from tests.web.corpus import CHUNKED, get, post
from tests.web.serving import Answer, Served, Stage, answers, closes_within, served

CONNECTIONS = 20
REQUESTS = 5
CROWDED_SECONDS = 0.3
ASKED = get(b"Connection: close")
WAIT = get(b"Connection: close", line=b"GET /wait HTTP/1.1")
HEALTH = get(line=b"GET /health/live HTTP/1.1")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.open.set()


@pytest.fixture
def server(stage: Stage) -> Iterator[Served]:
    with served(
        stage.app(),
        connections=CONNECTIONS,
        requests=REQUESTS,
        crowded_seconds=CROWDED_SECONDS,
        linger_seconds=0.2,
    ) as server:
        yield server
        stage.open.set()


def connect(server: Served, count: int, sent: bytes = b"") -> list[socket.socket]:
    """Return connections, on each of which something was sent."""
    connections = [server.connect() for _ in range(count)]
    for connection in connections:
        connection.sendall(sent)
    return connections


def answer(connection: socket.socket) -> Answer | None:
    """Return the one answer that comes before the end, if any does."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    found = answers(received)
    assert len(found) <= 1
    return found[0] if found else None


def close(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def test_requests_beyond_the_limit_are_told_to_come_again(server: Served, stage: Stage) -> None:
    served_ones = connect(server, REQUESTS, WAIT)
    until(lambda: in_hand(server))
    others = connect(server, REQUESTS, ASKED)
    for connection in others:
        refused = answer(connection)
        assert refused is not None
        assert refused.status == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["connection"] == "close"
        assert refused.json["status"] == 503
    stage.open.set()
    assert [found and found.status for found in map(answer, served_ones)] == [200] * REQUESTS
    close(served_ones + others)


def in_hand(server: Served) -> bool:
    """Tell whether there are as many requests in hand as may be."""
    return status_of(server) == 503


def test_health_is_answered_when_nothing_else_is(server: Served) -> None:
    waiting = connect(server, REQUESTS, WAIT)
    until(lambda: in_hand(server))
    for _ in range(3):
        with server.connect() as connection:
            connection.sendall(HEALTH)
            found = answer(connection)  # and then the connection is closed
            assert found is not None
            assert found.status == 200
    close(waiting)


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", get(), get()[:-2], post(CHUNKED), get() + b"G"],
    ids=["fresh", "a byte", "kept", "half a head", "half a body", "kept, and a byte"],
)
def test_clients_that_keep_us_waiting_make_room(server: Served, sent: bytes) -> None:
    with ExitStack() as idle:
        for connection in connect(server, 3 * CONNECTIONS, sent):
            idle.enter_context(connection)
        until(lambda: status_of(server) == 200, 4 * CROWDED_SECONDS + SLACK_SECONDS)


def status_of(server: Served) -> int:
    """Return with which status a request is answered."""
    with server.connect() as connection:
        connection.sendall(ASKED)
        found = answer(connection)
        assert found is not None
        return found.status


def test_connections_that_are_idle_for_longest_go_first(server: Served) -> None:
    old = connect(server, CONNECTIONS // 2)
    time.sleep(CROWDED_SECONDS)
    young = connect(server, CONNECTIONS // 2 - 1)
    kept = server.connect()
    time.sleep(2 * CROWDED_SECONDS)
    kept.sendall(get())
    kept.recv(65536)
    more = connect(server, 5, ASKED)
    for connection in more:
        found = answer(connection)
        assert found is not None
        assert found.status == 200
    assert all(closes_within(connection, SLACK_SECONDS) for connection in old)
    kept.sendall(ASKED)
    assert b" 200 " in kept.recv(65536)
    close([*old, *young, kept, *more])


def test_clients_that_do_not_take_their_answers_make_room(server: Served) -> None:
    holding = connect(server, REQUESTS, get(line=b"GET /stream HTTP/1.1"))
    time.sleep(2 * CROWDED_SECONDS)
    for _ in range(REQUESTS):
        until(lambda: status_of(server) == 200, 4 * CROWDED_SECONDS + SLACK_SECONDS)
    close(holding)


def test_a_client_that_finds_no_place_waits_for_one(server: Served, stage: Stage) -> None:
    """It waits in the system's queue, and is not accepted only to be refused."""
    stage.open.set()
    crowd = connect(server, 5 * CONNECTIONS)
    for connection in crowd:
        connection.sendall(ASKED)
    found = [answer(connection) for connection in crowd]
    assert all(one is not None and one.status in {200, 503} for one in found)
    assert sum(one is not None and one.status == 200 for one in found) >= CONNECTIONS
    close(crowd)


@pytest.mark.parametrize("held_bytes", [64 * 1024 * 1024, 1])
def test_answers_that_wait_to_be_taken_are_bounded_together(stage: Stage, held_bytes: int) -> None:
    with served(stage.app(), held_bytes=held_bytes, crowded_seconds=60) as server:
        large = get(line=b"GET /large HTTP/1.1")
        holding = connect(server, 20, large)  # 16 MiB each
        until(lambda: sum(closes_within(connection, 0.01) for connection in holding) >= 10)
        assert status_of(server) == 200
        close(holding)


def test_limits_are_derived_from_what_the_system_allows() -> None:
    assert Limits().within(100_000) == Limits()
    for descriptors in (1024, 512, 256, 200, 100, 0):
        limits = Limits().within(descriptors)
        assert limits.connections <= max(16, descriptors - RESERVED_DESCRIPTORS)
        assert 0 < limits.requests < limits.connections


def test_the_first_is_told_at_once_and_the_rest_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    tally = Tally()
    with caplog.at_level(logging.INFO):
        for _ in range(500):
            tally.count(Happened.MALFORMED)
            tally.count(Happened.CROWDED)
            now += 0.1
            tally.tell()
        assert len(caplog.records) == 2
        now += 11
        tally.tell()
        assert [one.args and one.args[1] for one in caplog.records] == [1, 1, 499, 499]  # type: ignore[index]
        now += 100
        tally.tell()
    assert len(caplog.records) == 4


# The real process


def with_open_files(count: int) -> list[str]:
    """Return a command that starts another one with a limit on its open files."""
    return ["sh", "-c", f'ulimit -n {count}; exec "$@"', "sh"]


def test_a_process_of_few_open_files_keeps_some_for_its_database(tmp_path: Path) -> None:
    crowd = 400
    with (
        enough_descriptors(crowd + 100),
        running(tmp_path, under=with_open_files(256)) as clinic,
        ExitStack() as connections,
    ):
        for _ in range(crowd):
            with contextlib.suppress(TimeoutError):
                address = ("127.0.0.1", clinic.port)
                connections.enter_context(socket.create_connection(address, timeout=5))
        began = time.monotonic()
        for number in range(5):
            assert clinic.book(number).status_code == 201
        assert clinic.http.get("/health/ready").json()["status"] == "ready"
        assert time.monotonic() - began < 5 + SLACK_SECONDS
        until(lambda: "to make room" in clinic.log)
        log = clinic.log
    assert "allows this process 256 open files" in log
    assert len(re.findall("WARNING|ERROR", log)) <= 4, log
    assert "Traceback" not in log


def test_the_soft_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    with running(tmp_path, under=["sh", "-c", 'ulimit -S -n 256; exec "$@"', "sh"]) as clinic:
        allowed, _ = resource.prlimit(clinic.process.pid, resource.RLIMIT_NOFILE)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert allowed == min(hard, Limits().connections + RESERVED_DESCRIPTORS)


def test_no_descriptor_left_is_said_once_and_nothing_spins(tmp_path: Path) -> None:
    with running(tmp_path) as clinic, ExitStack() as connections:
        assert clinic.book(1).status_code == 201
        open_files = len(list(Path(f"/proc/{clinic.process.pid}/fd").iterdir()))
        limits = (open_files + 10, open_files + 10)
        resource.prlimit(clinic.process.pid, resource.RLIMIT_NOFILE, limits)
        for _ in range(30):
            address = ("127.0.0.1", clinic.port)
            connections.enter_context(socket.create_connection(address))
        until(lambda: "had no descriptor" in clinic.log)
        before = processor_seconds(clinic)
        time.sleep(2)
        assert processor_seconds(clinic) - before < 0.5
        until(lambda: clinic.http.get("/health/live").status_code == 200)
        assert clinic.log.count("had no descriptor") == 1
        assert "Traceback" not in clinic.log


def processor_seconds(clinic: ClinicProcess) -> float:
    fields = Path(f"/proc/{clinic.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_crowd_of_two_thousand_is_served(clinic: ClinicProcess) -> None:
    crowd = 2000
    with enough_descriptors(crowd + 100), ExitStack() as connections:
        clients = [
            connections.enter_context(socket.create_connection(("127.0.0.1", clinic.port)))
            for _ in range(crowd)
        ]
        for client in clients:
            client.sendall(
                ASKED.replace(b"/echo", b"/openapi.json").replace(b"Host: a", b"Host: localhost")
            )
        found = [answer(client) for client in clients]
    statuses = [one.status for one in found if one is not None]
    assert len(statuses) == crowd
    assert statuses.count(200) >= 900
    assert set(statuses) <= {200, 503}
    assert all("retry-after" in one.headers for one in found if one and one.status == 503)
    assert clinic.http.get("/health/ready").status_code == 200


@contextlib.contextmanager
def enough_descriptors(wanted: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        pytest.skip(f"this system allows {hard} open files; the test needs {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
