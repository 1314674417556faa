"""The pipeline as a queueing simulation by discrete events: python -m benchmarks.simulation.

Bookings arrive at random (a Poisson process) and pass three steps: book, relay, record. A step
takes a batch of what waits for it and holds what it needs for as long as its calibration says:
first the clinic's process, then PostgreSQL, then RabbitMQ, one after the other. Each is a resource
with a number of cores; processes that share a machine share its cores, too. Where everything is on
one machine, so is who sends the bookings. A relay starts when it has a full batch, or at the
end of the time for which it gathers.

It is calibrated by the service demands that ``demands.py`` measures, and checked against two points
that it was not calibrated by: the rate at which one process books and records (row "together"), and
how long an event travels at half that rate (row "counted").
"""

import heapq
import itertools
import json
import random
import statistics
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.table import FIGURES, number
from clinic.messaging import consumer
from clinic.messaging.relay import Pace

# Bookings and seconds of a run, at least: enough for a relay to gather often in it.
BOOKINGS = 12_000
LEAST_SECONDS = 2.0
# What a relay and a consumer take at once. Group commit is in the booking's own demand.
BATCHES = {"relay": Pace().batch, "record": consumer.BATCH}
STEPS = ("book", "relay", "record")
PARTS = ("clinic", "postgres", "rabbit")
# The first stage: a booking is sent. It takes nothing where the senders have machines of their own.
SENDING = ("send", "client")
# A rate is sustained if what is still on its way at the end is less than this part of it.
MOST_BEHIND = 0.1
# The stage of an event at which nothing ends: somebody may begin then.
NOTHING = -2


@dataclass(frozen=True)
class Place:
    """A deployment: how many cores of what there are, and who needs which for each step."""

    name: str
    cores: Mapping[str, int]
    needs: Mapping[tuple[str, str], Sequence[str]]
    """For each step and part the resources that are held together, one core of each."""


def one_machine(cores: int = 2) -> Place:
    """Return one process for everything and both servers, on one machine."""
    resources = {"machine": cores, "clinic": 1}
    needs: dict[tuple[str, str], Sequence[str]] = {
        (step, part): ("machine", "clinic") if part == "clinic" else ("machine",)
        for step in STEPS
        for part in PARTS
    }
    needs[SENDING] = ("machine",)
    return Place(f"all in one process, everything on {cores} cores", resources, needs)


def many_machines(apis: int, consumers: int, postgres: int = 4, rabbit: int = 4) -> Place:
    """Return processes of each role, and servers of a number of cores, on machines of their own."""
    resources = {"api": apis, "consumer": consumers, "PostgreSQL": postgres, "RabbitMQ": rabbit}
    roles = {"book": "api", "relay": "api", "record": "consumer"}
    servers = {"postgres": "PostgreSQL", "rabbit": "RabbitMQ"}
    needs: dict[tuple[str, str], Sequence[str]] = {
        (step, part): (roles[step] if part == "clinic" else servers[part],)
        for step in STEPS
        for part in PARTS
    }
    needs[SENDING] = ()
    name = f"{apis} API, {consumers} consumer; PostgreSQL {postgres} cores, RabbitMQ {rabbit}"
    return Place(name, resources, needs)


