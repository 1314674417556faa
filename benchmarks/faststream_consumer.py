"""Peer: a consumer as FastStream's documentation has it, recording in PostgreSQL by SQLAlchemy.

It takes the very messages that ours takes, from the same queue; https://faststream.ag2.ai/latest/rabbit/.
"""

import os

from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.recorded_table import insert_recorded

engine = create_async_engine(os.environ["DATABASE_URL"])
# As many at a time as ours asks for.
broker = RabbitBroker(os.environ["AMQP_URL"], default_channel=Channel(prefetch_count=500))
app = FastStream(broker)


@broker.subscriber(
    RabbitQueue("rmq-for-retries", declare=False), ack_policy=AckPolicy.REJECT_ON_ERROR
)
async def record(body: bytes) -> None:
    """Record an event."""
    async with engine.begin() as connection:
        await connection.execute(insert_recorded(body))
