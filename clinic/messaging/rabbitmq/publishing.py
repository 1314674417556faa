"""Publish to RabbitMQ: many messages at once on one channel, each confirmed.

aiormq's own ``basic_publish`` takes a task, three futures, two locks and a timer for each message,
and with that most of what relaying an event takes (benchmarks/README.md). So here a batch is put on
the wire as a whole, and one future waits for all its confirmations. For that this module stands in
aiormq's own books, ``confirmations`` and ``message_id_delivery_tag``: tests hold it to what aiormq
does with them (tests/messaging/test_rabbitmq.py).
"""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import anyio
from aiormq.abc import AbstractChannel, ChannelFrame
from aiormq.channel import Channel
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from clinic.messaging.broker import BrokerUnavailable
from clinic.messaging.message import Message
from clinic.messaging.rabbitmq.connection import as_unavailable

# Less than the grace period that a stop has by default, and than a relay's hold on its batch.
PUBLISH_SECONDS = 8.0
PERSISTENT = 2
# So many, at some 12 us each, are put on the wire before others of the process have their turn:
# bookings would wait for a whole batch.
IN_A_ROW = 50


class _Batch:
    """Messages on their way: what the broker has stored of them, and when all is known."""

    def __init__(self, channel: Channel, count: int) -> None:
        self._channel = channel
        self._left = count
        self.stored: set[str] = set()
        self.failure: Exception | None = None
        # aiormq has it fail when the channel ends before.
        self.known = channel.create_future()

    def end(self, message_id: str, failure: Exception | None) -> None:
        """Take down what became of a message."""
        self._channel.message_id_delivery_tag.pop(message_id, None)
        if failure is None:
            self.stored.add(message_id)
        else:
            self.failure = self.failure or failure
        self._left -= 1
        if not self._left and not self.known.done():
            self.known.set_result(None)

    async def all_stored(self) -> None:
        """Wait until all is known, and raise what aiormq says of the first that was not stored."""
        await self.known
        if self.failure:
            raise self.failure


@dataclass(slots=True)
class _Confirmation:
    """Stands where aiormq has a future for each message, and does what it asks of that."""

    batch: _Batch
    message_id: str

    def done(self) -> bool:
        return self.batch.known.done()

    def cancelled(self) -> bool:
        return True  # of one that comes too late aiormq warns otherwise

    def set_result(self, _frame: Basic.Ack) -> None:
        self.batch.end(self.message_id, None)

    def set_exception(self, failure: Exception) -> None:
        self.batch.end(self.message_id, failure)


class Publisher:
    """One publishing session: over as soon as one message was not confirmed.

    Nobody else may publish on its channel.
    """

    def __init__(self, channel: AbstractChannel, queue: str) -> None:
        self._channel = cast("Channel", channel)
        self._failure: BrokerUnavailable | None = None
        # What fits no queue would else be confirmed, and thrown away: mandatory.
        publish = Basic.Publish(routing_key=queue, mandatory=True)
        self._publish_frame = marshal(publish, channel.number)

    async def publish(
        self, messages: Sequence[Message], headers: Mapping[str, Any] | None = None
    ) -> set[str]:
        """Publish all at once, and wait for the confirmations of all; see ``Publish``."""
        if self._channel.is_closed:
            raise BrokerUnavailable("RabbitMQ has closed the connection")
        if self._failure:
            raise self._failure
        if not messages:
            return set()
        batch = _Batch(self._channel, len(messages))
        try:
            with confirming():
                for start in range(0, len(messages), IN_A_ROW):
                    await self._send(messages[start : start + IN_A_ROW], headers or {}, batch)
                    await asyncio.sleep(0)
                await batch.all_stored()
        except BrokerUnavailable as failure:
            self._failure = failure
            if not batch.stored:
                raise
        except BaseException:
            # What is on the wire, and under which number, is not known any more.
            self._failure = BrokerUnavailable("publishing was broken off")
            raise
        finally:
            batch.known.cancel()
        # What the broker has of a batch is to be written down, and then the session is over: with
        # the next batch the broker could be silent for as long again.
        return batch.stored

    async def _send(
        self, messages: Sequence[Message], headers: Mapping[str, Any], batch: _Batch
    ) -> None:
        channel = self._channel
        # Without an id nobody would know what comes back, and it would count as stored.
        ids = [message.id or uuid.uuid4().hex for message in messages]
        frames = [
            self._frames(message, message_id, headers)
            for message, message_id in zip(messages, ids, strict=True)
        ]
        async with channel.lock:
            for message_id in ids:
                channel.delivery_tag += 1
                confirmation = cast("asyncio.Future[Any]", _Confirmation(batch, message_id))
                channel.confirmations[channel.delivery_tag] = confirmation
                channel.message_id_delivery_tag[message_id] = channel.delivery_tag
            await channel.write_queue.put(ChannelFrame(b"".join(frames), should_close=False))

    def _frames(self, message: Message, message_id: str, headers: Mapping[str, Any]) -> bytes:
        """Return a message as it goes over the wire."""
        body = message.body.encode("utf-8", "surrogateescape")
        properties = Basic.Properties(
            content_type="application/cloudevents+json",
            delivery_mode=PERSISTENT,
            message_id=message_id,
            message_type=message.type or None,
            headers={"subject": message.subject, **headers},
        )
        number, size = self._channel.number, self._channel.max_content_size
        header = marshal(ContentHeader(properties=properties, body_size=len(body)), number)
        pieces = (body[start : start + size] for start in range(0, len(body), size))
        content = (marshal(ContentBody(piece), number) for piece in pieces)
        return b"".join((self._publish_frame, header, *content))


@contextlib.contextmanager
def confirming() -> Iterator[None]:
    """Give publishing a deadline, and say in our words how it failed."""
    with as_unavailable("does not confirm what is published"), anyio.fail_after(PUBLISH_SECONDS):
        yield
