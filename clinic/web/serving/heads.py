"""The head of a request: its bytes judged by llhttp, its framing by RFC 9112, told as ASGI does."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httptools

from clinic.web.serving.limits import Limits
from clinic.web.serving.refusals import (
    NO_REQUEST_LINE,
    HeadersTooLarge,
    MalformedRequest,
    UnknownMethod,
    UnknownTransferCoding,
)

END_OF_HEAD = b"\r\n\r\n"

# RFC 9110, 7.2 and RFC 3986, 3.2: a name or an address, and a port; it may be empty.
HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Za-z:.%~_-]+\])(?::[0-9]*)?")
# How an unfinished line may begin; nobody waits for the end of a line that is not HTTP.
START_OF_LINE = re.compile(rb"[A-Z-]{1,32}(?: [\x20-\x7e]*\r?)?")
LONGEST_START_BYTES = 64
WHOLE_LINE = re.compile(rb"([A-Z-]{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])")
NO_HOST = "An HTTP/1.1 request has one header Host, with a name and perhaps a port."
ABSOLUTE = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE)

Headers = list[tuple[bytes, bytes]]

ASGI = {"version": "3.0", "spec_version": "2.3"}


@dataclass(slots=True)
class Head:
    """What a head says: the scope for the application, and how the request is framed."""

    scope: dict[str, Any]
    length: int | None
    """Bytes of the body; None if it comes in chunks."""
    keep_alive: bool
    expects_continue: bool
    """The client waits for 100 before it sends the body."""


class _Parsed:
    """What llhttp, by httptools, calls back about one head."""

    __slots__ = ("complete", "headers", "keep_alive", "parser")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.complete = False
        self.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True
        # Once a message is complete llhttp knows nothing of it any more.
        self.keep_alive = self.parser.should_keep_alive()


def judge_start(start: bytes | bytearray) -> bool:
    """Judge the beginning of a head whose end has not arrived; return whether its line has.

    A line that arrives byte by byte is judged for each byte, so judging takes no longer for a long
    line.

    Raises:
        Refusal: it cannot become an HTTP/1.1 request.
    """
    end = start.find(b"\n")
    if end < 0:
        found = START_OF_LINE.fullmatch(start[:LONGEST_START_BYTES])
    else:
        found = WHOLE_LINE.fullmatch(start, 0, end - 1)
    if not found:
        raise MalformedRequest(NO_REQUEST_LINE)
    return end >= 0


def read_head(head: bytes, limits: Limits) -> Head:
    """Read a whole head, with the empty line at its end and none before it.

    Raises:
        Refusal: it is not HTTP/1.1, or asks for something that the clinic does not do. The
            connection has to end.
    """
    found = WHOLE_LINE.match(head)
    if not found or not head.startswith(b"\r\n", found.end()):
        raise MalformedRequest(NO_REQUEST_LINE)
    method, target, minor = found.groups()
    modern = minor == b"1"
    parsed = _parse(head, limits)
    headers = parsed.headers
    length, expects_continue = _judge(headers, modern=modern)
    if not target.startswith(b"/") or b"#" in target or method == b"CONNECT":
        target, headers = _unusual(method, target, headers)
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    scope = {
        "type": "http",
        "asgi": ASGI,
        "http_version": "1.1" if modern else "1.0",
        "method": method.decode("ascii"),
        "scheme": "http",
        "root_path": "",
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "headers": headers,
    }
    return Head(scope, length, modern and parsed.keep_alive, modern and expects_continue)


def _parse(head: bytes, limits: Limits) -> _Parsed:
    """Have llhttp read the head, in a parser that sees nothing else.

    So it does not matter what it thinks of bodies: it takes the body of a request with Upgrade for
    the next request, and hands out trailers as headers, without a limit.
    """
    parsed = _Parsed()
    reason = ""
    try:
        parsed.parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # RFC 9110, 7.8: a server may ignore Upgrade; then the request is like any other
    except httptools.HttpParserInvalidMethodError:
        raise UnknownMethod from None
    except httptools.HttpParserError as error:
        if parsed.complete:  # then it objects to nothing but the body's coding
            raise UnknownTransferCoding from None
        reason = f": {error}"
    if len(parsed.headers) > limits.header_lines:
        raise HeadersTooLarge
    if not parsed.complete:
        raise MalformedRequest(f"The headers are not those of HTTP/1.1{reason}.")
    return parsed


def _judge(headers: Headers, *, modern: bool) -> tuple[int | None, bool]:
    """Judge those headers that say how to read a request.

    Return the length of the body, None for chunks (RFC 9112, 6.3), and whether 100 is expected.
    """
    hosts = 0
    length: int | None = 0
    expects_continue = False
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not HOST.fullmatch(value):
                raise MalformedRequest(NO_HOST)
        elif name == b"content-length":
            length = int(value)  # llhttp lets none pass but a single one, of digits
        elif name == b"transfer-encoding":
            if not modern:
                raise MalformedRequest("Transfer-Encoding is not part of HTTP/1.0.")
            if value.lower() != b"chunked":
                raise UnknownTransferCoding
            length = None
        elif name == b"expect":
            expects_continue = value.lower() == b"100-continue"
    if hosts > 1 or (modern and not hosts):
        raise MalformedRequest(NO_HOST)
    return length, expects_continue


def _unusual(method: bytes, target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Return the path and query of a target that is no path, and the headers that go with it.

    A target that names a host wins over the header Host, so that nobody may judge by another one
    (RFC 9112, 3.2.2).
    """
    if method == b"CONNECT":
        raise UnknownMethod
    if target == b"*" and method == b"OPTIONS":
        return target, headers
    found = ABSOLUTE.fullmatch(target)
    if not found or not HOST.fullmatch(found[1]) or b"#" in target:
        raise MalformedRequest("The target is neither a path nor an address, or has a fragment.")
    host, path = found.groups()
    others = [field for field in headers if field[0] != b"host"]
    return path if path.startswith(b"/") else b"/" + path, [(b"host", host), *others]
