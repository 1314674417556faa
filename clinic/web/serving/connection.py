"""One connection: requests, one after the other, and their responses."""

import asyncio

from starlette.types import ASGIApp

from clinic.web.health import is_health
from clinic.web.refusals import Refusal
from clinic.web.serving.crowd import Crowd, Waiting
from clinic.web.serving.exchange import CONTINUE, Exchange, Headers
from clinic.web.serving.heads import Head
from clinic.web.serving.incoming import Incoming
from clinic.web.serving.outgoing import Outgoing
from clinic.web.serving.refusals import Crowded, MalformedRequest, RequestTooSlow, response_to
from clinic.web.serving.tally import Happened


class Connection(asyncio.Protocol):
    """Speaks HTTP/1.1 with one client; uvicorn is given it as its protocol.

    It reads no request before the one in front of it is answered, and the system has taken all of
    the answer: what it holds of either side is bounded.
    """

    def __init__(self, crowd: Crowd, app: ASGIApp, root_path: str) -> None:
        self._crowd = crowd
        self._app = app
        self._root_path = root_path
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._outgoing: Outgoing
        self._incoming = Incoming(crowd.limits)
        self._exchange: Exchange | None = None
        self._addresses: dict[str, tuple[str, int] | None] = {}
        self._waiting: Waiting | None = None
        self._discarded_bytes = 0
        self._reads = True
        self._between = crowd.fresh
        """What we wait for between requests."""
        self._client_ended = False
        """Whether the client has ended its side: it sends nothing more."""
        self._last = False
        """Whether the request in hand is the last one."""
        self._closing = False

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the client's first byte."""
        self._transport = transport
        self._outgoing = Outgoing(transport, self._crowd.limits, self._loop)
        self._addresses = {
            "client": address(transport, "peername"),
            "server": address(transport, "sockname"),
        }
        self._crowd.joined(self)
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Tell the application that its client has gone."""
        self._closing = True
        if self._exchange is not None:
            self._exchange.leave()
        self._incoming.clear()
        self._outgoing.resume()
        self._wait_for(None)
        self._crowd.left(self)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._closing:
            self._discard(len(data))
        else:
            self._incoming.feed(data)
            self._go_on()

    def eof_received(self) -> bool:
        """Heed that the client sends no more; it may still wait for its answers (half-closed)."""
        self._client_ended = True
        self._outgoing.flush()
        if self._closing:
            return False
        if self._incoming.body is not None:
            self._refuse(MalformedRequest("The request ended before its body did."))
        elif not self._idle:
            self._crowd.half_closed[self] = self._loop.time()
            return True
        elif self._incoming.unread:
            self._refuse(MalformedRequest("The request ended before its headers did."))
        return False

    def pause_writing(self) -> None:
        """Heed that the client does not take all that is written."""
        self._outgoing.pause()
        self._settle()
        self._crowd.hold(self, self._outgoing.held_bytes)

    def resume_writing(self) -> None:
        """Heed that it has."""
        self._outgoing.resume()
        self._crowd.release(self)
        if self._exchange is not None:
            self._settle()
        elif self._last:
            self._hang_up()
        else:
            self._go_on()

    def last_call(self) -> None:
        """End with the next answer, which says so; for that, wait for a request still."""
        self._last = True

    # What uvicorn calls

    def shutdown(self) -> None:
        """End with the request in hand, or at once."""
        self._last = True
        if self._idle:
            self._hang_up()

    # Requests

    def _go_on(self) -> None:
        """Read as many requests as may be read now."""
        try:
            while self._incoming.unread and not self._closing and self._read():
                pass
        except Refusal as refusal:
            self._refuse(refusal, Happened.MALFORMED)
        if self._client_ended and self._idle:
            self._hang_up()
        self._settle()

    @property
    def _idle(self) -> bool:
        """Whether the client has all of its answers."""
        return self._exchange is None and not self._outgoing.paused

    def _read(self) -> bool:
        """Read what is next of a head or a body; return whether more may be read at once."""
        if self._incoming.body is not None:
            self._read_body()
            return self._incoming.body is None
        if self._idle:
            head = self._incoming.read_head()
            if head is not None:
                self._begin(head)
            return head is not None
        if len(self._incoming.unread) > self._crowd.limits.unread_bytes:
            self._pause_reading()
        return False

    def _begin(self, head: Head) -> None:
        """Take a request in hand, with what has arrived of its body."""
        head.scope.update(self._addresses)
        self._between = self._crowd.kept
        self._discarded_bytes = 0
        self._exchange = Exchange(self, self._outgoing, head, self._loop)
        self._read_body()
        if not self._crowd.admits(whole=self._incoming.body is None):
            if not is_health(head.scope["path"].removeprefix(self._root_path)):
                self._refuse(Crowded(), Happened.CROWDED)
                return
            self._last = True
        self._crowd.work_on(self._exchange.run(self._app))

    def _read_body(self) -> None:
        content = self._incoming.read_body()
        last = self._incoming.body is None
        if self._exchange is None:
            self._discard(len(content))
        elif content or last:
            self._exchange.feed(content, last=last)
            if not last and self._exchange.unread_bytes > self._crowd.limits.unread_bytes:
                self._pause_reading()

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > self._crowd.limits.discarded_bytes:
            if self._closing:
                self._transport.abort()
            else:
                self._hang_up()

    def _pause_reading(self) -> None:
        if self._reads:
            self._reads = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reads and not self._client_ended:
            self._reads = True
            self._transport.resume_reading()

    # What the exchange calls

    @property
    def default_headers(self) -> Headers:
        """What every response says; uvicorn keeps it up to date."""
        return self._crowd.state.default_headers

    @property
    def last(self) -> bool:
        """Whether the connection ends with this response."""
        return self._last

    def wants_body(self) -> None:
        """Go on reading the body, if that was paused."""
        if self._incoming.body is not None:
            self._resume_reading()

    def answered(self, *, keep: bool) -> None:
        """Go on to the next request, or close."""
        self._exchange = None
        if keep and not self._last:
            self._resume_reading()
            self._go_on()
        else:
            self._hang_up()

    def failed(self, refusal: Refusal) -> None:
        """Answer for the application, or close in the middle of its response."""
        self._refuse(refusal)

    # Ending

    def _refuse(self, refusal: Refusal, what: Happened | None = None) -> None:
        """Answer in place of the application, and hang up."""
        if what is not None:
            self._crowd.tally.count(what)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()
        if self._closing:
            return
        # A second answer to one request would be taken for the next one's.
        answered = exchange is None and self._incoming.body is not None
        if exchange is not None and exchange.started:
            if not exchange.ends_visibly:
                # An orderly end would look like the end of the response.
                self._reset()
        elif not answered:
            with_body = exchange is None or exchange.scope["method"] != "HEAD"
            response = response_to(
                refusal, self._root_path, self.default_headers, with_body=with_body
            )
            self._outgoing.write(response)
        self._hang_up()

    def _hang_up(self) -> None:
        """Close, once the system has what was written; go on reading if the client still sends.

        To close a socket that has unread bytes, or gets some, resets the connection: the client's
        system may throw away an answer that its program has not read (RFC 9112, 9.6).
        """
        if self._closing:
            return
        self._closing = True
        self._outgoing.flush()
        sends = bool(self._incoming.unread) or self._incoming.body is not None or not self._reads
        self._incoming.clear()
        self._discarded_bytes = 0
        if sends and not self._client_ended and not self._transport.is_closing():
            self._transport.write_eof()
            self._resume_reading()
        else:
            self._transport.close()
        self._settle()

    def _reset(self) -> None:
        self._closing = True
        self._wait_for(None)
        self._outgoing.reset()

    # What the crowd calls

    @property
    def in_hand(self) -> bool:
        """Whether a request is being answered."""
        return self._exchange is not None

    def overdue(self) -> None:
        """Heed that the client keeps us waiting for longer than it may."""
        crowd = self._crowd
        if self._waiting is crowd.kept:
            self._between = crowd.resting if self._outgoing.all_taken() else crowd.taking
            self._settle()
        elif self._waiting is crowd.resting:
            self._hang_up()
        elif self._waiting is crowd.leaving:
            self._transport.abort()
        elif self._waiting is crowd.taking:
            self._judge_taking()
        elif self._incoming.body is not None and not self.in_hand:
            self._hang_up()  # answered already, and still the body trickles in
        else:
            self._refuse(RequestTooSlow(), Happened.SLOW)

    def _judge_taking(self) -> None:
        crowd = self._crowd
        # At a stop, any byte will do.
        if not self._outgoing.took(1 if self._last else crowd.limits.take_bytes):
            crowd.tally.count(Happened.UNTAKEN)
            self._reset()
        elif self._idle and self._outgoing.all_taken():
            self._between = crowd.resting
            self._settle()
        else:
            crowd.taking.since[self] = self._loop.time()

    def give_way(self) -> None:
        """Leave, for somebody else needs the place."""
        crowd = self._crowd
        if self._waiting in (crowd.fresh, crowd.arriving):
            self._refuse(Crowded())
        elif self._waiting in (crowd.kept, crowd.resting):
            self._hang_up()
        else:
            self._reset()

    def probe(self) -> None:
        """Find out whether a client that has ended its side is still there.

        One that has closed its socket looks the same until it is sent something: then its system
        resets the connection. An interim response is what may be sent while there is no answer, and
        every client of HTTP/1.1 passes over it (RFC 9110, 15.2). That of Python's standard library
        knows no other one than 100.
        """
        if self._outgoing.was_reset():
            self._transport.abort()
        elif self._exchange is not None and self._exchange.takes_interim:
            self._outgoing.write(CONTINUE)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # What we wait for

    def _settle(self) -> None:
        """Note what the client keeps us waiting for, if anything."""
        crowd = self._crowd
        waiting: Waiting | None
        if self._outgoing.paused:
            waiting = crowd.taking
        elif self._closing:
            waiting = None if self._transport.is_closing() else crowd.leaving
        elif self._incoming.body is not None:
            waiting = crowd.arriving
        elif self._exchange is not None:
            waiting = None
        elif self._incoming.unread:
            waiting = crowd.arriving
        else:
            waiting = self._between
        if waiting is not self._waiting:
            self._wait_for(waiting)

    def _wait_for(self, waiting: Waiting | None) -> None:
        if self._waiting is not None:
            del self._waiting.since[self]
        if waiting is not None:
            waiting.since[self] = self._loop.time()
        self._waiting = waiting


def address(transport: asyncio.Transport, name: str) -> tuple[str, int] | None:
    """Return host and port of one end of a connection, as ASGI tells them."""
    found = transport.get_extra_info(name)
    return (str(found[0]), int(found[1])) if found else None
