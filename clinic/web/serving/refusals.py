"""Refusals that are answered without the application, before or in place of its own answer."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Self

from clinic.web.browsers import ANSWER_HEADERS
from clinic.web.refusals import CLOSES, LATER, MEDIA_TYPE, Refusal
from clinic.web.serving.limits import LIMITS

STATUS_LINES = {status: b"HTTP/1.1 %d \r\n" % status for status in range(100, 600)} | {
    int(status): f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class MalformedRequest(Refusal):
    """The request is not HTTP/1.1, or it is not safe to read it as such."""

    status = HTTPStatus.BAD_REQUEST
    slug = "malformed-request"
    title = "This is not HTTP/1.1"
    explanation = "The request is not HTTP/1.1. The connection is closed."
    headers = CLOSES

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a first line that is none."""
        return cls(NO_REQUEST_LINE)


NO_REQUEST_LINE = "The request line is not that of HTTP/1.1."


class RequestTooSlow(Refusal):
    """The client keeps us waiting for its request."""

    status = HTTPStatus.REQUEST_TIMEOUT
    slug = "request-too-slow"
    title = "The request is too slow"
    explanation = (
        f"The request did not arrive within {LIMITS.receive_seconds:g} seconds; the connection is "
        "closed."
    )
    detail = "The request did not arrive in time."
    headers = CLOSES


class HeadersTooLarge(Refusal):
    """A head, or the trailers, are beyond the limits."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    slug = "headers-too-large"
    title = "The headers are too large"
    explanation = (
        f"Path and headers are too large: keep them below {LIMITS.head_bytes // 1024} KiB and "
        f"{LIMITS.header_lines} lines; the same holds for trailers. The connection is closed."
    )
    detail = (
        f"The headers are too large: {LIMITS.head_bytes // 1024} KiB and {LIMITS.header_lines} "
        "lines are the most."
    )
    headers = CLOSES


class UnknownMethod(Refusal):
    """The method is unknown, or CONNECT: this is no proxy."""

    status = HTTPStatus.NOT_IMPLEMENTED
    slug = "unknown-method"
    title = "The method is unknown"
    explanation = "No address here knows this method. The connection is closed."
    detail = "No address here knows this method."
    headers = CLOSES


class UnknownTransferCoding(Refusal):
    """The body is in a transfer coding other than chunked."""

    status = HTTPStatus.NOT_IMPLEMENTED
    slug = "unknown-transfer-coding"
    title = "The transfer coding is unknown"
    explanation = "The body has a Transfer-Encoding other than chunked; the connection is closed."
    detail = "Send the body as it is, or in chunks; no other Transfer-Encoding is known here."
    headers = CLOSES


class Crowded(Refusal):
    """There is no place left for this request."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "crowded"
    title = "Too many requests at a time"
    explanation = (
        f"More than {LIMITS.requests} requests are in hand; send it again. Health checks are "
        "answered all the same. The connection is closed."
    )
    detail = (
        "The clinic has as many requests in hand as it can. Send this one again a little later."
    )
    headers = CLOSES | LATER


class Stopped(Refusal):
    """The process ends, and has no time left for this request."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "stopped"
    title = "The clinic stopped"
    explanation = (
        "The clinic was stopped and had no time left for this request. Check whether it was "
        "carried out before you send it again."
    )
    detail = (
        "The clinic stopped before it had answered. The request may have been carried out: check "
        "before you send it again."
    )
    headers = CLOSES | LATER


def response_to(
    refusal: Refusal,
    root_path: str,
    default_headers: Iterable[tuple[bytes, bytes]],
    *,
    with_body: bool,
) -> bytes:
    """Return a whole response that tells of a refusal; the connection is closed after it."""
    body = refusal.body(root_path)
    headers = [
        *default_headers,
        *ANSWER_HEADERS,
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *(
            (name.lower().encode(), value.encode())
            for name, value in {**CLOSES, **refusal.headers}.items()
        ),
    ]
    lines = [STATUS_LINES[refusal.status], *(b"%s: %s\r\n" % header for header in headers), b"\r\n"]
    return b"".join(lines) + (body if with_body else b"")
