"""Take messages from a broker, have them handled in batches, settle each."""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from clinic.database import Connection, again_if_lost
from clinic.messaging.broker import Broker, Delivery
from clinic.messaging.message import Message, Unreadable
from clinic.messaging.outbox import Outbox
from clinic.messaging.settlement import settle
from clinic.supervisor import Lifecycle, Unavailable

log = logging.getLogger(__name__)

# One transaction records so many. It takes four turns of the event loop, however many there are,
# and those are long while bookings come in: with 100 at a time the consumer fell behind at 3,400
# bookings a second (benchmarks/README.md). With more, one that fails holds up too many others.
BATCH = 250

Handle = Callable[[Connection, Sequence[Message]], Awaitable[None]]
"""Do with messages what is to be done with them, in the transaction that is given.

Raises:
    Unreadable: one of them can never be handled.
    Unavailable: none can be handled now; nobody's fault.
    Exception: handling failed.
"""


class RehearsedFailure(Exception):
    """``ERROR_PROBABILITY`` had this delivery fail."""


@dataclass(frozen=True)
class Consumer:
    """The service that has messages handled, each until it is solved or set aside.

    What has come to its end so is closed in the ``outbox``, for that not to publish it again: what
    was handled in the very transaction in which it was.

    ``error_probability`` is the share of deliveries, 0 to 1, that fail on purpose.
    """

    broker: Broker
    outbox: Outbox
    handle: Handle
    death_limit: int
    error_probability: float = 0.0

    async def run(self, lifecycle: Lifecycle) -> None:
        """Handle messages until asked to stop; a service.

        Raises:
            Unavailable: we cannot work at all. What was in hand goes back, without a death.
        """
        # Nothing is taken from the broker before there is a place to put it.
        await self.outbox.database.ping()
        async with self.broker.consuming(BATCH) as receive:
            while not lifecycle.stopping:
                deliveries: Sequence[Delivery] = ()
                lifecycle.up()
                with lifecycle.until_stop():
                    deliveries = await receive()
                set_aside = [
                    delivery.message.id
                    for delivery, failure in await self._attempt(deliveries)
                    if await settle(delivery, failure, self.death_limit) and failure is not None
                ]
                if set_aside:
                    async with self.outbox.database.transaction() as connection:
                        await self.outbox.settle(connection, set_aside)

    async def _attempt(
        self, deliveries: Sequence[Delivery]
    ) -> list[tuple[Delivery, Exception | None]]:
        """Have a batch handled, and return what became of each delivery."""
        outcomes: list[tuple[Delivery, Exception | None]] = []
        sound: list[Delivery] = []
        for delivery in deliveries:
            if random.random() < self.error_probability:  # noqa: S311
                outcomes.append((delivery, RehearsedFailure()))
            else:
                sound.append(delivery)
        failure = await self._failure_of(sound) if sound else None
        if failure is not None and len(sound) > 1:
            # One bad message must not take its neighbours with it: each answers for itself alone.
            outcomes += [(delivery, await self._failure_of([delivery])) for delivery in sound]
        else:
            outcomes += [(delivery, failure) for delivery in sound]
        for delivery, failure in outcomes:
            if failure is not None:
                log_failure(delivery, failure)
        return outcomes

    async def _failure_of(self, deliveries: Sequence[Delivery]) -> Exception | None:
        messages = [delivery.message for delivery in deliveries]

        async def handle() -> None:
            async with self.outbox.database.transaction() as connection:
                await self.handle(connection, messages)
                await self.outbox.settle(connection, [message.id for message in messages])

        try:
            await again_if_lost(handle)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, this delivery failed of it
            return error
        return None


def log_failure(delivery: Delivery, failure: Exception) -> None:
    """Log why a delivery failed, with the traceback where the failure is not one of our own."""
    expected = isinstance(failure, Unreadable | RehearsedFailure)
    log.warning(
        "message %s failed at attempt %d: %s",
        delivery.message.id or "without id",
        delivery.deaths + 1,
        failure if isinstance(failure, Unreadable) else type(failure).__name__,
        exc_info=None if expected else failure,
    )
