"""Our clinic beside that of another checkout, such as the one before a change, in the same rounds.

All it needs of the other is what clients hold, so that any two versions can be compared:
appointments and events are made by booking.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from benchmarks import fill
from benchmarks.demands import Meter
from benchmarks.load import most, settle_down
from benchmarks.programs import ROOT
from benchmarks.reading import fetch
from benchmarks.rounds import interleaved, middle, ratio
from benchmarks.servers import NO_BROKER, Bench, ask, until
from benchmarks.table import Line, at_least, number

ROUNDS = 5
SECONDS = 2
# What the noise of a shared machine leaves to tell, with so many rounds.
NO_WORSE = 0.95


@dataclass(frozen=True)
class Figures:
    """What one clinic reaches; the larger the better."""

    post: float
    alone: float
    frugal: float
    post_sqlite: float
    listed: float
    travelled: float


TOLD = {
    "post": "POST, 32 connections, per second",
    "alone": "POST, one connection, per second of its median",
    "frugal": "POST, 32 connections, per second of a core of clinic and PostgreSQL",
    "post_sqlite": "POST, 32 connections, on SQLite, per second",
    "listed": "appointments listed per second",
    "travelled": "events relayed and recorded per second",
}


def beside(bench: Bench, other: Path) -> Iterator[Line]:
    """Yield a line for each figure: ours, the other's, and the median of the rounds' ratios."""
    found = interleaved(
        {"ours": partial(turn, bench, ROOT), "other": partial(turn, bench, other)}, ROUNDS
    )
    for field in fields(Figures):
        ours, theirs = (
            [float(getattr(one, field.name)) for one in found[side]] for side in ("ours", "other")
        )
        yield Line(
            TOLD[field.name],
            number(middle(ours)),
            peers=number(middle(theirs)),
            demands=[at_least(ratio(ours, theirs), NO_WORSE, "of the other")],
        )


def turn(bench: Bench, root: Path) -> Figures:
    """Measure the clinic of one checkout."""
    database = bench.empty_database()
    api = bench.clinic("--role", "api", root=root, DATABASE_URL=database, AMQP_URL=NO_BROKER)
    with api as clinic:
        most(clinic.url, 32, 1)
        settle_down()
        alone = most(clinic.url, 1, SECONDS)
        booked, meter = ask(database, fill.BOOKED)[0], Meter(bench, clinic)
        post = most(clinic.url, 32, SECONDS)
        demand = meter.demand(ask(database, fill.BOOKED)[0] - booked)
        seconds = min(fetch(clinic).seconds for _ in range(3))
        booked = ask(database, fill.BOOKED)[0]
    whole = bench.clinic(root=root, DATABASE_URL=database, AMQP_URL=bench.vhost())
    with whole as clinic:
        until(lambda: ask(database, fill.RECORDED)[0] >= booked, clinic)
    recorded, took = ask(database, fill.RECORDED_PACE)
    return Figures(
        post=post.rate,
        alone=1000 / alone.p50_ms,
        frugal=1e6 / (demand.clinic + demand.postgres),
        post_sqlite=on_sqlite(bench, root),
        listed=booked / seconds,
        travelled=float(recorded / took),
    )


def on_sqlite(bench: Bench, root: Path) -> float:
    """Return how many bookings a second the clinic of a checkout takes on SQLite."""
    with bench.clinic("--role", "api", root=root) as clinic:
        most(clinic.url, 32, 1)
        settle_down()
        return most(clinic.url, 32, SECONDS).rate
