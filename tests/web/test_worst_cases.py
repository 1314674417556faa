"""Nobody holds up the others: whatever a request of 64 KiB says, it is judged within 10 ms.

What counts is the processor time of the thread in which the event loop runs, which the system
keeps, so that a busy machine does not matter; a slow one is measured by a piece of work.
"""

import itertools
import json
import socket
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.registry.schedule_requests import WEEKDAYS
from tests.process.clinic import ClinicProcess
from tests.timing import PATIENCE_SECONDS

pytestmark = pytest.mark.alone

SIZE = 64 * 1024
HELD_MS = 10.0
# How long the piece of work takes on the machine for which the 10 ms are promised.
WORK_MS = 4.5
TRIES = 5

HEAD = "Host: localhost\r\nConnection: close\r\n"
TEXTS = (
    "a",
    " ",
    "\u3000",
    "\u0301\u0323",
    "a\u0301\u0323",
    "\u1fb7",
    "\u0344",
    "\uac01\u11a8",
    "\ufdfa",
    "\u0130",
    "\u200d",
    "\U0001f469\u200d\u2695\ufe0f",
    "\u202e",
    "\U0001d15f",
    "\\",
    '"',
    "\x00",
    "2027-12-01T15:30:00",
    "9",
    "1,",
    "(" * 50,
)
VALUES = (
    "[%s0]" % ("0," * 9000),
    "[%s0]" % ("{}," * 9000),
    "[%s0]" % ("[],[[]],{}," * 5000),
    "[%s0]" % ('"",' * 20000),
    "[%s0]" % ("1.2345678901234567e-300," * 2600),
    "[%s0]" % (("9" * 300 + ",") * 210),
    "[%s0]" % (("9" * 4000 + ",") * 16),
    "[" * 190 + "]" * 190,
    "[%s0]" % (("[" * 90 + "]" * 90 + ",") * 350),
    "[%s0]" % (('{"a":' * 80 + "1" + "}" * 80 + ",") * 120),
    "{" + ",".join(f'"{number:x}":0' for number in range(6500)) + "}",
    "{" + ",".join(['"a":0'] * 10000) + "}",
    "9" * 65000,
    "0." + "9" * 65000,
    "9" * 4000,
    "1e" + "9" * 65000,
)
FIELDS = (
    "patient_name",
    "office_number",
    "doctor_name",
    "date_time",
    "appointment_datetime",
    "appointment_type",
    "duration_minutes",
    "patient_phone",
    "note",
    "override",
    "reason",
    "status",
    "anything",
)
QUERIES = {
    "/appointment": (
        *("from", "to", "office_number", "doctor_name", "patient_name", "status", "limit", "after"),
        *("appointment_type", "patient", "patient_phone", "x"),
    ),
    "/appointment.ics": ("from", "to", "office_number", "doctor_name"),
    "/free-time": (
        *("from", "to", "office_number", "doctor_name", "appointment_type", "duration_minutes"),
        *("step_minutes", "limit", "x"),
    ),
    "/analytics": ("from", "to"),
    "/appointment/1": ("x",),
    "/health/ready": ("x",),
    "/docs": ("x",),
}
HEADERS = (
    *("Accept", "If-Match", "If-None-Match", "Idempotency-Key", "Content-Type", "Content-Encoding"),
    *("Host", "Origin", "Sec-Fetch-Site", "Cookie", "Connection", "Accept-Encoding", "Expect", "X"),
)
IN_HEADERS = (
    *("a", ",", ", ", ";", "a/b,", "*/*;q=0.1,", "a;q=1;", '"",', '"a", ', 'W/"1", ', "W/", '"'),
    *("a=b; ", "[::", "1.", ":", "\xff", "=", "gzip,", "*, ", "100-continue,"),
)
NUMBERS = itertools.count(1)

BOOKING = {"patient_name": "a", "office_number": "worst", "date_time": "2027-12-01T15:30:00"}


def work() -> float:
    """Return how many ms of processor time a fixed piece of work takes here and now."""
    began = time.thread_time()
    for _ in range(10):
        text = json.dumps([{"number": number, "text": "x" * 20} for number in range(200)])
        json.loads(text)
        unicodedata.normalize("NFC", "a\u0301\u0323" * 2000)
    return (time.thread_time() - began) * 1000


def held(clinic: ClinicProcess, request: bytes) -> float:
    """Return for how many ms a request keeps the event loop's thread busy."""
    before = busy(clinic)
    with socket.create_connection(("127.0.0.1", clinic.port), timeout=PATIENCE_SECONDS) as client:
        try:
            client.sendall(request)
            while client.recv(SIZE):
                pass
        except ConnectionError:
            pass  # refused while we were still sending
    return busy(clinic) - before


