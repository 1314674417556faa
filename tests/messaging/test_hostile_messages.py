"""Whatever anybody publishes to main is recorded or set aside; its neighbours are counted."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clinic.messaging.rabbitmq.copies import LARGEST_BODY
from tests.messaging.any_message import everything_is_set_aside
from tests.messaging.attacked import HOSTILE, KINDS, MAIN, Attacked, altered, attack, flood
from tests.messaging.stranger import long, properties, short, table
from tests.process.clinic import until
from tests.servers import Postgres, Rabbit
from tests.timing import SLACK_SECONDS

FOREIGN = "no event of this clinic's log has this id"


@pytest.fixture(scope="module", params=KINDS)
def attacked(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    rabbit: Rabbit,
    postgres: Postgres,
) -> Iterator[Attacked]:
    yield from attack(tmp_path_factory.mktemp("hostile"), rabbit, postgres, request.param)


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


# Events that could never be recorded, even if they were in the log.
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
def test_a_message_that_can_never_be_recorded_is_set_aside_at_once(
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
def test_an_event_of_the_desk_is_recorded_and_not_logged(attacked: Attacked, name: str) -> None:
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


def test_no_message_forges_a_line_of_the_log(attacked: Attacked) -> None:
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


def test_a_large_message_is_set_aside_as_far_as_servers_take_it(attacked: Attacked) -> None:
    flood(attacked, 1, LARGEST_BODY + 1)
    attacked.unharmed()


def test_any_message_is_set_aside(attacked: Attacked) -> None:
    everything_is_set_aside(attacked, examples=15, beside=attacked.book)
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


def test_a_failing_message_is_set_aside_whatever_its_properties(
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
