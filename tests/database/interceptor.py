"""A network between the clinic and PostgreSQL that fails at a chosen step of the conversation."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

from tests.servers.ports import LOOPBACK

# https://www.postgresql.org/docs/15/protocol-message-formats.html
ASKS_FOR_TLS = (80877103).to_bytes(4)

Fault = Literal["held", "unanswered", "cut", "cut unanswered"]


class Interceptor:
    """Passes on what is said until a client says a certain text; then the fault happens.

    held: neither this nor what follows reaches the server. unanswered: it does, and no answer comes
    back. cut: the connection ends before the server hears of it. cut unanswered: it ends after the
    server has done it, before the answer. Everybody who connects later is served.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._fault: Fault | None = None
        self._text = b""
        self._prepared: set[bytes] = set()
        self.port = 0

    def fail(self, fault: Fault, text: str) -> None:
        """Have the next client that says the text meet the fault, once."""
        self._fault, self._text = fault, text.encode()
        self._prepared.clear()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        tasks: set[asyncio.Task[None]] = set()

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.create_task(self._serve(reader, writer)))

        server = await asyncio.start_server(serve, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, here = await asyncio.open_connection(LOOPBACK, self._server_port)
        except OSError:
            writer.transport.abort()
            return
        muted = asyncio.Event()
        answers = asyncio.create_task(pass_on(there, writer, muted))
        try:
            await self._pass_on_until_it_fails(reader, here, muted)
        except (OSError, EOFError):
            pass
        finally:
            answers.cancel()
            for end in (writer, here):
                end.transport.abort()

    async def _pass_on_until_it_fails(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, muted: asyncio.Event
    ) -> None:
        kind = b""  # the first message of all has none, nor the question before it
        cutting = False
        while True:
            length = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(length) - 4)
            fault = self._fault if self._is_meant(kind, body) else None
            if fault:
                self._fault = None
            if fault == "cut":
                return
            if fault == "held":
                while await reader.read(65_536):
                    pass
                return
            if fault:
                muted.set()
                cutting = fault == "cut unanswered"
            server.write(kind + length + body)
            await server.drain()
            if cutting and kind in (b"Q", b"S"):  # now the server has all that it needs
                await asyncio.sleep(0.2)
                return
            if kind or body != ASKS_FOR_TLS:
                kind = await reader.readexactly(1)

    def _is_meant(self, kind: bytes, body: bytes) -> bool:
        """Tell whether a message asks for, or executes, a statement with the text."""
        if self._fault is None:
            return False
        if kind == b"P" and self._text in body:
            self._prepared.add(body.split(b"\0")[0])
        if kind == b"B":
            return body.split(b"\0")[1] in self._prepared
        return kind == b"Q" and self._text in body


async def pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, muted: asyncio.Event
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            if not muted.is_set():
                writer.write(data)
                await writer.drain()
    writer.close()
