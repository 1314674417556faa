"""Names, arguments and headers on a RabbitMQ server."""

from typing import Any

import pytest

from clinic.messaging.broker import MOST_DEATHS
from clinic.messaging.rabbitmq.topology import QueueType, explain_misfit, explain_refusal
from tests.messaging.brokers import topology

CLASSIC = topology(QueueType.CLASSIC, ttl_ms=1000)
MAIN, DEAD = CLASSIC.main, CLASSIC.dead_letter

# No broker writes such a count; RabbitMQ 3.10 adds 1 to it, or fails to.
COUNTS: tuple[object, ...] = ("3", None, True, 1.5, 0, -1, -(2**63), MOST_DEATHS + 1, 2**63 - 1)


def entry(queue: object, reason: object, count: object) -> dict[str, Any]:
    return {"queue": queue, "reason": reason, "count": count, "exchange": "", "routing-keys": []}


ODD: tuple[object, ...] = (
    None,
    "rejected",
    ["rejected", None, 3],
    [{}],
    *[[entry(MAIN, "rejected", count)] for count in COUNTS],
    [entry(MAIN, "rejected", 1), entry("elsewhere", "rejected", -1)],
    [entry(MAIN, "rejected", MOST_DEATHS), entry(MAIN, "delivery_limit", 1)],
    [entry(MAIN, "maxlen", 7)],
    [entry(MAIN, "expired", 1), entry(MAIN, "rejected", 1)],
    [entry(None, "rejected", 1)],
    [entry(MAIN, 5, 1)],
)


@pytest.mark.parametrize(
    ("headers", "deaths"),
    [
        (None, 0),
        ({}, 0),
        # RabbitMQ 3.10 and 4.x, after three rounds.
        ({"x-death": [entry(DEAD, "expired", 3), entry(MAIN, "rejected", 3)]}, 3),
        # 4.x tells of the last round besides.
        (
            {
                "x-death": [entry(MAIN, "rejected", 2), entry(DEAD, "expired", 2)],
                "x-last-death-reason": "rejected",
            },
            2,
        ),
        ({"x-death": [entry(MAIN, "rejected", 2), entry(MAIN, "delivery_limit", 1)]}, 3),
        ({"x-death": []}, 0),
        ({"x-death": [entry("elsewhere", "rejected", 7)]}, 0),
        ({"x-death": [entry("elsewhere", "rejected", 7), entry(MAIN, "rejected", 1)]}, 1),
        # From outside anything may come: nobody can tell then, and the next failure is the last.
        *[({"x-death": odd}, MOST_DEATHS) for odd in ODD],
    ],
)
def test_deaths_are_counted_by_queue_and_reason(
    headers: dict[str, Any] | None, deaths: int
) -> None:
    assert CLASSIC.deaths(headers) == deaths


def test_classic_queues_are_declared_as_the_older_project_does() -> None:
    assert CLASSIC.arguments() == {
        "rmq-for-retries": {"x-dead-letter-exchange": "dlx-for-retries"},
        "dlq-for-retries": {
            "x-message-ttl": 1000,
            "x-dead-letter-exchange": "rmx-for-retries",
            "x-dead-letter-queue": "rmq-for-retries",
        },
        "rmq-not-solved": {},
    }


def test_quorum_queues_lose_nothing_between_them() -> None:
    arguments = topology(QueueType.QUORUM).arguments()
    for queue in (MAIN, DEAD):
        assert arguments[queue]["x-dead-letter-strategy"] == "at-least-once"
        assert arguments[queue]["x-overflow"] == "reject-publish"
    assert "x-message-ttl" not in arguments[MAIN]


def test_a_queue_that_differs_is_explained() -> None:
    said = (
        "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'dlq-for-retries' in "
        "vhost '/': received the value '20000' of type 'signedint' but current is the value "
        "'10000' of type 'signedint'"
    )
    assert "RabbitMQ has the queue dlq-for-retries with another x-message-ttl" in explain_misfit(
        said
    )
    assert explain_misfit("something else").startswith("RabbitMQ has queues or exchanges")


@pytest.mark.parametrize(
    ("said", "explained"),
    [
        (
            "ACCESS_REFUSED - access to queue 'main' in vhost 'v' refused for user 'bob'",
            "the user bob lacks the permission read for the queue main ",
        ),
        (
            "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'b'",
            "the user b lacks the permission write for the exchange amq.default ",
        ),
        ("ACCESS_REFUSED - by a policy of tomorrow", "its user lacks a permission "),
    ],
)
def test_a_permission_that_is_missing_is_named(said: str, explained: str) -> None:
    assert explain_refusal(said).startswith(explained)
