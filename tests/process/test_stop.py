"""Stopping: what is in hand is finished, within the grace period; a second signal ends at once."""

import signal
import socket
import time
from pathlib import Path

import pytest

from clinic.settings import Settings
from tests.process.clinic import running, until
from tests.process.test_kill import execute
from tests.timing import SLACK_SECONDS

GRACE_SECONDS: float = Settings.model_fields["grace_seconds"].default


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as clinic:
        assert clinic.book().status_code == 201
        clinic.http.close()
        clinic.signal(number)
        assert clinic.wait(GRACE_SECONDS + SLACK_SECONDS) == 0
        assert "Traceback" not in clinic.log
        assert "ERROR" not in clinic.log


def test_what_was_booked_is_published_before_the_end(tmp_path: Path) -> None:
    """Otherwise the event would not be published before the next start, after its hold."""
    with running(tmp_path, "--role", "api") as clinic:
        assert all(clinic.book(number).status_code == 201 for number in range(20))
        assert clinic.stop() == 0
    assert execute(tmp_path, "select count(*) from message") == [(20,)]


def half_a_booking(port: int) -> tuple[socket.socket, bytes]:
    body = b'{"patient_name": "a", "office_number": "1", "date_time": "2027-12-01T15:30:00"}'
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(
        b"POST /appointment HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
    )
    # The clinic says so when it waits for the body: now it has the request in hand.
    assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(body[:10])
    return connection, body[10:]


def test_a_request_in_hand_is_finished_and_nothing_new_accepted(tmp_path: Path) -> None:
    with running(tmp_path) as clinic:
        connection, rest = half_a_booking(clinic.port)
        clinic.signal(signal.SIGTERM)
        until(lambda: refuses(clinic.port))
        connection.sendall(rest)
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")
        connection.close()
        assert clinic.wait(GRACE_SECONDS + SLACK_SECONDS) == 0


def test_the_grace_period_is_an_end(tmp_path: Path) -> None:
    with running(tmp_path, CLINIC_GRACE_SECONDS=2) as clinic:
        connection, _ = half_a_booking(clinic.port)
        began = time.monotonic()
        clinic.stop()
        connection.close()
        assert time.monotonic() - began < 2 + SLACK_SECONDS


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with running(tmp_path, CLINIC_GRACE_SECONDS=60) as clinic:
        connection, _ = half_a_booking(clinic.port)
        clinic.signal(signal.SIGTERM)
        until(lambda: "finishing the work in hand" in clinic.log)
        clinic.signal(signal.SIGTERM)
        assert clinic.wait(SLACK_SECONDS) == 128 + signal.SIGTERM
        connection.close()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False