def busy(clinic: ClinicProcess) -> float:
    """Return the processor time of the process's first thread so far, in ms."""
    # https://docs.kernel.org/scheduler/sched-stats.html
    task = Path(f"/proc/{clinic.process.pid}/task/{clinic.process.pid}/schedstat")
    if not task.exists():
        pytest.skip("this system keeps no account of a thread's time")
    return int(task.read_text().split()[0]) / 1e6


def check(clinic: ClinicProcess, requests: Iterator[tuple[str, bytes]]) -> None:
    """Fail unless each of the requests is judged in time; each has a name for a reader."""
    tried = 0
    for name, request in requests:
        tried += 1
        took = held(clinic, request)
        for _ in range(TRIES):
            if took <= HELD_MS:
                break
            # Is this machine slow, or was it, for a moment?
            took = min(took, held(clinic, request) * min(1.0, WORK_MS / work()))
        assert took <= HELD_MS, f"{name}: {took:.1f} ms"
    assert tried
    assert clinic.http.get("/health/live").status_code == 200


def sized(unit: str, size: int = SIZE - 300) -> str:
    """Return a text repeated until it fills a number of bytes of UTF-8."""
    return unit * (size // len(unit.encode()))


def with_body(method: str, path: str, body: str) -> bytes:
    content = body.encode()[:SIZE]
    head = f"{method} {path} HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def with_head(method: str, path: str, headers: str = HEAD) -> bytes:
    return f"{method} {path} HTTP/1.1\r\n{headers}\r\n".encode("latin-1")


def booking(field: str, value: str) -> str:
    """Return a booking in which a field has a value, as JSON."""
    sent = {name: given for name, given in BOOKING.items() if name != field}
    return json.dumps(sent)[:-1] + f', "override": true, "reason": "x", "{field}": {value}}}'


@pytest.fixture(scope="module", autouse=True)
def _once(clinic: ClinicProcess) -> None:
    """Have done what is done only once: modules are imported when they are first needed."""
    for path in (*QUERIES, "/appointment.ics?office_number=1", "/openapi.json"):
        clinic.http.get(path)


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_holds_up_the_others(clinic: ClinicProcess, field: str) -> None:
    def requests() -> Iterator[tuple[str, bytes]]:
        for method, path in (("POST", "/appointment"), ("PATCH", "/appointment/1")):
            for text in TEXTS:
                # As long as the body has room for, and as the longest name before and after it is
                # composed.
                for most in (SIZE - 300, 4 * 200 * 2, 200):
                    for ascii_only in (False, True):
                        value = json.dumps(sized(text, most), ensure_ascii=ascii_only)
                        body = booking(field, value[: SIZE - 200].rstrip("\\") + '"')
                        yield f"{method} {field} {text!r} {most}", with_body(method, path, body)
            for value in VALUES:
                body = booking(field, value)
                yield f"{method} {field} {value[:20]}", with_body(method, path, body)

    check(clinic, requests())


def test_no_body_holds_up_the_others(clinic: ClinicProcess) -> None:
    def requests() -> Iterator[tuple[str, bytes]]:
        for method, path in (("POST", "/appointment"), ("PATCH", "/appointment/1")):
            for value in VALUES:
                yield f"{method} {value[:20]}", with_body(method, path, value)
            for unit in (" ", "\n", "[", "{", '"', '{"":', "[{", "\\", "\x00", "\ufeff", "-", "/*"):
                yield f"{method} {unit!r}", with_body(method, path, sized(unit))
            chunks = "1\r\n \r\n" * (SIZE // 7)
            head = f"{HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
            yield f"{method} chunks", with_head(method, path, head) + f"{chunks}0\r\n\r\n".encode()

    check(clinic, requests())


@pytest.mark.parametrize("path", QUERIES)
def test_no_query_holds_up_the_others(clinic: ClinicProcess, path: str) -> None:
    def requests() -> Iterator[tuple[str, bytes]]:
        for name in QUERIES[path]:
            for text in TEXTS:
                for size in (SIZE - 300, 16 * 1024 - 300, 8 * 1024 - 300, 2000):
                    value = quote(sized(text, size // 3), safe="")[:size].rpartition("%")[0]
                    yield (
                        f"{path} {name} {text!r} {size}",
                        with_head("GET", f"{path}?{name}={value}"),
                    )
            for size in (SIZE - 300, 8 * 1024 - 300):
                many = f"{name}=1&" * (size // len(f"{name}=1&"))
                yield f"{path} {name} many", with_head("GET", f"{path}?{many}")
        for unit in ("&", "=", "a&", "a=&", "%", "%41", "+", ";", "%FF", "%00", "?", "/"):
            for size in (SIZE - 300, 8 * 1024 - 300):
                query = unit * (size // len(unit))
                yield f"{path}?{unit}", with_head("GET", f"{path}?{query}")

    check(clinic, requests())


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_holds_up_the_others(clinic: ClinicProcess, name: str) -> None:
    def requests() -> Iterator[tuple[str, bytes]]:
        for unit in IN_HEADERS:
            for size in (SIZE - 300, 4 * 1024):
                value = f"{name}: {unit * (size // len(unit))}\r\n"
                lines = f"{name}: {unit}\r\n" * (size // len(f"{name}: {unit}\r\n"))
                for headers in (value, lines):
                    for path in ("/appointment?limit=1", "/appointment/1"):
                        yield f"GET {name} {unit!r}", with_head("GET", path, HEAD + headers)
                    for method, path in (("POST", "/appointment"), ("PATCH", "/appointment/1")):
                        head = f"{HEAD}Content-Type: application/json\r\nContent-Length: 2\r\n"
                        request = with_head(method, path, head + headers) + b"{}"
                        yield f"{method} {name} {unit!r}", request

    check(clinic, requests())


def test_no_path_holds_up_the_others(clinic: ClinicProcess) -> None:
    def requests() -> Iterator[tuple[str, bytes]]:
        for start in ("/", "/appointment/", "/appointment/1", "/health/", "/appointment"):
            for unit in ("a", "/", "9", "%41", "%FF", "%D0%96", "%", ".", "..%2f", "/appointment"):
                # A head that is longer is refused by the server.
                path = start + unit * ((16 * 1024 - 300) // len(unit))
                for method in ("GET", "DELETE", "PUT"):
                    yield f"{method} {start} {unit}", with_head(method, path)
        yield "headers", with_head("GET", "/appointment/1", HEAD + "a:\r\n" * 16000)
        yield "methods", f"{'A' * SIZE} / HTTP/1.1\r\n\r\n".encode()

    check(clinic, requests())


# Bodies of the registry that are right but for one field; none of them closes a day of other tests.
LONG_AGO = {"begins": "2001-01-01T00:00:00", "ends": "2001-01-01T01:00:00"}
OF_REGISTRY: dict[str, dict[str, object]] = {
    "/office": {"name": "worst"},
    "/doctor": {"name": "worst"},
    "/appointment-type": {
        "name": "worst",
        "duration_minutes": 30,
        "colour": "#000000",
        "offices": None,
        "doctors": None,
    },
    "/closure": {**LONG_AGO, "reason": "x", "office_number": None, "doctor_name": None},
    "/hours": {"valid_until": "2001-01-01", "week": {}, "office_number": None, "doctor_name": None},
}


@pytest.mark.parametrize("path", OF_REGISTRY)
def test_no_field_of_the_registry_holds_up_the_others(clinic: ClinicProcess, path: str) -> None:
    def requests() -> Iterator[tuple[str, bytes]]:
        for field in OF_REGISTRY[path]:
            others = {name: given for name, given in OF_REGISTRY[path].items() if name != field}
            texts = (json.dumps(sized(text, most)) for text in TEXTS for most in (SIZE - 300, 200))
            many = ",".join(f'"{number:x}":0' for number in range(38))
            nested = [
                *(f"[{value}]" for value in VALUES),
                json.dumps(dict.fromkeys(WEEKDAYS, [{}] * 24)).replace("{}", f"{{{many}}}"),
                json.dumps(dict.fromkeys(WEEKDAYS, [{"a": 0, "b": 0, "c": 0}] * 24)),
            ]
            for value in (*texts, *VALUES, *nested):
                body = f"{json.dumps(others)[:-1]}, {json.dumps(field)}: {value}}}"
                if not others:
                    body = f"{{{json.dumps(field)}: {value}}}"
                yield f"{path} {field} {value[:20]}", with_body("POST", path, body)

    check(clinic, requests())


@settings(max_examples=150)
@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), st.text(min_size=1, max_size=4), min_size=1),
    size=st.sampled_from([SIZE - 2000, 8000, 2000, 800, 500, 200]),
)
def test_no_text_holds_up_the_others(
    clinic: ClinicProcess, fields: dict[str, str], size: int
) -> None:
    texts = {name: sized(unit, size // len(fields)) for name, unit in fields.items()}
    body = json.dumps(BOOKING | texts, ensure_ascii=False).encode(errors="replace").decode()
    check(clinic, iter([(repr(fields), with_body("POST", "/appointment", body))]))
