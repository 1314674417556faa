"""A refusal as a page: what happened, and what to do, in the words of the front desk."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clinic.pages.front import Front, local
from clinic.web.refusals import Refusal

# What happened and what to do, by the slug of a refusal. Those that are not here have a fault of
# the page or of the browser at their bottom.
SAID: Mapping[str, tuple[str, str]] = {
    "not-allowed": (
        "Your token may not do this",
        "It needs a token with another permission. Sign out, then sign in with that one.",
    ),
    "too-many-requests": (
        "Too often",
        "Too many requests came from here. Nothing was changed. Wait a minute, and try again.",
    ),
    "stale": (
        "Somebody else was quicker",
        (
            "This appointment was changed on another screen in the meantime. Nothing was changed "
            "by you. Look at it as it is now, and then change it if that is still right."
        ),
    ),
    "illegal-transition": (
        "That cannot follow",
        (
            "From where this appointment is now it cannot come to what you chose. Nothing was "
            "changed."
        ),
    ),
    "time-taken": (
        "That time is taken",
        "Another appointment has the office or the doctor at that time. Nothing was changed.",
    ),
    "closed": (
        "Closed at that time",
        "The clinic, the office or the doctor does not work at that time. Nothing was changed.",
    ),
    "not-in-use": (
        "It is not booked any more",
        (
            "The office, the doctor or the type was taken out of use. Choose another one. Nothing"
            " was changed."
        ),
    ),
    "not-registered": (
        "There is no such office or doctor",
        (
            "The clinic does not know this name. Choose one that is known, or have it registered."
            " Nothing was changed."
        ),
    ),
    "wrong-fields": (
        "Something is not filled in as it should be",
        "Correct what is marked, and send it again. Nothing was changed.",
    ),
    "key-reused": (
        "This form was used before",
        (
            "An appointment was booked with this very form, and something in it is different now."
            " Open a new form for another appointment."
        ),
    ),
    "no-such-appointment": (
        "There is no such appointment",
        "Nothing in the book has this number. Look for it by the name of the patient.",
    ),
    "no-such-address": (
        "There is nothing at this address",
        "Look whether the address is right, or begin with today.",
    ),
    "unavailable": (
        "Not now",
        (
            "The book cannot be reached right now. Nothing was changed. Wait a moment, and try "
            "again."
        ),
    ),
    "outcome-unknown": (
        "This may have been done or not",
        "The book did not answer in time. Send the same again: what was done is not done twice.",
    ),
}
OTHERWISE = (
    "This did not work",
    (
        "The clinic could not do what the browser asked for. Look whether it was done, before you"
        " try again."
    ),
)


def page(front: Front, request: Request, refusal: Refusal, **more: Any) -> Response:
    """Return the page that tells of a refusal; what is known ``more`` leads further."""
    title, text = SAID.get(refusal.slug, OTHERWISE)
    values: dict[str, Any] = {"appointment": None, **more}
    values["back"] = local(more["back"]) if more.get("back") else None
    response = front.show(
        request,
        "refused.html",
        refusal.status,
        title=title,
        text=text,
        method=request.method,
        **values,
    )
    response.headers.update(refusal.headers)
    return response
