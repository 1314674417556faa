"""The writer: one service takes the bookings that wait and writes them together.

A commit costs about the same for one appointment as for a hundred, so bookings that arrive while
others are being written share the next commit (group commit): half of all clients in flight, while
the other half is being answered. A booking that comes alone is written at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from clinic.appointments.booking import (
    Confirmation,
    Outcomes,
    Request,
    book_in_transaction,
    book_plain,
)
from clinic.database import Crowded, Database, StatementRefused, again_if_lost
from clinic.messaging.outbox import Outbox
from clinic.metrics import BATCH_SIZE
from clinic.registry.records import RegistryChanged
from clinic.supervisor import Lifecycle, Unavailable

# Larger batches do not raise throughput and do raise latency.
BATCH = 128
# A client that comes when this many bookings wait is asked to come again: 503.
MOST_WAITING = 512


@dataclass(eq=False, slots=True)
class _Waiting:
    """A booking that waits to be written."""

    request: Request
    answer: asyncio.Future[Confirmation]

    def resolve(self, outcome: Confirmation | Exception) -> None:
        if self.answer.done():
            return  # the client has gone away; its appointment stands all the same
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


@dataclass
class Writer:
    """The service that writes bookings into the book, many in one transaction."""

    database: Database
    outbox: Outbox
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, request: Request) -> Confirmation:
        """Have a booking written, and its event: both or neither.

        Raises:
            NotFree: the office or the doctor was taken.
            RegistryChanged: it was judged by a version of the registry that is no more.
            KeyReused: the key was used for another booking.
            Crowded: too many wait already.
            DatabaseUnavailable: the database cannot do it now.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Crowded("too many bookings wait to be written")
        answer: asyncio.Future[Confirmation] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, answer))
        self._arrived.set()
        return await answer

    async def run(self, lifecycle: Lifecycle) -> None:
        """Write what waits until asked to stop, and then what still waits; a service.

        One batch at a time: bookings that arrive meanwhile make up the next one. Several batches at
        once would each be small, and gain nothing (benchmarks/README.md).
        """
        lifecycle.up()
        written = 0
        while True:
            while not self._waiting:
                if lifecycle.stopping:
                    return
                self._arrived.clear()
                with lifecycle.until_stop():
                    await self._arrived.wait()
            batch = self._next_batch(written)
            written = len(batch)
            try:
                await self._write(batch)
            except BaseException as error:
                # A bug of ours, or the end of the process: nobody may wait for ever.
                known = error if isinstance(error, Exception) else Unavailable("the clinic stops")
                for waiting in batch:
                    waiting.resolve(known)
                raise

    def _next_batch(self, written: int) -> list[_Waiting]:
        """Take at most half of the clients in flight; stop at an idempotency key that comes twice.

        All of a batch were judged by one version of the registry.

        The clients ``written`` last count as in flight: they are being answered and will come again
        while the other half is written. If all were taken, the first client to come back would be
        written alone and everybody else together after that: the database and the event loop would
        take turns.
        """
        batch: list[_Waiting] = []
        keys: set[str] = set()
        most = min(BATCH, (written + len(self._waiting) + 1) // 2)
        while self._waiting and len(batch) < most:
            request = self._waiting[0].request
            if batch and request.version != batch[0].request.version:
                break
            key = request.key
            if key is not None:
                if key.key in keys:
                    break
                keys.add(key.key)
            batch.append(self._waiting.popleft())
        return batch

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        """Write a batch, and answer everyone in it."""
        book: Callable[[Database, Outbox, Sequence[Request]], Awaitable[Outcomes]] = book_plain
        if not all(waiting.request.plain for waiting in batch):
            book = book_in_transaction
        requests = [waiting.request for waiting in batch]
        try:
            outcomes = await again_if_lost(partial(book, self.database, self.outbox, requests))
        except StatementRefused as error:
            if len(batch) > 1:
                # One that the schema refuses must not take its neighbours with it.
                for waiting in batch:
                    await self._write([waiting])
                return
            outcomes = {requests[0]: error}
        except RegistryChanged as error:
            outcomes = dict.fromkeys(requests, error)
        except Unavailable as error:
            # For the clients, not for the supervisor: each learns it at once, and the next batch is
            # the next try.
            outcomes = dict.fromkeys(requests, error)
        BATCH_SIZE.observe(len(batch))
        for waiting in batch:
            waiting.resolve(outcomes[waiting.request])