@dataclass
class Run:
    """One run of a simulation, over as soon as it is made."""

    place: Place
    demands: Mapping[tuple[str, str], float]
    rate: float
    seed: int = 1
    latencies: list[float] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._free = dict(self.place.cores)
        self.busy = dict.fromkeys(self.place.cores, 0.0)
        self._stages = [SENDING, *itertools.product(STEPS, PARTS)]
        self.seconds = max(LEAST_SECONDS, BOOKINGS / self.rate)
        self._waiting: list[deque[tuple[float, list[float]]]] = [deque() for _ in self._stages]
        self._order = itertools.count()
        self._events: list[tuple[float, int, int, list[float]]] = []
        self._due = 0
        self._play()

    @property
    def left(self) -> int:
        """How many had not arrived at the end."""
        return self.booked - len(self.latencies)

    def _play(self) -> None:
        chance = random.Random(self.seed)  # noqa: S311
        self.booked, moment = 0, 0.0
        while (moment := moment + chance.expovariate(self.rate)) < self.seconds:
            self._happen(moment, -1, [moment])
            self.booked += 1
        for tick in range(1, int(self.seconds / Pace().gather_seconds) + 1):
            self._happen(tick * Pace().gather_seconds, NOTHING, [])
        while self._events:
            moment, _, stage, batch = heapq.heappop(self._events)
            if moment > self.seconds:
                return
            if stage >= 0:
                for name in self._needs(stage):
                    self._free[name] += 1
            if stage != NOTHING:
                self._pass_on(stage + 1, moment, batch)
            self._begin(moment, gathered=stage == NOTHING)

    def _happen(self, moment: float, stage: int, batch: list[float]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), stage, batch))

    def _needs(self, stage: int) -> Sequence[str]:
        return self.place.needs[self._stages[stage]]

    def _pass_on(self, stage: int, moment: float, batch: list[float]) -> None:
        if stage == len(self._stages):
            self.latencies += [moment - booked for booked in batch]
        else:
            self._waiting[stage].append((moment, batch))

    def _begin(self, moment: float, *, gathered: bool) -> None:
        """Begin whatever can be begun, what waits longest first."""
        relaying = self._stages.index(("relay", "clinic"))
        if gathered:
            self._due = len(self._waiting[relaying])
        ready = sorted((queue[0][0], stage) for stage, queue in enumerate(self._waiting) if queue)
        for _, stage in ready:
            while self._waiting[stage] and all(self._free[name] for name in self._needs(stage)):
                if stage == relaying:
                    if not self._due and len(self._waiting[stage]) < BATCHES["relay"]:
                        break
                    self._due = max(0, self._due - BATCHES["relay"])
                batch = self._take(stage)
                took = self.demands[self._stages[stage]] * len(batch)
                for name in self._needs(stage):
                    self._free[name] -= 1
                    self.busy[name] += took
                self._happen(moment + took, stage, batch)

    def _take(self, stage: int) -> list[float]:
        """Take one booking, or a batch: a batch that was made stays together to its step's end."""
        queue = self._waiting[stage]
        batch = queue.popleft()[1]
        step, part = self._stages[stage]
        while part == "clinic" and queue and len(batch) < BATCHES.get(step, 0):
            batch = batch + queue.popleft()[1]
        return batch


def sustained(place: Place, demands: Mapping[tuple[str, str], float]) -> Run:
    """Return the run at the highest rate whose backlog does not grow, to within 3 %."""
    load = dict.fromkeys(place.cores, 0.0)
    for stage, names in place.needs.items():
        for name in names:
            load[name] += demands[stage]
    # No place sustains more than what fills its first resource.
    high = 1.02 * min(place.cores[name] / seconds for name, seconds in load.items())
    low = high / 2
    while high / low > 1.03:  # noqa: PLR2004
        rate = (low * high) ** 0.5
        run = Run(place, demands, rate)
        low, high = (rate, high) if run.left < run.booked * MOST_BEHIND else (low, rate)
    return Run(place, demands, low)


def lines(figures: Mapping[str, object]) -> Iterator[list[str]]:
    """Yield a line a deployment: what it sustains, what holds it up, how long an event travels."""
    measured = figures["demands"]
    assert isinstance(measured, dict)
    demands = {
        (step, part): measured[step][place] / 1e6
        for step in STEPS
        for place, part in enumerate(PARTS)
    }
    demands[SENDING] = float(str(figures["generator"])) / 1e6
    for place in (
        one_machine(),
        many_machines(1, 1),
        many_machines(2, 1),
        many_machines(4, 2),
        many_machines(8, 4),
        many_machines(16, 8),
        many_machines(16, 8, postgres=16),
        many_machines(16, 8, postgres=16, rabbit=16),
    ):
        most = sustained(place, demands)
        full = {name: busy / most.seconds / place.cores[name] for name, busy in most.busy.items()}
        half = Run(place, demands, most.rate / 2)
        travelled = sorted(half.latencies)
        median, p99 = statistics.median(travelled), travelled[len(travelled) * 99 // 100]
        yield [
            place.name,
            f"{number(most.rate)}/s",
            max(full, key=lambda name: full[name]),
            f"{median * 1000:.1f} / {p99 * 1000:.1f} ms",
        ]


def measured_travel(figures: Mapping[str, object]) -> str:
    """Return how long an event really travelled, as the table tells it of the simulated ones."""
    counted = figures["counted"]
    assert isinstance(counted, list)
    return f"{counted[1]:.1f} / {counted[2]:.1f} ms"


def report(figures: Mapping[str, object]) -> str:
    """Return the simulated deployments as a Markdown table, with the check before it."""
    table = list(lines(figures))
    heads = ["deployment", "sustained", "full first", "booked to counted at half: median / p99"]
    rows = [heads, ["---"] * len(heads), *table]
    check = (
        f"The check: {table[0][0]}, sustains {table[0][1]} simulated, "
        f"{number(float(str(figures['together'])))}/s measured; at half the rate an event travels "
        f"for {table[0][3]} simulated, {measured_travel(figures)} measured (median / 99th "
        "percentile).\n\n"
    )
    return check + "".join("| " + " | ".join(row) + " |\n" for row in rows)


if __name__ == "__main__":
    print(report(json.loads(FIGURES.read_text())))
