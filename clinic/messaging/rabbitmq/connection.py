"""Connections and channels to RabbitMQ, with deadlines, and every failure in our words."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiormq
import anyio
import anyio.to_thread
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.connection import TransportFactory
from aiormq.exceptions import (
    AuthenticationError,
    ChannelAccessRefused,
    ChannelClosed,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)

from clinic.messaging.broker import BrokerUnavailable
from clinic.messaging.rabbitmq.address import BadBrokerURL, read_address
from clinic.messaging.rabbitmq.frames import Frames, Incoming
from clinic.messaging.rabbitmq.topology import explain_refusal

# Each step of opening and closing a session takes milliseconds.
STEP_SECONDS = 5.0
# For closing a connection that has just failed, before the next try. A broker that is blocked or
# frozen does not even read the farewell: by default aiormq waits 2 s for the answer, and with TLS
# more than 20 s. A healthy broker answers within milliseconds.
FAREWELL_SECONDS = 1.0
# A server's text about an error is cut to this many characters, for one line of the log.
LONGEST_SAYING = 300

# Our own texts: those of the errors quote the whole message that was refused, which may hold a
# patient's name. The first that fits counts.
MEANINGS: dict[type[Exception], str] = {
    TimeoutError: "it does not answer in time",
    ProbableAuthenticationError: "it does not know this user with this password",
    AuthenticationError: "it does not offer the kind of login that auth in AMQP_URL names",
    DeliveryError: "it rejected a message: the queue is full, or cannot store it",
    StopAsyncIteration: "it closed the connection",
}


@asynccontextmanager
async def open_connection(
    url: str, purpose: str, incoming: Incoming | None = None
) -> AsyncIterator[AbstractConnection]:
    """Open a connection for a body, which the server's list shows with its purpose.

    With ``incoming`` it is for a consumer, and is read through ``Frames``.

    Raises:
        BrokerUnavailable: the server is away, or does not let us in.
    """
    try:
        address = read_address(url)
        context = await anyio.to_thread.run_sync(address.tls_context)
    except BadBrokerURL as error:
        # The URL could be used when the process started, so a file has gone since.
        raise BrokerUnavailable(str(error)) from error
    named = address.connection_url(f"clinic {purpose}")
    wire = Wire(context, incoming)
    connection: AbstractConnection | None = None
    seconds = STEP_SECONDS
    try:
        with as_unavailable(f"cannot be reached at {address.server}"), step():
            connection = await aiormq.connect(named, transport_factory=wire)
        yield connection
    except BrokerUnavailable:
        seconds = FAREWELL_SECONDS
        raise
    finally:
        if connection is not None:
            await close(connection, seconds)
        wire.cut()


async def open_channel(connection: AbstractConnection) -> AbstractChannel:
    """Open a channel, on which publishing is confirmed.

    Raises:
        BrokerUnavailable: the connection has ended.
    """
    with as_unavailable("cannot be used"), step():
        return await connection.channel(publisher_confirms=True)


async def close(connection: AbstractConnection, seconds: float) -> None:
    """Close a connection in order; give up if the server does not answer in time."""
    with contextlib.suppress(BrokerUnavailable), as_unavailable("does not answer"), step(seconds):
        await connection.close()


class Wire(TransportFactory):
    """Makes the connection of a session for aiormq, and can cut it.

    aiormq waits for the other end to hang up as well, with TLS for half a minute, and its tasks
    live on for as long.
    """

    def __init__(self, context: ssl.SSLContext | None, incoming: Incoming | None = None) -> None:
        self._context = context
        self._incoming = incoming
        self._writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: Any, **_options: object
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the server; called by aiormq."""
        reader, self._writer = await asyncio.open_connection(url.host, url.port, ssl=self._context)
        if self._incoming is not None:
            return cast("asyncio.StreamReader", Frames(reader, self._incoming)), self._writer
        return reader, self._writer

    def cut(self) -> None:
        """End the connection at once, if it has not ended."""
        if self._writer is not None:
            self._writer.transport.abort()


@contextlib.contextmanager
def step(seconds: float = STEP_SECONDS) -> Iterator[None]:
    """Give the body a deadline, and let it finish although its task is cancelled.

    aiormq closes the whole channel when a call on it is cancelled (docs/libraries.md).
    """
    with anyio.CancelScope(shield=True), anyio.fail_after(seconds):
        yield


@contextlib.contextmanager
def as_unavailable(what: str) -> Iterator[None]:
    """Turn every error of aiormq into ``BrokerUnavailable``.

    Put it around calls of aiormq and nothing else, because it takes every error for the broker's
    fault. When a connection ends or an answer makes no sense, aiormq raises not only its own errors
    but also StopAsyncIteration, a bare Exception, RuntimeError and pamqp's ValueError and
    struct.error.

    Raises:
        BrokerUnavailable: the call failed.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        # aiormq raises this in tasks that wait when the server goes silent; only a task that is
        # really being cancelled counts it (docs/libraries.md).
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise BrokerUnavailable(f"RabbitMQ {what}: it went silent") from error
    except BrokerUnavailable:
        raise
    except Exception as error:
        raise BrokerUnavailable(f"RabbitMQ {what}: {explain(error)}") from error


def explain(error: Exception) -> str:
    """Return what an error of aiormq means, for the people who run the clinic."""
    match error:
        case ChannelAccessRefused():
            words = explain_refusal(str(error))
        case InvalidFrameError() if "Connection.OpenOk" in str(error):
            # aiormq takes the refusal for an answer out of place, and keeps no more of it.
            words = "the vhost in AMQP_URL does not exist, or this user has no permissions in it"
        case PublishError(args=(_, queue, *_)):
            words = f"it rejected a message: there is no queue {queue}"
        case _ if meaning := [words for kind, words in MEANINGS.items() if isinstance(error, kind)]:
            words = meaning[0]
        case OSError(strerror=str(said)) | ChannelClosed(args=(*_, str(said))):
            words = said
        case _:
            words = type(error).__name__
    plain = "".join(one if one.isprintable() else " " for one in words)
    return " ".join(plain.split())[:LONGEST_SAYING]
