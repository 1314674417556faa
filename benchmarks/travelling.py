"""Rows about the way of events: the relay, the consumer, and both together with booking."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks import fill
from benchmarks.load import Load, finish_paced, most, settle_down, start_paced, steady
from benchmarks.programs import BenchFailed, run
from benchmarks.rounds import interleaved, middle, ratio
from benchmarks.servers import Bench, Program, ask, until
from benchmarks.table import Line, at_least, at_most, number, per_second
from clinic.events import AppointmentFacts, tell
from clinic.messaging.message import Message

EVENTS = 5_000
# The relay's last some seconds, for it to mark what nobody settles, too.
EVENTS_TO_RELAY = 80_000
# Peers are slower: as many would take minutes.
EVENTS_FOR_PEERS = 800
# Seconds between looks at how far a consumer and its peers are; counting takes a millisecond.
POLL_SECONDS = 0.05


def messages(count: int) -> list[Message]:
    """Return events as the clinic tells them."""
    now = datetime.now(UTC)
    return [
        tell(
            "appointment.booked",
            AppointmentFacts(
                appointment_id=number,
                version=1,
                status="booked",
                office_id=1 + number % 10,
                office_number=f"office {number % 10}",
                doctor_name=None,
                date_time=datetime(2027, 1, 1 + number % 28, 15, 30),  # noqa: DTZ001 - wall-clock
                time_zone="UTC",
                duration_minutes=15,
                override=False,
            ),
            now,
        ).message()
        for number in range(1, count + 1)
    ]


def written(bench: Bench, told: list[Message]) -> Path:
    """Return a file with the messages, for another process to read."""
    file = bench.new_folder() / "messages.json"
    file.write_text(json.dumps([asdict(message) for message in told]))
    return file


def publish(amqp: str, file: Path) -> float:
    """Have all messages of a file published barely; return the seconds that it took."""
    return float(run([sys.executable, "-m", "benchmarks.bare_publisher", amqp, str(file)]))


def relay(bench: Bench) -> Iterator[Line]:
    """Our relay beside a bare confirmed publisher."""
    told = messages(EVENTS_TO_RELAY)
    file = written(bench, told)

    def ours() -> float:
        database = bench.database()
        fill.events(database, told, published=False)
        with bench.clinic("--role", "api", DATABASE_URL=database, AMQP_URL=bench.vhost()) as clinic:
            until(lambda: ask(database, fill.OPEN)[0] == 0, clinic, poll=POLL_SECONDS)
        count, seconds = ask(database, fill.RELAYED)
        return float(count / seconds)

    found = interleaved(
        {"ours": ours, "bare": lambda: EVENTS_TO_RELAY / publish(bench.vhost(), file)}
    )
    bench.figures["relay"] = middle(found["ours"])
    bench.figures["bare publisher"] = middle(found["bare"])
    yield Line(
        "relay, events per second",
        per_second(middle(found["ours"])),
        limit=f"bare confirmed publisher {per_second(middle(found['bare']))}",
        demands=[at_least(ratio(found["ours"], found["bare"]), 0.7, "of the bare publisher")],
    )


def consumer(bench: Bench) -> Iterator[Line]:
    """Our consumer beside one that does nothing, and two peers that record the same."""
    many, few = messages(EVENTS), messages(EVENTS_FOR_PEERS)
    files = {len(told): written(bench, told) for told in (many, few)}
    bodies = bench.new_folder() / "bodies.json"
    bodies.write_text(json.dumps([message.body for message in few]))

    def noop() -> float:
        amqp = bench.vhost()
        publish(amqp, files[EVENTS])
        took = run([sys.executable, "-m", "benchmarks.noop_consumer", amqp, str(EVENTS)])
        return EVENTS / float(took)

    def ours() -> float:
        database, amqp = bench.database(), bench.vhost()
        fill.events(database, many, published=True)
        publish(amqp, files[EVENTS])
        start = bench.clinic("--role", "consumer", DATABASE_URL=database, AMQP_URL=amqp)
        return pace(start, database, EVENTS)

    def faststream() -> float:
        database, amqp = bench.database(), bench.vhost()
        publish(amqp, files[EVENTS_FOR_PEERS])
        where = peer_settings(database, amqp, "asyncpg")
        command = ["-m", "faststream", "run", "benchmarks.faststream_consumer:app"]
        return pace(bench.program(*command, **where), database, EVENTS_FOR_PEERS)

    def dramatiq() -> float:
        database, amqp = bench.database(), bench.vhost()
        where = peer_settings(database, amqp, "psycopg")
        run([sys.executable, "-m", "benchmarks.dramatiq_consumer", str(bodies)], where)
        command = ["-m", "dramatiq", "benchmarks.dramatiq_consumer"]
        return pace(bench.program(*command, **where), database, EVENTS_FOR_PEERS)

    found = interleaved(
        {"noop": noop, "ours": ours, "faststream": faststream, "dramatiq": dramatiq}
    )
    better = [max(pair) for pair in zip(found["faststream"], found["dramatiq"], strict=True)]
    bench.figures["consumer"] = middle(found["ours"])
    bench.figures["no-op consumer"] = middle(found["noop"])
    yield Line(
        "consumer, events recorded per second",
        per_second(middle(found["ours"])),
        f"FastStream {per_second(middle(found['faststream']))}; "
        f"dramatiq {per_second(middle(found['dramatiq']))}",
        f"no-op consumer {per_second(middle(found['noop']))}",
        [
            at_least(ratio(found["ours"], found["noop"]), 0.6, "of the no-op consumer"),
            at_least(ratio(found["ours"], better), 5, "x the better peer"),
        ],
    )


def peer_settings(database: str, amqp: str, driver: str) -> Mapping[str, str]:
    """Return the environment of a peer."""
    return {"DATABASE_URL": database.replace("://", f"+{driver}://", 1), "AMQP_URL": amqp}


def pace(start: contextlib.AbstractContextManager[Program], database: str, count: int) -> float:
    """Return how many events a second a consumer records, from its first to its last."""
    with start as program:
        until(lambda: ask(database, fill.RECORDED)[0] >= count, program, poll=POLL_SECONDS)
    recorded, seconds = ask(database, fill.RECORDED_PACE)
    return float(recorded / seconds)


# How long it may take from the end of a load until all of it is counted.
DRAIN_SECONDS = 60.0
STEADY_SECONDS = 4.0
# What the consumer may be behind at a constant rate without that being a growth: two batches.
SLACK = 200
FIRST_STEP, STEP = 0.75, 1.12
MOST_STEPS = 9
MOST_FAILURES = 2


@contextlib.contextmanager
def whole_clinic(bench: Bench) -> Iterator[tuple[Program, str]]:
    """Run all roles in one process, warmed up and with nothing left to count."""
    database = bench.database()
    with bench.clinic(DATABASE_URL=database, AMQP_URL=bench.vhost()) as clinic:
        most(clinic.url, 32, 1)
        drain(clinic, database)
        yield clinic, database


def drain(clinic: Program, database: str) -> None:
    """Wait until everything booked is counted."""
    until(lambda: backlog(database) == 0, clinic, DRAIN_SECONDS, POLL_SECONDS)


def backlog(database: str) -> int:
    """Return how many bookings are not counted yet."""
    booked, recorded = ask(database, f"select ({fill.BOOKED}), ({fill.RECORDED})")
    return int(booked - recorded)


def usual_backlog(database: str) -> float:
    """Return how many there are in the middle of several looks: they come and go in batches."""

    def look() -> int:
        time.sleep(STEADY_SECONDS * 0.01)
        return backlog(database)

    return middle([look() for _ in range(9)])


def now(database: str) -> str:
    """Return the database's time, as text for a statement."""
    return str(ask(database, "select now()")[0])


