"""An event in its envelope."""

from dataclasses import dataclass

# The limit of an event's id (``events.py``); ours are UUIDs of 36 characters.
LONGEST_ID = 100
# The longest text from outside that a line of the log shows in full, in characters.
LONGEST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Message:
    """What travels through a broker.

    The broker looks at nothing but the envelope; ``body`` is the event as UTF-8 text, in our own
    messages CloudEvents 1.0 JSON. ``id`` is the event's. A message that others published may lack
    any of the envelope's fields, which are empty then; bytes that are not UTF-8 become surrogates.
    """

    id: str
    type: str
    subject: str
    body: str


class Unreadable(Exception):
    """A message that nobody can handle, however often it is tried.

    The message of the exception says what is wrong without quoting the body: it may hold a name.
    """


def may_be_an_id(text: str) -> bool:
    """Return whether an event of ours may have this id.

    A database is only asked for such ids: it refuses some other texts (a NUL, a lone surrogate).
    """
    return 0 < len(text) <= LONGEST_ID and text.isascii() and text.isprintable()


def shown(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return a text from outside for a line of the log: escaped, and cut to a length.

    Unescaped line breaks, escape sequences and bidirectional marks can forge or hide lines.
    """
    if len(text) > longest:
        return f"{shown(text[:longest])}... ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
