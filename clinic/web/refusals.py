"""What a client is told instead of what it asked for: problem details (RFC 9457)."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
# When to ask again while something is away: the supervisor and the pools try at least this often.
RETRY_AFTER_SECONDS = 2
LATER = {"Retry-After": str(RETRY_AFTER_SECONDS)}
CLOSES = {"Connection": "close"}

# Pydantic's texts are for programmers; these are for the person who filled in the field.
WORDS = {
    "missing": "is required",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_too_short": "must not be empty",
    "extra_forbidden": "means nothing here",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
}


class Refusal(Exception):
    """An answer that tells a client what is wrong and what to do about it.

    A subclass is a kind of refusal: its ``status``, its ``slug``, which programs tell kinds apart
    by and under which ``/docs`` explains it, its ``title``, and the ``explanation``: what it means
    and what to do. An exception is one case: its message is the ``detail``, for a person to read;
    ``members`` are further members of the JSON object, of the form that ``Members`` describes. None
    of these ever quotes a patient's name, phone or note.
    """

    status: ClassVar[HTTPStatus]
    slug: ClassVar[str]
    title: ClassVar[str]
    explanation: ClassVar[str]
    detail: ClassVar[str]
    """The message of a case, where all cases have the same."""
    headers: Mapping[str, str] = {}
    members: Mapping[str, object] = {}
    Members: ClassVar[type[BaseModel] | None] = None

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(self.detail if detail is None else detail)

    @classmethod
    def example(cls) -> Self:
        """Return a case of this kind, for the description of the API."""
        return cls()

    def problem_details(self, root_path: str = "") -> dict[str, object]:
        """Return the JSON object that tells of it to clients who find the clinic below a path."""
        return {
            "type": f"{root_path}/docs#{self.slug}",
            "title": self.title,
            "status": int(self.status),
            "detail": str(self),
            **self.members,
        }

    def body(self, root_path: str = "") -> bytes:
        """Return the problem details as they are sent."""
        return json.dumps(self.problem_details(root_path), ensure_ascii=False).encode()

    def response(self, root_path: str = "") -> Response:
        """Return the HTTP response that tells of it."""
        return Response(
            self.body(root_path), self.status, headers=self.headers, media_type=MEDIA_TYPE
        )


class WrongField(BaseModel):
    """A field or parameter that is wrong: where it stands (RFC 6901), and what to correct."""

    pointer: str
    detail: str


class _WrongFieldsMembers(BaseModel):
    """Everything that is wrong, at once."""

    model_config = ConfigDict(extra="allow")

    errors: list[WrongField]


class WrongFields(Refusal):
    """Fields or parameters are wrong: ``errors`` has a ``pointer`` and a ``detail`` for each.

    The form is RFC 9457's own example for several errors at once.
    """

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "wrong-fields"
    title = "Fields are wrong"
    explanation = "Fields of the body or parameters of the query are wrong; all of them are named."
    Members = _WrongFieldsMembers

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        names = ", ".join(error["pointer"].removeprefix("#/") or "the body" for error in errors)
        super().__init__(f"Correct what is wrong and send it again: {names}. Nothing was stored.")
        self.members = {"errors": list(errors)}

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of an empty name."""
        return cls([{"pointer": "#/patient_name", "detail": "must not be empty"}])


def wrong_fields(error: ValidationError) -> list[dict[str, str]]:
    """Return what is wrong with each field that a model refused: ``pointer`` and ``detail``."""
    return [
        {"pointer": "/".join(["#", *(str(part) for part in one["loc"])]), "detail": _words_for(one)}
        for one in error.errors(include_url=False, include_input=False)
    ]


def _words_for(error: ErrorDetails) -> str:
    words = WORDS.get(error["type"])
    if words is not None:
        return words.format_map(error.get("ctx", {}))
    if error["type"] == "too_long" and "max_length" in error["ctx"]:  # of a list; texts say it well
        return f"must have at most {error['ctx']['max_length']} entries"
    return error["msg"]


class NoSuchAddress(Refusal):
    """No route has this path."""

    status = HTTPStatus.NOT_FOUND
    slug = "no-such-address"
    title = "There is nothing at this address"
    explanation = "There is nothing at this address, whatever is sent to it."
    detail = "There is nothing at this address."


class NoSuchMethod(Refusal):
    """The path has no such method; ``allow`` lists those that it has, in any order."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    slug = "no-such-method"
    title = "This address has no such method"
    explanation = "The address is right, the method is not: the header Allow lists the right ones."

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f"{method} is not possible here; see Allow.")
        self.headers = {"Allow": ", ".join(sorted(allow.split(", ")))}

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a PUT."""
        return cls("PUT", "GET, HEAD, POST")


class NotNow(Refusal):
    """Something that the clinic needs is away."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "unavailable"
    title = "Not now"
    explanation = (
        "The database is away or busy. The request is right and nothing was done: send the same "
        "request again."
    )
    detail = "The clinic cannot do this right now. Send the same request again a little later."
    headers = LATER


class MaybeDone(Refusal):
    """The database was told to commit, and did not answer."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "outcome-unknown"
    title = "This may have been done or not"
    explanation = (
        "The database did not answer in time, and what was asked for may have been done or not. "
        "Send the very same request again: what was done already is not done twice."
    )
    # A booking that stands already is confirmed as it is; a change made already is none.
    detail = (
        "This may have been done or not: the database did not answer in time. Send the very same "
        "request again a little later: what was done already is not done twice."
    )
    headers = LATER


class OurFault(Refusal):
    """The clinic has a bug."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    slug = "our-fault"
    title = "The clinic failed"
    explanation = (
        "The fault is the clinic's. Check whether the request was carried out before you send it "
        "again; with an Idempotency-Key a booking can be sent again at once."
    )
    detail = (
        "The fault is the clinic's, not yours; it was logged. The request may have been carried "
        "out: check before you send it again."
    )
