"""Read a message's properties, whatever bytes stand in them.

The few properties that we use are read, all others skipped by their length. Nothing fails, because
bytes that make no sense must not keep a message from being settled.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# The properties in their order (AMQP 0-9-1, 1.8.2), each with its size in bytes, or 0 where its
# length stands before it.
ORDER = {
    "content_type": 0,
    "content_encoding": 0,
    "headers": 0,
    "delivery_mode": 1,
    "priority": 1,
    "correlation_id": 0,
    "reply_to": 0,
    "expiration": 0,
    "message_id": 0,
    "timestamp": 8,
    "message_type": 0,
    "user_id": 0,
    "app_id": 0,
    "cluster_id": 0,
}
WANTED = frozenset({"message_id", "message_type"})

# The types of values in a table: https://www.rabbitmq.com/amqp-0-9-1-errata.html, section 3.
SIZES: Final = dict(zip(b"tbBsuIilLfdDTV", (1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 5, 8, 0), strict=True))
SIGNED: Final = {kind: kind not in b"Bui" for kind in b"bBsuIilL"}
BOOLEAN, STRING, ARRAY, TABLE = b"tSAF"
SIZED: Final = frozenset(b"SAFx")
LENGTH_SIZE = 4

# The headers that we use, and the fields of an entry of ``x-death``, each with how deep it nests.
HEADERS: Final = {b"subject": 1, b"x-death": 3, b"x-reason": 1, b"x-attempts": 1}
DEATH: Final = {b"queue": 1, b"reason": 1, b"count": 1}
# Our messages have one header, and brokers add about ten. Reading 40,000 takes 10 ms of the event
# loop.
MOST_FIELDS = 1000


@dataclass(slots=True)
class Properties:
    """The properties that we use; bytes that are not UTF-8 become surrogates.

    ``headers`` has ``subject`` and ``x-death``, and where it was set aside ``x-reason`` and
    ``x-attempts``. Where the headers cannot be read to their end,
    ``x-death`` is None: the message may have died any number of times.
    """

    message_id: str = ""
    message_type: str = ""
    headers: dict[str, Any] = field(default_factory=dict)


class _Undecodable(Exception):
    """These bytes are no properties."""


def read_properties(raw: bytes) -> Properties:
    """Return what can be read of the properties in a content header; never fails."""
    found = Properties()
    try:
        _Reading(raw).properties(found)
    except (_Undecodable, IndexError):
        found.headers["x-death"] = None
    return found


class _Reading:
    """Reads properties; methods take an offset, and return the offset behind what they read.

    Raises:
        _Undecodable, IndexError: a type is unknown, or a length wrong.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._fields_left = MOST_FIELDS

    def properties(self, found: Properties) -> None:
        """Read the properties that we use into ``found``."""
        raw = self._raw
        # The last flag says that more flags follow. There are none, so servers do not heed it.
        flags, at = raw[0] << 8 | raw[1], 2
        for name, size in present(flags):
            if name == "headers":
                at = self.headers(at, found.headers)
                continue
            start = at if size else at + 1
            at = start + (size or raw[start - 1])
            if at > len(raw):
                raise _Undecodable
            if name in WANTED:
                setattr(found, name, text(raw[start:at]))

    def headers(self, at: int, found: dict[str, Any]) -> int:
        """Read the headers that we use into ``found``."""
        start, end = self.sized(at)
        self.fields(start, end, HEADERS, found)
        return end

    def fields(
        self, at: int, end: int, wanted: Mapping[bytes, int], found: dict[str, Any]
    ) -> dict[str, Any]:
        """Read the wanted fields of a table, each to its own depth, into ``found``."""
        raw = self._raw
        while at < end:
            raw_name = raw[at + 1 : at + 1 + raw[at]]
            value, at = self.value(at + 1 + len(raw_name), wanted.get(raw_name, 0))
            if raw_name in wanted:
                name = raw_name.decode()
                if name in found:
                    raise _Undecodable  # RabbitMQ takes the first of two, other readers the last
                found[name] = value
        if at != end:
            raise _Undecodable
        return found

    def value(self, at: int, depth: int) -> tuple[object, int]:
        """Read a value down to ``depth`` levels; deeper ones are None."""
        self._fields_left -= 1
        if self._fields_left < 0:
            raise _Undecodable
        kind, at = self._raw[at], at + 1
        if kind in SIZES:
            end = at + SIZES[kind]
            if end > len(self._raw):
                raise _Undecodable
            return (self.simple(kind, at, end) if depth else None), end
        if kind not in SIZED:
            raise _Undecodable
        start, end = self.sized(at)
        if kind == STRING:
            return (text(self._raw[start:end]) if depth else None), end
        if kind == ARRAY and depth > 1:
            return self.array(start, end, depth - 1), end
        if kind == TABLE and depth > 1:
            return self.fields(start, end, DEATH, {}), end
        return None, end

    def simple(self, kind: int, at: int, end: int) -> object:
        """Read an integer or a boolean; other values of a fixed size are None."""
        if kind in SIGNED:
            return int.from_bytes(self._raw[at:end], "big", signed=SIGNED[kind])
        return self._raw[at] != 0 if kind == BOOLEAN else None

    def array(self, at: int, end: int, depth: int) -> list[object]:
        """Read an array."""
        found: list[object] = []
        while at < end:
            value, at = self.value(at, depth)
            found.append(value)
        if at != end:
            raise _Undecodable
        return found

    def sized(self, at: int) -> tuple[int, int]:
        """Return where a value with a length before it begins and ends."""
        start = at + LENGTH_SIZE
        end = start + int.from_bytes(self._raw[at:start], "big")
        if end > len(self._raw):
            raise _Undecodable
        return start, end


@functools.cache
def present(flags: int) -> list[tuple[str, int]]:
    """Return the properties that are there by these 16 flags: the highest is the first one's."""
    return [field for place, field in enumerate(ORDER.items()) if flags & 1 << 15 - place]


def text(raw: bytes) -> str:
    """Return bytes as text, with surrogates for what is not UTF-8."""
    return raw.decode("utf-8", "surrogateescape")
