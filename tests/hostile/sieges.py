"""Crowds of clients that mean no good, driven by one loop."""

import contextlib
import select
import socket
import time
from dataclasses import dataclass

from tests.servers.ports import LOOPBACK
from tests.web.corpus import CHUNKED, get, post

KIB = 1024
READS, WRITES = select.EPOLLIN, select.EPOLLOUT
# Those who leave at once come as fast as they are let: more than are served only wait in the queue.
BETWEEN_SECONDS = 0.004
LEAVES = b"\1\0\0\0\0\0\0\0"  # struct linger: on, for 0 seconds
HOST = b"Host: localhost"
BOOK = b"POST /appointment HTTP/1.1"
JSON = b"Content-Type: application/json"


def ask(path: bytes, *lines: bytes) -> bytes:
    return get(*lines, line=b"GET %s HTTP/1.1" % path).replace(b"Host: a", HOST)


def send(*lines: bytes, body: bytes = b"") -> bytes:
    return post(JSON, *lines, body=body, line=BOOK).replace(b"Host: a", HOST)


@dataclass(frozen=True)
class Siege:
    """Connections of one kind, each opened again when it is closed.

    ``opening`` is sent on each. What follows is ``more``: once a second, or, in a flood, as fast as
    it is taken. ``reads`` says whether answers are read; a greedy client asks again for each.
    """

    connections: int
    opening: bytes = b""
    more: bytes = b""
    flood: bool = False
    reads: bool = True
    greedy: bool = False
    leaves: bool = False
    """Whether it resets the connection at once."""


SIEGES = {
    "silent": Siege(1900),
    "silent, more than there are places": Siege(3000),
    "slow heads": Siege(1900, ask(b"/docs")[:-2], b"A: b\r\n"),
    "slow request lines": Siege(1900, b"GET /", b"a"),
    "slow bodies": Siege(1900, send(b"Content-Length: 60000"), b" "),
    "slow chunks": Siege(1900, send(CHUNKED), b"1\r\n \r\n"),
    "slow trailers": Siege(1900, send(CHUNKED, body=b"0\r\n"), b"A: b\r\n"),
    "a request each, kept": Siege(3000, ask(b"/health/live")),
    "unread pages": Siege(900, ask(b"/docs") * 20, reads=False),
    "unread lists": Siege(900, ask(b"/appointment") * 20, reads=False),
    "unread appointments": Siege(900, ask(b"/appointment/1") * 20, reads=False),
    "unread tables": Siege(300, ask(b"/appointment", b"Accept: text/csv") * 20, reads=False),
    "greedy for pages": Siege(24, ask(b"/docs"), greedy=True),
    "greedy for lists": Siege(24, ask(b"/appointment"), greedy=True),
    "greedy for numbers": Siege(24, ask(b"/analytics"), greedy=True),
    "here and gone": Siege(10, ask(b"/appointment") * 2, leaves=True),
    "heads without end": Siege(10, ask(b"/docs")[:-2] + b"A: ", b"a" * 64 * KIB, flood=True),
    "bodies without end": Siege(
        10, send(b"Content-Length: 1000000000"), b" " * 64 * KIB, flood=True
    ),
    "chunks without end": Siege(10, send(CHUNKED), b"1\r\n \r\n" * 10_000, flood=True),
    "extensions without end": Siege(10, send(CHUNKED, body=b"1;"), b"a" * 64 * KIB, flood=True),
    "trailers without end": Siege(
        10, send(CHUNKED, body=b"0\r\n"), b"A: b\r\n" * 10_000, flood=True
    ),
    "requests without end": Siege(10, b"", ask(b"/health/live") * 1000, flood=True, reads=False),
    "refusals without end": Siege(50, b"no http\r\n\r\n", greedy=True),
}
REACH_THE_DATABASE = {
    *("unread lists", "unread tables", "unread appointments"),
    *("greedy for lists", "greedy for numbers", "here and gone"),
}


class Besieger:
    """One siege of a port; ``opened`` counts the connections there were."""

    def __init__(self, siege: Siege, port: int) -> None:
        self.opened = 0
        self._siege = siege
        self._port = port
        self._epoll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._fresh: set[int] = set()

    def besiege(self, seconds: float) -> None:
        """Go on for so long, then leave."""
        end = time.monotonic() + seconds
        trickled = time.monotonic()
        try:
            for _ in range(self._siege.connections):
                self._connect()
            while (now := time.monotonic()) < end:
                for number, events in self._epoll.poll(0.1):
                    self._heed(number, events)
                if now - trickled >= 1:
                    trickled = now
                    self._trickle()
        finally:
            self._epoll.close()
            for connection in self._open.values():
                connection.close()

    def _connect(self) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        if not self._siege.reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        connection.connect_ex((LOOPBACK, self._port))
        number = connection.fileno()
        self._open[number] = connection
        self._fresh.add(number)
        self._epoll.register(number, WRITES)
        self.opened += 1

    def _again(self, number: int) -> None:
        self._epoll.unregister(number)
        self._open.pop(number).close()
        self._fresh.discard(number)
        self._connect()

    def _heed(self, number: int, events: int) -> None:
        siege, connection = self._siege, self._open[number]
        try:
            if events & WRITES and number in self._fresh:
                self._fresh.discard(number)
                connection.send(siege.opening)
                if siege.leaves:
                    time.sleep(BETWEEN_SECONDS)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LEAVES)
                    self._again(number)
                    return
                kept = (READS if siege.reads else 0) | (WRITES if siege.flood else 0)
                self._epoll.modify(number, kept)
            elif events & WRITES:
                connection.send(siege.more)
            if events & READS:
                if not connection.recv(256 * KIB):
                    self._again(number)
                elif siege.greedy:
                    connection.send(siege.opening)
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                self._again(number)
        except BlockingIOError:
            pass
        except OSError:
            self._again(number)

    def _trickle(self) -> None:
        if self._siege.more and not self._siege.flood:
            for number in self._open.keys() - self._fresh:
                with contextlib.suppress(OSError):
                    self._open[number].send(self._siege.more)
