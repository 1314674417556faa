"""An event in its envelope."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """What travels through a broker.

    The broker looks at nothing but the envelope; ``body`` is the event as UTF-8 text, in our own
    messages CloudEvents 1.0 JSON. ``id`` is the event's; a message that others published may lack
    any of the envelope's fields, which are empty then.
    """

    id: str
    type: str
    subject: str
    body: str


class Unreadable(Exception):
    """A message that nobody can handle, however often it is tried.

    The message of the exception says what is wrong without quoting the body: it may hold a name.
    """
