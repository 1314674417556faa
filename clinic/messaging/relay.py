"""The relay: carry events from the outbox to a broker."""

import contextlib
import itertools
import time
from collections import deque
from dataclasses import dataclass, field

import anyio

from clinic.messaging.broker import Broker, Publish
from clinic.messaging.outbox import Held, Outbox, Published
from clinic.metrics import PUBLISHED
from clinic.supervisor import Lifecycle, Unavailable


@dataclass(frozen=True)
class Pace:
    """How a relay divides its work, and how often it looks for more."""

    batch: int = 400
    """Events in a batch. The next batch is taken when all of this one is confirmed: with smaller
    ones the broker would wait more often (benchmarks/README.md)."""
    poll_seconds: float = 1.0
    """How often to look for events that are due, and whether the broker is still there. Events that
    this process writes are relayed at once."""
    gather_seconds: float = 0.05
    """How long to gather events. No client waits for an event; one event takes as many transactions
    as a hundred, and bookings wait behind those."""
    mark_after_seconds: float = 2.0
    """How long consumers have to close what was published before it is marked."""
    clock_seconds: float = 60.0
    """How often to read the database's clock: two good clocks drift apart by 5 ms in that time."""
    release_seconds: float = 3.0
    """How long a relay that has failed may take to release what it holds."""


@dataclass
class Relay:
    """The service that publishes what is held and what is due; any number may run over one outbox.

    When it is restarted, it still has the events that it has not marked, or could not release.
    """

    outbox: Outbox
    broker: Broker
    pace: Pace = Pace()
    _in_hand: list[Held] = field(default_factory=list)
    _unmarked: deque[Published] = field(default_factory=deque)
    _poll_at: float = 0.0
    _read_clock_at: float = 0.0

    async def run(self, lifecycle: Lifecycle) -> None:
        """Publish until asked to stop, and then what this process still holds; a service.

        Raises:
            Unavailable: the database or the broker is away. Other relays may take the events that
                this one held at once.
        """
        self._poll_at = self._read_clock_at = 0.0
        try:
            await self._release()
            await self._read_clock()
            async with self.broker.publishing() as publish:
                self.outbox.relaying = True
                await self._relay(publish, lifecycle)
                await self._mark()
        except BaseException:
            self.outbox.relaying = False
            await self._let_go()
            raise

    async def _relay(self, publish: Publish, lifecycle: Lifecycle) -> None:
        while self.outbox.holds_any or not lifecycle.stopping:
            self.outbox.news.clear()
            if not lifecycle.stopping and time.monotonic() >= self._poll_at:
                await self._poll()
            self._in_hand += self.outbox.take_held(self.pace.batch - len(self._in_hand))
            taken = len(self._in_hand)
            await self._publish(publish)
            lifecycle.up()
            await self._mark_in_passing()
            if taken < self.pace.batch:
                with lifecycle.until_stop():
                    await self._gather(idle=not taken)

    async def _poll(self) -> None:
        """Claim events that are due; after a full batch poll again at once."""
        await self._read_clock()
        self._in_hand = await self.outbox.claim(self.pace.batch)
        more = len(self._in_hand) == self.pace.batch
        self._poll_at = time.monotonic() + (0 if more else self.pace.poll_seconds)

    async def _read_clock(self) -> None:
        if time.monotonic() >= self._read_clock_at:
            await self.outbox.read_clock()
            self._read_clock_at = time.monotonic() + self.pace.clock_seconds

    async def _gather(self, *, idle: bool) -> None:
        """Wait until there is something to publish, and then a moment for more."""
        if idle:
            with anyio.move_on_after(self.pace.poll_seconds):
                await self.outbox.news.wait()
        await anyio.sleep(self.pace.gather_seconds)

    async def _publish(self, publish: Publish) -> None:
        """Publish what is in hand, and release what the broker did not store.

        With nothing in hand, this checks that the broker is there.
        """
        stored = await publish([one.message for one in self._in_hand])
        PUBLISHED.inc(len(stored))
        self._unmarked += self.outbox.published(
            one for one in self._in_hand if one.message.id in stored
        )
        self._in_hand = [one for one in self._in_hand if one.message.id not in stored]
        await self._release()

    async def _mark_in_passing(self) -> None:
        """Mark events that consumers have had the time to close, if any of them is still open."""
        newest = time.monotonic() - self.pace.mark_after_seconds
        # Not before the first has waited for twice as long, so that one look serves many.
        if not self._unmarked or self._unmarked[0].at > newest - self.pace.mark_after_seconds:
            return
        waited = list(itertools.takewhile(lambda one: one.at <= newest, self._unmarked))
        # Each of them that is open still has its hold in its row.
        any_open = await self.outbox.any_open(max(one.held_until for one in waited))
        await self._mark(len(waited), any_open=any_open)

    async def _mark(self, count: int | None = None, *, any_open: bool = True) -> None:
        """Mark the first of what was published, or all, in batches: more would hold up bookings."""
        left = len(self._unmarked) if count is None else count
        while left:
            some = list(itertools.islice(self._unmarked, min(left, self.pace.batch)))
            if any_open:
                await self.outbox.mark(some)
            for _ in some:
                self._unmarked.popleft()
            left -= len(some)

    async def _release(self) -> None:
        """Release what is in hand."""
        while self._in_hand:
            await self.outbox.release(self._in_hand[: self.pace.batch])
            del self._in_hand[: self.pace.batch]

    async def _let_go(self) -> None:
        """Release held events and mark published ones; keep the others for the next start."""
        self._in_hand += self.outbox.take_held(self.outbox.most_held)
        with (
            anyio.CancelScope(shield=True),
            anyio.move_on_after(self.pace.release_seconds),
            contextlib.suppress(Unavailable),
        ):
            await self._release()
            await self._mark()
