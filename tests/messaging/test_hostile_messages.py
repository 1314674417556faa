"""Whatever anybody publishes to main is recorded or set aside; its neighbours are counted."""

import json
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pamqp.header import ContentHeader

from clinic.messaging.rabbitmq.consuming import LARGEST_BODY
from clinic.messaging.rabbitmq.topology import QueueType
from tests.messaging.stranger import Stranger, long, properties, short, table
from tests.process.clinic import ClinicProcess, running, until
from tests.servers import Postgres, Rabbit
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

MAIN, ASIDE = "rmq-for-retries", "rmq-not-solved"
TTL_MS = 200
FOREIGN = "no event of this clinic's log has this id"
# Of the databases PostgreSQL is the one that refuses texts, and quorum queues are the default.
KINDS = [QueueType.QUORUM, QueueType.CLASSIC]


@dataclass
class Attacked:
    """A clinic on RabbitMQ, and a stranger who publishes to its main queue."""

    clinic: ClinicProcess
    stranger: Stranger
    aside: Stranger
    booked: int = 0

    def book(self, **fields: object) -> int:
        """Book an appointment; return its id."""
        answer = self.clinic.book(self.booked, **fields)
        assert answer.status_code == 201, answer.text
        self.booked += 1
        return int(answer.json()["id"])

    def event(self, **fields: object) -> dict[str, Any]:
        """Book, and return the event of that."""
        events = self.clinic.http.get(f"/appointment/{self.book(**fields)}/events").json()
        return dict(events[0])

    def counted(self) -> bool:
        """Return whether all that was booked is counted."""
        return self.clinic.totals() == {"booked": self.booked}

    def set_aside(self, count: int) -> list[tuple[dict[str, Any], bytes]]:
        """Wait until so many messages are set aside; return the headers and body of each."""
        found: list[tuple[dict[str, Any], bytes]] = []
        while len(found) < count:
            received = self.aside.receive(PATIENCE_SECONDS)
            assert received
            header = ContentHeader()
            header.unmarshal(struct.pack(">HHQ", 60, 0, 0) + received[0])
            found.append((dict(header.properties.headers or {}), received[1]))
        return found

    def reason(self) -> str:
        """Wait until one message is set aside, and return the reason."""
        ((headers, _),) = self.set_aside(1)
        return str(headers["x-reason"])

    def unharmed(self) -> None:
        """Check that neighbours are counted soon, and that nobody was blamed or went down."""
        self.book()
        began = time.monotonic()
        until(self.counted)
        assert time.monotonic() - began < 1 + SLACK_SECONDS
        self.unblamed()

    def unblamed(self) -> None:
        """Check that nobody was blamed or went down, and that no more was set aside."""
        for blame in ("RabbitMQ", "Traceback", "Trying again", "failed ("):
            assert blame not in self.clinic.log
        assert self.clinic.http.get("/health/ready").json()["parts"]["consumer"] == "up"
        assert self.aside.receive(0) is None


def attack(
    folder: Path, rabbit: Rabbit, postgres: Postgres, kind: QueueType, **more: Any
) -> Iterator[Attacked]:
    name = f"hostile-{kind}-{folder.name}"
    url = rabbit.create_vhost(name)
    where: dict[str, Any] = {"AMQP_URL": url, "CLINIC_QUEUE_TYPE": kind}
    if kind is QueueType.QUORUM:
        where["DATABASE_URL"] = postgres.create_database(name.replace("-", "_"))
    with (
        running(folder, TTL_FOR_RETRIES=TTL_MS, DEATH_LIMIT=1, **where, **more) as clinic,
        Stranger(url) as stranger,
        Stranger(url) as aside,
    ):
        until(lambda: clinic.http.get("/health/ready").json()["parts"]["consumer"] == "up")
        aside.consume(ASIDE)
        yield Attacked(clinic, stranger, aside)
        assert clinic.stop() == 0
    rabbit.delete_vhost(name)


@pytest.fixture(scope="module", params=KINDS)
def attacked(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    rabbit: Rabbit,
    postgres: Postgres,
) -> Iterator[Attacked]:
    yield from attack(tmp_path_factory.mktemp("hostile"), rabbit, postgres, request.param)


def deaths(queue: bytes, reason: bytes, count: bytes) -> bytes:
    """Return an ``x-death`` of one entry."""
    entry = table({b"queue": b"S" + long(queue), b"reason": b"S" + long(reason), b"count": count})
    return b"A" + long(b"F" + entry)