def worked_off(bench: Bench) -> float:
    """Return the rate from the first booking of a burst to when its last was counted."""
    with whole_clinic(bench) as (clinic, database):
        since = now(database)
        most(clinic.url, 32, 2)
        drain(clinic, database)
        count, seconds = ask(database, fill.COUNTED_PACE.format(since=since))
    return float(count / seconds)


def sustained(bench: Bench, burst: float) -> float:
    """Return the highest rate reached at which booking and counting keep pace with the load.

    Upwards step by step from below the rate at which a burst was worked off, until two tries in a
    row fail: one may have met with a stall of the disk.
    """
    best, failures, answer_ms = 0.0, 0, 0.0
    with whole_clinic(bench) as (clinic, database):
        for number in range(MOST_STEPS):
            rate = FIRST_STEP * burst * STEP**number
            load, in_pace = try_pace(clinic, database, rate, answer_ms)
            answer_ms = load.p50_ms
            failures = 0 if in_pace else failures + 1
            best = max(best, load.rate) if in_pace else best
            if failures == MOST_FAILURES:
                break
    if not best:
        raise BenchFailed("at no rate that was tried does the backlog stop growing")
    return best


def try_pace(clinic: Program, database: str, rate: float, answer_ms: float) -> tuple[Load, bool]:
    """Return what a load at about this rate met with, and whether counting kept pace with it."""
    load = start_paced(clinic.url, rate, STEADY_SECONDS, answer_ms)
    time.sleep(STEADY_SECONDS * 0.3)
    early = usual_backlog(database)
    time.sleep(STEADY_SECONDS * 0.4)
    late = usual_backlog(database)
    reached = finish_paced(load)
    drain(clinic, database)
    print(
        f"  {rate:.0f}/s: {early:.0f} and {late:.0f} behind, {reached.rate:.0f}/s booked",
        file=sys.stderr,
    )
    return reached, late - early <= SLACK and late <= reached.rate / 4 + SLACK


