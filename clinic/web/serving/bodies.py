"""The body of a request: where it ends, by its length or by its chunks (RFC 9112, 6 and 7)."""

import re
from typing import Protocol

from clinic.web.serving.limits import Limits
from clinic.web.serving.refusals import HeadersTooLarge, MalformedRequest

# A size has at most 16 digits, as many as 64 bits take.
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
USUAL_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
# How an unfinished line may begin. It is matched for each byte that arrives, so it must be cheap.
START_OF_CHUNK_LINE = re.compile(rb"(?:[0-9A-Fa-f][^\n]*)?")
LONGEST_START_BYTES = 64
TOO_MANY_CHUNKS = "The body has more chunks than anybody needs."
TRAILER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n")


class Body(Protocol):
    """What is still to come of one request's body."""

    complete: bool
    """Whether all of it has been read: what follows is the next request."""

    def read(self, unread: bytearray) -> bytes | bytearray:
        """Take from the front of what has arrived all that is the body's; return its content.

        Raises:
            Refusal: it breaks a rule or a limit; the connection is to be closed.
        """


class Measured:
    """A body whose length was announced."""

    __slots__ = ("_left", "complete")

    def __init__(self, length: int) -> None:
        self.complete = length == 0
        self._left = length

    def read(self, unread: bytearray) -> bytearray:
        """Take what is there of it."""
        content = unread[: self._left]
        del unread[: self._left]
        self._left -= len(content)
        self.complete = not self._left
        return content


class Chunked:
    """A body that comes in chunks. Extensions and trailers are judged, bounded and dropped.

    Trailers never become headers: nobody has judged them as such, and Idempotency-Key would be one
    (RFC 9110, 6.5.1).
    """

    def __init__(self, limits: Limits) -> None:
        self.complete = False
        self._limits = limits
        self._chunks = 0
        self._in_chunk = 0
        self._after_chunk = False
        self._in_trailers = False
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._trailer_lines = 0

    def read(self, unread: bytearray) -> bytes:
        """Take the chunks that are there, and of the last one what is there."""
        contents: list[bytearray] = []
        while unread and not self.complete:
            if self._in_chunk:
                contents.append(unread[: self._in_chunk])
                del unread[: self._in_chunk]
                self._in_chunk -= len(contents[-1])
                self._after_chunk = not self._in_chunk
            elif self._in_trailers:
                if not self._read_trailer(unread):
                    break
            elif not self._after_chunk and (usual := self._read_usual(unread)):
                contents += usual
            elif not self._read_size(unread):
                break
        return b"".join(contents)

    def _read_usual(self, unread: bytearray) -> list[bytearray]:
        """Take the chunks that are whole and have no extensions.

        A body may have thousands of them, and nobody else is served meanwhile: this takes half as
        long as to take each by itself.
        """
        contents: list[bytearray] = []
        end = 0
        while found := USUAL_CHUNK_LINE.match(unread, end):
            start = found.end()
            stop = start + int(found[1], 16)
            if stop == start or not unread.startswith(b"\r\n", stop):
                break  # the last one, or it is not all here, or not as long as it says
            contents.append(unread[start:stop])
            end = stop + 2
            if self._chunks + len(contents) > self._limits.chunks:
                raise MalformedRequest(TOO_MANY_CHUNKS)
        del unread[:end]
        self._chunks += len(contents)
        return contents

    def _read_size(self, unread: bytearray) -> bool:
        """Read the line before a chunk, and the end of the last one; return whether it is there."""
        begin = 2 if self._after_chunk else 0
        if not b"\r\n".startswith(unread[:begin]):
            raise MalformedRequest("A chunk of the body is longer than it says.")
        line = line_of(unread, begin)
        if self._extension_bytes + len(line) > self._limits.chunk_extension_bytes:
            raise MalformedRequest(
                "The chunks of the body have more extensions than anybody needs."
            )
        whole = line.endswith(b"\n")
        if not (
            CHUNK_LINE.fullmatch(line)
            if whole
            else START_OF_CHUNK_LINE.fullmatch(line[:LONGEST_START_BYTES])
        ):
            raise MalformedRequest("The body does not come in chunks, as Transfer-Encoding says.")
        if whole:
            del unread[: begin + len(line)]
            size = line.partition(b";")[0]
            self._extension_bytes += len(line) - len(size)
            self._in_chunk = int(size, 16)
            self._chunks += 1
            if self._chunks > self._limits.chunks:
                raise MalformedRequest(TOO_MANY_CHUNKS)
            self._in_trailers = not self._in_chunk
            self._after_chunk = False
        return whole

    def _read_trailer(self, unread: bytearray) -> bool:
        """Read a line after the last chunk; return whether it is there."""
        line = line_of(unread, 0)
        whole = line.endswith(b"\n")
        last = line == b"\r\n"
        self._trailer_lines += whole and not last
        if (
            self._trailer_bytes + len(line) > self._limits.head_bytes
            or self._trailer_lines > self._limits.header_lines
        ):
            raise HeadersTooLarge
        if whole:
            if not last and not TRAILER_LINE.fullmatch(line):
                raise MalformedRequest("What follows the body is no trailer.")
            del unread[: len(line)]
            self._trailer_bytes += len(line)
            self.complete = last
        return whole


def line_of(unread: bytearray, begin: int) -> bytearray:
    """Return a line with its end, or what is here of it.

    A line that comes byte by byte is searched for each byte, so it is searched for a single
    character, which takes next to nothing.
    """
    end = unread.find(b"\n", begin)
    return unread[begin:] if end < 0 else unread[begin : end + 1]


def body_of(length: int | None, limits: Limits) -> Body:
    """Return what reads a body of a length, or one in chunks."""
    return Chunked(limits) if length is None else Measured(length)