def integer(count: int) -> bytes:
    return b"l" + struct.pack(">q", count)


def nested(kind: bytes, depth: int) -> bytes:
    """Return arrays or tables, one in the other."""
    pieces = [b"V"]
    size = 1
    for _ in range(depth):
        head = kind + struct.pack(">I", size if kind == b"A" else size + 2)
        pieces.append(head if kind == b"A" else head + b"\x01a")
        size += len(pieces[-1])
    return b"".join(reversed(pieces))


def headers(**values: bytes) -> bytes:
    return properties(
        headers=table({name.replace("_", "-").encode(): value for name, value in values.items()})
    )


MOST = 2**63 - 1
# Everything here stopped a consumer for good, or came back for ever.
HOSTILE = {
    "time in microseconds": properties(timestamp=struct.pack(">Q", 1_772_000_000_000_000)),
    "time before 1970": properties(timestamp=struct.pack(">q", -14_256_000)),
    "last of all times": properties(timestamp=b"\xff" * 8),
    "time as a header": headers(at=b"T" + b"\xff" * 8),
    "binary correlation_id": properties(correlation_id=short(bytes(range(240, 256)))),
    "binary message_id": properties(message_id=short(b"\xff\xfe")),
    "binary type": properties(message_type=short(b"\xff\xfe")),
    "binary app_id": properties(app_id=short(b"\xff\xfe"), cluster_id=short(b"\xff")),
    "binary name of a header": properties(headers=table({b"\xff": b"V"})),
    "binary subject": headers(subject=b"S" + long(b"\xff\xfe")),
    "subject that is no text": headers(subject=nested(b"A", 3)),
    "tables nested deep": headers(a=nested(b"F", 5_000)),
    "arrays nested deep": headers(a=nested(b"A", 5_000)),
    "x-death nested deep": headers(x_death=nested(b"A", 5_000)),
    "long subject": headers(subject=b"S" + long(b"x" * 130_900)),
    "many headers": properties(headers=long(b"\x01aV" * 40_000)),
    "message_id with a NUL": properties(message_id=short(b"a\0b")),
    "message_id of 255 bytes": properties(message_id=short(b"x" * 255)),
    "two x-deaths": properties(headers=long((b"\x07x-deathA" + long(b"")) * 2)),
    "died as often as can be": headers(x_death=deaths(MAIN.encode(), b"rejected", integer(MOST))),
    "died less than never": headers(x_death=deaths(MAIN.encode(), b"rejected", integer(-(10**9)))),
    "died true times": headers(x_death=deaths(MAIN.encode(), b"rejected", b"t\x01")),
    "died half a time": headers(x_death=deaths(MAIN.encode(), b"rejected", b"f\x3f\0\0\0")),
    "died of a text": headers(x_death=deaths(MAIN.encode(), b"rejected", b"S" + long(b"1"))),
    "died and expired": headers(x_death=deaths(MAIN.encode(), b"expired", integer(1))),
    "died twice in one": headers(
        x_death=b"A"
        + long(
            b"F"
            + long(
                b"\x05queueS"
                + long(MAIN.encode())
                + b"\x06reasonS"
                + long(b"rejected")
                + b"\x05countV\x05count"
                + integer(1)
            )
        )
    ),
    "x-death of a number": headers(x_death=b"A" + long(integer(1))),
    "x-death of nothing": headers(x_death=b"V"),
    "flags without end": b"\x00\x01",
}


def test_no_properties_stop_the_consumer(attacked: Attacked) -> None:
    for name, raw in HOSTILE.items():
        attacked.stranger.publish(raw, json.dumps({"properties": name}).encode())
        attacked.book()
    found = attacked.set_aside(len(HOSTILE))
    assert {json.loads(body)["properties"] for _, body in found} == HOSTILE.keys()
    for headers, _ in found:
        assert "no event of ours: id: Field required" in headers["x-reason"]
    attacked.unharmed()


