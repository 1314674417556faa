"""Who sends a request and what they may do; and how they are told that they may not."""

import math
from collections.abc import Iterable
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple, Self

from starlette.requests import Request

from clinic.web.refusals import Refusal

SCHEME = "Bearer"
# Where a request's scope keeps who sends it.
CALLER = "clinic.caller"
# ... and the header with the new cookie of a session that goes on.
RENEWED = "clinic.renewed"


class Permission(StrEnum):
    """What a client must be allowed to do; ``OPEN`` is nothing, and every client is answered."""

    OPEN = "open"
    FEED = "feed"
    READ = "read"
    DESK = "desk"
    OPERATE = "operate"
    ADMINISTER = "administer"


MEANINGS: dict[Permission, str] = {
    Permission.FEED: "read one calendar",
    Permission.READ: "read all but patients: lists without names, phones and notes, free times, "
    "numbers",
    Permission.DESK: "see patients, book and change",
    Permission.OPERATE: "see how the clinic works and which messages could not be handled; pause, "
    "replay and discard",
    Permission.ADMINISTER: "everything: the registry, hours, the audit, to erase patients",
}
INCLUDED: dict[Permission, frozenset[Permission]] = {
    Permission.OPEN: frozenset({Permission.OPEN}),
    Permission.FEED: frozenset({Permission.OPEN, Permission.FEED}),
    Permission.READ: frozenset({Permission.OPEN, Permission.FEED, Permission.READ}),
    Permission.DESK: frozenset(
        {Permission.OPEN, Permission.FEED, Permission.READ, Permission.DESK}
    ),
    Permission.OPERATE: frozenset(
        {Permission.OPEN, Permission.FEED, Permission.READ, Permission.OPERATE}
    ),
    Permission.ADMINISTER: frozenset(Permission),
}
"""What whoever has a permission may do: what it includes beside itself."""
EVERYTHING = INCLUDED[Permission.ADMINISTER]


def included(permissions: Iterable[Permission]) -> frozenset[Permission]:
    """Return all that these permissions allow together."""
    return frozenset().union(*(INCLUDED[one] for one in permissions))


class Caller(NamedTuple):
    """Who sends a request: a name for the record, and what they may do.

    ``known`` tells whether they have a token, or need none. ``feed`` is the one calendar feed that
    the token is good for, if it is of that kind.
    """

    name: str
    permissions: frozenset[Permission]
    known: bool = True
    feed: str | None = None


def caller_of(request: Request) -> Caller:
    """Return who sends a request that was let in."""
    caller: Caller = request.scope[CALLER]
    return caller


def may(request: Request, permission: Permission) -> bool:
    """Tell whether whoever sends a request has a permission."""
    return permission in caller_of(request).permissions


class NoToken(Refusal):
    """A token is needed, and none that counts was sent."""

    status = HTTPStatus.UNAUTHORIZED
    slug = "no-token"
    title = "A token is needed"
    explanation = (
        "The request has no token, or one that is misspelt, revoked or expired. Send it in the "
        "header Authorization: Bearer TOKEN. Who runs the clinic makes tokens with the command "
        "`token make`."
    )
    detail = (
        "Send a token that counts in the header Authorization: Bearer TOKEN. If you sent one, it "
        "is misspelt, revoked or expired. Nothing was changed."
    )
    headers = {"WWW-Authenticate": f'{SCHEME} realm="clinic"'}  # noqa: RUF012 - as in Refusal


class NotAllowed(Refusal):
    """The token counts, but has not the permission."""

    status = HTTPStatus.FORBIDDEN
    slug = "not-allowed"
    title = "The token may not do this"
    explanation = (
        "The token counts, but does not have the permission that this needs. Use another token, or "
        "ask who runs the clinic for one."
    )

    def __init__(self, needed: Permission) -> None:
        super().__init__(f"This needs a token with the permission {needed}. Nothing was changed.")

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a booking."""
        return cls(Permission.DESK)


class TooManyRequests(Refusal):
    """The client asks more often than it may."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "too-many-requests"
    title = "Too many requests"
    explanation = (
        "A client may ask only so often (the setting CLINIC_REQUESTS_PER_SECOND), and try only so "
        "many tokens that do not count. Nothing is wrong with the request: send it again later."
    )

    def __init__(self, wait_seconds: float) -> None:
        seconds = max(1, math.ceil(wait_seconds))
        super().__init__(
            f"You ask too often. Nothing was changed: send the same request again in {seconds} s."
        )
        self.headers = {"Retry-After": str(seconds)}

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a client that may ask again at once."""
        return cls(1)
