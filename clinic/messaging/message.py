"""An event in its envelope."""

from dataclasses import dataclass

# Ours are UUIDs; the limit is the event's own.
LONGEST_ID = 100
# How much of a line what comes from outside may take, in characters.
LONGEST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Message:
    """What travels through a broker.

    The broker looks at nothing but the envelope; ``body`` is the event as UTF-8 text, in our own
    messages CloudEvents 1.0 JSON. ``id`` is the event's; a message that others published may lack
    any of the envelope's fields, which are empty then, and what is not UTF-8 in it are surrogates.
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
    """Return whether an event of ours may have this id, and so whether to ask a database for it.

    Databases refuse some texts that others publish (a NUL, a lone surrogate), each in its own way.
    """
    return 0 < len(text) <= LONGEST_ID and text.isascii() and text.isprintable()


def shown(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return a text from outside as it may stand in a line of the log: printable, and not long.

    Line breaks, escape sequences and marks that turn the direction of writing could else forge
    lines, or hide some.
    """
    if len(text) > longest:
        return f"{shown(text[:longest])}... ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
