"""The log: nobody has to read it, and nobody can forge a line of it."""

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from clinic.logs import FORMAT, JsonFormatter, LineFormatter, Outlet
from tests.process.clinic import ROOT, running, until
from tests.process.environment import clean_environment
from tests.process.test_kill import refused
from tests.servers import free_port
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS


@contextmanager
def unread(folder: Path, **settings: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a clinic whose output goes into pipes that nobody reads."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "clinic.py"), "--port", str(port)],
        cwd=folder,
        env=clean_environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(ready)
        yield process, url
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def test_a_log_that_nobody_reads_stops_nobody(tmp_path: Path) -> None:
    settings = {"DEATH_LIMIT": 1000, "TTL_FOR_RETRIES": 100}
    with unread(tmp_path, **settings) as (process, url), httpx.Client(base_url=url) as http:
        # Each event fails for ever, with the same 3 KB of traceback each time.
        with refused(tmp_path, "insert on recorded"):
            for number in range(100):
                body = {
                    "patient_name": "a",
                    "office_number": f"{number}",
                    "date_time": "2027-12-01T10:00",
                }
                answer = http.post("/appointment", json=body, timeout=SLACK_SECONDS)
                assert answer.status_code == 201
            time.sleep(1)
        assert http.get("/health/ready", timeout=SLACK_SECONDS).status_code == 200
        began = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < 2 * SLACK_SECONDS
        assert process.stderr
        assert b"finishing the work in hand" not in process.stderr.read()  # it was full long before


def test_a_closed_standard_error_harms_nobody(tmp_path: Path) -> None:
    """Otherwise the database's file would get its number, and the log would be written into it."""
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} {ROOT / 'clinic.py'} migrate 0<&- 1>&- 2>&-"],
        cwd=tmp_path,
        env=clean_environment({"CLINIC_LOG_LEVEL": "debug"}),
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "clinic.db").read_bytes().startswith(b"SQLite format 3\0")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_dropped_lines_are_counted(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with closing(Outlet(writer, lambda lines: f"{lines} dropped\n", room=100_000)) as outlet:
        line = "x" * 99 + "\n"
        for _ in range(5_000):
            print(line, end="", file=outlet)
        began = time.monotonic()
        outlet.drain(0.1)
        assert time.monotonic() - began < SLACK_SECONDS
        read = b""
        counted = 0
        while counted < 5_000:
            read += os.read(reader, 65_536)
            lines = read.decode().split("\n")[:-1]
            reports = [int(one.split()[0]) for one in lines if one.endswith(" dropped")]
            counted = sum(reports) + len(lines) - len(reports)
        assert counted == 5_000
        assert reports
        outlet.write("again\n")
        outlet.drain(PATIENCE_SECONDS)
        assert os.read(reader, 100) == b"again\n"


def test_the_log_waits_for_a_pipe_that_is_non_blocking(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    with closing(Outlet(writer, str, room=1_000_000)) as outlet:
        outlet.write("x" * 300_000)
        read = 0
        while read < 300_000:
            read += len(os.read(reader, 65_536))


def test_a_reader_who_has_gone_harms_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with closing(Outlet(writer, str, room=100)) as outlet:
        for _ in range(100):
            outlet.write("lost\n")
        outlet.drain(PATIENCE_SECONDS)
    os.close(writer)


def test_what_comes_from_outside_cannot_look_like_a_line_of_the_log() -> None:
    forged = "1\n2026-01-01 00:00:00,000 INFO clinic: all is well\r\x1b[2J\u2028"
    record = logging.LogRecord("clinic", logging.INFO, "", 0, "message %s", (forged,), None)
    assert LineFormatter(FORMAT).format(record).isprintable()
    record.exc_info = (ValueError, ValueError(forged), None)
    lines = LineFormatter(FORMAT).format(record).splitlines()
    assert all(line.startswith("  ") for line in lines[1:])


def test_elsewhere_than_on_a_terminal_each_line_is_an_object(tmp_path: Path) -> None:
    with running(tmp_path, CLINIC_LOG_FORMAT="auto", CLINIC_LOG_LEVEL="debug") as clinic:
        clinic.book()
        with refused(tmp_path, "insert on appointment"):
            answer = clinic.book(2)
        assert answer.status_code == 500
        until(lambda: "Traceback" in clinic.log)
        assert clinic.stop() == 0
        lines = [json.loads(line) for line in clinic.log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert all(re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}Z", line["time"]) for line in lines)
    (failed,) = [line for line in lines if "exception" in line]
    assert failed["level"] == "error"
    assert failed["exception"].startswith("Traceback")
    # The line names the request, whose answer names it as well.
    assert failed["request_id"] == answer.headers["X-Request-ID"]


def test_a_line_of_json_is_one_line_whatever_comes_from_outside() -> None:
    text = 'a\nb\u2028c\x1b[2J\x85\ud800 "quoted" Ёлкин'
    record = logging.LogRecord("name", logging.INFO, "", 0, "%s", (text,), None)
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert "Ёлкин" in line
    assert json.loads(line)["message"] == text
    assert json.loads(JsonFormatter().format(logging.makeLogRecord({"msg": "x"})))["message"] == "x"


def test_a_trace_goes_on_in_the_event_and_in_the_log(tmp_path: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with running(tmp_path, CLINIC_LOG_FORMAT="json") as clinic:
        clinic.http.headers["traceparent"] = trace
        clinic.book()
        (event,) = clinic.http.get("/appointment/1/events").json()
        assert event["traceparent"] == trace
        with refused(tmp_path, "insert on appointment"):
            assert clinic.book(2).status_code == 500
        until(lambda: f'"traceparent": "{trace}"' in clinic.log)
        for wrong in ("", "00-0-0-01", trace.upper(), f"01{trace[2:]}", trace + "-x"):
            clinic.http.headers["traceparent"] = wrong
            number = clinic.book(hash(wrong) % 10**6).json()["id"]
            (event,) = clinic.http.get(f"/appointment/{number}/events").json()
            assert event["traceparent"] is None
