"""A clinic on RabbitMQ that a stranger attacks by messages, and what the stranger sends."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamqp.header import ContentHeader

from clinic.messaging.rabbitmq.copies import LARGEST_BODY
from clinic.messaging.rabbitmq.topology import QueueType
from tests.messaging.stranger import Stranger, long, properties, short, table
from tests.process.clinic import ClinicProcess, running, until
from tests.servers import Postgres, Rabbit
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

MAIN, ASIDE = "rmq-for-retries", "rmq-not-solved"
TTL_MS = 200
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
        assert self.clinic.http.get("/health/ready").json()["parts"]["consumer"]["state"] == "up"
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
        until(lambda: clinic.http.get("/health/ready").json()["parts"]["consumer"]["state"] == "up")
        aside.consume(ASIDE)
        yield Attacked(clinic, stranger, aside)
        assert clinic.stop() == 0
    rabbit.delete_vhost(name)


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


def altered(event: dict[str, Any], **data: object) -> bytes:
    return json.dumps(event | {"data": event["data"] | data}).encode()


def flood(attacked: Attacked, count: int, size: int) -> None:
    """Publish large messages, and check what becomes of them and of the memory."""
    for _ in range(count):
        attacked.stranger.publish(properties(), b"x" * size)
    for headers, body in attacked.set_aside(count):
        assert body == b"x" * min(size, LARGEST_BODY)
        lacks = f"lacks its body after {LARGEST_BODY} bytes ({size} bytes long)"
        assert (lacks in headers["x-reason"]) == (size > LARGEST_BODY)
    assert attacked.clinic.peak_mib < 320
