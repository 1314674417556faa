"""Rows about a clinic whose book and whose analytics are full, and about more than one process."""

import contextlib
import datetime
import http.client
import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any

from benchmarks import fill
from benchmarks.load import most, settle_down
from benchmarks.programs import BenchFailed
from benchmarks.rounds import interleaved, middle, ratio
from benchmarks.servers import NO_BROKER, Bench, Program, ask, until
from benchmarks.slots import body, next_slot
from benchmarks.table import Line, at_most, number, per_second, with_spread
from benchmarks.travelling import POLL_SECONDS, messages, publish, written

STORED = 1_000_000
# So many that consumers take some seconds: the second is there a moment after the first.
EVENTS = 40_000
# Requests of a turn, one after the other on one connection.
REQUESTS = 300
SECONDS = 2
# Of analytics: a clinic, and a large one; requests of a turn; and what they ask for.
PLACES = (10, 92)
ASKED = 9
RANGES = {
    "all days": "",
    "a month": "?from=2027-03-01&to=2027-03-31",
    "all but the first and the last day": "?from=2027-01-02&to=2027-12-30",
}
JSON = {"Content-Type": "application/json"}
# ``fill.APPOINTMENTS`` begins here; its offices are booked for years without a gap.
TAKEN_FROM = datetime.datetime(2027, 1, 1)  # noqa: DTZ001 - wall-clock time

Request = tuple[str, str, bytes | None, HTTPStatus]


def median(clinic: Program, requests: Iterator[Request]) -> float:
    """Return the median time of requests, one after the other, in ms.

    Raises:
        BenchFailed: one was answered otherwise than it should be.
    """
    connection = http.client.HTTPConnection("127.0.0.1", clinic.port, timeout=20)
    times = []
    with contextlib.closing(connection):
        for method, path, sent, expected in itertools.islice(requests, REQUESTS):
            began = time.perf_counter()
            connection.request(method, path, sent, JSON)
            answer = connection.getresponse()
            read = answer.read()
            times.append(1000 * (time.perf_counter() - began))
            if answer.status != expected:
                raise BenchFailed(f"{method} {path}: {answer.status} {read[:200]!r}")
    return middle(times)


def bookings() -> Iterator[Request]:
    """Book free times."""
    for slot in itertools.count(next_slot()):
        yield "POST", "/appointment", body(slot), HTTPStatus.CREATED


def refusals() -> Iterator[Request]:
    """Ask for times that are taken, each in the midst of a full calendar."""
    for index in itertools.count(1):
        begin = TAKEN_FROM + index * 97 * datetime.timedelta(minutes=15)
        asked = {
            "patient_name": "Somebody Else",
            "office_number": f"office {index % 10}",
            "date_time": begin.isoformat(),
        }
        yield "POST", "/appointment", json.dumps(asked).encode(), HTTPStatus.CONFLICT


def arrivals(first: int) -> Iterator[Request]:
    """Have patients arrive, none of them twice."""
    for index in itertools.count(first):
        yield "PATCH", f"/appointment/{index}", b'{"status":"arrived"}', HTTPStatus.OK


def looks() -> Iterator[Request]:
    """Look at single appointments all over the book."""
    for index in itertools.count():
        yield "GET", f"/appointment/{1 + index * 3_331 % STORED}", None, HTTPStatus.OK


def one(bench: Bench) -> Iterator[Line]:
    """A refusal, a change and a read of one appointment among a million, beside a booking there."""
    patients = itertools.count(1, REQUESTS)
    api = bench.clinic("--role", "api", DATABASE_URL=bench.million(), AMQP_URL=NO_BROKER)
    with api as clinic:
        # Statements are prepared and what they read is in memory from here on.
        for requests in (bookings(), refusals(), arrivals(next(patients)), looks()):
            median(clinic, requests)
        settle_down()
        found = interleaved(
            {
                "booking": lambda: median(clinic, bookings()),
                "refusal": lambda: median(clinic, refusals()),
                "change": lambda: median(clinic, arrivals(next(patients))),
                "look": lambda: median(clinic, looks()),
            }
        )
    rows = {
        "refusal": ("a refusal (409) in a full calendar of 1,000,000: median", 5),
        "change": ("a change of status among 1,000,000: median", 3),
        "look": ("one appointment of 1,000,000 by its id: median", 1),
    }
    for side, (what, bound) in rows.items():
        yield Line(
            what,
            f"{number(middle(found[side]))} ms",
            limit=f"a booking there: {number(middle(found['booking']))} ms",
            demands=[at_most(ratio(found[side], found["booking"]), bound, "x a booking")],
        )


def analytics(bench: Bench) -> Iterator[Line]:
    """The numbers of a million events over a year, and of a part of it, by as many places."""
    for places in PLACES:
        database = bench.database()
        booked = fill.recorded(database, STORED, places)
        with bench.clinic("--role", "api", DATABASE_URL=database, AMQP_URL=NO_BROKER) as clinic:
            # The hours of each day are found first.
            if (counted := numbers_of(clinic, "")["totals"]["booked"]) != booked:
                raise BenchFailed(f"analytics counts {counted} of {booked}")
            found = interleaved(
                {what: partial(ms_of_analytics, clinic, query) for what, query in RANGES.items()}
            )
        for what in RANGES:
            yield Line(
                f"analytics of {what}, 1,000,000 events, {places} offices and doctors: median",
                f"{number(middle(found[what]))} ms",
                demands=[at_most(middle(found[what]), 50, "ms")],
            )


def numbers_of(clinic: Program, query: str) -> Any:
    """Return the numbers over a range."""
    connection = http.client.HTTPConnection("127.0.0.1", clinic.port, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", f"/analytics{query}")
        return json.load(connection.getresponse())


def ms_of_analytics(clinic: Program, query: str) -> float:
    """Return the median time of a range's numbers, in ms, to one client."""
    times = []
    for _ in range(ASKED):
        began = time.perf_counter()
        numbers_of(clinic, query)
        times.append(1000 * (time.perf_counter() - began))
    return middle(times)


def processes(bench: Bench) -> Iterator[Line]:
    """What a second API and a second consumer give where the cores are as many as before."""

    def book(count: int) -> float:
        database = bench.database()
        with contextlib.ExitStack() as stack, ThreadPoolExecutor() as threads:
            clinics = [
                stack.enter_context(
                    bench.clinic("--role", "api", DATABASE_URL=database, AMQP_URL=NO_BROKER)
                )
                for _ in range(count)
            ]
            for seconds in (1, SECONDS):
                loads = [
                    threads.submit(most, clinic.url, 32 // count, seconds) for clinic in clinics
                ]
                rate = sum(load.result().rate for load in loads)
        return rate

    told = messages(EVENTS)
    file = written(bench, told)

    def record(count: int) -> float:
        database, amqp = bench.database(), bench.vhost()
        fill.events(database, told, published=True)
        publish(amqp, file)
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                consumer = bench.clinic("--role", "consumer", DATABASE_URL=database, AMQP_URL=amqp)
                program = stack.enter_context(consumer)
            until(lambda: ask(database, fill.RECORDED)[0] >= EVENTS, program, poll=POLL_SECONDS)
        recorded, seconds = ask(database, fill.RECORDED_PACE)
        return float(recorded / seconds)

    for what, measure in (("API", book), ("consumer", record)):
        found = interleaved({"one": partial(measure, 1), "two": partial(measure, 2)})
        yield Line(
            f"two processes of role {what.lower()}, on the same cores",
            per_second(middle(found["two"])),
            limit=f"one {per_second(middle(found['one']))}; "
            f"{with_spread(ratio(found['two'], found['one']))} of it",
        )
