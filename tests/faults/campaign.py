"""One campaign: faults one after the other while a crowd books, then peace, then the verdict."""

import contextlib
import itertools
import os
import random
import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import psycopg
import pytest
from aiormq.exceptions import AMQPError

from tests.faults.account import Account, Entry, as_booked, judge
from tests.faults.crowd import Client, Crowd
from tests.faults.kinds import End, Kind, kinds_of
from tests.faults.worlds import DEAD, MAIN, World
from tests.servers import ServerMissing

CLIENTS = 8
# The share of faults over which a second one is laid.
TWICE = 0.2
# How many seconds faults last, and how often: most are over before anybody has noticed, some only
# after every deadline and heartbeat of the clinic.
LASTING = ((0.1, 2), (2, 7), (7, 22))
LASTING_WEIGHTS = (70, 22, 8)
# The clinic must be back at work after a fault within this time.
RECOVERY_SECONDS = 60.0
PROBE_SECONDS = 1.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Plan:
    """What a campaign does: everything is drawn from the seed."""

    seed: int
    faults: int
    bookings: int
    only: Sequence[str] = ()
    """The names, or parts of names, of the kinds of faults to draw from; all unless given."""
    longest_seconds: float = 22.0
    """How long a fault may last."""
    quiet_seconds: float = 180.0
    """How long everything may take to come to rest in the end. An event waits to be published again
    for twice as long each time, and RabbitMQ has retries of its own."""


@dataclass
class Recovery:
    """How long the clinic took after each fault of a kind, in seconds."""

    books: list[float] = field(default_factory=list)
    """Until both processes that book had confirmed a booking."""
    records: list[float] = field(default_factory=list)
    """Until those bookings were recorded."""


