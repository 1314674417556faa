"""Limit: publish with confirms, and nothing else. python -m benchmarks.bare_publisher URL FILE.

The file is a JSON list of messages; they go into the clinic's main queue as the clinic's own would,
100 in flight on one channel: nothing is gained by more. Prints the seconds that it took.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiormq
import uvloop
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from clinic.messaging.message import Message
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.parts import Parts
from clinic.settings import Settings

IN_FLIGHT = 100


@dataclass(frozen=True)
class Nothing:
    """What a broker on RabbitMQ makes no use of."""


def clinic_broker(url: str) -> RabbitBroker:
    """Return the broker as the clinic makes it."""
    nothing: Any = Nothing()
    broker = Parts(Settings(_env_file=None, AMQP_URL=url), nothing).broker
    assert isinstance(broker, RabbitBroker)
    return broker


async def publish(url: str, messages: list[Message]) -> float:
    """Publish all and return the seconds that it took."""
    broker = clinic_broker(url)
    async with broker.publishing():
        pass  # declares everything
    connection = await aiormq.connect(url)
    channel = await connection.channel(publisher_confirms=True)
    queue = broker.topology.main
    start = time.perf_counter()
    left = iter(messages)
    await asyncio.gather(*(publish_from(left, channel, queue) for _ in range(IN_FLIGHT)))
    took = time.perf_counter() - start
    await connection.close()
    return took


async def publish_from(left: Iterator[Message], channel: AbstractChannel, queue: str) -> None:
    """Publish one after the other what is left."""
    for message in left:
        confirmation = await channel.basic_publish(
            message.body.encode(),
            routing_key=queue,
            mandatory=True,
            properties=Basic.Properties(
                content_type="application/cloudevents+json",
                delivery_mode=2,
                message_id=message.id,
                message_type=message.type,
                headers={"subject": message.subject},
            ),
        )
        assert isinstance(confirmation, Basic.Ack)


if __name__ == "__main__":
    told = [Message(**told) for told in json.loads(Path(sys.argv[2]).read_text())]
    print(uvloop.run(publish(sys.argv[1], told)))
