"""What is written on one connection, and whether its client takes it."""

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios

from clinic.web.serving.limits import Limits

# Up to this size a copy costs less than to have the system gather the pieces.
COPIED_BYTES = 16 * 1024


class Outgoing:
    """The writing half. It is ``paused`` while the system has not taken all that was written."""

    __slots__ = ("_drained", "_limits", "_loop", "_ready", "_transport", "_untaken_bytes", "paused")

    def __init__(
        self, transport: asyncio.Transport, limits: Limits, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.paused = False
        self._transport = transport
        self._limits = limits
        self._loop = loop
        self._ready = b""
        self._drained: asyncio.Event | None = None
        self._untaken_bytes = 0
        transport.set_write_buffer_limits(0)

    @property
    def held_bytes(self) -> int:
        """How much of what was written we still hold."""
        return self._transport.get_write_buffer_size() + len(self._ready)

    def write_soon(self, *pieces: bytes) -> None:
        """Send a short response, together with those of other connections.

        A commit answers many clients. Each response that is sent by itself wakes its client up,
        which takes the processor from the handlers of the others (benchmarks/README.md).
        """
        if not self._ready:
            self._loop.call_soon(self.flush)
        self._ready += b"".join(pieces)

    def flush(self) -> None:
        """Send what was to be sent soon."""
        if self._ready:
            ready, self._ready = self._ready, b""
            self.write(ready)

    def write(self, *pieces: bytes) -> None:
        """Send pieces together."""
        self.flush()
        if self._transport.is_closing():
            return
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        elif sum(map(len, pieces)) <= COPIED_BYTES:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)

    async def drained(self) -> None:
        """Wait until the system has taken everything, or the client has gone."""
        if self._drained is None:
            self._drained = asyncio.Event()
        self._drained.clear()
        if self.paused:
            await self._drained.wait()

    def pause(self) -> None:
        """Heed that the system does not take everything."""
        self.paused = True
        self._untaken_bytes = self._count_untaken()

    def resume(self) -> None:
        """Heed that it has, or that nobody will."""
        self.paused = False
        if self._drained is not None:
            self._drained.set()

    def all_taken(self) -> bool:
        """Tell whether the client has everything; if not, ``took`` counts from here."""
        self._untaken_bytes = self._count_untaken()
        return not self._untaken_bytes

    def took(self, least_bytes: int) -> bool:
        """Tell whether the client has taken this much, or all, since the pause or the last look."""
        left = self._count_untaken()
        taken, self._untaken_bytes = self._untaken_bytes - left, left
        return taken >= least_bytes or not left

    def reset(self) -> None:
        """Close at once, and have the system forget what it holds for the client, too."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def was_reset(self) -> bool:
        """Tell whether the client's system has reset the connection, if we read no more."""
        return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _count_untaken(self) -> int:
        """Return how many bytes the client's system has not acknowledged: ours, and our system's.

        Ours alone would not do: a system with a buffer of megabytes takes our next byte only once a
        third of it is free, and for a slow client that is minutes.
        """
        untaken = self.held_bytes
        if sys.platform == "linux":  # tcp(7), SIOCOUTQ
            with contextlib.suppress(OSError):
                found = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
                untaken += int.from_bytes(found, sys.byteorder)
        return untaken

    @property
    def _socket(self) -> socket.socket:
        found: socket.socket = self._transport.get_extra_info("socket")
        return found
