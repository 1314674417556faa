"""What a client may send, hold and make us wait for: every limit of HTTP, in one table."""

import dataclasses
import resource
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

# Descriptors that no connection gets: the database has up to ten; the broker, files, the log and
# the event loop take the rest.
RESERVED_DESCRIPTORS = 124
# Fewer connections than this serve nobody, whatever the system allows.
FEWEST_CONNECTIONS = 16


@dataclass(frozen=True)
class Limits:
    """The limits of one server. The texts of ``/docs`` quote them; a test may set smaller ones."""

    head_bytes: int = 16 * KIB
    """Request line and headers together; trailers again. Node.js has the same limit."""
    header_lines: int = 100
    """Headers of one request, or trailers. Apache's LimitRequestFields is 100, too."""
    chunks: int = 4 * 1024
    """Chunks of one body: the longest appointment has 6 KiB, and nobody sends it byte by byte. To
    read this many takes 5 ms."""
    chunk_extension_bytes: int = 4 * KIB
    """All chunk extensions of one body together; nobody uses them (RFC 9112, 7.1.1)."""
    unread_bytes: int = 64 * KIB
    """What one connection may have sent without its being processed; beyond it no more is read. One
    read may exceed it, by 256 KiB in uvloop."""
    discarded_bytes: int = 1 * MIB
    """Read and thrown away after an answer, so that the client sees it (RFC 9112, 9.6)."""
    receive_seconds: float = 10.0
    """From a request's first byte to its last; also from a new connection to its first byte."""
    keep_alive_seconds: float = 75.0
    """From an answer to the next request. Proxies commonly keep a connection for 60 s (nginx, AWS):
    if we close first, they send requests into a closed connection."""
    take_seconds: float = 15.0
    """How often to check that a client takes its answer."""
    take_bytes: int = 32 * KIB
    """What a client must have taken of it each time, or it is cut off: 2 KiB/s. On loopback TCP
    acknowledges in steps of 64 KiB, so a higher rate would cut off clients that do read."""
    stopping_take_seconds: float = 2.0
    """The same while the process stops; then any byte counts."""
    last_call_seconds: float = 0.2
    """How long an idle connection is kept when the process stops, for a request under way."""
    held_bytes: int = 64 * MIB
    """Parts of answers that wait for their clients, of all connections together."""
    linger_seconds: float = 1.0
    """How long a client that still sends has to see its answer, before it is reset."""
    probe_seconds: float = 1.0
    """How often to check that a client that has ended its side still waits for the answer."""
    requests: int = 900
    """Requests in hand at a time; more get 503."""
    connections: int = 2000
    """Open connections; more wait in the system's queue, and idle ones are closed for them."""
    crowded_seconds: float = 1.0
    """When there is no place left, clients that keep us waiting for longer make room for others."""

    def within(self, descriptors: int) -> "Limits":
        """Return the limits for a process that may have this many descriptors open.

        A tenth of the connections at least has no request in hand: there are always some to close
        for a newcomer, and one for a health check.
        """
        most = max(FEWEST_CONNECTIONS, descriptors - RESERVED_DESCRIPTORS)
        connections = min(self.connections, most)
        requests = min(self.requests, connections * 9 // 10)
        return dataclasses.replace(self, connections=connections, requests=requests)


LIMITS = Limits()


def allow_descriptors(wanted: int) -> int:
    """Have the system allow this many open files, if it does; return how many it allows.

    The soft limit that a process starts with is commonly 1,024 for the sake of programs that use
    select(2); we may raise it up to the hard one (systemd's "File Descriptor Limits").
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        soft = max(soft, allowed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft
