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
    """Who acts: the name of a token, or one of the words above; and by which request."""

    actor: str
    request_id: str | None = None


_ACTING: ContextVar[Act] = ContextVar("acting", default=Act(CLINIC))  # noqa: B039 - a NamedTuple cannot be changed


def acting() -> Act:
    """Return who acts in this task."""
    return _ACTING.get()


def act_as(act: Act) -> None:
    """Say who acts in this task from now on, and in those that it starts."""
    _ACTING.set(act)
