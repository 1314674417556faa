"""Consume from RabbitMQ: what has arrived, and what of it is not settled yet."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import anyio
from aiormq.abc import AbstractChannel, DeliveredMessage

from clinic.messaging.broker import BrokerUnavailable
from clinic.messaging.message import Message
from clinic.messaging.rabbitmq.connection import as_unavailable, step
from clinic.messaging.rabbitmq.copies import key_of, named, publishable
from clinic.messaging.rabbitmq.frames import Incoming
from clinic.messaging.rabbitmq.properties import read_properties
from clinic.messaging.rabbitmq.publishing import Publisher
from clinic.messaging.rabbitmq.topology import Topology

# After this long without a message, consume anew. When the main queue of a cluster is deleted,
# RabbitMQ may forget a consumer without telling it (3.10.8 does so one time in three, if another
# node than the queue's leader deletes it), and the queue that is declared in its place has no
# consumer. No client can ask whether RabbitMQ knows its consumer: a queue tells only how many.
SILENCE_SECONDS = 5.0


class Session:
    """One consumer's session: what has arrived, and what of it is not settled yet."""

    def __init__(
        self,
        channel: AbstractChannel,
        incoming: Incoming,
        aside: AbstractChannel,
        topology: Topology,
        limit: int,
    ) -> None:
        self._channel = channel
        self._incoming = incoming
        self._aside = Publisher(aside, topology.not_solved)
        self._topology = topology
        self._limit = limit
        self._arrived: deque[DeliveredMessage] = deque()
        self._news = asyncio.Event()
        self._over = ""
        self._tag: str | None = None
        self._endings: list[asyncio.Future[Any]] = []
        # The size of each body by delivery tag.
        self._unsettled: dict[int, int] = {}
        self._solved: set[int] = set()
        self._copying: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

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
        await self._consume()

    async def receive(self) -> Sequence["_Delivery"]:
        """Acknowledge what was solved, and wait for more; see ``Receive``."""
        await self._acknowledge()
        while not self._arrived or self._over:
            if self._over:
                raise BrokerUnavailable(self._over)
            self._news.clear()
            with anyio.move_on_after(SILENCE_SECONDS) as waiting:
                await self._news.wait()
            if waiting.cancelled_caught:
                await self._consume_anew()
        count = min(self._limit, len(self._arrived))
        return [self._delivery(self._arrived.popleft()) for _ in range(count)]

    async def end(self) -> None:
        """Give back what was not settled, without a death."""
        self._incoming.discard()
        for ending in self._endings:
            ending.remove_done_callback(self._on_closed)
            ending.cancel()
        if self._over or self._channel.is_closed:
            return  # the server has taken everything back already
        with contextlib.suppress(BrokerUnavailable), as_unavailable("does not answer"), step():
            if self._tag is not None:
                await self._channel.basic_cancel(self._tag)
            await self._acknowledge()
            # Not by closing the channel, which RabbitMQ counts as a failed delivery.
            for tag in sorted(self._unsettled):
                await self._channel.basic_nack(tag, requeue=True)

    async def _consume(self) -> None:
        with as_unavailable("cannot be consumed from"), step():
            ok = await self._channel.basic_consume(self._topology.main, self._on_message)
        self._tag = ok.consumer_tag

    async def _consume_anew(self) -> None:
        """Cancel the consumer and consume under a new tag; what arrives meanwhile is kept."""
        with as_unavailable("cannot be consumed from"), step():
            await self._channel.basic_cancel(str(self._tag))
        await self._consume()

    async def _on_message(self, message: DeliveredMessage) -> None:
        self._unsettled[int(message.delivery_tag or 0)] = len(message.body)
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
        tag = int(message.delivery_tag or 0)
        properties = read_properties(self._incoming.take_properties(tag))
        subject = properties.headers.get("subject")
        return _Delivery(
            self,
            tag,
            Message(
                id=properties.message_id,
                type=properties.message_type,
                subject=subject if isinstance(subject, str) else "",
                body=message.body.decode("utf-8", "surrogateescape"),
            ),
            self._topology.deaths(properties.headers),
        )

    def solved(self, tag: int) -> None:
        """Have a delivery acknowledged before anything else is received."""
        self._solved.add(tag)

    async def _acknowledge(self) -> None:
        """Acknowledge solved deliveries: with one frame all that come before the first open one."""
        if not self._solved:
            return
        open_tags = self._unsettled.keys() - self._solved
        oldest_open = min(open_tags, default=max(self._solved) + 1)
        together = max((tag for tag in self._solved if tag < oldest_open), default=None)
        with as_unavailable("does not answer"), step():
            if together is not None:
                await self._channel.basic_ack(together, multiple=True, wait=False)
            for tag in sorted(self._solved):
                if tag > oldest_open:
                    await self._channel.basic_ack(tag, wait=False)
        for tag in self._solved:
            self._forget(tag)
        self._solved.clear()

    async def reject(self, tag: int) -> None:
        """Have RabbitMQ put a delivery into the dead letter queue."""
        with as_unavailable("does not answer"), step():
            await self._channel.basic_nack(tag, requeue=False, wait=False)
        self._forget(tag)

    def _forget(self, tag: int) -> None:
        self._incoming.remove_bytes(self._unsettled.pop(tag, 0))

    async def set_aside(self, message: Message, reason: str, attempts: int) -> str:
        """Put a copy of a message into not solved, with the reason and how often it was tried.

        Return its key there.
        """
        copy, reason = publishable(message, reason)
        copy = named(copy)
        # aiormq tells returned messages apart by their ids only (docs/libraries.md).
        async with self._copying.setdefault(copy.id, asyncio.Lock()):
            await self._aside.publish([copy], {"x-reason": reason, "x-attempts": attempts})
        return key_of(copy)


@dataclass(frozen=True)
class _Delivery:
    """A message that waits for its acknowledgement; see ``Delivery``."""

    session: Session
    tag: int
    message: Message
    deaths: int

    async def solved(self) -> None:
        self.session.solved(self.tag)

    async def retry(self) -> None:
        await self.session.reject(self.tag)

    async def not_solved(self, reason: str) -> str:
        # First publish the copy, then acknowledge: in between there are two, never none.
        key = await self.session.set_aside(self.message, reason, self.deaths + 1)
        self.session.solved(self.tag)
        return key
