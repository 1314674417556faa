"""A session over what is set aside on RabbitMQ: look through it, and take messages out of it.

A queue has one end to read from: whoever looks for a message holds all that come before it. So a
session consumes, holds what it leaves, and gives that back when it ends (a quorum queue then has
that in another order).

A consumer is sent no more than its prefetch while nothing is acknowledged. When one has all that,
and all of it is left, another consumer on the same channel goes on: so the server never sends more
than a batch ahead, however many messages are held.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import anyio
from aiormq.abc import AbstractChannel, DeliveredMessage

from clinic.messaging.broker import LONGEST_REASON, MOST_DEATHS, Aside, BrokerUnavailable
from clinic.messaging.message import Message
from clinic.messaging.rabbitmq.connection import as_unavailable, step
from clinic.messaging.rabbitmq.copies import key_of, named, publishable
from clinic.messaging.rabbitmq.frames import Incoming
from clinic.messaging.rabbitmq.properties import read_properties
from clinic.messaging.rabbitmq.publishing import Publisher
from clinic.messaging.rabbitmq.topology import Topology

# Messages that are read at a time: their envelopes and bodies are in memory meanwhile.
PREFETCH = 1000
# In characters of all bodies: with a larger batch there would be no bound to the memory.
LARGEST_BATCH = 16 * 2**20
# How long to wait for one more message of a batch: each batch costs its reader a transaction.
GATHER_SECONDS = 0.02
# How long nothing arrives before the queue is asked whether it is empty, and asked once more:
# messages may be on their way.
PAUSE_SECONDS = 0.1
# How long a queue may say that it has messages, and deliver none.
SILENCE_SECONDS = 10.0


class SettingRight:
    """One session over not solved; see ``NotSolved``."""

    def __init__(
        self,
        channel: AbstractChannel,
        incoming: Incoming,
        main: AbstractChannel,
        aside: AbstractChannel,
        topology: Topology,
    ) -> None:
        self._channel = channel
        self._incoming = incoming
        self._main = Publisher(main, topology.main)
        self._aside = Publisher(aside, topology.not_solved)
        self._queue = topology.not_solved
        self._arrived: deque[DeliveredMessage] = deque()
        self._news = asyncio.Event()
        self._over = ""
        self._tags: list[str] = []
        # The deliveries that are not acknowledged: all, and those of the newest consumer.
        self._unsettled: set[int] = set()
        self._held: set[int] = set()
        self._endings: list[asyncio.Future[Any]] = []

    async def begin(self) -> None:
        """Watch for every way in which the session may end; the first look begins to consume."""
        self._channel.on_consumer_cancel_callbacks.add(self._on_cancel)
        for thing in (self._channel, self._channel.connection):
            ending = asyncio.ensure_future(thing.closing)
            ending.add_done_callback(self._on_closed)
            self._endings.append(ending)
        with as_unavailable("cannot be consumed from"), step():
            await self._channel.basic_qos(prefetch_count=PREFETCH)

    async def end(self) -> None:
        """Give back what was left."""
        self._incoming.discard()
        for ending in self._endings:
            ending.remove_done_callback(self._on_closed)
            ending.cancel()
        if self._over or self._channel.is_closed:
            return  # the server has taken everything back already
        with contextlib.suppress(BrokerUnavailable), as_unavailable("does not answer"), step():
            for tag in self._tags:
                await self._channel.basic_cancel(tag)
            # All that is not acknowledged (AMQP 0-9-1, basic.nack), what nobody saw as well.
            await self._channel.basic_nack(0, multiple=True, requeue=True)

    async def look(self) -> Sequence[Aside]:
        """Return the next messages; see ``NotSolved``."""
        silent_since, was_empty = time.monotonic(), False
        while not self._arrived or self._over:
            if self._over:
                raise BrokerUnavailable(self._over)
            if not self._tags or len(self._held) >= PREFETCH:
                await self._consume()
            self._news.clear()
            with anyio.move_on_after(PAUSE_SECONDS):
                await self._news.wait()
            if self._arrived or self._over:
                continue
            is_empty = not await self.count()
            if is_empty and was_empty and not self._arrived:
                return ()
            was_empty = is_empty
            if not is_empty and time.monotonic() > silent_since + SILENCE_SECONDS:
                self._over = f"RabbitMQ has messages in {self._queue} and delivers none"
        await self._gather()
        batch: list[Aside] = []
        size = 0
        while self._arrived and len(batch) < PREFETCH and size < LARGEST_BATCH:
            message = self._arrived.popleft()
            size += len(message.body)
            self._incoming.remove_bytes(len(message.body))
            batch.append(self._read(message))
        return batch

    async def _gather(self) -> None:
        """Wait for the rest of what the newest consumer is sent, while it arrives."""
        while len(self._held) < PREFETCH and not self._over:
            self._news.clear()
            with anyio.move_on_after(GATHER_SECONDS) as waiting:
                await self._news.wait()
            if waiting.cancelled_caught:
                return

    async def replay(self, messages: Sequence[Aside]) -> None:
        """Publish to main, then acknowledge; see ``NotSolved``."""
        copies = [(one, named(publishable(one.message, "")[0])) for one in messages]
        while copies:
            # aiormq tells returned messages apart by their ids only, so none twice at a time.
            batch: dict[str, tuple[Aside, Message]] = {}
            for one, copy in copies:
                batch.setdefault(copy.id, (one, copy))
            stored = await self._main.publish([copy for _, copy in batch.values()])
            await self.discard([one for one, copy in batch.values() if copy.id in stored])
            if len(stored) < len(batch):
                raise BrokerUnavailable("RabbitMQ did not confirm all messages")
            sent = {one.tag for one, _ in batch.values()}
            copies = [(one, copy) for one, copy in copies if one.tag not in sent]

    async def discard(self, messages: Sequence[Aside]) -> None:
        """Acknowledge messages; see ``NotSolved``."""
        if self._over:
            raise BrokerUnavailable(self._over)
        tags = {one.tag for one in messages} & self._unsettled
        # With one frame all that come before the first that is left.
        oldest_left = min(self._unsettled - tags, default=max(tags, default=0) + 1)
        together = max((tag for tag in tags if tag < oldest_left), default=None)
        with as_unavailable("does not answer"), step():
            for tag in sorted(tag for tag in tags if tag > oldest_left):
                # Until it is on its way, or it could be lost with the process.
                await self._channel.basic_ack(tag, wait=together is None)
            if together is not None:
                await self._channel.basic_ack(together, multiple=True)
        self._unsettled -= tags
        self._held -= tags

    async def restore(self, messages: Sequence[tuple[Message, str]]) -> Sequence[str]:
        """Publish messages to not solved; see ``NotSolved``."""
        keys = []
        for message, reason in messages:
            copy, reason = publishable(message, reason)  # noqa: PLW2901 - as it is sent
            copy = named(copy)
            if not await self._aside.publish([copy], {"x-reason": reason}):
                raise BrokerUnavailable("RabbitMQ did not confirm a message")
            keys.append(key_of(copy))
        return keys

    async def count(self) -> int:
        """Ask the queue how many messages it has ready."""
        with as_unavailable("does not answer"), step():
            found = await self._channel.queue_declare(self._queue, passive=True)
        return int(found.message_count or 0)

    async def _consume(self) -> None:
        self._held.clear()
        with as_unavailable("cannot be consumed from"), step():
            ok = await self._channel.basic_consume(self._queue, self._on_message)
        self._tags.append(str(ok.consumer_tag))

    async def _on_message(self, message: DeliveredMessage) -> None:
        self._held.add(int(message.delivery_tag or 0))
        self._unsettled.add(int(message.delivery_tag or 0))
        self._arrived.append(message)
        self._news.set()

    def _on_cancel(self, _frame: object) -> None:
        self._end_with("RabbitMQ has ended the session: its queue was deleted, or moved")

    def _on_closed(self, ending: asyncio.Future[Any]) -> None:
        error = None if ending.cancelled() else ending.exception()
        self._end_with(f"RabbitMQ has closed the connection: {type(error).__name__}")

    def _end_with(self, reason: str) -> None:
        self._over = self._over or reason
        self._news.set()

    def _read(self, message: DeliveredMessage) -> Aside:
        tag = int(message.delivery_tag or 0)
        properties = read_properties(self._incoming.take_properties(tag))
        subject, reason, attempts = (
            properties.headers.get(name) for name in ("subject", "x-reason", "x-attempts")
        )
        found = Message(
            id=properties.message_id,
            type=properties.message_type,
            subject=subject if isinstance(subject, str) else "",
            body=message.body.decode("utf-8", "surrogateescape"),
        )
        return Aside(
            key_of(found),
            found,
            reason[:LONGEST_REASON] if isinstance(reason, str) else "",
            attempts if type(attempts) is int and 0 < attempts <= MOST_DEATHS else None,
            tag,
        )
