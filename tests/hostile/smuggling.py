"""Requests that two readers in a row may see two ends of; what one takes for a body, the other
takes for the next request."""

from tests.web.corpus import H2C, UPGRADE, WEBSOCKET

CHUNKED = b"Transfer-Encoding: chunked"


def head(line: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([line, b"Host: 127.0.0.1", *lines, b"", b""])


def length(count: int) -> bytes:
    return b"Content-Length: %d" % count


def probes(smuggled: bytes) -> dict[str, bytes]:
    """Return what may bring a request past a proxy that would not let it pass."""
    get, post = b"GET /health/live HTTP/1.1", b"POST /health/live HTTP/1.1"
    inside = b"%x\r\n%s\r\n0\r\n\r\n" % (len(smuggled), smuggled)
    after = b"0\r\n\r\n" + smuggled
    found = {
        "a GET with a body": head(get, length(len(smuggled))) + smuggled,
        "a POST with a body": head(post, length(len(smuggled))) + smuggled,
        "a body longer than said": head(post, length(0)) + smuggled,
        "a HEAD with a body": head(b"HEAD /docs HTTP/1.1", length(len(smuggled))) + smuggled,
        "an OPTIONS with a body": head(b"OPTIONS /docs HTTP/1.1", length(len(smuggled))) + smuggled,
        "an expectation": head(post, length(len(smuggled)), b"Expect: 100-continue") + smuggled,
        "an expectation in chunks": head(post, CHUNKED, b"Expect: 100-continue") + after,
        "in chunks": head(post, CHUNKED) + inside,
        "after chunks": head(post, CHUNKED) + after,
        "a length and chunks": head(post, length(len(after)), CHUNKED) + after,
        "chunks and a length": head(post, CHUNKED, length(len(after))) + after,
        "a length of the size only": head(post, length(4), CHUNKED) + inside,
        "two lengths": head(post, length(0), length(len(smuggled))) + smuggled,
        "two lengths, the other way": head(post, length(len(smuggled)), length(0)) + smuggled,
        "a list of lengths": head(post, b"Content-Length: 0, %d" % len(smuggled)) + smuggled,
        "HTTP/1.0 in chunks": head(
            b"POST /health/live HTTP/1.0", CHUNKED, b"Connection: keep-alive"
        )
        + after,
        "a header in two lines": head(get, b"A: b", b" Content-Length: 0") + smuggled,
        "a connection that is told to lose its length": head(
            post, b"Connection: keep-alive, Content-Length", length(len(smuggled))
        )
        + smuggled,
        "a connection that is told to lose its chunks": head(
            post, b"Connection: keep-alive, Transfer-Encoding", CHUNKED
        )
        + after,
        "trailers": head(post, CHUNKED) + b"0\r\nContent-Length: 99\r\n\r\n" + smuggled,
        "a trailer that is a request": head(post, CHUNKED) + b"0\r\n" + smuggled,
        "an address as target": head(b"GET http://127.0.0.1/health/live HTTP/1.1") + smuggled,
        "an encoded line end": head(
            b"GET /health/live%20HTTP/1.1%0d%0aHost:%20127.0.0.1%0d%0a%0d%0a" + get
        )
        + smuggled,
        "a bare line feed": head(b"GET /health/live HTTP/1.1\nA: b") + smuggled,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggled,
        "an override": head(post, b"X-HTTP-Method-Override: DELETE", length(0)) + smuggled,
        "pipelined": head(get) * 3 + smuggled,
        "pipelined in HTTP/1.0": head(b"GET /health/live HTTP/1.0", b"Connection: keep-alive")
        + smuggled,
    }
    for name, line in {
        "a blank before the colon": b"Transfer-Encoding : chunked",
        "a tab": b"Transfer-Encoding:\tchunked",
        "a vertical tab": b"Transfer-Encoding: \x0bchunked",
        "a form feed": b"Transfer-Encoding: \x0cchunked",
        "a zero": b"Transfer-Encoding: chunked\x00",
        "a byte of Latin-1": b"Transfer-Encoding: \xa0chunked",
        "capitals": b"TRANSFER-ENCODING: CHUNKED",
        "an x": b"Transfer-Encoding: xchunked",
        "quotes": b'Transfer-Encoding: "chunked"',
        "a comma": b"Transfer-Encoding: ,chunked",
        "identity": b"Transfer-Encoding: identity",
        "identity after it": b"Transfer-Encoding: chunked, identity",
        "identity before it": b"Transfer-Encoding: identity, chunked",
        "a parameter": b"Transfer-Encoding: chunked;a=b",
        "twice": CHUNKED + b"\r\n" + CHUNKED,
        "two, one of them unknown": CHUNKED + b"\r\nTransfer-Encoding: cow",
        "the next line": b"Transfer-Encoding:\r\n chunked",
        "a line before": b"A: b\r\n Transfer-Encoding: chunked",
        "a bare CR": b"A: b\rTransfer-Encoding: chunked",
        "a bare LF": b"A: b\nTransfer-Encoding: chunked",
        "an underscore": b"Transfer_Encoding: chunked",
    }.items():
        found[f"chunks spelt with {name}, and a length"] = (
            head(post, line, length(len(after))) + after
        )
        found[f"chunks spelt with {name}"] = head(post, line) + after
    for name, text in {
        "a plus": b"+%d",
        "a zero before": b"0%d",
        "a blank in it": b"%d 0",
        "a dot": b"%d.0",
        "a base": b"0x%x",
        "an underscore": b"%d_0",
        "a sign": b"-%d",
        "another digit": b"\xd9\xa1%d",
    }.items():
        line = b"Content-Length: " + text % len(smuggled)
        found[f"a length with {name}"] = head(post, line) + smuggled
    for name, body in {
        "a size too large for 64 bits": b"1%016x\r\n" % 0,
        "a size with a base": b"0x0\r\n\r\n",
        "a size with a sign": b"-0\r\n\r\n",
        "an extension with a line feed": b"0;a\nb\r\n\r\n",
        "an extension with a CR": b"0;a\rb\r\n\r\n",
        "line feeds": b"0\n\n",
        "no line end after a chunk": b"1\r\na0\r\n\r\n",
        "a chunk of two line ends": b"2\r\n\r\n\r\n0\r\n\r\n",
    }.items():
        found[f"chunks with {name}"] = head(post, CHUNKED) + body + smuggled
    for name, lines in {"foo": UPGRADE, "h2c": H2C, "WebSocket": WEBSOCKET}.items():
        found[f"Upgrade to {name}, then"] = head(get, *lines) + smuggled
        found[f"Upgrade to {name} with a body"] = (
            head(get, *lines, length(len(smuggled))) + smuggled
        )
        found[f"Upgrade to {name} in chunks"] = head(post, *lines, CHUNKED) + after
        found[f"Upgrade to {name} of another version"] = (
            head(get, *lines, b"Sec-WebSocket-Version: 9999") + smuggled
        )
    return found
