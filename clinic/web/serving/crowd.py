"""All connections together: who keeps us waiting and for how long, and who makes room when full."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from uvicorn.server import ServerState

from clinic.web.serving.limits import Limits
from clinic.web.serving.tally import Happened, Tally

# How long a cancelled request may take to end; ours end at once.
LAST_WORDS_SECONDS = 0.5


class Member(Protocol):
    """A connection, as the crowd sees it."""

    @property
    def in_hand(self) -> bool:
        """Whether a request of it is being answered."""

    def overdue(self) -> None:
        """Heed that its client keeps us waiting for longer than it may."""

    def give_way(self) -> None:
        """Leave, for somebody else needs the place."""

    def last_call(self) -> None:
        """End with the next answer."""

    def probe(self) -> None:
        """Find out whether a client that has ended its side is still there."""

    def abort(self) -> None:
        """Close at once."""


@dataclass(eq=False)
class Waiting:
    """Connections that wait for their clients to do one thing: since when, and how long at most."""

    seconds: float
    since: dict[Member, float] = field(default_factory=dict)

    def overdue(self, now: float) -> list[Member]:
        """Return those that have waited for too long."""
        return [member for member, since in self.since.items() if now - since >= self.seconds]


class Crowd:
    """Every open connection, by what it waits for; one with a request in hand waits for us.

    They have no timers: ``look`` is called now and then and checks them all, which costs a request
    next to nothing.
    """

    def __init__(self, limits: Limits, state: ServerState, on_full: Callable[[], None]) -> None:
        self.limits = limits
        self.state = state
        self.tally = Tally()
        self.fresh = Waiting(limits.receive_seconds)
        """For the first byte."""
        self.kept = Waiting(min(limits.take_seconds, limits.keep_alive_seconds))
        """For the next request; the client may still be taking the last answer."""
        self.resting = Waiting(limits.keep_alive_seconds - self.kept.seconds)
        """For the next request; the client has the last answer."""
        self.arriving = Waiting(limits.receive_seconds)
        """For the rest of a request."""
        self.taking = Waiting(limits.take_seconds)
        """For the client to take what we have written."""
        self.leaving = Waiting(limits.linger_seconds)
        """For the client to see the last answer and leave."""
        self.half_closed: dict[Member, float] = {}
        """Connections whose clients have ended their side while we answer; since when, or when they
        were last probed."""
        self._held: dict[Member, int] = {}
        """Bytes of answers that wait for their clients, in the order in which they began to."""
        self._held_bytes = 0
        self._on_full = on_full
        self._loop = asyncio.get_running_loop()

    @property
    def members(self) -> list[Member]:
        """All connections."""
        return cast("list[Member]", list(self.state.connections))

    @property
    def full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return len(self.state.connections) >= self.limits.connections

    def joined(self, member: Member) -> None:
        """Note that there is a connection more; uvicorn, too, looks for it there at a stop."""
        self.state.connections.add(cast("Any", member))
        if self.full:
            self._on_full()

    def left(self, member: Member) -> None:
        """Forget a connection that is no more; it waits for nothing."""
        self.state.connections.discard(cast("Any", member))
        self.half_closed.pop(member, None)
        self.release(member)

    def admits(self, *, whole: bool) -> bool:
        """Tell whether one more request may be taken in hand; ``whole`` if all of it is here.

        If too many are in hand, one whose client keeps us waiting makes room: one that waits for
        the rest of its request, or for the client to take the answer. A whole request goes before
        one that is still arriving.
        """
        if len(self.state.tasks) < self.limits.requests:
            return True
        arriving = list(self.arriving.since) if whole else self._patient(self.arriving)
        held_up = [*arriving, *self._patient(self.taking)]
        return self._make_room(1, [member for member in held_up if member.in_hand])

    def work_on(self, exchange: Coroutine[Any, Any, None]) -> None:
        """Have a request answered; it is in hand until the application has done with it."""
        task = self._loop.create_task(exchange)
        self.state.tasks.add(task)
        task.add_done_callback(self.state.tasks.discard)

    def make_room(self, most: int) -> bool:
        """Close at most ``most`` connections whose clients keep us waiting; tell whether any was.

        Idle ones go first; of those that do the same, those that have done so for longest.
        """
        idle = self._patient(self.fresh, self.kept, self.resting, self.leaving)
        busy = [*self._patient(self.arriving), *self._patient(self.taking)]
        return self._make_room(most, [*idle, *busy])

    def _patient(self, *waitings: Waiting) -> list[Member]:
        """Return those that have waited for longer than anybody may in a crowd, longest first."""
        before = self._loop.time() - self.limits.crowded_seconds
        found = [one for waiting in waitings for one in waiting.since.items() if one[1] <= before]
        return [member for member, _ in sorted(found, key=lambda one: one[1])]

    def _make_room(self, most: int, members: list[Member]) -> bool:
        for member in members[:most]:
            member.give_way()
            self.tally.count(Happened.MADE_ROOM)
        return bool(members)

    def hold(self, member: Member, size: int) -> None:
        """Note that a part of an answer waits for its client; cut others off if it is too much."""
        self._held[member] = size
        self._held_bytes += size
        while self._held_bytes > self.limits.held_bytes and len(self._held) > 1:
            longest = next(iter(self._held))
            self.release(longest)
            longest.give_way()
            self.tally.count(Happened.UNTAKEN)

    def release(self, member: Member) -> None:
        """Note that nothing waits any more."""
        self._held_bytes -= self._held.pop(member, 0)

    def look(self) -> None:
        """Look at all that wait."""
        now = self._loop.time()
        for waiting in (
            self.fresh,
            self.kept,
            self.resting,
            self.arriving,
            self.taking,
            self.leaving,
        ):
            for member in waiting.overdue(now):
                member.overdue()
        for member, since in list(self.half_closed.items()):
            if now - since >= self.limits.probe_seconds:
                self.half_closed[member] = now
                member.probe()
        self.tally.tell()

    async def last_call(self) -> None:
        """Let every client that is connected send one more request, if it comes at once.

        It may be under way already. A proxy that finds its connection closed does not know what has
        become of a POST; it does not send it to another clinic, but answers 502.
        """
        # A stop waits for those who do not take their answer, too.
        self.taking.seconds = min(self.taking.seconds, self.limits.stopping_take_seconds)
        for member in self.members:
            member.last_call()
        if self.members:
            await asyncio.sleep(self.limits.last_call_seconds)

    async def disperse(self) -> None:
        """Close the connections that are left, once cancelled requests have been answered.

        An event loop must not end with an open connection.
        """
        if self.state.tasks:
            await asyncio.wait(self.state.tasks, timeout=LAST_WORDS_SECONDS)
        while self.state.connections:
            for member in self.members:
                member.abort()
            await asyncio.sleep(0)
        self.tally.tell(everything=True)
