"""Answers that are given without the application, before or in place of its own."""

import json
from collections.abc import Iterable
from http import HTTPStatus

from clinic.web.browsers import ANSWER_HEADERS
from clinic.web.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, Problem, problem_details
from clinic.web.serving.limits import LIMITS

STATUS_LINES = {status: b"HTTP/1.1 %d \r\n" % status for status in range(100, 600)} | {
    int(status): f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in HTTPStatus
}
CLOSES = {"Connection": "close"}
LATER = {"Retry-After": str(RETRY_AFTER_SECONDS)}

TOO_SLOW = Problem(
    HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.", headers=CLOSES
)
CROWDED = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The clinic has as many requests in hand as it can. Send this one again a little later.",
    headers=CLOSES | LATER,
)
STOPPED = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The clinic stopped before it was done. Whether the request was carried out is not certain: "
    "look before you send it again.",
    headers=CLOSES | LATER,
)
OUR_FAULT = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "The fault is the clinic's, not yours; it was logged. Whether the request was carried out is "
    "not certain: look before you send it again.",
    headers=CLOSES,
)


def malformed(detail: str) -> Problem:
    """Return the refusal of what is no HTTP/1.1, or not safe to take for it."""
    return Problem(HTTPStatus.BAD_REQUEST, detail, headers=CLOSES)


def headers_too_large() -> Problem:
    """Return the refusal of a head, or of trailers, beyond the limits."""
    return Problem(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"The headers are too large: {LIMITS.head_bytes // 1024} KiB and {LIMITS.header_lines} "
        "lines are the most.",
        headers=CLOSES,
    )


def unknown_method() -> Problem:
    """Return the refusal of an unknown method, or of CONNECT: this is no proxy."""
    return Problem(HTTPStatus.NOT_IMPLEMENTED, "No address here knows this method.", headers=CLOSES)


def unknown_coding() -> Problem:
    """Return the refusal of a body in a transfer coding other than chunked."""
    return Problem(
        HTTPStatus.NOT_IMPLEMENTED,
        "Send the body as it is, or in chunks; no other Transfer-Encoding is known here.",
        headers=CLOSES,
    )


def response_to(
    problem: Problem, default_headers: Iterable[tuple[bytes, bytes]], *, with_body: bool
) -> bytes:
    """Return a whole response that tells of a problem; the connection is closed after it."""
    body = json.dumps(problem_details(problem), ensure_ascii=False).encode()
    headers = [
        *default_headers,
        *ANSWER_HEADERS,
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    lines = [STATUS_LINES[problem.status], *(b"%s: %s\r\n" % header for header in headers), b"\r\n"]
    return b"".join(lines) + (body if with_body else b"")
