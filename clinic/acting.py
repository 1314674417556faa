"""Who acts, and by which request: written beside whatever is changed."""

from contextvars import ContextVar
from typing import NamedTuple

CLINIC = "clinic"
"""The clinic itself: a service of one of its processes."""
CLI = "cli"
"""Whoever may run the clinic's commands."""
ANONYMOUS = "anonymous"
"""A client without a token, where none is needed."""
RESERVED = frozenset({CLINIC, CLI, ANONYMOUS})


class Act(NamedTuple):
    """Who acts: the name of a token, or one of the words above; and by which request.

    ``traceparent`` is the trace that the request is part of, if its client said so
    (https://www.w3.org/TR/trace-context/).
    """

    actor: str
    request_id: str | None = None
    traceparent: str | None = None


# A NamedTuple cannot be changed.
_ACTING: ContextVar[Act] = ContextVar("acting", default=Act(CLINIC))  # noqa: B039


def acting() -> Act:
    """Return who acts in this task."""
    return _ACTING.get()


def act_as(act: Act) -> None:
    """Say who acts in this task from now on, and in those that it starts."""
    _ACTING.set(act)
