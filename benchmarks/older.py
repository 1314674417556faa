"""Peer: as ``usual.py``, with a broker connection for each request, as the older project has it."""

import os

import aio_pika
from fastapi import FastAPI

from benchmarks.usual import QUEUE, Booking, app, message


async def publish(_app: FastAPI, booking: Booking) -> None:
    """Connect, tell the queue of a booking, wait until it is confirmed, disconnect."""
    async with await aio_pika.connect_robust(os.environ["AMQP_URL"]) as broker:
        channel = await broker.channel(publisher_confirms=True)
        await channel.default_exchange.publish(message(booking), routing_key=QUEUE)


app.state.publish = publish

__all__ = ["app"]
