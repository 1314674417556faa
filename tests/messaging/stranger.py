"""A publisher that puts any bytes on the wire, by a connection written by hand."""

import contextlib
import select
import socket
import struct
from typing import Self
from urllib.parse import unquote, urlsplit

from pamqp.base import Frame
from pamqp.commands import Basic, Channel, Confirm, Connection
from pamqp.constants import FRAME_BODY, FRAME_HEADER, FRAME_METHOD
from pamqp.frame import marshal
from pamqp.header import ProtocolHeader

from clinic.messaging.rabbitmq.frames import framed
from clinic.messaging.rabbitmq.properties import ORDER
from tests.timing import PATIENCE_SECONDS

CHANNEL = 1
NAMES = list(ORDER)


# Methods of the server's, by class and number.
ACK, CONSUME_OK, DELIVER, TUNE = (60, 80), (60, 21), (60, 60), (10, 30)


class Refused(Exception):
    """The server does not take such a message."""


def short(raw: bytes) -> bytes:
    """Return a short string."""
    return bytes([len(raw)]) + raw


def long(raw: bytes) -> bytes:
    """Return a long string, or the content of a table or an array with its length."""
    return struct.pack(">I", len(raw)) + raw


def table(fields: dict[bytes, bytes]) -> bytes:
    """Return a table of values that have their types with them."""
    return long(b"".join(short(name) + value for name, value in fields.items()))


def properties(**raw: bytes) -> bytes:
    """Return properties of which each is given as it goes over the wire."""
    flags = sum(1 << 15 - NAMES.index(name) for name in raw)
    return struct.pack(">H", flags) + b"".join(raw[name] for name in NAMES if name in raw)


class Stranger:
    """A connection to the vhost of a URL, opened when it is needed."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut the connection."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def publish(
        self,
        properties: bytes,
        body: bytes = b"{}",
        *,
        exchange: bytes = b"",
        routing_key: bytes = b"rmq-for-retries",
    ) -> None:
        """Publish a message and wait until the server has it.

        Raises:
            Refused: the server does not take it.
        """
        if self._socket is None:
            self._connect()
        assert self._socket
        route = struct.pack(">HHH", 60, 40, 0) + short(exchange) + short(routing_key) + b"\x01"
        header = struct.pack(">HHQ", 60, 0, len(body)) + properties
        size = self._frame_max - 8
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        frames = [(FRAME_METHOD, route), (FRAME_HEADER, header)]
        frames += [(FRAME_BODY, piece) for piece in pieces]
        try:
            # In one go: a server that acknowledges late would otherwise take 40 ms for each.
            self._socket.sendall(b"".join(framed(kind, CHANNEL, raw) for kind, raw in frames))
            answer = self._receive()
        except OSError as error:
            self.close()
            raise Refused from error
        if answer[0] != ACK:
            self.close()
            raise Refused(answer)

    def takes(self, properties: bytes, body: bytes = b"{}", **route: bytes) -> bool:
        """Publish a message and return whether the server has it."""
        with contextlib.suppress(Refused):
            self.publish(properties, body, **route)
            return True
        return False

    def consume(self, queue: str) -> None:
        """Have everything in a queue sent here, and taken out of it."""
        self._connect()
        assert self._call(Basic.Consume(queue=queue, no_ack=True), CHANNEL)[0] == CONSUME_OK

    def receive(self, seconds: float) -> tuple[bytes, bytes] | None:
        """Return the properties, as they came, and the body of what comes in this time, if any."""
        assert self._socket
        if not self._buffer and not select.select([self._socket], [], [], seconds)[0]:
            return None
        method, _ = self._receive()
        assert method == DELIVER, method
        header = self._receive_frame()[1]
        size = int.from_bytes(header[4:12], "big")
        body = bytearray()
        while len(body) < size:
            body += self._receive_frame()[1]
        return header[12:], bytes(body)

    def _connect(self) -> None:
        port = self._url.port or 5672
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self._buffer = bytearray()
        self._socket.sendall(ProtocolHeader().marshal())
        self._receive()
        login = f"\0{self._url.username}\0{self._url.password}"
        method, tune = self._call(Connection.StartOk(mechanism="PLAIN", response=login), 0)
        assert method == TUNE
        channel_max, self._frame_max = struct.unpack_from(">HI", tune)
        answer = Connection.TuneOk(channel_max=channel_max, frame_max=self._frame_max)
        self._socket.sendall(marshal(answer, 0))
        self._call(Connection.Open(virtual_host=unquote(self._url.path[1:])), 0)
        self._call(Channel.Open(), CHANNEL)
        self._call(Confirm.Select(), CHANNEL)

    def _call(self, method: Frame, channel: int) -> tuple[tuple[int, int], bytes]:
        assert self._socket
        self._socket.sendall(marshal(method, channel))
        return self._receive()

    def _receive(self) -> tuple[tuple[int, int], bytes]:
        """Return the next method of the server's, and its arguments."""
        kind, payload = self._receive_frame()
        while kind != FRAME_METHOD:
            kind, payload = self._receive_frame()
        class_id, method_id = struct.unpack_from(">HH", payload)
        return (class_id, method_id), payload[4:]

    def _receive_frame(self) -> tuple[int, bytes]:
        head = self._read(7)
        return head[0], self._read(int.from_bytes(head[3:], "big") + 1)[:-1]

    def _read(self, count: int) -> bytes:
        assert self._socket
        while len(self._buffer) < count:
            more = self._socket.recv(2**16)
            if not more:
                raise ConnectionResetError
            self._buffer += more
        read = bytes(self._buffer[:count])
        del self._buffer[:count]
        return read
