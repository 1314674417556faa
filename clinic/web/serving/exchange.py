"""One request and its response, as ASGI tells them: https://asgi.readthedocs.io/en/latest/specs/."""

import asyncio
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from starlette.types import ASGIApp, Message

from clinic.web.refusals import OurFault, Refusal
from clinic.web.serving.heads import Head
from clinic.web.serving.outgoing import Outgoing
from clinic.web.serving.refusals import STATUS_LINES, Stopped

log = logging.getLogger(__name__)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Their responses have no body (RFC 9110, 6.4.1).
WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
FRAMING = frozenset({b"connection", b"transfer-encoding"})
# A response of up to this size waits for those of other connections.
SHORT_BYTES = 4 * 1024
DISCONNECT: Message = {"type": "http.disconnect"}

Headers = Iterable[tuple[bytes, bytes]]


class Link(Protocol):
    """The connection, as an exchange sees it."""

    @property
    def default_headers(self) -> Headers:
        """What every response says, such as the date."""

    @property
    def last(self) -> bool:
        """Whether the connection ends with this response, whatever the client asked for."""

    def wants_body(self) -> None:
        """Go on reading the body, if that was paused."""

    def answered(self, *, keep: bool) -> None:
        """Heed that the response is complete; go on to the next request or close."""

    def failed(self, refusal: Refusal) -> None:
        """Heed that there will be no response, or not all of it."""


class Exchange:
    """Hands a request to the application and writes what it responds."""

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_content",
        "_continue_due",
        "_ended",
        "_head",
        "_keep_alive",
        "_left",
        "_link",
        "_loop",
        "_news",
        "_outgoing",
        "_told_end",
        "complete",
        "gone",
        "scope",
        "started",
    )

    def __init__(
        self, link: Link, outgoing: Outgoing, head: Head, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.scope = head.scope
        self.started = False
        """Whether the client has been sent anything of the response."""
        self.complete = False
        """Whether all of the response is written."""
        self.gone = False
        """Whether there is nobody to respond to."""
        self._link = link
        self._outgoing = outgoing
        self._loop = loop
        self._keep_alive = head.keep_alive
        self._continue_due = head.expects_continue and head.length != 0
        self._content: bytes | bytearray = b""
        self._ended = False
        self._told_end = False
        self._news: asyncio.Event | None = None
        self._head = b""
        self._chunked = False
        self._left: int | None = None
        """Bytes of the body that are still to come, if its length was announced."""
        self._bodiless = False

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer; if it does not, have the link answer for it."""
        refusal: Refusal = OurFault()
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            refusal = Stopped()
            raise
        except Exception:
            log.exception("The application failed")
        else:
            if not self.started and not self.gone:
                log.error("The application gave no response")
        finally:
            if not self.complete and not self.gone:
                self.leave()
                self._link.failed(refusal)

    # The request

    @property
    def unread_bytes(self) -> int:
        """How much of the body waits for the application."""
        return len(self._content)

    @property
    def awaits_continue(self) -> bool:
        """Whether the client may be waiting to be told to send the body."""
        return self._continue_due and not self._ended

    @property
    def takes_interim(self) -> bool:
        """Whether an interim response may be sent: before the response, in HTTP/1.1."""
        return not self.started and not self.gone and self.scope["http_version"] == "1.1"

    @property
    def ends_visibly(self) -> bool:
        """Whether the client can tell a complete response from one that breaks off."""
        return self._chunked or self._left is not None

    def feed(self, content: bytes | bytearray, *, last: bool) -> None:
        """Take a part of the body."""
        if not self._content:
            self._content = content
        elif isinstance(self._content, bytearray):
            self._content += content
        else:
            self._content = bytearray(self._content + content)
        self._ended = last
        self._wake()

    def leave(self) -> None:
        """Heed that the client has gone, or will not be answered."""
        self.gone = True
        self._wake()

    async def receive(self) -> Message:
        """Return a part of the body, or that the client has gone or has its answer."""
        if self._continue_due:
            self._continue_due = False
            if not self._ended and not self.started and not self.gone:
                self._outgoing.write(CONTINUE)
        while not self.gone and not self.complete:
            if self._content or (self._ended and not self._told_end):
                content, self._content = bytes(self._content), b""
                self._told_end = self._ended
                self._link.wants_body()
                return {"type": "http.request", "body": content, "more_body": not self._ended}
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return DISCONNECT

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()

    # The response

    async def send(self, message: Message) -> None:
        """Write a part of the response; wait for a client that takes it more slowly."""
        kind = message["type"]
        if self.gone or (self._bodiless and self.complete):
            return
        if kind == "http.response.start" and not self._head and not self.started:
            self._start(message)
        elif kind == "http.response.body" and (self._head or self.started) and not self.complete:
            self._write(message.get("body", b""), last=not message.get("more_body", False))
            if self._outgoing.paused and not self.complete:
                await self._outgoing.drained()
        else:
            raise RuntimeError(f"{kind} is out of order.")

    def _start(self, message: Message) -> None:
        """Make the head; how the response is framed is decided here (RFC 9112, 6)."""
        status = message["status"]
        lines = [STATUS_LINES[status]]
        for name, value in (*self._link.default_headers, *message.get("headers", ())):
            if name == b"content-length":
                self._left = int(value)
            elif name in FRAMING:
                if b"close" in value.lower():
                    self._keep_alive = False
                continue
            lines.append(name + b": " + value + b"\r\n")
        lines += self._frame(status)
        lines.append(b"\r\n")
        self._head = head_of(lines)
        if self._bodiless:
            self._write(b"", last=True)
        elif self._left is None:
            # The body may be long in coming. Else head and body are one packet: two calls of the
            # system here, and two at the client's, are a sixth of what a short answer takes.
            self._loop.call_soon(self._let_go)

    def _frame(self, status: int) -> list[bytes]:
        """Decide how the client knows the end of the body; return the headers that say it."""
        lines = []
        if self.scope["method"] == "HEAD" or status in WITHOUT_BODY:
            self._bodiless = True
            self._left = 0
        elif self._left is None and self.scope["http_version"] == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        if self._link.last or self.awaits_continue or not self.ends_visibly:
            # While 100 is awaited nobody knows whether what follows is the body or a request.
            self._keep_alive = False
        if not self._keep_alive:
            lines.append(b"connection: close\r\n")
        return lines

    def _let_go(self) -> None:
        if self._head and not self.gone:
            head, self._head = self._head, b""
            self.started = True
            self._outgoing.write(head)

    def _write(self, body: bytes, *, last: bool) -> None:
        pieces = [body]
        if self._chunked:
            pieces = [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
            if last:
                pieces.append(b"0\r\n\r\n")
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (last and self._left):
                raise RuntimeError("The response is not as long as its Content-Length says.")
        head, self._head = self._head, b""
        self.started = True
        if last and head and len(body) <= SHORT_BYTES:
            self._outgoing.write_soon(head, *pieces)
        else:
            self._outgoing.write(head, *pieces)
        if last:
            self.complete = True
            self._wake()
            self._link.answered(keep=self._keep_alive)


def head_of(lines: list[bytes]) -> bytes:
    """Return a head made of whole lines.

    Raises:
        RuntimeError: a header would end its line, and begin another of somebody else's choice.
    """
    head = b"".join(lines)
    if not head.count(b"\r") == head.count(b"\n") == len(lines) or b"\0" in head:
        raise RuntimeError("A header of the response has a character that it must not have.")
    return head
