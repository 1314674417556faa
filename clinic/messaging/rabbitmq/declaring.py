"""Queues, exchanges and bindings: declare them, and check that they are still there."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelClosed,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from clinic.messaging.broker import BrokerUnavailable
from clinic.messaging.rabbitmq.connection import as_unavailable, explain, open_channel, step
from clinic.messaging.rabbitmq.topology import Topology, explain_misfit

log = logging.getLogger(__name__)

# A deleted exchange or binding closes no session, and failed messages then have nowhere to go: a
# classic queue drops them. A look takes seven round trips, so it costs a publisher some 0.3 % of
# its time where one takes a millisecond. What was deleted works again after one such interval and
# RabbitMQ's own retry (rabbitmq/advanced.config).
LOOK_SECONDS = 3.0

Refusal = ChannelAccessRefused | ChannelNotFoundEntity | ChannelPreconditionFailed
Call = Callable[[AbstractChannel], Awaitable[object]]


@dataclass(frozen=True)
class Exchange:
    """An exchange of the topology."""

    name: str
    kind: str

    def __str__(self) -> str:
        return f"exchange {self.name}"

    def declare(self, channel: AbstractChannel, *, passive: bool = False) -> Awaitable[object]:
        """Make it unless it stands; ``passive``: fail unless it stands."""
        return channel.exchange_declare(
            self.name, exchange_type=self.kind, durable=True, passive=passive
        )


@dataclass(frozen=True)
class Queue:
    """A queue of the topology, with its arguments."""

    name: str
    arguments: dict[str, Any] = field(hash=False)

    def __str__(self) -> str:
        return f"queue {self.name}"

    def declare(self, channel: AbstractChannel, *, passive: bool = False) -> Awaitable[object]:
        """Make it unless it stands; ``passive``: fail unless it stands."""
        return channel.queue_declare(
            self.name, durable=True, arguments=self.arguments, passive=passive
        )


@dataclass(frozen=True)
class Binding:
    """A queue's binding to an exchange, by its own name."""

    queue: str
    exchange: str

    def make(self, channel: AbstractChannel) -> Awaitable[object]:
        """Bind the queue unless it is bound already."""
        return channel.queue_bind(self.queue, self.exchange, routing_key=self.queue)


class Standing:
    """The topology on a server, as far as one connection may see and change it.

    RabbitMQ closes the channel on which it refuses something, so this has a channel of its own, and
    opens another one after each refusal.
    """

    def __init__(self, connection: AbstractConnection, topology: Topology) -> None:
        self._connection = connection
        self._channel: AbstractChannel | None = None
        self._pieces: list[Exchange | Queue] = [
            Exchange(topology.main_exchange, "direct"),
            Exchange(topology.dead_letter_exchange, "fanout"),
            *(Queue(name, arguments) for name, arguments in topology.arguments().items()),
        ]
        self._bindings = [
            Binding(topology.main, topology.main_exchange),
            Binding(topology.dead_letter, topology.dead_letter_exchange),
        ]
        # A piece is taken out when a refusal says that this user may not look at it.
        self._visible = set(self._pieces)
        self._look_at = 0.0

    async def declare(self) -> None:
        """Declare what is missing, and change nothing that is there.

        A user without the permission to declare finds what an administrator has declared.

        Raises:
            BrokerUnavailable: something stands with other arguments, or is missing and this user
                may not declare it.
        """
        for piece in self._pieces:
            refusal = await self._ask(piece.declare)
            if isinstance(refusal, ChannelPreconditionFailed):
                raise BrokerUnavailable(explain_misfit(str(refusal)))
            if isinstance(refusal, ChannelNotFoundEntity):
                # It is on a node that is down: https://www.rabbitmq.com/docs/clustering
                raise BrokerUnavailable(f"RabbitMQ cannot use the {piece}: {explain(refusal)}")
            if refusal is not None and await self._is_missing(piece):
                raise BrokerUnavailable(
                    f"RabbitMQ has no {piece}, and this user may not declare it: give the user the "
                    "permissions configure, write and read for it (rabbitmqctl set_permissions), "
                    "or have it declared by a user who has them"
                )
        await self._bind()

    async def look(self) -> None:
        """Declare again what somebody has deleted; asks the server once in ``LOOK_SECONDS``.

        Bindings are made again without a word: no client can ask whether one is there.

        Raises:
            BrokerUnavailable: it cannot be declared again, or the connection has ended.
        """
        if time.monotonic() < self._look_at:
            return
        missing = [str(piece) for piece in self._pieces if await self._is_missing(piece)]
        if missing:
            await self.declare()
            log.warning("RabbitMQ had lost the %s: declared again", " and the ".join(missing))
        else:
            await self._bind()

    async def _is_missing(self, piece: Exchange | Queue) -> bool:
        if piece not in self._visible:
            return False
        refusal = await self._ask(partial(piece.declare, passive=True))
        if isinstance(refusal, ChannelAccessRefused):
            # From 4.2.6 on RabbitMQ needs a permission even for that, and logs each refusal:
            # https://github.com/rabbitmq/rabbitmq-server/pull/16272
            self._visible.remove(piece)
        return isinstance(refusal, ChannelNotFoundEntity)

    async def _bind(self) -> None:
        for binding in tuple(self._bindings):
            if isinstance(await self._ask(binding.make), ChannelAccessRefused):
                # Then an administrator has to bind the queue, and nobody can check it.
                self._bindings.remove(binding)
        self._look_at = time.monotonic() + LOOK_SECONDS

    async def _ask(self, call: Call) -> Refusal | None:
        """Make a call, and return how the server refused it, or None.

        Raises:
            BrokerUnavailable: the server gave no answer, or refused it for another reason.
        """
        channel = self._channel = self._channel or await open_channel(self._connection)
        with as_unavailable("cannot be used"), step():
            try:
                await call(channel)
            except ChannelClosed as refusal:
                self._channel = None
                if isinstance(refusal, Refusal):
                    return refusal
                raise
        return None
