"""What the consumer writes down of its failures: attempts, and the index of what is set aside.

It writes beside settlement and never in its way: what cannot be written in good time is left out,
with a line in the log. The queues have everything that matters.
"""

import datetime
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

from clinic.database import Database, again_if_lost, utc_now
from clinic.messaging.attempts import Attempt, attempt, insert_attempts
from clinic.messaging.broker import MOST_DEATHS, Delivery
from clinic.messaging.message import Message
from clinic.messaging.set_aside import (
    Describe,
    SetAside,
    insert_set_aside,
    nothing_known,
    packed_if_small,
)

log = logging.getLogger(__name__)

# A batch of attempts takes 10 ms. A consumer that waits for longer falls behind.
WRITE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Failed:
    """A delivery that failed; ``known`` says that its message is an event of our log."""

    delivery: Delivery
    failure: Exception
    known: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A failed delivery whose message was set aside: under which key of the broker's, and why."""

    failed: Failed
    key: str
    reason: str


@dataclass(frozen=True)
class Journal:
    """Writes down what failed; ``describe`` tells what an event of the log is about."""

    database: Database
    describe: Describe = nothing_known
    clock: Callable[[], datetime.datetime] = utc_now

    async def failed(self, failed: Sequence[Failed]) -> None:
        """Keep an attempt for each delivery; never fails, and takes ``WRITE_SECONDS`` at most."""

        async def write() -> None:
            now = self.clock()
            await self._keep([self._attempt(one, now) for one in failed])

        await in_good_time(write, "attempts were not kept", len(failed))

    async def set_aside(self, ended: Sequence[Ended]) -> None:
        """Write what was set aside into the index; never fails, and takes as long at most."""

        async def write() -> None:
            now = self.clock()
            await self._index([self._row(one, now) for one in ended])

        await in_good_time(
            write,
            "messages were set aside and are missing in the index (clinic not-solved check)",
            len(ended),
        )

    async def _keep(self, attempts: Sequence[Attempt]) -> None:
        async def transact() -> None:
            async with self.database.transaction() as connection:
                await insert_attempts(connection, attempts)

        await again_if_lost(transact)

    async def _index(self, rows: Sequence[SetAside]) -> None:
        async def transact() -> None:
            async with self.database.transaction() as connection:
                await insert_set_aside(connection, rows)

        await again_if_lost(transact)

    def _attempt(self, one: Failed, now: datetime.datetime) -> Attempt:
        event = None
        if one.known:
            event = (one.delivery.message.id, self._type(one.delivery.message) or "")
        return attempt(one.failure, now, event, delivery_of(one.delivery))

    def _type(self, message: Message) -> str | None:
        return self.describe(message).event_type

    def _row(self, one: Ended, now: datetime.datetime) -> SetAside:
        message, known = one.failed.delivery.message, one.failed.known
        about = self.describe(message)
        return SetAside(
            key=one.key,
            event_id=message.id if known else None,
            event_type=about.event_type,
            office_id=about.office_id,
            kind=type(one.failed.failure).__name__,
            reason=one.reason,
            deliveries=delivery_of(one.failed.delivery),
            set_aside_at=now,
            message=None if known else packed_if_small(message),
        )


def delivery_of(delivery: Delivery) -> int | None:
    """Return which delivery of its message this is, from 1, or None where nobody knows."""
    return delivery.deaths + 1 if delivery.deaths < MOST_DEATHS else None


async def in_good_time(write: Callable[[], Awaitable[None]], complaint: str, count: int) -> None:
    """Write, and log it if that fails or takes too long."""
    failure: Exception | None = None
    with anyio.move_on_after(WRITE_SECONDS) as waiting:
        try:
            await write()
        except Exception as error:  # noqa: BLE001 - whatever it is, the consumer goes on
            failure = error
    if failure is not None or waiting.cancelled_caught:
        why = "it took too long" if failure is None else type(failure).__name__
        log.warning("%d %s: %s", count, complaint, why)