NAME = "Иван Иванов"
OLDER = {"patient_name": NAME, "office_number": "221B", "date_time": "2025-12-01T15:30:00"}
BODIES = {
    b"": "no event of ours: the body",
    b"\xff\xfe\0": "no event of ours: the body",
    b"null": "no event of ours: the body",
    b"NaN": "no event of ours: the body",
    b"[" * 100_000: "no event of ours: the body",
    b'{"a":' * 10_000: "no event of ours: the body",
    b"1" * 60_000: "no event of ours: the body",
    b'"\\ud800"': "no event of ours: the body",
    b'{"id": "\\u0000"}': "no event of ours: type: Field required",
    json.dumps(OLDER).encode(): "a message of the older project",
    json.dumps(OLDER | {"date_time": [[]] * 9}, ensure_ascii=False).encode(): "older project",
    b"x" * 300_000: "no event of ours: the body is 300000 bytes long",
}


def test_no_body_stops_the_consumer(attacked: Attacked) -> None:
    for body in BODIES:
        attacked.stranger.publish(properties(message_id=short(b"an id")), body)
        attacked.book()
    for headers, body in attacked.set_aside(len(BODIES)):
        assert BODIES[body] in headers["x-reason"]
        assert NAME not in headers["x-reason"]
    assert NAME not in attacked.clinic.log
    attacked.unharmed()


def altered(event: dict[str, Any], **data: object) -> bytes:
    return json.dumps(event | {"data": event["data"] | data}).encode()


# What nobody can ever record, if it were in the log; a stranger's is not even looked for there.
@pytest.mark.parametrize(
    "change",
    [
        {"time": "0001-01-01T00:00:00+14:00"},
        {"time": "9999-12-31T23:59:59-12:00"},
        {"time": "0001-01-01T00:00:00Z"},
        {"id": "\0"},
        {"id": "x" * 100},
        {"subject": "\0"},
    ],
)
def test_what_can_never_be_recorded_is_set_aside_at_once(
    attacked: Attacked, change: dict[str, Any]
) -> None:
    event = attacked.event() | change
    identity = properties(message_id=short(str(event["id"]).encode()))
    said = attacked.clinic.log.count(FOREIGN)
    attacked.stranger.publish(identity, json.dumps(event).encode())
    if "id" in change:
        assert FOREIGN in attacked.reason()
        # One line, and no traceback: see ``unharmed``.
        until(lambda: attacked.clinic.log.count(FOREIGN) == said + 1)
    attacked.unharmed()


def test_an_event_counts_as_the_log_has_it_whatever_its_message_says(attacked: Attacked) -> None:
    event = attacked.event()
    identity = properties(message_id=short(event["id"].encode()))
    offices = [f"forged {number}" for number in range(20)]
    for office in offices:
        attacked.stranger.publish(identity, altered(event, office_number=office))
    until(lambda: attacked.clinic.log.count(f"message {event['id']} differs") == len(offices))
    attacked.unharmed()
    told = attacked.clinic.http.get("/analytics").json()["booked_per_office"]
    assert not {one["office_number"] for one in told} & set(offices)


@pytest.mark.parametrize("name", ["Доктор Ватсон", '\U0001f9b7 " \\ \\u000a', "</script>"])
def test_the_log_has_what_the_desk_has_told(attacked: Attacked, name: str) -> None:
    event = attacked.event(doctor_name=name)
    attacked.unharmed()
    assert event["id"] not in attacked.clinic.log


def test_a_forged_event_counts_for_nothing(attacked: Attacked) -> None:
    event = attacked.event()
    for number in range(20):
        name = f"00000000-0000-7000-8000-{number:012}"
        attacked.stranger.publish(
            properties(message_id=short(name.encode())), altered(event | {"id": name})
        )
    reasons = {str(headers["x-reason"]) for headers, _ in attacked.set_aside(20)}
    assert len(reasons) == 1
    assert "no event of this clinic's log has this id" in reasons.pop()
    attacked.unharmed()


@pytest.mark.parametrize("name", [b"", b"another", b"\xff", b"a\0"])
def test_an_event_under_another_id_is_set_aside(attacked: Attacked, name: bytes) -> None:
    event = attacked.event()
    attacked.stranger.publish(properties(message_id=short(name)), altered(event))
    assert "its message_id is not the id of the event" in attacked.reason()
    attacked.unharmed()


def test_what_comes_from_outside_forges_no_line_of_the_log(attacked: Attacked) -> None:
    forged = "x\n2026-01-01 00:00:00 ERROR clinic: all is lost\r\x1b[31m\u202e\u2028"
    everything = properties(
        message_id=short(forged.encode()),
        message_type=short(forged.encode()),
        headers=table({b"subject": b"S" + long(forged.encode() * 1000)}),
    )
    attacked.stranger.publish(everything)
    attacked.set_aside(1)
    until(lambda: "all is lost" in attacked.clinic.log)
    attacked.unharmed()
    (line,) = (line for line in attacked.clinic.log.split("\n") if "all is lost" in line)
    assert not line.endswith("ERROR clinic: all is lost")
    assert len(line) < 1000
    assert line.isprintable()


