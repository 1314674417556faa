"""Limit: take and acknowledge, nothing else. python -m benchmarks.noop_consumer URL COUNT.

With as much on its way as ours asks for. Prints the seconds from the first delivery to the last.
"""

import asyncio
import sys
import time

import aiormq
import uvloop
from aiormq.abc import DeliveredMessage

PREFETCH = 500
QUEUE = "rmq-for-retries"


async def consume(url: str, count: int) -> float:
    """Take a number of messages and return the seconds that it took."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    done = asyncio.Event()
    taken: list[float] = []

    async def take(message: DeliveredMessage) -> None:
        await channel.basic_ack(message.delivery_tag or 0, wait=False)
        taken.append(time.perf_counter())
        if len(taken) == count:
            done.set()

    await channel.basic_qos(prefetch_count=PREFETCH)
    await channel.basic_consume(QUEUE, take)
    await done.wait()
    await connection.close()
    return taken[-1] - taken[0]


if __name__ == "__main__":
    print(uvloop.run(consume(sys.argv[1], int(sys.argv[2]))))