def together(bench: Bench) -> Iterator[Line]:
    """All in one process: the rate at which both keep pace, beside echo's.

    A booking that is recorded is two pieces of work, so both rates together are compared.
    """

    def echo() -> float:
        with bench.echo() as program:
            most(program.url, 32, 1)
            return most(program.url, 32, 2).rate

    found = interleaved({"burst": partial(worked_off, bench), "echo": echo}, rounds=2)
    rate = bench.figures["together"] = sustained(bench, middle(found["burst"]))
    yield Line(
        "all in one process, booking and recording, backlog not growing",
        f"{per_second(rate)} booked and {per_second(rate)} recorded",
        limit=f"echo {per_second(middle(found['echo']))}",
        demands=[at_least(2 * rate / middle(found["echo"]), 0.35, "of echo, both rates together")],
    )


def counted(bench: Bench) -> Iterator[Line]:
    """From booked to counted at half the rate that is sustained."""
    limit = bench.figures.get("together") or sustained(bench, worked_off(bench))

    def turn() -> tuple[float, float]:
        with whole_clinic(bench) as (clinic, database):
            settle_down()
            since = now(database)
            steady(clinic.url, limit / 2, STEADY_SECONDS)
            drain(clinic, database)
            median, p99, _ = ask(database, fill.COUNTED_LATENCY.format(since=since))
        return median * 1000, p99 * 1000

    (found,) = interleaved({"ours": turn}).values()
    medians, p99s = zip(*found, strict=True)
    median, p99 = middle(medians), middle(p99s)
    bench.figures["counted"] = [limit / 2, median, p99]
    yield Line(
        "booked to counted at half the maximum rate: 99th percentile",
        f"{number(p99)} ms, median {number(median)} ms, at {per_second(limit / 2)}",
        demands=[at_most(ratio(p99s, medians), 3, "x the median")],
    )
