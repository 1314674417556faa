"""Take messages from a broker, have them handled in batches, settle each."""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from clinic.messaging.broker import Broker, Delivery
from clinic.messaging.message import Message, Unreadable
from clinic.messaging.outbox import Outbox
from clinic.messaging.settlement import settle
from clinic.supervisor import Lifecycle, Unavailable

log = logging.getLogger(__name__)

# One transaction records so many. Recording one costs about as much as its share of the commit
# from here on, and a batch should be over well within a lease.
BATCH = 100

Handle = Callable[[Sequence[Message]], Awaitable[None]]
"""Do with messages what is to be done with them: with all of them, or with none and raise.

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

    What has come to its end so is closed in the ``outbox``, for that not to publish it again.

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
                outcomes = await self._attempt(deliveries)
                ended = [
                    delivery.message.id
                    for delivery, failure in outcomes
                    if await settle(delivery, failure, self.death_limit)
                ]
                if ended:
                    await self.outbox.settle(ended)

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
        try:
            await self.handle([delivery.message for delivery in deliveries])
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
