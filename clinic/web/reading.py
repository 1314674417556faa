"""Read a request's body and parameters, or say what is wrong with them."""

import datetime
import functools
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError, from_json
from starlette.requests import Request

from clinic.web.headers import header, header_list
from clinic.web.problems import Problem, invalid, wrong_fields

Model = TypeVar("Model", bound=BaseModel)

# The longest possible appointment takes some 6 KiB: 450 characters, each written as two \\uXXXX.
LARGEST_BODY_BYTES = 64 * 1024
# To hang up on a client that is still sending resets the connection, and the client may never see
# the answer (RFC 9112, 9.6). So of a body too large this much is read and thrown away first.
MOST_DISCARDED_BYTES = 1024 * 1024
# A request is one object of texts and numbers, and all its texts at their longest have room for
# fewer brackets than this. To read a list takes 0.1 us.
MOST_BRACKETS = 4096
# No model has as many fields.
MOST_FIELDS = 50
# Every parameter at its longest, percent-encoded, takes some 6 KiB; a server should take addresses
# of 8,000 bytes (RFC 9110, 4.1).
LONGEST_QUERY_BYTES = 8 * 1024
# A name twice is refused anyway, so a query has fewer parameters than this.
MOST_PARAMETERS = 50

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
        return cls.model_validate(read_query(request, names_of(cls)))


async def read_json_object(
    request: Request, media_types: Sequence[str] = (JSON,)
) -> dict[str, object]:
    """Return the JSON object in a request's body, which says that it is of one of the media types.

    Of a field that stands twice in it, the last counts.

    Raises:
        Problem: the body is too large (not all of it is read then), compressed, of another media
            type or of none, or no JSON object in UTF-8.
    """
    body = await _read_body(request)
    _require(request, media_types)
    if len(body) > MOST_BRACKETS and body.count(b"[") + body.count(b"{") > MOST_BRACKETS:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "The body has more lists and objects in it than any request has. Nothing was stored.",
        )
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


def read_fields(
    model: type[Model],
    sent: Mapping[str, object],
    context: Mapping[str, object],
    errors: Sequence[Mapping[str, str]] = (),
) -> Model:
    """Return the model that a JSON object stands for; ``errors`` are those known already.

    Fields that the model does not know are counted, not named, and never handed to pydantic, which
    takes 7 us for each: a client may send any number of them, named in any way.

    Raises:
        Problem: it names every field that is wrong.
    """
    if not errors and len(sent) <= MOST_FIELDS:
        try:
            return model.model_validate(sent, context=context)
        except ValidationError:
            pass  # what is wrong is named below
    known = names_of(model)
    if not known.keys() >= sent.keys():
        unknown = len(sent.keys() - known.keys())
        sent = {name: value for name, value in sent.items() if name in known}
        detail = f"has fields that mean nothing here: {unknown}"
        errors = [*errors, {"pointer": "#", "detail": detail}]
    try:
        found = model.model_validate(sent, context=context)
    except ValidationError as error:
        raise invalid([*wrong_fields(error), *errors]) from None
    if errors:
        raise invalid(errors)
    return found


@functools.cache
def names_of(model: type[BaseModel]) -> Mapping[str, None]:
    """Return the names that clients may give to a model's fields, in order, as the keys."""
    names: dict[str, None] = {}
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        choices: Sequence[Any] = alias.choices if isinstance(alias, AliasChoices) else [alias]
        names |= dict.fromkeys(str(choice or name) for choice in choices)
    return names


def read_query(request: Request, known: Mapping[str, None]) -> dict[str, str]:
    """Return the query parameters.

    Raises:
        Problem: the query is too long, or a parameter is unknown (to pass over a misspelt one would
            give a wrong answer) or stands twice.
    """
    query: bytes = request.scope["query_string"]
    if len(query) > LONGEST_QUERY_BYTES:
        raise query_too_long()
    if query.count(b"&") >= MOST_PARAMETERS:
        raise invalid([_unknown_parameters(known)])
    names = [name for name, _ in request.query_params.multi_items()]
    errors = []
    if any(name not in known for name in names):
        errors.append(_unknown_parameters(known))
    errors += [
        {"pointer": f"#/{name}", "detail": "is given more than once"}
        for name in known
        if names.count(name) > 1
    ]
    if errors:
        raise invalid(errors)
    return dict(request.query_params)


def query_too_long() -> Problem:
    """Return the refusal of a query that is longer than any that makes sense."""
    return Problem(
        HTTPStatus.REQUEST_URI_TOO_LONG,
        f"The query is longer than {LONGEST_QUERY_BYTES // 1024} KiB.",
    )


def _unknown_parameters(known: Mapping[str, None]) -> dict[str, str]:
    detail = "has parameters that mean nothing here; known are " + ", ".join(known)
    return {"pointer": "#", "detail": detail}


def _require(request: Request, media_types: Sequence[str]) -> None:
    """Refuse a body that is not said to be of one of the media types, or that is compressed.

    Without a Content-Type, too: a browser lets any page send what has none, or that of a form or of
    plain text, to anybody (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).
    """
    content_type = header(request.scope, b"content-type") or ""
    if (
        content_type not in media_types
        and content_type.partition(";")[0].strip().lower() not in media_types
    ):
        raise wrong_media_type(media_types)
    codings = header_list(request.scope, b"content-encoding")
    if codings and set(codings.replace(",", " ").lower().split()) - {"identity"}:
        raise encoded_body()


def wrong_media_type(media_types: Sequence[str]) -> Problem:
    """Return the refusal of a body that is not said to be JSON."""
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"Send JSON, with the header Content-Type: {media_types[0]}. Nothing was changed.",
        headers={"Accept": ", ".join(media_types)},
    )


def encoded_body() -> Problem:
    """Return the refusal of a body that is compressed, or encoded in another way."""
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "Send the body as it is, neither compressed nor encoded, without Content-Encoding. "
        "Nothing was changed.",
        headers={"Accept-Encoding": "identity"},
    )


async def _read_body(request: Request) -> bytes:
    # The server lets no such header pass that is no number.
    announced = int(header(request.scope, b"content-length") or 0)
    if announced > LARGEST_BODY_BYTES and (
        announced > MOST_DISCARDED_BYTES or header(request.scope, b"expect") is not None
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
