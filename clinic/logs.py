"""The log: lines on standard error, which never block the clinic.

On a terminal they are for people; elsewhere each is a JSON object, for programs that collect logs.
"""

import contextlib
import datetime
import io
import json
import logging
import os
import re
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from clinic.acting import acting

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

STANDARD_ERROR = 2

# These libraries would log secrets (names, passwords), each query, or lines that nobody needs.
QUIET = ("databases", "aiosqlite", "yoyo", "uvicorn", "asyncio")
# These libraries log every outage with tracebacks; the supervisor says the same in one line.
MUTE = ("aiormq", "asyncpg")

# The most characters that wait to be written while nobody reads the log: some 2,500 lines.
MOST_WAITING = 256 * 1024
# How long the end of the process waits for the last lines to be written.
DRAIN_SECONDS = 1.0

# Characters that would begin a new line of the log, or control a terminal.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class LineFormatter(logging.Formatter):
    """Writes one record on one line, and a traceback indented below it.

    What comes from outside may hold a line break; it must not look like a line of ours.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line of a record, control characters escaped."""
        line = super().formatMessage(record)
        request_id = acting().request_id
        if request_id is not None:
            line += f" (request {request_id})"
        return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), line)

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        """Return a traceback, indented."""
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join("  " + line for line in text.splitlines())


class JsonFormatter(logging.Formatter):
    """Writes one record as a JSON object on one line.

    Its members are ``time`` (UTC), ``level``, ``logger``, ``message``, and where there are such
    ``request_id``, ``traceparent`` (https://www.w3.org/TR/trace-context/) and ``exception``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        act = acting()
        told = {"request_id": act.request_id, "traceparent": act.traceparent}
        line |= {name: value for name, value in told.items() if value is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Half of a surrogate pair cannot be written; it comes from bytes that are no UTF-8.
        text = json.dumps(line, ensure_ascii=False)
        return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Outlet(io.TextIOBase):
    """A stream whose writers never wait: a thread writes their text, as fast as it is read.

    Text beyond ``room`` characters is dropped; ``report`` makes the line that says how many lines
    were dropped.
    """

    def __init__(self, descriptor: int, report: Callable[[int], str], room: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._report = report
        self._room = room
        self._waiting: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._writing = False
        self._ended = False
        threading.Thread(target=self._carry_on, daemon=True, name="log").start()

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Leave text to be written, or drop it if too much waits already."""
        with self._changed:
            if self._size + len(text) > self._room:
                self._dropped += text.count("\n")
            else:
                self._waiting.append(text)
                self._size += len(text)
                self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing: whoever writes does not wait; see ``drain``."""

    def close(self) -> None:
        """End the thread once all is written."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until all is written, but not for longer than that."""
        with self._changed:
            self._changed.wait_for(
                lambda: not (self._waiting or self._dropped or self._writing), seconds
            )

    def _carry_on(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._dropped or self._ended)
                if self._ended and not (self._waiting or self._dropped):
                    return
                text = "".join(self._waiting)
                self._waiting.clear()
                self._size = 0
                dropped, self._dropped = self._dropped, 0
                self._writing = True
            if dropped:
                text += self._report(dropped)
            self._write(text.encode(errors="backslashreplace"))

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another program that shares the pipe has made it non-blocking
                select.select([], [self._descriptor], [])
            except OSError:
                return  # nobody will ever read it


class OutletHandler(logging.StreamHandler[Outlet]):
    """Logs into an outlet, and drains it when logging ends."""

    def close(self) -> None:
        """Wait a moment for the last lines to be written."""
        self.stream.drain(DRAIN_SECONDS)
        super().close()


def formatter(form: str) -> logging.Formatter:
    """Return what formats records: as ``text``, as ``json``, or ``auto``, as standard error is."""
    if form == "json" or (form == "auto" and not os.isatty(STANDARD_ERROR)):
        return JsonFormatter()
    return LineFormatter(FORMAT)


def set_up_logging(level: str, form: str, outlet: Outlet | None = None) -> None:
    """Log to standard error from this level on: debug, info, warning or error.

    For ``form`` see ``formatter``.
    """
    handler: logging.Handler = OutletHandler(outlet) if outlet else logging.StreamHandler()
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in MUTE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextlib.contextmanager
def never_waiting(form: str) -> Iterator[Outlet | None]:
    """Send all that the body prints and logs through outlets; yield that of standard error.

    For ``form`` see ``formatter``.
    """
    report = partial(report_dropped, formatter(form))
    former = sys.stdout, sys.stderr
    outlets = [
        Outlet(stream.fileno(), report, MOST_WAITING) if stream is not None else None
        for stream in former
    ]
    sys.stdout, sys.stderr = outlets
    try:
        yield outlets[1]
    finally:
        for outlet in outlets:
            if outlet is not None:
                outlet.drain(DRAIN_SECONDS)
                outlet.close()
        sys.stdout, sys.stderr = former


def open_standard_streams() -> None:
    """Open those of the first three descriptors that are closed.

    Otherwise the system would give their numbers to the next files that are opened, and printed
    text would go into the database (https://sqlite.org/howtocorrupt.html, section 1.1).
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free: this one


def report_dropped(formatter: logging.Formatter, lines: int) -> str:
    """Return the line of the log that stands for those that were dropped."""
    text = "%d lines were dropped here: nobody read them in time"
    record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (lines,), None)
    return formatter.format(record) + "\n"
