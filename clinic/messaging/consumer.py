"""Take messages from a broker, have them handled in batches, settle each."""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

import anyio

from clinic.database import Connection, DataRefused, again_if_lost
from clinic.messaging.broker import MOST_DEATHS, Broker, Delivery
from clinic.messaging.journal import Ended, Failed, Journal
from clinic.messaging.message import Message, Unreadable, shown
from clinic.messaging.outbox import Outbox
from clinic.messaging.settlement import settle
from clinic.metrics import FAILED, HANDLED
from clinic.supervisor import Lifecycle, Unavailable

log = logging.getLogger(__name__)

# Events in one transaction. It takes four turns of the event loop whatever their number, and turns
# are long while bookings come in: with batches of 100 the consumer fell behind at 3,400 bookings a
# second (benchmarks/README.md). In larger batches, one that fails delays too many others.
BATCH = 250

Handle = Callable[[Connection, Sequence[Message]], Awaitable[Sequence[Unreadable | None]]]
"""Handle messages in the given transaction.

Return for each message, in order, None if it was handled, or why it never can be.

Raises:
    Unavailable: none can be handled now, through no fault of theirs.
    Exception: handling failed, because of one of them or of all.
"""


class Standing(Enum):
    """What is known of a message whose handling failed."""

    HANDLED = auto()
    """It is a copy of an event that was handled before."""
    OPEN = auto()
    """It is the event that the log has under its id, which was never handled."""
    FOREIGN = auto()
    """It is not an event of the log, whatever its id."""


Recognise = Callable[[Connection, Sequence[Message]], Awaitable[Sequence[Standing]]]
"""Return the standing of each message, in order.

Raises:
    Unavailable: the database cannot tell now.
"""


class RehearsedFailure(Exception):
    """``ERROR_PROBABILITY`` had this delivery fail."""