@dataclass
class Campaign:
    """A run of a plan in a world; ``say`` gets each line that is told of it."""

    world: World
    plan: Plan
    say: Callable[[str], object] = print
    account: Account = field(default_factory=Account)
    recoveries: defaultdict[str, Recovery] = field(default_factory=lambda: defaultdict(Recovery))
    _done: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.plan.seed} faults")
        # The probes have a generator of their own: how often they ask again depends on the machine,
        # and the faults that are drawn must not.
        self._probes_rng = random.Random(f"{self.plan.seed} probes")
        self._numbers = itertools.count(1)

    def run(self) -> Account:
        """Run it all in a world that stands; return the account with all violations."""
        plan, began = self.plan, time.monotonic()
        crowd = Crowd(
            [place.port for place in self.world.booking], self.account, plan.seed, CLIENTS
        )
        with crowd.present():
            for kinds in self._rounds():
                self._round(crowd, kinds)
            crowd.allow(plan.bookings, seconds=1)
            crowd.until_answered()
        self._until_quiet()
        judge(self.account, self.world.keeps())
        self._read_logs()
        self._tell(time.monotonic() - began)
        return self.account

    def _rounds(self) -> Iterator[list[Kind]]:
        """Yield which faults come together, each kind once before any comes again."""
        possible = [
            kind
            for kind in kinds_of(self.world)
            if not self.plan.only or any(part in kind.name for part in self.plan.only)
        ]
        assert possible, f"no fault is called {self.plan.only}"
        deck: list[Kind] = []
        left = self.plan.faults
        while left > 0:
            together: list[Kind] = []
            for _ in range(min(left, 2 if self._rng.random() < TWICE else 1)):
                if not deck:
                    deck = self._rng.sample(possible, len(possible))
                if not together or deck[-1].part != together[0].part:
                    together.append(deck.pop())
            left -= len(together)
            yield together

    def _round(self, crowd: Crowd, kinds: list[Kind]) -> None:
        """Let faults come and go, and measure how long the clinic takes after that."""
        rng = self._rng
        shortest, longest = rng.choices(LASTING, LASTING_WEIGHTS)[0]
        lasts = min(self.plan.longest_seconds, rng.uniform(shortest, longest))
        self._done += len(kinds)
        crowd.allow(self.plan.bookings * self._done // self.plan.faults, lasts + 1)
        time.sleep(rng.uniform(0, 0.5))
        name = " and ".join(kind.name for kind in kinds)
        ends: list[End] = []
        try:
            ends.extend(kind.begin(self.world, rng) for kind in kinds)
            time.sleep(lasts)
        finally:
            for end in reversed(ends):
                end()
        recovery = self.recoveries[name if len(kinds) == 1 else "two at once"]
        books, records = self._measure(name)
        recovery.books.append(books)
        recovery.records.append(records)
        self.say(
            f"{self._done:5} {name}, for {lasts:.1f} s: "
            f"books after {books:.1f} s, records after {records:.1f} s; "
            f"{crowd.begun} bookings asked for"
        )
        for place in self.world.places:
            if words := place.last_words():
                self.account.violated("ended by itself", f"after {name}: {words}")
                place.start()

    def _measure(self, name: str) -> tuple[float, float]:
        """Book at each process, and wait until that is recorded; return how long both took."""
        began = time.monotonic()
        probes: list[Entry] = []
        for place in self.world.booking:
            client = Client([place.port], self.account, self._probes_rng, PROBE_SECONDS)
            number = next(self._numbers)
            fields = {
                "patient_name": f"probe {number}",
                "office_number": f"probe {number}",
                "date_time": "2027-12-01T15:30:00",
                "duration_minutes": 15,
            }
            probes.append(Entry(as_booked(fields)))
            with contextlib.closing(client):
                client.book(probes[-1])
        books = time.monotonic() - began
        deadline = time.monotonic() + RECOVERY_SECONDS
        left = [entry.id for entry in probes if entry.id is not None]
        while left and time.monotonic() < deadline:
            left = [number for number in left if not self._is_recorded(number)]
            time.sleep(POLL_SECONDS)
        records = time.monotonic() - began
        if left or books > RECOVERY_SECONDS:
            self.account.violated(
                "not recovered", f"{name}: books {books:.1f}, records {records:.1f}"
            )
        return books, records

    def _is_recorded(self, number: int) -> bool:
        with contextlib.suppress(psycopg.OperationalError, sqlite3.OperationalError):
            return self.world.is_recorded(number)
        return False

    def _until_quiet(self) -> None:
        """Wait until no event is open, no message on its way, and every process ready."""
        deadline = time.monotonic() + self.plan.quiet_seconds
        while unquiet := self._unquiet():
            if time.monotonic() > deadline:
                self.account.violated("never quiet", unquiet)
                return
            time.sleep(0.2)

    def _unquiet(self) -> str:
        """Return what is not at rest yet, if anything is not."""
        try:
            return self._at_work()
        except (AMQPError, OSError, psycopg.OperationalError, sqlite3.OperationalError) as error:
            return repr(error)

    def _at_work(self) -> str:
        world = self.world
        for place in world.places:
            if not place.is_ready():
                return f"{place.role} at {place.port} is not ready: {place.clinic.log[-600:]}"
        if count := world.open_events():
            return f"{count} events are open"
        for queue in (MAIN, DEAD):
            if count := world.messages(queue):
                return f"{count} messages are in {queue}"
        return ""

    def _read_logs(self) -> None:
        """Whatever the world does, nothing of it is a crash."""
        for log in self.world.logs():
            if "Traceback" in log:
                start = log.index("Traceback")
                self.account.violated("crashes", log[max(0, start - 300) : start + 1500])
        for words in self.world.ended_badly:
            self.account.violated("ended badly", words)

    def _tell(self, seconds: float) -> None:
        say, account, plan = self.say, self.account, self.plan
        kinds = sorted(self.recoveries.items())
        say(
            f"\nseed {plan.seed}: {self._done} faults, {len(account.entries)} bookings asked for, "
            f"in {seconds / 60:.1f} min"
        )
        answers = ", ".join(
            f"{status}: {count}" for status, count in sorted(account.statuses.items())
        )
        say(f"answers: {answers}")
        changes = sum(len(entry.stands.events) - 1 for entry in account.confirmed if entry.stands)
        say(f"confirmed: {len(account.confirmed)} bookings, {changes} changes")
        say(f"{'seconds until the clinic':52}{'books':>15}{'records':>15}")
        say(f"{'after':44}{'times':>8}{'median':>8}{'worst':>7}{'median':>8}{'worst':>7}")
        for name, recovery in kinds:
            columns = [
                f"{statistics.median(times):8.1f}{max(times):7.1f}"
                for times in (recovery.books, recovery.records)
            ]
            say(f"{name:44}{len(recovery.books):8}{''.join(columns)}")
        for line in account.told():
            say(line)
        say(
            "verdict: not clean"
            if account.violations
            else "verdict: clean: 0 lost, 0 doubled, 0 overlaps, no 5xx but 503, no process that "
            "ended by itself"
        )


def run(world: World, plan: Plan, *, required: bool = True) -> Account:
    """Run a plan in a world; where a server is missing, skip the test.

    In CI fail it, if the world is ``required``.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(world.standing())
        except ServerMissing as error:
            if required and os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        return Campaign(world, plan).run()
