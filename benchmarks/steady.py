"""Book at a constant rate: python -m benchmarks.steady URL RATE SECONDS FIRST_SLOT.

A request is due at its time whether the one before it was answered or not, and its latency counts
from then, also while it waits for a connection here. So a server that stands still for a second
shows up in every request of that second ("coordinated omission" is the name for hiding that).
"""

import asyncio
import json
import selectors
import sys
import time
from collections import deque
from dataclasses import asdict
from urllib.parse import urlsplit

from benchmarks.load import Load
from benchmarks.slots import body

CONNECTIONS = 64
CREATED = b"HTTP/1.1 201"


class Wires:
    """The connections, what waits for one, and how long each request took."""

    def __init__(self) -> None:
        self.idle: list[Wire] = []
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.latencies: list[float] = []
        self.failures: list[bytes] = []
        self._news = asyncio.Event()

    def send(self, due: float, request: bytes) -> None:
        """Send on a connection that is idle, or as soon as one is."""
        if self.idle:
            self.idle.pop().send(due, request)
        else:
            self.waiting.append((due, request))

    def answered(self, wire: "Wire", latency: float) -> None:
        """Take the time down and send what waits."""
        self.latencies.append(latency)
        self._news.set()
        if self.waiting:
            wire.send(*self.waiting.popleft())
        else:
            self.idle.append(wire)

    def failed(self, why: bytes) -> None:
        """Take down what went wrong."""
        self.failures.append(why)
        self._news.set()

    async def until_answered(self, count: int) -> None:
        """Wait until a number of requests is answered, or one has failed."""
        while len(self.latencies) < count and not self.failures:
            self._news.clear()
            await self._news.wait()


class Wire(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._due = 0.0
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._wires.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wires.failed(f"connection lost: {exc}".encode())

    def send(self, due: float, request: bytes) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0] or 0)
        if not end or len(rest) < length:
            return
        if not head.startswith(CREATED):
            self._wires.failed(self._answer[:500])
        self._answer = b""
        self._wires.answered(self, time.perf_counter() - self._due)


async def book(url: str, rate: float, seconds: float, first_slot: int) -> Load:
    """Book at a constant rate and return what came of it."""
    place = urlsplit(url)
    head = (
        f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    loop = asyncio.get_running_loop()
    wires = Wires()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Wire(wires), place.hostname, place.port)
    count = int(rate * seconds)
    bookings = [body(first_slot + number) for number in range(count)]
    requests = [b"%b%d\r\n\r\n%b" % (head, len(booking), booking) for booking in bookings]
    start, used = time.perf_counter(), time.process_time()
    for number, request in enumerate(requests):
        due = start + number / rate
        early = due - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
        wires.send(due, request)
    await wires.until_answered(count)
    took = time.perf_counter() - start
    if wires.failures:
        sys.exit(f"steady: {wires.failures[0].decode(errors='replace')}")
    latencies = sorted(wires.latencies)
    return Load(
        rate=count / took,
        p50_ms=latencies[count // 2] * 1000,
        p99_ms=latencies[count * 99 // 100] * 1000,
        generator_share=(time.process_time() - used) / took,
    )


def main() -> None:
    """Read the arguments, book, print the outcome as JSON."""
    url, rate, seconds, first_slot = sys.argv[1:]
    # Of all selectors only select() waits for fractions of a millisecond.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    load = loop.run_until_complete(book(url, float(rate), float(seconds), int(first_slot)))
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
