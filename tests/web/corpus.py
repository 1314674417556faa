"""Requests of every kind, and what has to come of each, byte by byte."""

from dataclasses import dataclass

# If anything but the request itself is taken for a request, its path shows it.
SMUGGLED = b"DELETE /echo HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """What is sent on a connection, which statuses come back, and what the application sees.

    ``kept`` says whether the connection lives on; then a request sent after it is answered, too.
    """

    name: str
    sent: bytes
    statuses: tuple[int, ...]
    seen: tuple[str, ...] = ()
    kept: bool = False


def get(*lines: bytes, line: bytes = b"GET /echo HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: a", *lines, b"", b""])


def post(*lines: bytes, body: bytes = b"", line: bytes = b"POST /echo HTTP/1.1") -> bytes:
    return get(*lines, line=line) + body


def bare(line: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([line, *lines, b"", b""])


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


CHUNKED = b"Transfer-Encoding: chunked"
UPGRADE = (b"Connection: Upgrade", b"Upgrade: foo")
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def fine(name: str, sent: bytes, *seen: str, kept: bool = True) -> Case:
    return Case(name, sent, (200,) * len(seen), seen, kept)


def refused(name: str, sent: bytes, status: int = 400) -> Case:
    return Case(name, sent, (status,))


GET_SEEN = "GET /echo"
POST_SEEN = "POST /echo"

FINE = [
    fine("a usual one", get(), GET_SEEN),
    fine("an empty line before", b"\r\n" + get(), GET_SEEN),
    fine("two in one packet", get() + get(), GET_SEEN, GET_SEEN),
    fine(
        "a body and an empty line too many",
        post(length(b"a"), body=b"a\r\n") + get(),
        "POST /echo a",
        GET_SEEN,
    ),
    fine("an empty host", bare(b"GET /echo HTTP/1.1", b"Host:"), GET_SEEN),
    fine("a host with a port", bare(b"GET /echo HTTP/1.1", b"Host: clinic.example:8000"), GET_SEEN),
    fine("a host of IPv6", bare(b"GET /echo HTTP/1.1", b"Host: [::1]:8000"), GET_SEEN),
    fine("headers without blanks", get(b"A:b", b"C:\t d \t"), GET_SEEN),
    fine("a header that is empty", get(b"A:"), GET_SEEN),
    fine("bytes above ASCII in a header", get(b"A: \xd0\x98"), GET_SEEN),
    fine("a whole address as target", bare(b"GET http://a/echo HTTP/1.1", b"Host: a"), GET_SEEN),
    fine("an address without a path", bare(b"GET http://a HTTP/1.1", b"Host: a"), "GET /"),
    fine(
        "an address with nothing but a query",
        bare(b"GET http://a?b=c HTTP/1.1", b"Host: a"),
        "GET /",
    ),
    fine("a body of no bytes", post(length(b"")), POST_SEEN),
    fine("a body in one chunk", post(CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"), "POST /echo abc"),
    fine("a body in many", post(CHUNKED, body=b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), "POST /echo abc"),
    fine(
        "a size with zeros and large letters",
        post(CHUNKED, body=b"000A\r\n0123456789\r\n0\r\n\r\n"),
        "POST /echo 0123456789",
    ),
    fine(
        "chunk extensions", post(CHUNKED, body=b'1;a=b; c="d"\r\na\r\n0;e\r\n\r\n'), "POST /echo a"
    ),
    fine(
        "trailers",
        post(CHUNKED, body=b"1\r\na\r\n0\r\nIdempotency-Key: b\r\nHost: c\r\n\r\n"),
        "POST /echo a",
    ),
    fine("a coding in capitals", post(b"transfer-encoding: Chunked", body=b"0\r\n\r\n"), POST_SEEN),
    fine(
        "an expectation that is met at once",
        post(length(b"a"), b"Expect: 100-continue", body=b"a"),
        "POST /echo a",
    ),
    fine(
        "an expectation of something else",
        post(length(b"a"), b"Expect: b", body=b"a"),
        "POST /echo a",
    ),
    fine(
        "a GET with a body",
        get(length(SMUGGLED)) + SMUGGLED,
        f"GET /echo {SMUGGLED.decode()}".strip(),
    ),
    fine("HTTP/1.0", bare(b"GET /echo HTTP/1.0"), GET_SEEN, kept=False),
    fine(
        "HTTP/1.0 that asks to go on",
        bare(b"GET /echo HTTP/1.0", b"Host: a", b"Connection: keep-alive"),
        GET_SEEN,
        kept=False,
    ),
    fine(
        "HTTP/1.0 with a body",
        bare(b"POST /echo HTTP/1.0", length(b"a")) + b"a",
        "POST /echo a",
        kept=False,
    ),
]
# The second request must not be answered. It is in one packet with the first, because the
# connection may be closed before another packet arrives.
ENDS = [
    fine("the end asked for", get(b"Connection: close") + get(), GET_SEEN, kept=False),
    fine("the end among other things", get(b"Connection: a, Close") + get(), GET_SEEN, kept=False),
]
UPGRADES = [
    case
    for name, lines in {"foo": UPGRADE, "h2c": H2C, "websocket": WEBSOCKET}.items()
    for case in (
        fine(f"upgrade to {name}", get(*lines), GET_SEEN),
        fine(
            f"upgrade to {name} with a body",
            post(*lines, length(b"abc"), body=b"abc"),
            "POST /echo abc",
        ),
        fine(
            f"upgrade to {name} with a body that looks like a request",
            get(*lines, length(SMUGGLED)) + SMUGGLED,
            f"GET /echo {SMUGGLED.decode()}".strip(),
        ),
        fine(
            f"upgrade to {name} in chunks",
            post(*lines, CHUNKED, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
            f"POST /echo {SMUGGLED.decode()}".strip(),
        ),
        fine(f"upgrade to {name} and a request after it", get(*lines) + get(), GET_SEEN, GET_SEEN),
        fine(
            f"upgrade to {name}, asked in HTTP/1.0",
            bare(b"GET /echo HTTP/1.0", *lines),
            GET_SEEN,
            kept=False,
        ),
    )
]
ELSEWHERE = [
    Case("an address with nothing there", get(line=b"GET /nowhere HTTP/1.1"), (404,), kept=True),
    Case("two slashes before the path", get(line=b"GET //a/echo HTTP/1.1"), (404,), kept=True),
    Case(
        "a method that is known but nowhere used",
        get(line=b"QUERY /echo HTTP/1.1"),
        (405,),
        kept=True,
    ),
    Case("an asterisk", get(line=b"OPTIONS * HTTP/1.1"), (404,), kept=True),
]
MALFORMED = [
    refused("no HTTP at all", b"no http\r\n\r\n"),
    refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    refused("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    refused("SMTP", b"EHLO a\r\n"),
    refused("PROXY protocol", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + get()),
    refused("a zero byte", b"\x00" + get()),
    refused("HTTP/0.9", b"GET /echo\r\n"),
    refused("HTTP/0.9 with an empty line", b"GET /echo\r\n\r\n"),
    refused("HTTP/0.9 by its name", get(line=b"GET /echo HTTP/0.9")),
    refused("HTTP/1.2", get(line=b"GET /echo HTTP/1.2")),
    refused("HTTP/2", get(line=b"GET /echo HTTP/2")),
    refused("HTTP/2 with its preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("HTTP/9.9", get(line=b"GET /echo HTTP/9.9")),
    refused("RTSP", get(line=b"GET /echo RTSP/1.1")),
    refused("a version in small letters", get(line=b"GET /echo http/1.1")),
    refused("no version", get(line=b"GET /echo ")),
    refused("no target", get(line=b"GET  HTTP/1.1")),
    refused("two blanks", get(line=b"GET  /echo HTTP/1.1")),
    refused("a blank at the end", get(line=b"GET /echo HTTP/1.1 ")),
    refused("a blank at the start", get(line=b" GET /echo HTTP/1.1")),
    refused("a blank in the target", get(line=b"GET /ec ho HTTP/1.1")),
    refused("a tab for a blank", get(line=b"GET\t/echo HTTP/1.1")),
    refused("a method in small letters", get(line=b"get /echo HTTP/1.1")),
    refused("a target that is no path", get(line=b"GET echo HTTP/1.1")),
    refused("a fragment", get(line=b"GET /echo#a HTTP/1.1")),
    refused("bytes above ASCII in the target", get(line=b"GET /\xd0\x98 HTTP/1.1")),
    refused("a control character in the target", get(line=b"GET /\x01 HTTP/1.1")),
    refused("an asterisk for a GET", get(line=b"GET * HTTP/1.1")),
    refused("an address of another scheme", get(line=b"GET ftp://a/echo HTTP/1.1")),
    refused("an address with a user", get(line=b"GET http://b@a/echo HTTP/1.1")),
    refused("an address without a host", get(line=b"GET http:///echo HTTP/1.1")),
    refused("an address with a fragment", get(line=b"GET http://a/#b HTTP/1.1")),
    refused("no host", bare(b"GET /echo HTTP/1.1")),
    refused("two hosts", get(b"Host: a")),
    refused("two hosts, one of them empty", get(b"Host:")),
    refused("two hosts in HTTP/1.0", bare(b"GET /echo HTTP/1.0", b"Host: a", b"Host: b")),
    refused("two hosts in one line", bare(b"GET /echo HTTP/1.1", b"Host: a, b")),
    refused("a host with a path", bare(b"GET /echo HTTP/1.1", b"Host: a/b")),
    refused("a host with a user", bare(b"GET /echo HTTP/1.1", b"Host: b@a")),
    refused("a host with a blank", bare(b"GET /echo HTTP/1.1", b"Host: a b")),
    refused("a blank before a colon", get(b"A : b")),
    refused("a line without a colon", get(b"A")),
    refused("a header without a name", get(b": b")),
    refused("a header in two lines", get(b"A: b", b" c")),
    refused(
        "a header before the first in two lines", bare(b"GET /echo HTTP/1.1", b" a", b"Host: a")
    ),
    refused("a zero byte in a header", get(b"A: \x00")),
    refused("a bare CR in a header", get(b"A: b\rC: d")),
    refused("a bare LF in a header", get(b"A: b\nC: d")),
    refused("line feeds only", b"GET /echo HTTP/1.1\nHost: a\n\n"),
    refused("a bare LF before the last line", b"GET /echo HTTP/1.1\r\nHost: a\n\r\n"),
    refused("two lengths", post(length(b"a"), length(b"ab"), body=b"ab")),
    refused("the same length twice", post(length(b"a"), length(b"a"), body=b"a")),
    refused("two lengths in one line", post(b"Content-Length: 1, 1", body=b"a")),
    refused("a length and chunks", post(length(b"a"), CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)),
    refused("chunks and a length", post(CHUNKED, length(b"a"), body=b"0\r\n\r\n" + SMUGGLED)),
    refused("a length with a blank before the colon", post(b"Content-Length : 40", body=SMUGGLED)),
    refused("a length in two lines", post(b"Content-Length:", b" 40", body=SMUGGLED)),
    *(
        refused(f"the length {text.decode()}", post(b"Content-Length: " + text, body=b"a"))
        for text in (b"", b"-1", b"+1", b"1.0", b"0x1", b"1e0", b"1 1", b"x", b"9" * 30)
    ),
    refused("chunks in HTTP/1.0", post(CHUNKED, line=b"POST /echo HTTP/1.0", body=b"0\r\n\r\n")),
    refused("chunks twice", post(CHUNKED, CHUNKED, body=b"0\r\n\r\n")),
    # RFC 9112, 6.3: where chunks are not the last coding, nothing tells where the body ends.
    refused("chunks before another coding", post(b"Transfer-Encoding: chunked, gzip", body=b"0")),
    refused("no coding", post(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    *(
        refused(f"chunks that are none: {body!r}", post(CHUNKED, body=body))
        for body in (
            b"zz\r\n",
            b"-1\r\n",
            b"+1\r\na\r\n",
            b"0x1\r\na\r\n",
            b" 1\r\na\r\n",
            b"1 \r\na\r\n",
            b"1 ;b\r\na\r\n0\r\n\r\n",
            b"\r\n",
            b"1\na\n0\n\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"1\r\na0\r\n\r\n",
            b"1\r\na\r0\r\n\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1;a\nb\r\na\r\n0\r\n\r\n",
            b"1;\x00\r\na\r\n0\r\n\r\n",
            b"00000000000000001\r\na\r\n0\r\n\r\n",
            b"1,1\r\na\r\n",
        )
    ),
    *(
        refused(f"trailers that are none: {body!r}", post(CHUNKED, body=b"0\r\n" + body + b"\r\n"))
        for body in (
            b"a\r\n",
            b" a: b\r\n",
            b"a : b\r\n",
            b"a: b\n\r\n",
            b"a: \x00\r\n",
            b": b\r\n",
        )
    ),
]
# The bodies of these begin well, so that the application has the requests in hand already.
NOT_DONE_HERE = [
    refused("CONNECT", get(line=b"CONNECT a:443 HTTP/1.1"), 501),
    refused("CONNECT to a path", get(line=b"CONNECT /echo HTTP/1.1"), 501),
    refused("an unknown method", get(line=b"BREW /echo HTTP/1.1"), 501),
    *(
        refused(
            f"the coding {coding.decode()}",
            post(b"Transfer-Encoding: " + coding, body=b"0\r\n\r\n" + SMUGGLED),
            501,
        )
        for coding in (
            b"gzip",
            b"gzip, chunked",
            b"identity",
            b"xchunked",
            b"deflate,chunked",
        )
    ),
    refused("two codings", post(b"Transfer-Encoding: gzip", CHUNKED, body=b"0\r\n\r\n"), 501),
]
TOO_LARGE = [
    refused("a long target", get(line=b"GET /" + b"a" * 20_000 + b" HTTP/1.1"), 431),
    refused("a long target without an end", b"GET /" + b"a" * 20_000, 431),
    refused("a long header", get(b"A: " + b"a" * 20_000), 431),
    refused(
        "a long header without an end", b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 20_000, 431
    ),
    refused("many headers", get(*[b"A: b"] * 101), 431),
    refused("a long trailer", post(CHUNKED, body=b"0\r\nA: " + b"a" * 20_000 + b"\r\n\r\n"), 431),
    refused("a long trailer without an end", post(CHUNKED, body=b"0\r\nA: " + b"a" * 20_000), 431),
    refused("many trailers", post(CHUNKED, body=b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n"), 431),
    refused("many chunks", post(CHUNKED, body=b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n")),
    refused("a long chunk extension", post(CHUNKED, body=b"1;" + b"a" * 5_000 + b"\r\na\r\n")),
    refused("many chunk extensions", post(CHUNKED, body=(b"1;" + b"a" * 50 + b"\r\na\r\n") * 100)),
]
CASES = [*FINE, *UPGRADES, *ELSEWHERE, *MALFORMED, *NOT_DONE_HERE, *TOO_LARGE]
