"""Our clinic beside that of another checkout, such as the one before a change.

All it needs of the other is what clients hold, so that any two versions can be compared:
appointments and events are made by booking. Both run all the time, and are asked in turns of a
second: what the machine does meanwhile meets both alike, more than in the turns of the other rows.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from benchmarks import fill
from benchmarks.demands import processor_seconds
from benchmarks.load import most, settle_down
from benchmarks.programs import ROOT
from benchmarks.reading import fetch
from benchmarks.rounds import interleaved, middle, ratio
from benchmarks.servers import NO_BROKER, Bench, Program, ask, until
from benchmarks.table import Line, at_least, number, with_spread

ROUNDS = 20
TRAVELS = 3
# What the noise of a shared machine leaves to tell.
NO_WORSE = 0.95


def beside(bench: Bench, other: Path) -> Iterator[Line]:
    """Yield a line for each figure: ours, the other's, and the median of the rounds' ratios."""
    roots = {"ours": ROOT, "other": other}
    databases = {side: bench.postgres.create_database(f"beside_{side}") for side in roots}
    of_core = partial(booked_per_core_second, bench)

    def on_postgresql(side: str) -> AbstractContextManager[Program]:
        url = databases[side]
        return bench.clinic("--role", "api", root=roots[side], DATABASE_URL=url, AMQP_URL=NO_BROKER)

    def on_sqlite(side: str) -> AbstractContextManager[Program]:
        return bench.clinic("--role", "api", root=roots[side])

    for start, figures in (
        (on_postgresql, {"POST, 32 connections": rate, "POST, one connection": alone}),
        (on_postgresql, {"POST, 32 connections, for a core": of_core, "the whole list": listed}),
        (on_sqlite, {"POST, 32 connections, on SQLite": rate}),
    ):
        with ExitStack() as stack:
            clinics = {side: stack.enter_context(start(side)) for side in roots}
            for clinic in clinics.values():
                most(clinic.url, 32, 1)
            settle_down()
            for what, figure in figures.items():
                turns = {side: partial(figure, clinic) for side, clinic in clinics.items()}
                yield line(what, interleaved(turns, ROUNDS))
    turns = {side: partial(travelled, bench, roots[side]) for side in roots}
    yield line("events relayed and recorded", interleaved(turns, TRAVELS))


def line(what: str, found: dict[str, list[float]]) -> Line:
    """Return the line of a figure of which more is better.

    The best rounds of both are compared: what else a machine does only ever takes away, and with so
    many rounds each side has had one that it hardly met (https://docs.python.org/3/library/timeit.html
    gives the same advice).
    """
    ours, theirs = found["ours"], found["other"]
    return Line(
        f"{what}, per second",
        f"{number(max(ours))}; usual {number(middle(ours))}",
        peers=f"{number(max(theirs))}; usual {number(middle(theirs))}",
        limit=f"usual ratio {with_spread(ratio(ours, theirs))}",
        demands=[at_least(max(ours) / max(theirs), NO_WORSE, "of the other")],
    )


def rate(clinic: Program) -> float:
    """Return how many bookings a second it takes."""
    return most(clinic.url, 32, 1).rate


def alone(clinic: Program) -> float:
    """Return how many bookings a second it takes from one client, by their median."""
    return 1000 / most(clinic.url, 1, 1).p50_ms


def listed(clinic: Program) -> float:
    """Return how many whole lists a second it gives: both have booked about as much."""
    return 1 / fetch(clinic).seconds


def booked_per_core_second(bench: Bench, clinic: Program) -> float:
    """Return how many bookings a second of a core makes, of the clinic's and of PostgreSQL's."""
    pids = [clinic.pid, *bench.postgres.pids]
    before = processor_seconds(pids)
    load = most(clinic.url, 32, 1)
    return load.requests / (processor_seconds([clinic.pid, *bench.postgres.pids]) - before)


def travelled(bench: Bench, root: Path) -> float:
    """Return the pace at which events that were booked before are relayed and recorded."""
    database = bench.empty_database()
    with bench.clinic("--role", "api", root=root, DATABASE_URL=database, AMQP_URL=NO_BROKER) as api:
        most(api.url, 32, 2)
    booked = ask(database, fill.BOOKED)[0]
    with bench.clinic(root=root, DATABASE_URL=database, AMQP_URL=bench.vhost()) as clinic:
        until(lambda: ask(database, fill.RECORDED)[0] >= booked, clinic)
    recorded, seconds = ask(database, fill.RECORDED_PACE)
    return float(recorded / seconds)
