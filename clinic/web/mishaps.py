"""What may come to any request, explained: problems that have nothing to do with appointments."""

from http import HTTPStatus

from pydantic import BaseModel, ConfigDict

from clinic.web.browsers import SAFE_METHODS, cross_site, misdirected
from clinic.web.description import Answer, Explained, Operation, answers_with, merged
from clinic.web.headers import LONGEST_LIST_BYTES, list_too_long, more_than_once
from clinic.web.health import is_health
from clinic.web.problems import NOT_NOW, RETRY_AFTER_SECONDS, Problem, invalid
from clinic.web.reading import (
    JSON,
    LARGEST_BODY_BYTES,
    LONGEST_QUERY_BYTES,
    encoded_body,
    query_too_long,
    too_large,
    wrong_media_type,
)
from clinic.web.serving import heads, refusals
from clinic.web.serving.limits import LIMITS


class WrongField(BaseModel):
    """A field or parameter that is wrong: where it stands (RFC 6901), and what to correct."""

    pointer: str
    detail: str


class WrongFields(BaseModel):
    """Everything that is wrong, at once."""

    model_config = ConfigDict(extra="allow")

    errors: list[WrongField]


MALFORMED_REQUEST = Explained(
    name="malformed-request",
    text="What arrived is no HTTP/1.1; the connection is closed.",
    example=refusals.malformed(heads.NO_REQUEST_LINE),
)
REQUEST_TOO_SLOW = Explained(
    name="request-too-slow",
    text=f"The request did not arrive within {LIMITS.receive_seconds:g} seconds; the connection is "
    "closed.",
    example=refusals.TOO_SLOW,
)
HEADERS_TOO_LARGE = Explained(
    name="headers-too-large",
    text=f"Path and headers are too large: keep them below {LIMITS.head_bytes // 1024} KiB and "
    f"{LIMITS.header_lines} lines; the same holds for trailers. The connection is closed.",
    example=refusals.headers_too_large(),
)
UNKNOWN_METHOD = Explained(
    name="unknown-method",
    text="The method is none that any address here knows; the connection is closed.",
    example=refusals.unknown_method(),
)
UNKNOWN_CODING = Explained(
    name="unknown-transfer-coding",
    text="The body has a Transfer-Encoding other than chunked; the connection is closed.",
    example=refusals.unknown_coding(),
)
CROWDED = Explained(
    name="crowded",
    text=f"More than {LIMITS.requests} requests are in hand; send it again. Health checks are "
    "answered all the same. The connection is closed.",
    example=refusals.CROWDED,
)
STOPPED = Explained(
    name="stopped",
    text="The clinic was stopped and had no time left for this request. Look whether it was "
    "carried out before you send it again.",
    example=refusals.STOPPED,
)
OUR_FAULT = Explained(
    name="our-fault",
    text="The fault is the clinic's. Look whether the request was carried out before you send it "
    "again; with an Idempotency-Key a booking can be sent again at once.",
    example=Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The fault is the clinic's, not yours; it was logged. Whether the request was carried out "
        "is not certain: look before you send it again.",
    ),
)
UNAVAILABLE = Explained(
    name="unavailable",
    text="The database is away or busy; nothing is wrong with the request. Send the very same "
    "again: nothing was done, unless the detail says that it may have been, and nothing is done "
    "twice.",
    example=Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        NOT_NOW,
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    ),
)
MALFORMED_BODY = Explained(
    name="malformed-body",
    text="The body is not JSON, not in UTF-8, or has thousands of lists and objects in it.",
    example=Problem(
        HTTPStatus.BAD_REQUEST,
        "The body is not JSON in UTF-8: expected value at line 1 column 1. Nothing was stored.",
    ),
)
BODY_TOO_LARGE = Explained(
    name="body-too-large",
    text=f"The body is larger than {LARGEST_BODY_BYTES // 1024} KiB. The connection is closed.",
    example=too_large(),
)
WRONG_MEDIA_TYPE = Explained(
    name="wrong-media-type",
    text="The header Content-Type must be there, and say that the body is JSON: a browser sends "
    "that for the page of another site only if it may.",
    example=wrong_media_type([JSON]),
)
ENCODED_BODY = Explained(
    name="encoded-body",
    text="The header Content-Encoding says that the body is compressed, or encoded in another way.",
    example=encoded_body(),
)
WRONG_FIELDS = Explained(
    name="wrong-fields",
    text="Fields of the body or parameters of the query are wrong: all of them are named.",
    example=invalid([{"pointer": "#/patient_name", "detail": "must not be empty"}]),
    members=WrongFields,
)
NO_SUCH_ADDRESS = Explained(
    name="no-such-address",
    text="There is nothing at this address, whatever is sent to it.",
    example=Problem(HTTPStatus.NOT_FOUND, "There is nothing at this address."),
)
NO_SUCH_METHOD = Explained(
    name="no-such-method",
    text="The address is right, the method is not: the header Allow names those that are.",
    example=Problem(HTTPStatus.METHOD_NOT_ALLOWED, "PUT is not possible here; see Allow."),
)

REPEATED_HEADER = Explained(
    name="repeated-header",
    text="A header that is no list stands there more than once: which is meant is not clear.",
    example=more_than_once(b"content-type"),
)
LIST_TOO_LONG = Explained(
    name="list-too-long",
    text="A header that is a list, Accept say, is longer than any client has a use for: keep it "
    f"below {LONGEST_LIST_BYTES // 1024} KiB.",
    example=list_too_long(b"accept"),
)
QUERY_TOO_LONG = Explained(
    name="query-too-long",
    text=f"The query is too long: keep it below {LONGEST_QUERY_BYTES // 1024} KiB.",
    example=query_too_long(),
)
MISDIRECTED = Explained(
    name="misdirected",
    text="The header Host names another host. The setting CLINIC_HOSTS says which names are the "
    "clinic's; health is answered under any.",
    example=misdirected(),
)
CROSS_SITE = Explained(
    name="cross-site",
    text="A browser says (Sec-Fetch-Site, Origin) that a page of another site sent this, and only "
    "the clinic's own may change anything. Programs that are no browsers send neither header.",
    example=cross_site(),
)

EVERYWHERE = (
    MALFORMED_REQUEST,
    REPEATED_HEADER,
    REQUEST_TOO_SLOW,
    HEADERS_TOO_LARGE,
    LIST_TOO_LONG,
    UNKNOWN_CODING,
    OUR_FAULT,
    CROWDED,
    STOPPED,
)
# No operation answers these: a request with them has found none.
NOWHERE = (NO_SUCH_ADDRESS, NO_SUCH_METHOD, UNKNOWN_METHOD)


def problems_of(operation: Operation) -> list[Explained]:
    """Return all problems that an operation may answer, its own first."""
    found = [*operation.problems]
    if operation.body:
        found += [MALFORMED_BODY, BODY_TOO_LARGE, WRONG_MEDIA_TYPE, ENCODED_BODY]
    if operation.body or operation.query:
        found.append(WRONG_FIELDS)
    if operation.query:
        found.append(QUERY_TOO_LONG)
    if operation.method not in SAFE_METHODS:
        found.append(CROSS_SITE)
    if not is_health(operation.path):
        found.append(MISDIRECTED)
    return [*found, *EVERYWHERE]


def answers_of(operation: Operation) -> list[Answer]:
    """Return everything that an operation may answer, one answer a status."""
    return merged([*operation.answers, *answers_with(problems_of(operation))])
