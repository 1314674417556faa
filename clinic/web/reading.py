"""Read a request's body and parameters, or say what is wrong with them."""

import datetime
import functools
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import parse_qsl

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
from clinic.web.refusals import CLOSES, Refusal, WrongFields, wrong_fields

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
# What a browser sends for a form in a page. It may do so for the page of another site, too:
# `clinic.web.browsers` refuses that.
FORM = "application/x-www-form-urlencoded"
# A change is a merge patch (RFC 7396): what is not in it stays as it is.
CHANGE_TYPES = (JSON, "application/merge-patch+json")
PLAIN = {"Accept-Encoding": "identity"}


class BodyTooLarge(Refusal):
    """The body is larger than any that makes sense."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "body-too-large"
    title = "The body is too large"
    explanation = (
        f"The body is larger than {LARGEST_BODY_BYTES // 1024} KiB. The connection is closed."
    )
    detail = f"The body is larger than {LARGEST_BODY_BYTES // 1024} KiB. Nothing was stored."
    headers = CLOSES


class MalformedBody(Refusal):
    """The body is not what a request has."""

    status = HTTPStatus.BAD_REQUEST
    slug = "malformed-body"
    title = "The body is malformed"
    explanation = "The body is not JSON, not in UTF-8, or has thousands of lists and objects in it."

    def __init__(self, what: str) -> None:
        super().__init__(f"The body {what}. Nothing was stored.")

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a text."""
        return cls("is not JSON in UTF-8: expected value at line 1 column 1")


class WrongMediaType(Refusal):
    """The body is not said to be JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "wrong-media-type"
    title = "The media type is wrong"
    explanation = (
        "The header Content-Type is required and must say that the body is JSON: a browser sends "
        "that for the page of another site only with permission."
    )

    def __init__(self, media_types: Sequence[str]) -> None:
        super().__init__(
            f"Send JSON, with the header Content-Type: {media_types[0]}. Nothing was changed."
        )
        self.headers = {"Accept": ", ".join(media_types)}

    @classmethod
    def example(cls) -> Self:
        """Return the refusal where JSON is taken."""
        return cls([JSON])


class EncodedBody(Refusal):
    """The body is compressed, or encoded in another way."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "encoded-body"
    title = "The body is encoded"
    explanation = (
        "The header Content-Encoding says that the body is compressed, or encoded in another way."
    )
    detail = (
        "Send the body as it is, neither compressed nor encoded, without Content-Encoding. "
        "Nothing was changed."
    )
    headers = PLAIN


class QueryTooLong(Refusal):
    """The query is longer than any that makes sense."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG
    slug = "query-too-long"
    title = "The query is too long"
    explanation = f"The query is too long: keep it below {LONGEST_QUERY_BYTES // 1024} KiB."
    detail = f"The query is longer than {LONGEST_QUERY_BYTES // 1024} KiB."


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
            Refusal: it has parameters that mean nothing here, or one twice.
            ValidationError: it names every parameter that is wrong.
        """
        return cls.model_validate(read_query(request, names_of(cls)))


def without_defaults(schema: dict[str, Any]) -> None:
    """Take the defaults out of a JSON Schema: generators of clients would have them sent."""
    for member in schema["properties"].values():
        member.pop("default", None)


def read_id(request: Request, missing: type[Refusal]) -> int:
    """Return the id in a request's path.

    Raises:
        Refusal: it is no id that could ever be; ``missing`` says that there is none.
    """
    text: str = request.path_params["id"]
    if not re.fullmatch("[0-9]{1,18}", text):
        raise missing
    return int(text)


async def read_json_object(
    request: Request, media_types: Sequence[str] = (JSON,)
) -> dict[str, object]:
    """Return the JSON object in a request's body, which says that it is of one of the media types.

    If a field is repeated, its last value counts.

    Raises:
        Refusal: the body is too large (not all of it is read then), compressed, of another media
            type or of none, or no JSON object in UTF-8.
    """
    body = await _read_body(request)
    _require(request, media_types)
    if len(body) > MOST_BRACKETS and body.count(b"[") + body.count(b"{") > MOST_BRACKETS:
        raise MalformedBody("has more lists and objects in it than any request has")
    try:
        # Refuses NaN and Infinity, bytes that are no UTF-8, lone surrogates, endless nesting.
        sent = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedBody(f"is not JSON in UTF-8: {error}") from None
    if not isinstance(sent, dict):
        raise WrongFields([{"pointer": "#", "detail": "must be a JSON object"}])
    return sent


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form in a page; of one that is repeated the last value counts.

    Raises:
        Refusal: the body is too large, compressed, of another media type, or no form in UTF-8.
    """
    body = await _read_body(request)
    _require(request, [FORM])
    try:
        return dict(
            parse_qsl(
                body.decode(),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MOST_FIELDS,
            )
        )
    except ValueError:
        raise MalformedBody("is not a form in UTF-8, or has more fields than any form") from None


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
        WrongFields: it names every field that is wrong.
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
        raise WrongFields([*wrong_fields(error), *errors]) from None
    if errors:
        raise WrongFields(errors)
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
        Refusal: the query is too long, or a parameter is unknown (to pass over a misspelt one would
            give a wrong answer) or stands twice.
    """
    query: bytes = request.scope["query_string"]
    if len(query) > LONGEST_QUERY_BYTES:
        raise QueryTooLong
    if query.count(b"&") >= MOST_PARAMETERS:
        raise WrongFields([_unknown_parameters(known)])
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
        raise WrongFields(errors)
    return dict(request.query_params)


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
        raise WrongMediaType(media_types)
    codings = header_list(request.scope, b"content-encoding")
    if codings and set(codings.replace(",", " ").lower().split()) - {"identity"}:
        raise EncodedBody


async def _read_body(request: Request) -> bytes:
    # The server refuses a header that is not a number.
    announced = int(header(request.scope, b"content-length") or 0)
    if announced > LARGEST_BODY_BYTES and (
        announced > MOST_DISCARDED_BYTES or header(request.scope, b"expect") is not None
    ):
        raise BodyTooLarge
    body = bytearray()
    read = 0
    async for chunk in request.stream():
        read += len(chunk)
        if read <= LARGEST_BODY_BYTES:
            body += chunk
        elif read > MOST_DISCARDED_BYTES:
            break
    if read > LARGEST_BODY_BYTES:
        raise BodyTooLarge
    return bytes(body)
