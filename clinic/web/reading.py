"""Read a request's body and parameters, or say what is wrong with them."""

import datetime
import re
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError, from_json
from starlette.requests import Request

from clinic.web.problems import Problem, invalid

# The longest possible appointment takes some 6 KiB: 450 characters, each written as two \\uXXXX.
LARGEST_BODY_BYTES = 64 * 1024
# To hang up on a client that is still sending resets the connection, and the client may never see
# the answer (RFC 9112, 9.6). So of a body too large this much is read and thrown away first.
MOST_DISCARDED_BYTES = 1024 * 1024


JSON = "application/json"


def read_day(value: object) -> object:
    """Return the day that a text stands for."""
    if isinstance(value, str) and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            pass
    raise PydanticCustomError("day", "must be a day such as 2025-12-01")


Day = Annotated[
    datetime.date,
    BeforeValidator(read_day),
    WithJsonSchema({"type": "string", "format": "date"}),
]
"""A day as it stands in a query."""


class DayRange(BaseModel):
    """The query parameters ``from`` and ``to``: days, both included; either may be left out."""

    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)

    first_day: Annotated[Day | None, Field(validation_alias="from")] = None
    last_day: Annotated[Day | None, Field(validation_alias="to")] = None

    @field_validator("last_day")
    @classmethod
    def _not_before_first(
        cls, last: datetime.date | None, info: ValidationInfo
    ) -> datetime.date | None:
        first = info.data.get("first_day")
        if first and last and last < first:
            raise PydanticCustomError("range", "must not be before from")
        return last

    @classmethod
    def of(cls, request: Request) -> Self:
        """Return what a request's query says.

        Raises:
            Problem: it has parameters that mean nothing here, or one twice.
            ValidationError: it names every parameter that is wrong.
        """
        names = [str(field.validation_alias or name) for name, field in cls.model_fields.items()]
        return cls.model_validate(read_query(request, names))


async def read_json_object(
    request: Request, media_types: Sequence[str] = (JSON,)
) -> dict[str, object]:
    """Return the JSON object in a request's body, which says that it is of one of the media types.

    Of a field that stands twice in it, the last counts.

    Raises:
        Problem: the body is too large (not all of it is read then), or no JSON object in UTF-8.
    """
    body = await _read_body(request)
    _require(request, media_types)
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


def header(request: Request, name: bytes) -> str | None:
    """Return the first header of that name, which is in lower case, or None.

    Starlette copies them all before it looks, and where there is none it raises an error inside:
    for three headers that is a twentieth of what booking takes (benchmarks/README.md).
    """
    for found, value in request.scope["headers"]:
        if found == name:
            return str(value, "latin-1")
    return None


def preferred(request: Request, offered: Sequence[str]) -> str:
    """Return the media type that a client likes best; the first one if it likes none of them.

    See RFC 9110, 12.5.1. To answer with what was not asked for is what it advises, too.
    """
    ranges: dict[str, float] = {}
    for part in (header(request, b"accept") or "*/*").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        ranges[name] = float(quality) if re.fullmatch(r"[01](\.[0-9]{0,3})?", quality) else 0.0

    def liking(media_type: str) -> float:
        for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
            if name in ranges:
                return ranges[name]
        return 0.0

    return max(offered, key=liking)


def _require(request: Request, media_types: Sequence[str]) -> None:
    """Refuse a body that says it is something else; one that says nothing is taken for right."""
    content_type = header(request, b"content-type")
    if content_type is None:
        return
    if content_type.partition(";")[0].strip().lower() not in media_types:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Send JSON, with the header Content-Type: {media_types[0]}.",
            headers={"Accept": ", ".join(media_types)},
        )


async def _read_body(request: Request) -> bytes:
    # The server lets no such header pass that is no number.
    announced = int(header(request, b"content-length") or 0)
    if announced > LARGEST_BODY_BYTES and (
        announced > MOST_DISCARDED_BYTES or header(request, b"expect") is not None
    ):
        raise too_large()
    body = bytearray()
    read = 0
    async for chunk in request.stream():
        read += len(chunk)
        if read <= LARGEST_BODY_BYTES:
            body += chunk
        elif read > MOST_DISCARDED_BYTES:
            break
    if read > LARGEST_BODY_BYTES:
        raise too_large()
    return bytes(body)


def too_large() -> Problem:
    """Return the refusal of a body that is larger than any that makes sense."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {LARGEST_BODY_BYTES // 1024} KiB. Nothing was stored.",
        headers={"Connection": "close"},
    )