def test_a_copy_says_what_it_lacks(attacked: Attacked) -> None:
    everything = properties(
        message_id=short(b"\xff"),
        message_type=short(b"\xfe"),
        headers=table({b"subject": b"S" + long(b"x" * 1001)}),
    )
    attacked.stranger.publish(everything)
    reason = attacked.reason()
    assert reason.startswith("unreadable: no event of ours")
    assert reason.endswith(
        "; this copy lacks its message_id (not UTF-8), type (not UTF-8), subject (1001 bytes long)"
    )
    attacked.unharmed()


def test_a_route_of_any_bytes_stops_nobody(attacked: Attacked) -> None:
    carbon_copy = table({b"CC": b"A" + long(b"S" + long(MAIN.encode()))})
    attacked.stranger.publish(properties(headers=carbon_copy), routing_key=b"\xff\xfe")
    attacked.reason()
    attacked.unharmed()


def test_hostile_messages_hold_up_no_neighbours(attacked: Attacked) -> None:
    event = attacked.event()
    until(attacked.counted)
    hostile = [raw for name, raw in HOSTILE.items() if "nested" not in name]
    for number in range(240):
        attacked.stranger.publish(hostile[number % len(hostile)], altered(event))
    attacked.book()
    began = time.monotonic()
    until(attacked.counted)
    assert time.monotonic() - began < 1 + SLACK_SECONDS
    attacked.set_aside(240)
    attacked.unharmed()


def peak_mib(clinic: ClinicProcess) -> int:
    """Return the most memory that a process has had at a time."""
    lines = Path(f"/proc/{clinic.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def flood(attacked: Attacked, count: int, size: int) -> None:
    """Publish large messages, and check what becomes of them and of the memory."""
    for _ in range(count):
        attacked.stranger.publish(properties(), b"x" * size)
    for headers, body in attacked.set_aside(count):
        assert body == b"x" * min(size, LARGEST_BODY)
        lacks = f"lacks its body after {LARGEST_BODY} bytes ({size} bytes long)"
        assert (lacks in headers["x-reason"]) == (size > LARGEST_BODY)
    assert peak_mib(attacked.clinic) < 320


def test_a_large_message_is_set_aside_as_far_as_servers_take_it(attacked: Attacked) -> None:
    flood(attacked, 1, LARGEST_BODY + 1)
    attacked.unharmed()


@pytest.mark.long
def test_many_large_messages_take_no_more_memory_than_a_few(attacked: Attacked) -> None:
    flood(attacked, 25, LARGEST_BODY // 2)
    attacked.unharmed()


SIZES = {b"t": 1, b"b": 1, b"B": 1, b"s": 2, b"u": 2, b"I": 4, b"i": 4, b"l": 8, b"L": 8}
SIZES |= {b"f": 4, b"d": 8, b"D": 5, b"T": 8, b"V": 0}
NAMES = st.sampled_from([b"subject", b"x-death", b"x-attempts", b"x-reason", b"count", b"queue"])
ANY_NAME = NAMES | st.binary(max_size=255)


def of_size(kind: bytes) -> st.SearchStrategy[bytes]:
    size = SIZES[kind]
    return st.binary(min_size=size, max_size=size).map(lambda raw: kind + raw)


TEXTS = st.sampled_from([MAIN.encode(), b"rejected", b"expired", b"dlq-for-retries"]) | st.binary()
SIMPLE = st.one_of(
    st.sampled_from(sorted(SIZES)).flatmap(of_size),
    TEXTS.map(lambda raw: b"S" + long(raw)),
    st.binary().map(lambda raw: b"x" + long(raw)),
)
VALUES = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: b"A" + long(b"".join(items)))
        | st.dictionaries(ANY_NAME, inner, max_size=4).map(lambda fields: b"F" + table(fields))
    ),
)
DEATH = st.fixed_dictionaries(
    {},
    optional={
        b"queue": TEXTS.map(lambda raw: b"S" + long(raw)) | VALUES,
        b"reason": TEXTS.map(lambda raw: b"S" + long(raw)) | VALUES,
        b"count": st.integers(-(2**63), 2**63 - 1).map(integer) | VALUES,
    },
).map(lambda fields: b"F" + table(fields))
HEADERS = st.dictionaries(ANY_NAME, VALUES, max_size=5) | st.lists(DEATH, max_size=3).map(
    lambda entries: {b"x-death": b"A" + long(b"".join(entries))}
)
SHORT = st.binary(max_size=255).map(short)
SOME: dict[str, st.SearchStrategy[bytes]] = {
    "content_type": SHORT,
    "content_encoding": SHORT,
    "headers": HEADERS.map(table),
    "delivery_mode": st.sampled_from([b"\1", b"\2"]),
    "priority": st.binary(min_size=1, max_size=1),
    "correlation_id": SHORT,
    "reply_to": SHORT,
    "message_id": SHORT,
    "timestamp": st.binary(min_size=8, max_size=8),
    "message_type": SHORT,
    "app_id": SHORT,
    "cluster_id": SHORT,
}
# Of these a server takes few or none. With an expiration that is a number a message may be gone
# before anybody has seen it.
ODD: dict[str, st.SearchStrategy[bytes]] = {
    "headers": st.binary(max_size=50).map(long)
    | st.dictionaries(ANY_NAME, st.binary(max_size=9), max_size=3).map(table),
    "delivery_mode": st.binary(min_size=1, max_size=1),
    "expiration": st.just(short(b"soon")),
    "user_id": SHORT | st.just(short(b"guest")),
    "correlation_id": st.binary(max_size=9),
}