@dataclass(frozen=True)
class Consumer:
    """The service that has messages handled, each until it is solved or set aside.

    Events that end here are closed in the ``outbox``, so that no relay publishes them again: those
    that were handled in the transaction that handled them, those that were set aside after that.
    What failed is written down in the ``journal``, if there is one.

    ``error_probability`` is the share of deliveries, 0 to 1, that fail on purpose.
    """

    broker: Broker
    outbox: Outbox
    handle: Handle
    recognise: Recognise
    death_limit: int
    error_probability: float = 0.0
    journal: Journal | None = None

    async def run(self, lifecycle: Lifecycle) -> None:
        """Handle messages until asked to stop; a service.

        Raises:
            Unavailable: no message can be handled now. Deliveries in hand go back, without a death.
        """
        # Take nothing from the broker before the database can store it.
        await self.outbox.database.ping()
        async with self.broker.consuming(BATCH) as receive:
            while not lifecycle.stopping:
                deliveries: Sequence[Delivery] = ()
                lifecycle.up()
                with lifecycle.until_stop():
                    deliveries = await receive()
                await self._settle(deliveries, await self._attempt(deliveries))

    async def _attempt(self, deliveries: Sequence[Delivery]) -> list[Exception | None]:
        """Have a batch handled; return for each delivery why it failed, or None."""
        failures: dict[int, Exception | None] = {
            index: RehearsedFailure()
            for index in range(len(deliveries))
            if random.random() < self.error_probability  # noqa: S311
        }
        spared = [index for index in range(len(deliveries)) if index not in failures]
        found = await self._failures([deliveries[index].message for index in spared])
        failures.update(zip(spared, found, strict=True))
        return [failures[index] for index in range(len(deliveries))]

    async def _failures(self, messages: Sequence[Message]) -> Sequence[Exception | None]:
        """Have messages handled; return for each why that failed, or None."""
        if not messages:
            return []
        try:
            return await again_if_lost(partial(self._transact, messages))
        except Unavailable:
            raise
        except DataRefused as error:
            if len(messages) == 1:
                return [Unreadable(f"the database does not accept its values: {error}")]
        except Exception as error:  # noqa: BLE001 - whatever it is, a delivery failed of it
            if len(messages) == 1:
                return [error]
        # One bad message must not take its neighbours with it. Halving takes few transactions.
        middle = len(messages) // 2
        return [
            *await self._failures(messages[:middle]),
            *await self._failures(messages[middle:]),
        ]

    async def _transact(self, messages: Sequence[Message]) -> Sequence[Unreadable | None]:
        async with self.outbox.database.transaction() as connection:
            failures = await self.handle(connection, messages)
            handled = [
                message.id
                for message, failure in zip(messages, failures, strict=True)
                if failure is None
            ]
            if handled:
                await self.outbox.close(connection, handled)
        HANDLED.inc(len(handled))
        return failures

    async def _settle(
        self, deliveries: Sequence[Delivery], failures: Sequence[Exception | None]
    ) -> None:
        """Settle each delivery."""
        failed: list[tuple[Delivery, Exception]] = []
        for delivery, failure in zip(deliveries, failures, strict=True):
            if failure is None:
                await settle(delivery, None, self.death_limit)
            else:
                failed.append((delivery, failure))
        if failed:
            await self._settle_failed(failed)

    async def _settle_failed(self, failed: Sequence[tuple[Delivery, Exception]]) -> None:
        """Settle deliveries that failed; copies of events that were handled before are solved.

        An event is closed when its own message is set aside, not when garbage under its id is.
        """
        ended: list[Ended] = []

        async def settle_one(delivery: Delivery, failure: Exception, standing: Standing) -> None:
            copy = standing is Standing.HANDLED
            if not copy:
                log_failure(delivery, failure)
            ending = await settle(delivery, None if copy else failure, self.death_limit)
            if not copy:
                FAILED.labels(type(failure).__name__, "set_aside" if ending else "retried").inc()
            if ending and not copy:
                known = standing is Standing.OPEN
                ended.append(Ended(Failed(delivery, failure, known), ending.key, ending.reason))

        standings = await self._standings([delivery.message for delivery, _ in failed])
        if self.journal:
            # Before they are settled: if this process dies in between, they are tried once more,
            # and that is kept as well.
            await self.journal.failed(
                [
                    Failed(delivery, failure, standing is Standing.OPEN)
                    for (delivery, failure), standing in zip(failed, standings, strict=True)
                    if standing is not Standing.HANDLED
                ]
            )
        try:
            # Concurrently, because setting one aside takes a round trip to the broker.
            async with anyio.create_task_group() as tasks:
                for (delivery, failure), standing in zip(failed, standings, strict=True):
                    tasks.start_soon(settle_one, delivery, failure, standing)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        if known := [one.failed.delivery.message.id for one in ended if one.failed.known]:
            await again_if_lost(partial(self._close, known))
        if self.journal and ended:
            await self.journal.set_aside(ended)

    async def _close(self, ids: Sequence[str]) -> None:
        async with self.outbox.database.transaction() as connection:
            await self.outbox.close(connection, ids)

    async def _standings(self, messages: Sequence[Message]) -> Sequence[Standing]:
        try:
            async with self.outbox.database.snapshot() as connection:
                return await self.recognise(connection, messages)
        except Unavailable:
            raise
        except Exception:
            log.exception(
                "%d messages failed, and it is unknown whether they are copies of recorded events",
                len(messages),
            )
            return [Standing.FOREIGN] * len(messages)


def log_failure(delivery: Delivery, failure: Exception) -> None:
    """Log why a delivery failed, with the traceback where the failure is not one of our own."""
    expected = isinstance(failure, Unreadable | RehearsedFailure)
    log.warning(
        "message %s failed at attempt %s: %s",
        shown(delivery.message.id) or "without id",
        delivery.deaths + 1 if delivery.deaths < MOST_DEATHS else "(unknown)",
        str(failure) if isinstance(failure, Unreadable) else type(failure).__name__,
        exc_info=None if expected else failure,
    )
