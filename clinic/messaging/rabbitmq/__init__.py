"""The broker on RabbitMQ 3.10 to 4.x, by aiormq, which no other package imports.

========================  ========================================================================
``__init__.py``           the broker: which sessions there are, and what each is made of
``address.py``            where the server is, and how its certificate is verified
``topology.py``           what stands on it: queues, exchanges, their arguments, deaths
``connection.py``         connections and channels, deadlines, and every failure in our words
``declaring.py``          declare queues, exchanges and bindings, and check that they are there
``publishing.py``         publish many at once, each confirmed
``consuming.py``          what has arrived, and what of it is not settled yet
``copies.py``             what a copy of a message keeps
``setting_right.py``      look through what is set aside, and take messages out of it
``frames.py``             read what is delivered, whatever bytes its publisher put into it
``properties.py``         what we use of a message's properties
========================  ========================================================================

Each session has connections of its own. Every wait for the broker has a deadline, since aiormq has
none, and every error of aiormq becomes ``BrokerUnavailable``: the service ends with that, and its
supervisor starts it again until the broker is back.

A broker that went silent is noticed within 20 s (``address.HEARTBEAT_SECONDS``), one that does not
confirm after ``PUBLISH_SECONDS`` and ``FAREWELL_SECONDS``, everything else at once.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from clinic.messaging.broker import NotSolved, Publish, Receive
from clinic.messaging.message import Message
from clinic.messaging.rabbitmq.connection import open_channel, open_connection
from clinic.messaging.rabbitmq.consuming import Session
from clinic.messaging.rabbitmq.declaring import Standing
from clinic.messaging.rabbitmq.frames import Incoming
from clinic.messaging.rabbitmq.publishing import Publisher
from clinic.messaging.rabbitmq.setting_right import SettingRight
from clinic.messaging.rabbitmq.topology import Topology


@dataclass(frozen=True)
class RabbitBroker:
    """The broker on a RabbitMQ server; see ``Broker`` for what it promises."""

    url: str
    topology: Topology

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[Publish]:
        """Keep the promise of ``Broker.publishing``, and check that all queues are still there."""
        async with open_connection(self.url, "publisher") as connection:
            standing = Standing(connection, self.topology)
            await standing.declare()
            publisher = Publisher(await open_channel(connection), self.topology.main)

            async def publish(messages: Sequence[Message]) -> set[str]:
                await standing.look()
                return await publisher.publish(messages)

            yield publish

    @asynccontextmanager
    async def consuming(self, limit: int) -> AsyncIterator[Receive]:
        """Keep the promise of ``Broker.consuming``."""
        # A server that runs out of memory or disk blocks connections that publish. Consuming must
        # go on then, because it makes room: so it has a connection of its own.
        incoming = Incoming()
        async with (
            open_connection(self.url, "consumer", incoming) as connection,
            open_connection(self.url, "set aside") as publishing,
        ):
            await Standing(connection, self.topology).declare()
            channel, aside = await open_channel(connection), await open_channel(publishing)
            session = Session(channel, incoming, aside, self.topology, limit)
            try:
                await session.begin()
                yield session.receive
            finally:
                await session.end()

    @asynccontextmanager
    async def set_aside(self) -> AsyncIterator[NotSolved]:
        """Keep the promise of ``Broker.set_aside``."""
        incoming = Incoming()
        async with (
            open_connection(self.url, "not solved", incoming) as connection,
            open_connection(self.url, "replay") as publishing,
        ):
            await Standing(connection, self.topology).declare()
            session = SettingRight(
                await open_channel(connection),
                incoming,
                await open_channel(publishing),
                await open_channel(publishing),
                self.topology,
            )
            try:
                await session.begin()
                yield session
            finally:
                await session.end()
