"""Connections and channels to RabbitMQ, with deadlines, and every failure in our words."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiormq
import anyio
from aiormq import TransportFactory
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPError, ChannelPreconditionFailed, DeliveryError

from clinic.messaging.broker import BrokerUnavailable
from clinic.messaging.topology import Topology, connection_url, explain_misfit

# Each step of opening and closing a session takes milliseconds.
STEP_SECONDS = 5.0
# For closing a connection that has just failed. Nobody tries again before, and a broker that is
# blocked or frozen does not even read the farewell: of itself aiormq waits 2 s for the answer, and
# with TLS more than 20 s. A broker that is well answers within milliseconds.
FAREWELL_SECONDS = 1.0


@asynccontextmanager
async def open_channel(
    url: str, topology: Topology, purpose: str, transport: TransportFactory | None = None
) -> AsyncIterator[AbstractChannel]:
    """Open a connection and a channel, with everything declared, for a body.

    What is read from it comes through ``transport``, if that is given.

    Raises:
        BrokerUnavailable: the broker is away, or has queues of other arguments.
    """
    with as_unavailable("cannot be reached"), step():
        connection = await aiormq.connect(
            connection_url(url, f"clinic {purpose}"), transport_factory=transport
        )
    seconds = STEP_SECONDS
    try:
        with as_unavailable("cannot be used"), step():
            channel = await connection.channel(publisher_confirms=True)
            await declare(channel, topology)
        yield channel
    except BrokerUnavailable:
        seconds = FAREWELL_SECONDS
        raise
    finally:
        await close(connection, seconds)


async def declare(channel: AbstractChannel, topology: Topology) -> None:
    """Declare all queues, exchanges and bindings; what stands already is left as it is.

    Raises:
        BrokerUnavailable: something stands with other arguments.
    """
    try:
        await channel.exchange_declare(topology.main_exchange, exchange_type="direct", durable=True)
        await channel.exchange_declare(
            topology.dead_letter_exchange, exchange_type="fanout", durable=True
        )
        for queue, arguments in topology.arguments().items():
            await channel.queue_declare(queue, durable=True, arguments=arguments)
        for queue, exchange in (
            (topology.main, topology.main_exchange),
            (topology.dead_letter, topology.dead_letter_exchange),
        ):
            await channel.queue_bind(queue, exchange, routing_key=queue)
    except ChannelPreconditionFailed as error:
        raise BrokerUnavailable(explain_misfit(str(error))) from None


async def close(connection: AbstractConnection, seconds: float) -> None:
    """Close a connection; one that does not answer is given up after so long."""
    with contextlib.suppress(BrokerUnavailable), as_unavailable("does not answer"), step(seconds):
        await connection.close()


@contextlib.contextmanager
def step(seconds: float = STEP_SECONDS) -> Iterator[None]:
    """Give the body a deadline, and let it finish although its task is cancelled.

    aiormq closes the whole channel when a call on it is cancelled (STACK 1.3).
    """
    with anyio.CancelScope(shield=True), anyio.fail_after(seconds):
        yield


@contextlib.contextmanager
def as_unavailable(what: str) -> Iterator[None]:
    """Turn all that aiormq raises into ``BrokerUnavailable``."""
    try:
        yield
    except asyncio.CancelledError as error:
        # What aiormq raises into whoever waits when the server goes silent; a task that is really
        # being cancelled counts it (STACK 1.1).
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise BrokerUnavailable(f"RabbitMQ {what}: it went silent") from error
    except BrokerUnavailable:
        raise
    except DeliveryError as error:
        raise BrokerUnavailable(f"RabbitMQ does not take what is published: {error!r}") from error
    # RuntimeError is what aiormq says of channels and connections that are closed.
    except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
        raise BrokerUnavailable(f"RabbitMQ {what}: {type(error).__name__}") from error
