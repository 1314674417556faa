"""Rows about reading: the whole list, and pages of it."""

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit

from benchmarks import fill
from benchmarks.load import most
from benchmarks.programs import BenchFailed
from benchmarks.rounds import interleaved, middle, ratio
from benchmarks.servers import Bench, Program
from benchmarks.table import Line, at_least, at_most, number

LISTED = 100_000
FILTERS = {
    "office_number": "office 3",
    "patient_name": "Patient 7",
}


@dataclass(frozen=True)
class Listing:
    """How one list came."""

    seconds: float
    first_byte_ms: float = 0.0
    growth_mib: float = 0.0


def whole_list(bench: Bench) -> Iterator[Line]:
    """The list of 100,000 appointments beside psql, which writes the same, and the usual peer."""
    database, amqp = bench.database(LISTED), bench.vhost()
    folder = bench.new_folder()
    with bench.peer("usual", database, bench.vhost()) as usual:
        fill.usual_appointments(database)
        with bench.clinic("--role", "api", DATABASE_URL=database, AMQP_URL=amqp) as clinic:
            check_same(clinic, database, folder)
            found = interleaved(
                {
                    "ours": partial(fetch, clinic),
                    "usual": partial(fetch, usual),
                    "psql": lambda: Listing(fill.psql_list(database, folder / "list.json")),
                }
            )
    ours = [listing.seconds for listing in found["ours"]]
    theirs = [listing.seconds for listing in found["usual"]]
    psql = [listing.seconds for listing in found["psql"]]
    growth = max(listing.growth_mib for listing in found["ours"])
    firsts = [listing.first_byte_ms for listing in found["ours"]]
    yield Line(
        "list of 100,000: time; growth of our memory; first byte",
        f"{middle(ours):.2f} s; {growth:.0f} MiB; {middle(firsts):.0f} ms",
        f"usual {middle(theirs):.2f} s",
        f"psql {middle(psql):.2f} s",
        [
            at_most(ratio(ours, psql), 2, "x psql"),
            at_most(growth, 32, "MiB"),
            at_most(
                ratio(firsts, [1000 * took for took in ours]),
                0.25,
                "of that time to the first byte",
            ),
            at_least(ratio(theirs, ours), 10, "x as fast as usual"),
        ],
    )


def fetch(program: Program) -> Listing:
    """Read the list piece by piece, and watch the memory of who sends it."""
    place = urlsplit(program.url)
    program.forget_peak()
    before = program.memory_kib()
    start = time.perf_counter()
    connection = http.client.HTTPConnection(place.netloc, timeout=120)
    connection.request("GET", place.path)
    answer = connection.getresponse()
    if answer.status != HTTPStatus.OK:
        raise BenchFailed(f"{program.url}: {answer.status}")
    first = time.perf_counter()
    while answer.read1(1 << 18):
        pass
    took = time.perf_counter() - start
    connection.close()
    growth = (program.memory_kib("VmHWM") - before) / 1024
    return Listing(took, (first - start) * 1000, growth)


def check_same(clinic: Program, database: str, folder: Path) -> None:
    """Raise unless our list and psql's hold the same; this is a first, unmeasured round, too."""
    fill.psql_list(database, folder / "list.json")
    place = urlsplit(clinic.url)
    connection = http.client.HTTPConnection(place.netloc, timeout=120)
    connection.request("GET", place.path)
    ours = json.load(connection.getresponse())
    theirs = json.loads((folder / "list.json").read_text())
    wanted = theirs[0].keys()
    if [{key: one[key] for key in wanted} for one in ours] != theirs:
        raise BenchFailed("our list and psql's differ")


def page(bench: Bench) -> Iterator[Line]:
    """A page of 50 out of a million, filtered, beside the same out of a thousand."""
    many, few = bench.million(), bench.database(1_000)
    with (
        bench.clinic("--role", "api", DATABASE_URL=many, AMQP_URL=bench.vhost()) as of_many,
        bench.clinic("--role", "api", DATABASE_URL=few, AMQP_URL=bench.vhost()) as of_few,
    ):
        for name, value in FILTERS.items():
            query = f"?{name}={quote(value)}&limit=50"
            what = f"a page of 50 out of 1,000,000, by {name}"
            status = of_many.status(f"/appointment{query}")
            if status == HTTPStatus.UNPROCESSABLE_ENTITY or not is_page(of_many, query):
                yield Line(what, "skipped: the list has no such filter yet")
                continue
            found = interleaved(
                {"many": partial(median, of_many, query), "few": partial(median, of_few, query)}
            )
            yield Line(
                what,
                f"{number(middle(found['many']))} ms",
                limit=f"out of 1,000: {number(middle(found['few']))} ms",
                demands=[at_most(ratio(found["many"], found["few"]), 1.3, "x that of 1,000")],
            )


def is_page(program: Program, query: str) -> bool:
    """Tell whether the answer is what the filter says, and full."""
    place = urlsplit(program.url + query)
    connection = http.client.HTTPConnection(place.netloc, timeout=60)
    connection.request("GET", f"{place.path}?{place.query}")
    answer = connection.getresponse()
    start = answer.read(100_000)
    connection.close()
    return answer.status == HTTPStatus.OK and start.endswith(b"]") and start.count(b'"id"') == 50  # noqa: PLR2004


def median(program: Program, query: str) -> float:
    """Return the median time of the page, in ms, to one client."""
    return most(program.url + query, 1, 1, post=False).p50_ms
