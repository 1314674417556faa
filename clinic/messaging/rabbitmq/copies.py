"""What a copy of a message keeps, and the key by which it is found again."""

import hashlib
import uuid
from dataclasses import replace

from clinic.messaging.broker import LONGEST_REASON
from clinic.messaging.message import Message

# The longest message_id or type that AMQP has room for, in bytes.
LONGEST_SHORT = 255
# The longest subject that a copy keeps, in bytes. With it, an id and a type (255 each) and a reason
# (4 * 500) the header of a copy fits the smallest frame that a server may ask for, 4,096 bytes.
LONGEST_SUBJECT = 1000
# The longest body that a copy keeps whole, in bytes: the default limit of RabbitMQ 4. Older servers
# take eight times as much, and sending that takes longer than a publish may.
LARGEST_BODY = 16 * 2**20

LONGEST_CHARACTER = 4  # bytes of UTF-8


def publishable(message: Message, reason: str) -> tuple[Message, str]:
    """Return a copy of a message that every server takes, and a reason that names what it lacks.

    A message whose copy cannot be published would come back for ever.
    """
    lacks: list[str] = []

    def kept(name: str, text: str, longest: int) -> str:
        why = unfit(text, longest)
        if why:
            lacks.append(f"{name} ({why})")
        return "" if why else text

    copy = Message(
        id=kept("message_id", message.id, LONGEST_SHORT),
        type=kept("type", message.type, LONGEST_SHORT),
        subject=kept("subject", message.subject, LONGEST_SUBJECT),
        body=message.body,
    )
    if len(copy.body) * LONGEST_CHARACTER > LARGEST_BODY:
        body = copy.body.encode("utf-8", "surrogateescape")
        if len(body) > LARGEST_BODY:
            lacks.append(f"body after {LARGEST_BODY} bytes ({len(body)} bytes long)")
            copy = replace(copy, body=body[:LARGEST_BODY].decode("utf-8", "surrogateescape"))
    note = f"; this copy lacks its {', '.join(lacks)}" if lacks else ""
    return copy, reason[: LONGEST_REASON - len(note)] + note


def unfit(text: str, longest: int) -> str:
    """Return why a text cannot be sent within a number of bytes, or nothing if it can."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "not UTF-8"
    return f"{size} bytes long" if size > longest else ""


def key_of(message: Message) -> str:
    """Return the key of a message in not solved: of its id and its body.

    Whoever puts the same message there, with whatever headers, puts it under the same key.
    """
    content = f"{message.id}\0{message.body}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def named(message: Message) -> Message:
    """Return a message with an id, made up if it has none: every copy is published with one."""
    return message if message.id else replace(message, id=uuid.uuid4().hex)
