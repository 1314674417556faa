"""Row: how much of a core each step of a booking's way takes, in each process: its service demands.

They are processor times, read from the kernel, divided by the number of events. Unlike rates they
depend little on what else the machine does meanwhile; ``simulation.py`` is calibrated by them.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import fill
from benchmarks.load import most
from benchmarks.servers import NO_BROKER, Bench, Program, ask, until
from benchmarks.table import Line
from benchmarks.travelling import messages, publish, written

EVENTS = 5_000
TICKS = os.sysconf("SC_CLK_TCK")
SPARSELY = 0.5


@dataclass(frozen=True)
class Demand:
    """Microseconds of a core that one event takes in each."""

    clinic: float
    postgres: float
    rabbit: float

    def __sub__(self, other: "Demand") -> "Demand":
        return Demand(
            max(0.0, self.clinic - other.clinic),
            max(0.0, self.postgres - other.postgres),
            max(0.0, self.rabbit - other.rabbit),
        )

    def __str__(self) -> str:
        return f"{self.clinic:.0f} + {self.postgres:.0f} + {self.rabbit:.0f}"


def processor_seconds(pids: list[int]) -> float:
    """Return what processes have taken so far, with their children that ended."""
    ticks = 0
    for pid in pids:
        # One that ends as we look stands with its parent's children from then on.
        with contextlib.suppress(OSError):
            # The fields 14 to 17 of proc(5), stat; the name before them may have blanks.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


class Meter:
    """Reads all three from one moment to another."""

    def __init__(self, bench: Bench, clinic: Program) -> None:
        self._bench, self._clinic = bench, clinic
        self._before = self._read()

    def _read(self) -> list[float]:
        pids = ([self._clinic.pid], self._bench.postgres.pids, self._bench.rabbit.pids)
        return [processor_seconds(part) for part in pids]

    def demand(self, events: int) -> Demand:
        """Return what each event took since the beginning."""
        spent = zip(self._read(), self._before, strict=True)
        return Demand(*((after - before) / events * 1e6 for after, before in spent))


def booking(bench: Bench, amqp: str) -> tuple[Demand, float]:
    """Book, and relay what was booked if there is a broker; return what wrk took, too, in us."""
    database = bench.database()
    with bench.clinic("--role", "api", DATABASE_URL=database, AMQP_URL=amqp) as clinic:
        most(clinic.url, 32, 1)
        until(lambda: all_relayed(database, amqp), clinic, poll=SPARSELY)
        before, meter = ask(database, fill.BOOKED)[0], Meter(bench, clinic)
        load = most(clinic.url, 32, 3)
        until(lambda: all_relayed(database, amqp), clinic, poll=SPARSELY)
        demand = meter.demand(ask(database, fill.BOOKED)[0] - before)
        return demand, load.generator_share / load.rate * 1e6


def all_relayed(database: str, amqp: str) -> bool:
    """Tell whether nothing is left that a relay could publish."""
    return amqp == NO_BROKER or ask(database, fill.OPEN)[0] == 0


def recording(bench: Bench) -> Demand:
    """Consume, with nothing else to do."""
    database, amqp = bench.database(), bench.vhost()
    told = messages(EVENTS)
    fill.events(database, told, published=True)
    with bench.clinic("--role", "consumer", DATABASE_URL=database, AMQP_URL=amqp) as clinic:
        clinic.process.send_signal(signal.SIGSTOP)
        publish(amqp, written(bench, told))
        time.sleep(SPARSELY)
        meter = Meter(bench, clinic)
        clinic.process.send_signal(signal.SIGCONT)
        until(lambda: ask(database, fill.RECORDED)[0] >= EVENTS, clinic, poll=SPARSELY)
        return meter.demand(EVENTS)


def demands(bench: Bench) -> Iterator[Line]:
    """What one event takes of a core in the clinic, in PostgreSQL and in RabbitMQ."""
    book, generator = booking(bench, NO_BROKER)
    # What is relayed at once is what this process has just booked: no other load has it do that.
    relayed, _ = booking(bench, bench.vhost())
    found = {"book": book, "relay": relayed - book, "record": recording(bench)}
    bench.figures["generator"] = generator
    bench.figures["demands"] = {
        name: [demand.clinic, demand.postgres, demand.rabbit] for name, demand in found.items()
    }
    told = "; ".join(f"{name} {demand}" for name, demand in found.items())
    yield Line("one event's share of a core in µs: clinic + PostgreSQL + RabbitMQ", told)
