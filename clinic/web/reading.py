"""Read a request's body and parameters, or say what is wrong with them."""

from collections.abc import Collection
from http import HTTPStatus

from pydantic_core import from_json
from starlette.requests import Request

from clinic.web.problems import Problem, invalid

# The longest possible appointment takes some 6 KiB: 450 characters, each written as two \\uXXXX.
LARGEST_BODY_BYTES = 64 * 1024
# To hang up on a client that is still sending resets the connection, and the client may never see
# the answer (RFC 9112, 9.6). So of a body too large this much is read and thrown away first.
MOST_DISCARDED_BYTES = 1024 * 1024


async def read_json_object(request: Request) -> dict[str, object]:
    """Return the JSON object in a request's body.

    Of a field that stands twice in it, the last counts.

    Raises:
        Problem: the body is too large (not all of it is read then), or no JSON object in UTF-8.
    """
    body = await _read_body(request)
    _require_json(request)
    try:
        # Refuses NaN and Infinity, bytes that are no UTF-8, lone surrogates, endless nesting.
        sent = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"The body is not JSON in UTF-8: {error}. Nothing was stored."
        ) from None
    if not isinstance(sent, dict):
        raise invalid([{"pointer": "#", "detail": "must be a JSON object"}])
    return sent


def read_query(request: Request, known: Collection[str]) -> dict[str, str]:
    """Return the query parameters.

    Raises:
        Problem: one is unknown (to pass over a misspelt one would give a wrong answer) or stands
            twice.
    """
    errors = []
    names = [name for name, _ in request.query_params.multi_items()]
    if any(name not in known for name in names):
        detail = "has parameters that mean nothing here; known are " + ", ".join(known)
        errors.append({"pointer": "#", "detail": detail})
    errors += [
        {"pointer": f"#/{name}", "detail": "is given more than once"}
        for name in known
        if names.count(name) > 1
    ]
    if errors:
        raise invalid(errors)
    return dict(request.query_params)


def _require_json(request: Request) -> None:
    """Refuse a body that says it is something else; one that says nothing is taken for JSON."""
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "Send JSON, with the header Content-Type: application/json.",
            headers={"Accept": "application/json"},
        )


async def _read_body(request: Request) -> bytes:
    too_large = Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {LARGEST_BODY_BYTES // 1024} KiB. Nothing was stored.",
        headers={"Connection": "close"},
    )
    # The server lets no such header pass that is no number.
    announced = int(request.headers.get("content-length", "0"))
    if announced > LARGEST_BODY_BYTES and (
        announced > MOST_DISCARDED_BYTES or "expect" in request.headers
    ):
        raise too_large
    body = bytearray()
    read = 0
    async for chunk in request.stream():
        read += len(chunk)
        if read <= LARGEST_BODY_BYTES:
            body += chunk
        elif read > MOST_DISCARDED_BYTES:
            break
    if read > LARGEST_BODY_BYTES:
        raise too_large
    return bytes(body)
