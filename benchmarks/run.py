"""Measure: python -m benchmarks.run [row ...]; without any, all rows, and the table is kept."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import (
    beside,
    booking,
    demands,
    full,
    reading,
    simulation,
    starting,
    table,
    travelling,
)
from benchmarks.programs import BenchFailed
from benchmarks.servers import Bench, servers

Row = Callable[[Bench], Iterable[table.Line]]

ROWS: dict[str, Row] = {
    "generator": starting.generator,
    "post": booking.post,
    "post-sqlite": booking.post_sqlite,
    "one": booking.one,
    "half": booking.half,
    "relay": travelling.relay,
    "consumer": travelling.consumer,
    "together": travelling.together,
    "counted": travelling.counted,
    "list": reading.whole_list,
    "page": reading.page,
    "stored": booking.stored,
    "full": full.one,
    "analytics": full.analytics,
    "processes": full.processes,
    "start": starting.start,
    "demands": demands.demands,
}


def main() -> int:
    """Measure the rows that are asked for; return 1 if one missed what it must reach."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=main.__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"one of: {', '.join(ROWS)}")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="compare with the clinic of another checkout instead, in the same rounds",
    )
    arguments = parser.parse_args()
    asked = arguments.rows
    rows = {name: ROWS[name] for name in asked or ROWS if name in ROWS}
    if arguments.beside is not None:
        rows = {"beside": partial(beside.beside, other=arguments.beside.resolve())}
    if unknown := set(asked) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    began = time.monotonic()
    lines: list[table.Line] = []
    with (
        tempfile.TemporaryDirectory(prefix="clinic-bench-") as folder,
        servers(Path(folder)) as bench,
    ):
        for name, row in rows.items():
            for line in measured(name, row, bench):
                lines.append(line)
                print(table.markdown([line]).splitlines()[-1], flush=True)
        text = table.report(lines, time.monotonic() - began)
        print(f"\n{text}")
        if rows.keys() == ROWS.keys():
            table.keep(text, bench.figures)
            table.quote(table.SCALING, simulation.report(bench.figures))
    return 0 if all(demand.met for line in lines for demand in line.demands) else 1


def measured(name: str, row: Row, bench: Bench) -> Iterator[table.Line]:
    """Measure a row; one that fails is a line that says so, and the others go on."""
    began = time.monotonic()
    try:
        yield from row(bench)
    except BenchFailed as failure:
        print(failure, file=sys.stderr)
        yield table.Line(name, "failed", demands=[table.at_least(0, 1, "measured")])
    print(f"({name}: {time.monotonic() - began:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
