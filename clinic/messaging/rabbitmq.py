"""RabbitMQ 3.10 to 4.x, by aiormq; nobody else imports that.

Each session has connections of its own. Every wait for the broker has a deadline, since aiormq has
none, and whatever it raises becomes ``BrokerUnavailable``: the service ends with that, and is
started again by its supervisor until the broker is back.

A broker that went silent is noticed within 20 s (``topology.HEARTBEAT_SECONDS``), one that does not
confirm after ``PUBLISH_SECONDS`` and ``FAREWELL_SECONDS``, everything else at once.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiormq
import anyio
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelPreconditionFailed, DeliveryError
from pamqp.commands import Basic

from clinic.messaging.broker import LONGEST_REASON, BrokerUnavailable, Publish, Receive
from clinic.messaging.message import Message
from clinic.messaging.topology import Topology, connection_url, explain_misfit

# Each step of opening and closing a session takes milliseconds.
STEP_SECONDS = 5.0
# Less than the grace period that a stop has by default, and than a relay's hold on its batch.
PUBLISH_SECONDS = 8.0
# For closing a connection that has just failed. Nobody tries again before, and a broker that is
# blocked or frozen does not even read the farewell: of itself aiormq waits 2 s for the answer, and
# with TLS more than 20 s. A broker that is well answers within milliseconds.
FAREWELL_SECONDS = 1.0
PERSISTENT = 2
# So many are put on the wire before others of the process have their turn: each takes 0.1 ms, and
# bookings would wait for a whole batch.
IN_A_ROW = 10


@dataclass(frozen=True)
class RabbitBroker:
    """The broker on a RabbitMQ server; see ``Broker`` for what it promises."""

    url: str
    topology: Topology

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[Publish]:
        """Keep the promise of ``Broker.publishing``."""
        async with self._channel("publisher") as channel:
            yield _Publisher(channel, self.topology.main).publish

    @asynccontextmanager
    async def consuming(self, limit: int) -> AsyncIterator[Receive]:
        """Keep the promise of ``Broker.consuming``."""
        # A connection that publishes is blocked when the server runs out of memory or disk; what
        # consumes must go on then, for it is what makes room.
        async with self._channel("consumer") as channel, self._channel("set aside") as aside:
            session = _Session(channel, aside, self.topology, limit)
            await session.begin()
            try:
                yield session.receive
            finally:
                await session.end()

    @asynccontextmanager
    async def _channel(self, purpose: str) -> AsyncIterator[AbstractChannel]:
        """Open a connection and a channel, with everything declared, for a body."""
        with as_unavailable("cannot be reached"), step():
            connection = await aiormq.connect(connection_url(self.url, f"clinic {purpose}"))
        seconds = STEP_SECONDS
        try:
            with as_unavailable("cannot be used"), step():
                channel = await connection.channel(publisher_confirms=True)
                await self._declare(channel)
            yield channel
        except BrokerUnavailable:
            seconds = FAREWELL_SECONDS
            raise
        finally:
            await close(connection, seconds)

    async def _declare(self, channel: AbstractChannel) -> None:
        try:
            await declare(channel, self.topology)
        except ChannelPreconditionFailed as error:
            raise BrokerUnavailable(explain_misfit(str(error))) from None


async def publish_one(
    channel: AbstractChannel,
    queue: str,
    message: Message,
    headers: dict[str, Any] | None = None,
) -> None:
    """Publish a message into a queue by its name, and wait until the broker has stored it.

    It has no deadline and raises what aiormq raises: do it while ``confirming``.
    """
    properties = Basic.Properties(
        content_type="application/cloudevents+json",
        delivery_mode=PERSISTENT,
        message_id=message.id or None,
        message_type=message.type or None,
        headers={"subject": message.subject, **(headers or {})},
    )
    confirmation = await channel.basic_publish(  # type: ignore[call-arg]
        message.body.encode("utf-8", "surrogateescape"),
        routing_key=queue,
        properties=properties,
        mandatory=True,  # what fits no queue would else be confirmed, and thrown away
        # Else each would wait until the one before it is on the socket: some turns of the event
        # loop, which are long while bookings come in. The confirmation says more anyway.
        wait=False,
    )
    if not isinstance(confirmation, Basic.Ack):
        raise BrokerUnavailable("RabbitMQ does not take what is published")


@contextlib.contextmanager
def confirming() -> Iterator[None]:
    """Give publishing a deadline, and say in our words how it failed."""
    with as_unavailable("does not confirm what is published"), anyio.fail_after(PUBLISH_SECONDS):
        yield


class _Publisher:
    """One publishing session: over as soon as one message was not confirmed."""

    def __init__(self, channel: AbstractChannel, queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._failure: BrokerUnavailable | None = None

    async def publish(self, messages: Sequence[Message]) -> set[str]:
        """Publish all at once on one channel, and wait for the confirmations of all."""
        if self._channel.is_closed:
            raise BrokerUnavailable("RabbitMQ has closed the connection")
        if self._failure:
            raise self._failure
        stored: set[str] = set()
        try:
            with confirming():
                await self._publish(messages, stored)
        except BrokerUnavailable as failure:
            self._failure = failure
            if not stored:
                raise
        # What the broker has of a batch is to be written down, and then the session is over: with
        # the next batch the broker could be silent for as long again.
        return stored

    async def _publish(self, messages: Sequence[Message], stored: set[str]) -> None:
        async def publish(message: Message) -> None:
            await publish_one(self._channel, self._queue, message)
            stored.add(message.id)

        # Each for itself: of one that fails the others are no less stored.
        published: list[asyncio.Future[None]] = []
        try:
            for place, message in enumerate(messages, start=1):
                published.append(asyncio.ensure_future(publish(message)))
                if place % IN_A_ROW == 0:
                    await asyncio.sleep(0)
            for result in await asyncio.gather(*published, return_exceptions=True):
                if result is not None:
                    raise result
        finally:
            for one in published:
                one.cancel()  # those that a stop or a deadline found on their way


class _Session:
    """One consumer's session: what has arrived, and what of it is not settled yet."""

    def __init__(
        self, channel: AbstractChannel, aside: AbstractChannel, topology: Topology, limit: int
    ) -> None:
        self._channel = channel
        self._aside = aside
        self._topology = topology
        self._limit = limit
        self._arrived: deque[DeliveredMessage] = deque()
        self._news = asyncio.Event()
        self._over = ""
        self._tag: str | None = None
        self._endings: list[asyncio.Future[Any]] = []
        self.unsettled: set[int] = set()
        self._solved: set[int] = set()

    async def begin(self) -> None:
        """Start consuming, and watch for every way in which that may end."""
        self._channel.on_consumer_cancel_callbacks.add(self._on_cancel)
        for thing in (self._channel, self._channel.connection):
            ending = asyncio.ensure_future(thing.closing)
            ending.add_done_callback(self._on_closed)
            self._endings.append(ending)
        with as_unavailable("cannot be consumed from"), step():
            # Twice the batch: one is worked on while the next one is on its way.
            await self._channel.basic_qos(prefetch_count=2 * self._limit)
            ok = await self._channel.basic_consume(self._topology.main, self._on_message)
        self._tag = ok.consumer_tag

    async def receive(self) -> Sequence["_Delivery"]:
        await self._acknowledge()
        while not self._arrived or self._over:
            if self._over:
                raise BrokerUnavailable(self._over)
            self._news.clear()
            await self._news.wait()
        count = min(self._limit, len(self._arrived))
        return [self._delivery(self._arrived.popleft()) for _ in range(count)]

    async def end(self) -> None:
        """Give back what was not settled, without a death."""
        for ending in self._endings:
            ending.remove_done_callback(self._on_closed)
            ending.cancel()
        if self._over or self._channel.is_closed:
            return  # the server has taken everything back already
        with contextlib.suppress(BrokerUnavailable), as_unavailable("does not answer"), step():
            if self._tag is not None:
                await self._channel.basic_cancel(self._tag)
            await self._acknowledge()
            # Not left to the closing of the channel: RabbitMQ counts that as a failed delivery.
            for tag in sorted(self.unsettled):
                await self._channel.basic_nack(tag, requeue=True)

    async def _on_message(self, message: DeliveredMessage) -> None:
        self.unsettled.add(int(message.delivery_tag or 0))
        self._arrived.append(message)
        self._news.set()

    def _on_cancel(self, _frame: object) -> None:
        self._end_with("RabbitMQ has ended the consumer: its queue was deleted, or moved")

    def _on_closed(self, ending: asyncio.Future[Any]) -> None:
        error = None if ending.cancelled() else ending.exception()
        self._end_with(f"RabbitMQ has closed the connection: {type(error).__name__}")

    def _end_with(self, reason: str) -> None:
        self._over = self._over or reason
        self._news.set()

    def _delivery(self, message: DeliveredMessage) -> "_Delivery":
        properties = message.header.properties
        headers = properties.headers or {}
        subject = headers.get("subject")
        return _Delivery(
            self,
            int(message.delivery_tag or 0),
            Message(
                id=properties.message_id or "",
                type=properties.message_type or "",
                subject=subject if isinstance(subject, str) else "",
                body=message.body.decode("utf-8", "surrogateescape"),
            ),
            self._topology.deaths(headers),
        )

    def solved(self, tag: int) -> None:
        """Have a delivery acknowledged before anything else is received."""
        self._solved.add(tag)

    async def _acknowledge(self) -> None:
        """Acknowledge what was solved: with one frame all before which nothing is open."""
        if not self._solved:
            return
        oldest_open = min(self.unsettled - self._solved, default=max(self._solved) + 1)
        together = max((tag for tag in self._solved if tag < oldest_open), default=None)
        with as_unavailable("does not answer"), step():
            if together is not None:
                await self._channel.basic_ack(together, multiple=True, wait=False)
            for tag in sorted(self._solved):
                if tag > oldest_open:
                    await self._channel.basic_ack(tag, wait=False)
        self.unsettled -= self._solved
        self._solved.clear()

    async def reject(self, tag: int) -> None:
        with as_unavailable("does not answer"), step():
            await self._channel.basic_nack(tag, requeue=False, wait=False)
        self.unsettled.discard(tag)

    async def set_aside(self, message: Message, reason: str, attempts: int) -> None:
        headers = {"x-reason": reason[:LONGEST_REASON], "x-attempts": attempts}
        with confirming():
            await publish_one(self._aside, self._topology.not_solved, message, headers)


@dataclass(frozen=True)
class _Delivery:
    """A message that waits for its acknowledgement; see ``Delivery``."""

    session: _Session
    tag: int
    message: Message
    deaths: int

    async def solved(self) -> None:
        self.session.solved(self.tag)

    async def retry(self) -> None:
        await self.session.reject(self.tag)

    async def not_solved(self, reason: str) -> None:
        # First there, then gone from here: in between it is twice, never not at all.
        await self.session.set_aside(self.message, reason, self.deaths + 1)
        self.session.solved(self.tag)


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


async def declare(channel: AbstractChannel, topology: Topology) -> None:
    """Declare all queues, exchanges and bindings; what stands already is left as it is."""
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
