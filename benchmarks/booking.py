"""Rows about booking over HTTP.

Each turn of each side starts its program anew on a database and a vhost of its own, warms it up,
measures it alone and ends it, so that nobody's backlog is another's burden.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import fill
from benchmarks.load import Load, most, settle_down, steady
from benchmarks.programs import run
from benchmarks.rounds import interleaved, middle, ratio
from benchmarks.servers import NO_BROKER, Bench, Program
from benchmarks.table import Line, at_least, at_most, number, per_second

CONNECTIONS = (32, 128)
SECONDS = 2
WARM_UP_SECONDS = 1

Start = Callable[[], contextlib.AbstractContextManager[Program]]


def on_servers(
    bench: Bench, new_database: Callable[[], str] | None = None, *, broker: bool = True
) -> Start:
    """Return how to start our API on PostgreSQL and RabbitMQ."""

    @contextlib.contextmanager
    def start() -> Iterator[Program]:
        database = (new_database or bench.database)()
        amqp = bench.vhost() if broker else NO_BROKER
        with bench.clinic("--role", "api", DATABASE_URL=database, AMQP_URL=amqp) as clinic:
            yield clinic

    return start


def on_sqlite(bench: Bench) -> Start:
    """Return how to start our API on SQLite, with the broker in the same file."""
    return lambda: bench.clinic("--role", "api")


def peer(bench: Bench, module: str) -> Start:
    """Return how to start a peer."""
    return lambda: bench.peer(module, bench.database(), bench.vhost())


def warmed_up(start: Start, measure: Callable[[Program], Load]) -> Load:
    """Start, warm up, measure, end."""
    with start() as program:
        most(program.url, 32, WARM_UP_SECONDS)
        settle_down()
        return measure(program)


def rates(sides: dict[str, Start]) -> dict[int, dict[str, list[float]]]:
    """Return the rates of each side in each round, by the number of connections."""

    def turn(start: Start) -> dict[int, float]:
        with start() as program:
            most(program.url, 32, WARM_UP_SECONDS)
            settle_down()
            return {count: most(program.url, count, SECONDS).rate for count in CONNECTIONS}

    found = interleaved({name: partial(turn, start) for name, start in sides.items()})
    return {
        count: {name: [one[count] for one in turns] for name, turns in found.items()}
        for count in CONNECTIONS
    }


def post(bench: Bench) -> Iterator[Line]:
    """POST on PostgreSQL and RabbitMQ beside both peers and echo, alone and while events travel."""
    found = rates(
        {
            "echo": bench.echo,
            "alone": on_servers(bench, broker=False),
            "relaying": on_servers(bench),
            "usual": peer(bench, "usual"),
            "older": peer(bench, "older"),
        }
    )
    bench.figures["post"] = middle(found[32]["alone"])
    ways = {"alone": "", "relaying": ", while its relay publishes"}
    for connections, rate in found.items():
        for ours, how in ways.items():
            yield Line(
                f"POST, {connections} connections{how}",
                per_second(middle(rate[ours])),
                f"usual {per_second(middle(rate['usual']))}; "
                f"older {per_second(middle(rate['older']))}",
                f"echo {per_second(middle(rate['echo']))}",
                [
                    at_least(ratio(rate[ours], rate["echo"]), 0.5, "of echo"),
                    at_least(ratio(rate[ours], rate["usual"]), 15, "x usual"),
                    at_least(ratio(rate[ours], rate["older"]), 50, "x older"),
                ],
            )


def post_sqlite(bench: Bench) -> Iterator[Line]:
    """POST on SQLite beside echo."""
    found = rates(
        {
            "echo": bench.echo,
            "ours": on_sqlite(bench),
        }
    )
    for connections, rate in found.items():
        yield Line(
            f"POST, {connections} connections, on SQLite",
            per_second(middle(rate["ours"])),
            limit=f"echo {per_second(middle(rate['echo']))}",
            demands=[at_least(ratio(rate["ours"], rate["echo"]), 0.3, "of echo")],
        )


def one(bench: Bench) -> Iterator[Line]:
    """POST on one connection beside pgbench with one client."""

    def ours() -> float:
        start = on_servers(bench, broker=False)
        return warmed_up(start, lambda it: most(it.url, 1, SECONDS)).p50_ms

    def pgbench() -> float:
        return middle(fill.pgbench(bench.database(), bench.new_folder(), SECONDS))

    found = interleaved({"ours": ours, "pgbench": pgbench})
    yield Line(
        "POST, one connection: median",
        f"{number(middle(found['ours']))} ms",
        limit=f"pgbench {number(middle(found['pgbench']))} ms",
        demands=[at_most(ratio(found["ours"], found["pgbench"]), 1.5, "x pgbench")],
    )


def half(bench: Bench) -> Iterator[Line]:
    """POST at a constant rate, half of the most there is, beside waiting for the disk alone."""
    start = on_servers(bench, broker=False)
    limit = warmed_up(start, lambda it: most(it.url, 32, SECONDS)).rate

    def ours() -> Load:
        return warmed_up(start, lambda it: steady(it.url, limit / 2, 4))

    found = interleaved({"ours": ours, "disk": partial(disk_alone, bench)})
    p50s = [load.p50_ms for load in found["ours"]]
    p99s = [load.p99_ms for load in found["ours"]]
    disk = found["disk"]
    yield Line(
        "POST at half the maximum rate: 99th percentile",
        f"{number(middle(p99s))} ms, median {number(middle(p50s))} ms, at "
        f"{per_second(middle([load.rate for load in found['ours']]))}",
        limit=f"the disk alone {number(middle(disk))} ms, "
        f"from {number(min(disk))} to {number(max(disk))}",
        demands=[at_most(ratio(p99s, p50s), 5, "x the median")],
    )


def disk_alone(bench: Bench) -> float:
    """Return the 99th percentile in milliseconds of waiting for nothing but the disk."""
    settle_down()
    printed = run([sys.executable, "-m", "benchmarks.disk", str(bench.new_folder())])
    return float(json.loads(printed)["p99_ms"])


def stored(bench: Bench) -> Iterator[Line]:
    """POST with a million appointments stored beside a thousand."""

    def rate(new_database: Callable[[], str]) -> float:
        start = on_servers(bench, new_database)
        return warmed_up(start, lambda it: most(it.url, 32, SECONDS)).rate

    few = partial(bench.database, 1_000)
    found = interleaved({"many": partial(rate, bench.million), "few": partial(rate, few)})
    yield Line(
        "POST with 1,000,000 stored",
        per_second(middle(found["many"])),
        limit=f"with 1,000: {per_second(middle(found['few']))}",
        demands=[at_least(ratio(found["many"], found["few"]), 0.9, "of that with 1,000")],
    )
