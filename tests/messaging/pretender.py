"""A server that speaks AMQP as RabbitMQ does, up to a point of the test's choice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pamqp import commands, frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader
from pamqp.heartbeat import Heartbeat

from tests.servers.ports import LOOPBACK

Sent = Frame | ContentHeader | ContentBody | ProtocolHeader | Heartbeat
Misbehave = Callable[[asyncio.StreamWriter, int], None]
"""What to do in place of sending the next frame, given the number of the channel."""

START = commands.Connection.Start(
    server_properties={"capabilities": {"publisher_confirms": True, "basic.nack": True}},
    mechanisms="PLAIN",
    locales="en_US",
)
ANSWERS: dict[type[Sent], Sent] = {
    ProtocolHeader: START,
    commands.Connection.StartOk: commands.Connection.Tune(2047, 131_072, 60),
    commands.Connection.Open: commands.Connection.OpenOk(),
    commands.Connection.Close: commands.Connection.CloseOk(),
    commands.Channel.Open: commands.Channel.OpenOk(),
    commands.Channel.Close: commands.Channel.CloseOk(),
    commands.Confirm.Select: commands.Confirm.SelectOk(),
    commands.Exchange.Declare: commands.Exchange.DeclareOk(),
    commands.Queue.Declare: commands.Queue.DeclareOk("a queue", 0, 0),
    commands.Queue.Bind: commands.Queue.BindOk(),
    commands.Basic.Qos: commands.Basic.QosOk(),
    commands.Basic.Cancel: commands.Basic.CancelOk("a consumer"),
}


class Pretender:
    """Answers its clients until it has sent ``patience`` frames, and then misbehaves.

    That is in place of its next answer, or ``at_once``, when the client may not have read the last
    one. It confirms what is published, and delivers one message to each consumer.
    """

    def __init__(self, patience: int, misbehave: Misbehave, *, at_once: bool) -> None:
        self._patience = patience
        self._misbehave = misbehave
        self._at_once = at_once
        self.sent = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        published: dict[int, int] = {}
        with contextlib.suppress(OSError, EOFError):
            while True:
                try:
                    number, received = await next_frame(reader)
                except ConnectionError:
                    writer.write(ProtocolHeader().marshal())  # RabbitMQ: speak this instead
                    writer.close()
                    raise
                if isinstance(received, ContentHeader):
                    published[number] = published.get(number, 0) + 1
                for answer in answers(received, published.get(number, 0)):
                    out_of_patience = self.sent == self._patience
                    if not out_of_patience:
                        writer.write(frame.marshal(answer, number))
                        self.sent += 1
                    if out_of_patience or (self._at_once and self.sent == self._patience):
                        self._misbehave(writer, number)
                        await writer.drain()
                        return


def answers(received: Sent, published: int) -> list[Sent]:
    """Return what RabbitMQ sends when it has received a frame."""
    if isinstance(received, ContentHeader):
        return [commands.Basic.Ack(published)]
    if isinstance(received, commands.Basic.Consume):
        return [
            commands.Basic.ConsumeOk(received.consumer_tag),
            commands.Basic.Deliver(received.consumer_tag, 1, redelivered=False, routing_key="main"),
            ContentHeader(body_size=2),
            ContentBody(b"{}"),
        ]
    return [ANSWERS[type(received)]] if type(received) in ANSWERS else []


async def next_frame(reader: asyncio.StreamReader) -> tuple[int, Sent]:
    """Return the next frame and the number of its channel."""
    head = await reader.readexactly(7)
    if head[0] not in b"A\x01\x02\x03\x08":
        raise ConnectionError("that is TLS")
    rest = 1 if head.startswith(b"AMQP") else int.from_bytes(head[3:7], "big") + 1
    _, number, received = frame.unmarshal(head + await reader.readexactly(rest))
    return number, received


@asynccontextmanager
async def pretending(
    patience: int, misbehave: Misbehave, *, at_once: bool = False
) -> AsyncIterator[Pretender]:
    """Run a pretender on a port of 127.0.0.1, and close all its connections at the end."""
    pretender = Pretender(patience, misbehave, at_once=at_once)
    writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        await pretender.serve(reader, writer)

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    pretender.port = server.sockets[0].getsockname()[1]
    try:
        yield pretender
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