def any_of(fields: dict[str, st.SearchStrategy[bytes]]) -> st.SearchStrategy[bytes]:
    return st.fixed_dictionaries({}, optional=fields).map(lambda raw: properties(**raw))


WHOLE = st.one_of(any_of(SOME), any_of(SOME), any_of(SOME | ODD), st.binary(max_size=100))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
BODY = st.binary() | JSON.map(lambda value: json.dumps(value).encode())
MESSAGES = st.lists(st.tuples(WHOLE, BODY), min_size=1, max_size=10)


def everything_is_set_aside(
    attacked: Attacked, examples: int, beside: Callable[[], object] = lambda: None
) -> None:
    """Publish whatever hypothesis thinks of, and after each batch do something beside."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(MESSAGES)
    def publish(messages: list[tuple[bytes, bytes]]) -> None:
        taken = [body for raw, body in messages if attacked.stranger.takes(raw, body)]
        beside()
        found = attacked.set_aside(len(taken))
        assert sorted(body for _, body in found) == sorted(taken)
        assert all(headers["x-reason"] for headers, _ in found)

    publish()


def test_any_message_is_set_aside(attacked: Attacked) -> None:
    everything_is_set_aside(attacked, examples=15, beside=attacked.book)
    attacked.unharmed()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_any_of_many_messages_is_set_aside(attacked: Attacked) -> None:
    everything_is_set_aside(attacked, examples=400, beside=attacked.book)
    attacked.unharmed()


@pytest.fixture(scope="module", params=KINDS)
def rehearsing(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    rabbit: Rabbit,
    postgres: Postgres,
) -> Iterator[Attacked]:
    """A clinic in which every delivery fails: a message goes by way of the dead letter queue."""
    folder = tmp_path_factory.mktemp("rehearsing")
    yield from attack(folder, rabbit, postgres, request.param, ERROR_PROBABILITY=1)


def test_what_fails_goes_round_and_is_set_aside_whatever_its_properties(
    rehearsing: Attacked,
) -> None:
    """A queue of RabbitMQ 3.10 crashes over an x-death that it cannot count on from."""
    for raw in HOSTILE.values():
        rehearsing.stranger.publish(raw)
    found = rehearsing.set_aside(len(HOSTILE))
    attempts = [headers["x-attempts"] for headers, _ in found]
    assert set(attempts) == {2, 1_000_001}
    for headers, _ in found:
        assert "at last with RehearsedFailure" in headers["x-reason"]
    rehearsing.unblamed()


def test_any_message_that_fails_is_set_aside(rehearsing: Attacked) -> None:
    everything_is_set_aside(rehearsing, examples=5)
    rehearsing.unblamed()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_any_of_many_messages_that_fail_is_set_aside(rehearsing: Attacked) -> None:
    everything_is_set_aside(rehearsing, examples=200)
    rehearsing.unblamed()
