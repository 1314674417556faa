"""Read what RabbitMQ delivers, whatever bytes its publisher put into it.

A publisher chooses every byte of a message's properties and of the names it is routed by, and the
server checks little of that. pamqp decodes all of it inside aiormq's reader, and whatever it cannot
decode (a timestamp after the year 9999, a short string that is not UTF-8, tables nested a thousand
deep) ends the connection: the message comes back on the next one, for ever. So a consumer's
connection reads its frames through ``Frames``, which takes a publisher's bytes out of two of them
before pamqp sees these:

* the properties out of a content header; ``Incoming`` keeps them by delivery tag, and
  ``properties.py`` reads them.
* exchange and routing key out of ``Basic.Deliver``; nothing here uses them.

aiormq provides for this: a ``TransportFactory`` (``connection.Wire``) opens the stream that it
reads from. A test holds what this relies on (tests/messaging/test_frames.py).
"""

import asyncio
import struct

from pamqp.constants import FRAME_BODY, FRAME_END_CHAR, FRAME_HEADER, FRAME_METHOD

# A frame's type, channel and size (AMQP 0-9-1, 4.2.3). A byte that ends it follows its content.
HEAD = struct.Struct(">BHI")
END_SIZE = 1
# A content header's class, weight and size of the body, before the properties (4.2.6.1).
CONTENT_HEAD_SIZE, BODY_SIZE_SIZE = 12, 8
NO_BODY = bytes(BODY_SIZE_SIZE)
NO_PROPERTIES = b"\x00\x00"
# Class 60, method 60: Basic.Deliver.
DELIVER = b"\x00\x3c\x00\x3c"
# In Basic.Deliver the tag stands after the consumer's, and a flag, "redelivered", after that.
TAG_SIZE, FLAG_SIZE = 8, 1
NO_ROUTE = b"\x00\x00"

READ_SIZE = 64 * 1024
# No further message is read while bodies of more bytes than this are not settled. A prefetch of 500
# messages, each of up to 128 MiB, would not fit into memory.
MOST_BYTES_HELD = 16 * 2**20


class Incoming:
    """What one consumer's channel has received and not settled yet."""

    def __init__(self, most_bytes: int = MOST_BYTES_HELD) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self.discarding = False
        self._properties: dict[int, bytes] = {}

    def add_properties(self, tag: int, raw: bytes) -> None:
        """Keep the properties of a delivery."""
        self._properties[tag] = raw

    def take_properties(self, tag: int) -> bytes:
        """Return the properties of a delivery as they were sent, once."""
        return self._properties.pop(tag, b"")

    def add_bytes(self, size: int) -> None:
        """Count bytes of a body that were read."""
        self._bytes += size
        if self._bytes > self._most_bytes and not self.discarding:
            self._room.clear()

    def remove_bytes(self, size: int) -> None:
        """Count bytes of a body as settled."""
        self._bytes -= size
        if self._bytes <= self._most_bytes:
            self._room.set()

    def discard(self) -> None:
        """Read on without keeping bodies: the server's last answers come after its messages."""
        self.discarding = True
        self._room.set()

    @property
    def full(self) -> bool:
        """Whether no further message may be read."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until a further message may be read."""
        await self._room.wait()


class Frames:
    """Gives out a stream's frames, in the pieces in which aiormq asks for them.

    It has of a ``StreamReader`` what aiormq uses of one, ``at_eof`` and ``readexactly``. It reads
    many frames at a time, and so takes no longer than a ``StreamReader`` alone.
    """

    def __init__(self, stream: asyncio.StreamReader, incoming: Incoming) -> None:
        self._stream = stream
        self._incoming = incoming
        self._read = b""
        self._next = 0
        self._frame = b""
        self._given = 0
        self._tag = 0
        self._skips_body = False

    def at_eof(self) -> bool:
        """Return whether nothing follows."""
        return (
            self._given >= len(self._frame)
            and self._next >= len(self._read)
            and self._stream.at_eof()
        )

    async def readexactly(self, count: int) -> bytes:
        """Return the next bytes, which belong to one frame."""
        start = self._given
        if start >= len(self._frame):
            self._frame = await self._next_frame()
            start = 0
        self._given = start + count
        return self._frame[start : self._given]

    async def _next_frame(self) -> bytes:
        while True:
            if len(self._read) - self._next < HEAD.size:
                await self._read_more(HEAD.size)
            if self._read.startswith(b"AMQP", self._next):
                return self._cut(HEAD.size)  # the server refuses our protocol; aiormq says so
            kind, channel, size = HEAD.unpack_from(self._read, self._next)
            whole = HEAD.size + size + END_SIZE
            if len(self._read) - self._next < whole:
                await self._read_more(whole)
            frame = self._cut(whole)
            if kind == FRAME_BODY:
                if self._skips_body:
                    continue
                self._incoming.add_bytes(size)
            elif kind == FRAME_HEADER:
                return framed(kind, channel, self._without_properties(frame))
            elif kind == FRAME_METHOD and frame.startswith(DELIVER, HEAD.size):
                if self._incoming.full:
                    await self._incoming.room()
                return framed(kind, channel, self._without_route(frame))
            return frame

    def _without_route(self, frame: bytes) -> bytes:
        """Return the content of a Basic.Deliver, and remember its tag."""
        tag_at = HEAD.size + len(DELIVER) + 1 + frame[HEAD.size + len(DELIVER)]
        flag_at = tag_at + TAG_SIZE
        self._tag = int.from_bytes(frame[tag_at:flag_at], "big")
        return frame[HEAD.size : flag_at + FLAG_SIZE] + NO_ROUTE

    def _without_properties(self, frame: bytes) -> bytes:
        """Return the content of a content header, and keep its properties."""
        properties_at = HEAD.size + CONTENT_HEAD_SIZE
        self._incoming.add_properties(self._tag, frame[properties_at:-END_SIZE])
        self._skips_body = self._incoming.discarding
        if self._skips_body:
            return frame[HEAD.size : properties_at - BODY_SIZE_SIZE] + NO_BODY + NO_PROPERTIES
        return frame[HEAD.size : properties_at] + NO_PROPERTIES

    async def _read_more(self, count: int) -> None:
        """Have at least this number of bytes that were not given out."""
        missing = count - (len(self._read) - self._next)
        more = await self._stream.read(READ_SIZE)
        if len(more) < missing:
            more += await self._stream.readexactly(missing - len(more))
        self._read = self._read[self._next :] + more
        self._next = 0

    def _cut(self, count: int) -> bytes:
        start, self._next = self._next, self._next + count
        return self._read[start : self._next]


def framed(kind: int, channel: int, payload: bytes) -> bytes:
    """Return a frame."""
    return HEAD.pack(kind, channel, len(payload)) + payload + FRAME_END_CHAR
