"""Publish to RabbitMQ: many messages at once on one channel, each confirmed.

aiormq's own ``basic_publish`` needs a task, three futures, two locks and a timer for each message:
that is most of the time for relaying an event (benchmarks/README.md). So here a batch is put on the
wire as a whole, and one future waits for all its confirmations.
"""

import asyncio
import contextlib
import struct
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
# Messages that are put on the wire, at some 12 us each, before waiting bookings have a turn.
IN_A_ROW = 50
# RabbitMQ keeps the length of a frame in 32 bits.
NO_LIMIT = 2**31


class DoesNotFit(Exception):
    """A message cannot be written as AMQP: a property is too large, or of no type that AMQP has.

    Nothing of the message was sent, and the session goes on if it is the first of its batch.
    """


class Publisher:
    """One publishing session: over as soon as one message was not confirmed.

    It does the work of aiormq's ``Channel.basic_publish`` for a batch, and for that borrows what
    aiormq 7 keeps of its channel; tests hold it to what aiormq does with each
    (tests/messaging/test_rabbitmq.py). Nobody else may publish on the channel.

    ===========================  ===================================================================
    ``lock``                     aiormq holds it from counting a message to queueing its frames
    ``delivery_tag``             counts the messages of the channel; the broker confirms by it
    ``confirmations``            by that number: aiormq takes the future out when the broker
                                 confirms or returns the message, asks it ``done()``, and
                                 ``cancelled()`` if so, and sets its result or exception
    ``message_id_delivery_tag``  by the message's id, that number: aiormq looks up what the broker
                                 returns there, and leaves it to the publisher to take it out
    ``create_future()``          makes a future that aiormq fails when the channel ends
    ``write_queue``              aiormq's writer sends what is in it, in order; it has room for ten,
                                 and a writer that has ended leaves the eleventh waiting for ever
    ``number``                   stands in each frame
    ``max_content_size``         how much of a body fits a frame; below 0 where there is no limit
    ===========================  ===================================================================
    """

    def __init__(self, channel: AbstractChannel, queue: str) -> None:
        self._channel = cast("Channel", channel)
        self._failure: BrokerUnavailable | None = None
        # `mandatory`: without it the broker confirms and drops unroutable messages.
        publish = Basic.Publish(routing_key=queue, mandatory=True)
        self._publish_frame = marshal(publish, channel.number)

    async def publish(
        self, messages: Sequence[Message], headers: Mapping[str, Any] | None = None
    ) -> set[str]:
        """Publish all at once, and wait for the confirmations of all; see ``Publish``.

        Raises:
            DoesNotFit: a message cannot be written as AMQP.
        """
        if self._channel.is_closed:
            raise BrokerUnavailable("RabbitMQ has closed the connection")
        if self._failure:
            raise self._failure
        if not messages:
            return set()
        batch = _Batch(self._channel, len(messages))
        try:
            with confirmation_deadline():
                for start in range(0, len(messages), IN_A_ROW):
                    await self._send(messages[start : start + IN_A_ROW], headers or {}, batch)
                    await asyncio.sleep(0)
                await batch.all_stored()
        except BrokerUnavailable as failure:
            self._failure = failure
            if not batch.stored:
                raise
        except BaseException:
            if batch.begun:
                # Nobody knows any more which messages are on the wire, and under which numbers.
                self._failure = BrokerUnavailable("publishing was cancelled")
            raise
        finally:
            batch.known.cancel()
        # The caller has to mark the messages that the broker has stored, so they are returned. Then
        # the session is over: the broker could be silent for as long again with the next batch.
        return batch.stored

    async def _send(
        self, messages: Sequence[Message], headers: Mapping[str, Any], batch: "_Batch"
    ) -> None:
        # A message without an id is not recognized when it is returned, and would count as stored.
        ids = [message.id or uuid.uuid4().hex for message in messages]
        frames = b"".join(
            self._frames(message, message_id, headers)
            for message, message_id in zip(messages, ids, strict=True)
        )
        channel = self._channel
        with as_unavailable("accepts no messages"):
            async with channel.lock:
                batch.begun = True
                for message_id in ids:
                    channel.delivery_tag += 1
                    confirmation = cast("asyncio.Future[Any]", _Confirmation(batch, message_id))
                    channel.confirmations[channel.delivery_tag] = confirmation
                    channel.message_id_delivery_tag[message_id] = channel.delivery_tag
                await channel.write_queue.put(ChannelFrame(frames, should_close=False))

    def _frames(self, message: Message, message_id: str, headers: Mapping[str, Any]) -> bytes:
        """Return a message as it goes over the wire."""
        body = message.body.encode("utf-8", "surrogateescape")
        number, size = self._channel.number, self._channel.max_content_size
        if size <= 0:
            size = NO_LIMIT
        try:
            properties = Basic.Properties(
                content_type="application/cloudevents+json",
                delivery_mode=PERSISTENT,
                message_id=message_id,
                message_type=message.type or None,
                headers={"subject": message.subject, **headers},
            )
            header = marshal(ContentHeader(properties=properties, body_size=len(body)), number)
        except (TypeError, ValueError, struct.error) as error:
            raise DoesNotFit(type(error).__name__) from error
        if len(header) > size + Channel.CONTENT_FRAME_SIZE:
            raise DoesNotFit("the headers exceed a frame")  # and the broker would hang up
        pieces = (body[start : start + size] for start in range(0, len(body), size))
        content = (marshal(ContentBody(piece), number) for piece in pieces)
        return b"".join((self._publish_frame, header, *content))


class _Batch:
    """Messages on their way: what the broker has stored of them, and when all is known."""

    def __init__(self, channel: Channel, count: int) -> None:
        self._channel = channel
        self._left = count
        self.begun = False
        self.stored: set[str] = set()
        self.failure: Exception | None = None
        self.known = channel.create_future()

    def end(self, message_id: str, failure: Exception | None) -> None:
        """Note the outcome of a message."""
        self._channel.message_id_delivery_tag.pop(message_id, None)
        if failure is None:
            self.stored.add(message_id)
        else:
            self.failure = self.failure or failure
        self._left -= 1
        if not self._left and not self.known.done():
            self.known.set_result(None)

    async def all_stored(self) -> None:
        """Wait until all is known.

        Raises:
            BrokerUnavailable: one of them was not stored.
        """
        with as_unavailable("does not confirm messages"):
            await self.known
            if self.failure:
                raise self.failure


@dataclass(slots=True)
class _Confirmation:
    """Stands in aiormq for a message's future, and hands its outcome on to the batch."""

    batch: _Batch
    message_id: str

    def done(self) -> bool:
        return self.batch.known.done()

    def cancelled(self) -> bool:
        # aiormq asks this only once the batch has been given up: it warns of a confirmation that
        # comes too late for a future that is done, unless that was cancelled.
        return True

    def set_result(self, _frame: Basic.Ack) -> None:
        self.batch.end(self.message_id, None)

    def set_exception(self, failure: Exception) -> None:
        self.batch.end(self.message_id, failure)


@contextlib.contextmanager
def confirmation_deadline() -> Iterator[None]:
    """Give the body ``PUBLISH_SECONDS``.

    Raises:
        BrokerUnavailable: it took longer.
    """
    try:
        with anyio.fail_after(PUBLISH_SECONDS):
            yield
    except TimeoutError:
        raise BrokerUnavailable(
            f"RabbitMQ did not confirm the messages within {PUBLISH_SECONDS:g} s"
        ) from None
