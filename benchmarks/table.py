"""The table: a line a requirement, as text for the terminal and for the README."""

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.programs import ROOT, BenchFailed
from benchmarks.rounds import Ratio
from tests.servers.postgres import find_binaries

RESULTS = ROOT / "benchmarks" / "results.md"
FIGURES = ROOT / "benchmarks" / "figures.json"
README = ROOT / "README.md"
SCALING = ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- scripts/bench writes this -->\n", "<!-- until here -->\n"


@dataclass(frozen=True)
class Demand:
    """A figure that must reach a bound, or stay below it."""

    figure: float
    of: str
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether it is as it must be."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        missed = "" if self.met else " **missed**"
        return f"{with_spread(self.figure)} {self.of} ({sign} {number(self.bound)}){missed}"


def at_least(figure: float, bound: float, of: str) -> Demand:
    """Return a demand for a figure of at least ``bound``."""
    return Demand(figure, of, bound)


def at_most(figure: float, bound: float, of: str) -> Demand:
    """Return a demand for a figure of at most ``bound``."""
    return Demand(figure, of, bound, at_least=False)


@dataclass(frozen=True)
class Line:
    """One line of the table; what has no demand is told for information."""

    what: str
    ours: str
    peers: str = ""
    limit: str = ""
    demands: Sequence[Demand] = ()

    def cells(self) -> list[str]:
        """Return the line cell by cell."""
        figures = [demand.figure for demand in self.demands]
        machine = [f"{one.machine:.0%}" for one in figures if isinstance(one, Ratio)]
        told = "; ".join(map(str, self.demands))
        return [self.what, self.ours, self.peers, self.limit, told, "; ".join(machine)]


HEADS = ["what", "ours", "peers", "limit", "ratios, of all rounds (must)", "machine"]


def number(value: float) -> str:
    """Return a number with as many digits as mean anything."""
    if abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.3g}"


def with_spread(figure: float) -> str:
    """Return a number, and of a ratio also the least and the most that a round has had."""
    if isinstance(figure, Ratio):
        return f"{number(figure)}, {number(figure.least)} to {number(figure.most)}"
    return number(figure)


def per_second(values: float) -> str:
    """Return a rate."""
    return f"{number(values)}/s"


def markdown(lines: Iterable[Line]) -> str:
    """Return the table as Markdown."""
    rows = [HEADS, ["---"] * len(HEADS), *(line.cells() for line in lines)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def machine() -> str:
    """Return in one sentence what all of it ran on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    postgres = subprocess.run(
        [f"{find_binaries()}/postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    return (
        f"{len(os.sched_getaffinity(0))} cores ({model}), {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"PostgreSQL {postgres}, RabbitMQ {rabbit_version()}"
    )


def rabbit_version() -> str:
    """Return RabbitMQ's version by the name of its directory."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    return found[-1].name.partition("-")[2] if found else "unknown"


def report(lines: Sequence[Line], took: float) -> str:
    """Return the table with its date, and what it ran on."""
    day = datetime.datetime.now(datetime.UTC).date()
    return (
        f"Measured on {day} in {took / 60:.1f} minutes on {machine()}; servers, load and clinic "
        f"share these cores.\n\n{markdown(lines)}"
    )


def keep(text: str, figures: Mapping[str, Any]) -> None:
    """Keep the table and the figures, and quote the table in the README."""
    RESULTS.write_text(f"# Results\n\n{text}")
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
    quote(README, text)


def quote(file: Path, text: str) -> None:
    """Put a text between a file's markers."""
    before, begin, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchFailed(f"{file.name} has no markers to quote between")
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
