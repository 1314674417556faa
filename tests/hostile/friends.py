"""Friends: clients that mean well, and book beside whatever else happens."""

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.servers.ports import LOOPBACK
from tests.timing import PATIENCE_SECONDS

BREAK_SECONDS = 0.02
FIRST = datetime(2027, 12, 1)


@dataclass
class Friends:
    """What became of their bookings so far."""

    statuses: Counter[int] = field(default_factory=Counter)
    """How many were answered with each status; 0 is no answer."""
    slowest_seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def booked(self) -> int:
        """How many were booked."""
        return self.statuses[201]

    def book(self, connection: http.client.HTTPConnection, office: str, number: int) -> None:
        """Book the next free hour of an office, and count what is answered."""
        at = FIRST + timedelta(hours=number)
        body = {
            "patient_name": "Иван Иванов",
            "office_number": office,
            "date_time": at.isoformat(),
        }
        began = time.monotonic()
        status = 0
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/appointment", json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            status = answer.status
            if status != 201:
                self.failures.append(f"{status} {answer.read()[:200]!r}")
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(repr(error))
            connection.close()
        self.statuses[status] += 1
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)


@contextlib.contextmanager
def friends(
    port: int,
    *,
    crowd: int = 2,
    break_seconds: Callable[[], float] = lambda: BREAK_SECONDS,
    keep: bool = True,
) -> Iterator[Friends]:
    """Have friends book in offices of their own at a port, as long as the body runs.

    They keep their connections, or open one for each booking.
    """
    found = Friends()
    leave = threading.Event()

    def visit(office: str) -> None:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE_SECONDS)
        number = 0
        while not leave.wait(break_seconds()):
            found.book(connection, office, number)
            number += 1
            if not keep:
                connection.close()
        connection.close()

    began = time.monotonic_ns()
    threads = [
        threading.Thread(target=visit, args=[f"friend {began} {number}"]) for number in range(crowd)
    ]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        leave.set()
        for thread in threads:
            thread.join()
