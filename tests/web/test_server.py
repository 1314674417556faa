"""The real process over real sockets: as it listens, answers, and is asked by real clients."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from clinic.supervisor import Lifecycle, Stop
from clinic.web.server import CannotListen, HttpServer, Limits, address_of, listen
from tests.containers.files import health_checks
from tests.process.clinic import ClinicProcess, running, until
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS
from tests.web.serving import Stage, closes_within, served

HEAD = b"POST /appointment HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
BOOKING = {"patient_name": "a", "office_number": "1", "date_time": "2027-12-01T15:30:00"}

IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()
needs_ipv6 = pytest.mark.skipif(not IPV6, reason="this system has no IPv6")


def connect(clinic: ClinicProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", clinic.port), timeout=PATIENCE_SECONDS)


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


def test_no_answer_waits_for_an_acknowledgement_of_its_head() -> None:
    """Clients delay an acknowledgement by 40 ms."""
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_list_for_http_1_0_is_not_in_chunks_and_ends_with_the_connection(
    clinic: ClinicProcess,
) -> None:
    with connect(clinic) as connection:
        connection.sendall(b"GET /appointment HTTP/1.0\r\n\r\n")
        head, _, body = answer(connection).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert isinstance(json.loads(body), list)


def test_a_body_too_large_by_its_own_word_is_not_read(clinic: ClinicProcess) -> None:
    with connect(clinic) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 100000\r\n\r\n")
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in received


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(clinic: ClinicProcess) -> None:
    for sent in (HEAD, HEAD + b"Content-Length: 100\r\n\r\n{", GET):
        with connect(clinic) as connection:
            connection.sendall(sent)
    assert clinic.http.get("/health/ready").json()["status"] == "ready"


def test_the_time_for_which_a_connection_is_kept_is_a_setting(tmp_path: Path) -> None:
    with running(tmp_path, CLINIC_KEEP_ALIVE_SECONDS=1) as clinic, connect(clinic) as connection:
        connection.sendall(GET)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert not closes_within(connection, 0.5)
        assert closes_within(connection, 0.5 + SLACK_SECONDS)


# Who listens, and where


def test_an_address_stands_as_it_does_in_a_url() -> None:
    assert address_of("127.0.0.1", 8000) == "127.0.0.1:8000"
    assert address_of("::", 8000) == "[::]:8000"


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_an_error_says_why_an_address_cannot_be_listened_on(host: str) -> None:
    with pytest.raises(CannotListen, match=f"cannot listen on {host}:8000: [A-Z].*CLINIC_HOST"):
        listen(host, 8000)


@needs_ipv6
def test_all_addresses_are_those_of_both_families(tmp_path: Path) -> None:
    with running(tmp_path, "--host", "::", CLINIC_ALLOW_ANONYMOUS=1) as clinic:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, clinic.port)) as connection:
                connection.sendall(GET)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert f"on http://[::]:{clinic.port}" in clinic.log


@needs_ipv6
@pytest.mark.parametrize("host", ["::", "::1", "127.0.0.2"])
def test_the_health_check_of_the_image_asks_the_listening_address(
    tmp_path: Path, host: str
) -> None:
    _, *check = health_checks()["image"]
    clinic = ClinicProcess(tmp_path, CLINIC_HOST=host, CLINIC_ALLOW_ANONYMOUS=1)
    settings = {"CLINIC_HOST": host, "CLINIC_PORT": str(clinic.port)}
    try:
        until(lambda: is_listened_on(host, clinic.port))
        assert subprocess.run([sys.executable, *check], env=settings, check=False).returncode == 0
    finally:
        clinic.close()


def is_listened_on(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port)).close()
    except ConnectionRefusedError:
        return False
    return True


# Behaviour of uvicorn that we rely on


def test_a_response_has_a_date_that_uvicorn_keeps() -> None:
    with served(Stage().app()) as server:
        (found,) = server.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert found.headers["date"].endswith("GMT")


def test_a_stop_ends_the_requests_that_outlast_it() -> None:
    """uvicorn cancels them, and they end with an answer, as every refused request does."""
    stage = Stage()
    with served(stage.app(), grace_seconds=2) as server, server.connect() as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert not closes_within(connection, 0.2)
        assert server.stop() < 2 + SLACK_SECONDS
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: " in received
    assert b"application/problem+json" in received


# Real clients that would like to speak something newer


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")
def test_curl_books_whichever_version_it_would_like(clinic: ClinicProcess) -> None:
    for number, option in enumerate(["--http2", "--http1.1", "--http1.0"]):
        body = json.dumps(BOOKING | {"office_number": f"curl {number}"})
        command = ["curl", "-sS", option, f"{clinic.url}/appointment", "-d", body]
        found = subprocess.run(
            [*command, "-H", "Content-Type: application/json"], capture_output=True, check=True
        )
        assert json.loads(found.stdout)["office_number"] == f"curl {number}"


JAVA = """
import java.net.URI;
import java.net.http.*;

public class Book {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        for (int i = 1; i < arguments.length; i++) {
            var request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(arguments[i])).build();
            var response = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(response.statusCode() + " " + response.version());
        }
    }
}
"""


@pytest.mark.skipif(not shutil.which("javac"), reason="Java is missing")
def test_java_books_though_it_asks_for_http_2(clinic: ClinicProcess, tmp_path: Path) -> None:
    """Its HttpClient sends Upgrade: h2c together with the body."""
    program = tmp_path / "Book.java"
    program.write_text(JAVA)
    bodies = [json.dumps(BOOKING | {"office_number": f"java {i}"}) for i in range(2)]
    found = subprocess.run(
        ["java", str(program), f"{clinic.url}/appointment", *bodies],
        capture_output=True,
        check=False,
    )
    assert found.stdout.splitlines() == [b"201 HTTP_1_1"] * 2, found.stderr


def test_the_default_limits_are_those_of_the_table() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert HttpServer(Starlette(), listener, grace_seconds=1).limits == Limits()
