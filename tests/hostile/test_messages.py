"""Many messages that nobody should send, on the real broker; bookings go on, and are counted."""

from collections.abc import Iterator

import pytest

from clinic.messaging.rabbitmq.copies import LARGEST_BODY
from tests.hostile.friends import friends
from tests.messaging.any_message import everything_is_set_aside
from tests.messaging.attacked import HOSTILE, KINDS, Attacked, attack, flood
from tests.process.clinic import until
from tests.servers import Postgres, Rabbit
from tests.timing import SLACK_SECONDS

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(1800)]

FLOOD = 5000


@pytest.fixture(scope="module", params=KINDS)
def attacked(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    rabbit: Rabbit,
    postgres: Postgres,
) -> Iterator[Attacked]:
    yield from attack(tmp_path_factory.mktemp("hostile"), rabbit, postgres, request.param)


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


def test_a_flood_keeps_nobody_from_booking(attacked: Attacked) -> None:
    hostile = list(HOSTILE.values())
    with friends(attacked.clinic.port) as found:
        for number in range(FLOOD):
            attacked.stranger.publish(hostile[number % len(hostile)])
    print(f"{dict(found.statuses)} beside {FLOOD} messages, slowest {found.slowest_seconds:.2f} s")
    assert set(found.statuses) == {201}, found.failures
    assert found.slowest_seconds < 1 + SLACK_SECONDS
    attacked.booked += found.booked
    attacked.set_aside(FLOOD)
    until(attacked.counted)
    attacked.unharmed()
    assert attacked.clinic.peak_mib < 320


def test_many_large_messages_take_no_more_memory_than_a_few(attacked: Attacked) -> None:
    flood(attacked, 25, LARGEST_BODY // 2)
    attacked.unharmed()


def test_any_of_many_messages_is_set_aside(attacked: Attacked) -> None:
    everything_is_set_aside(attacked, examples=400, beside=attacked.book)
    attacked.unharmed()


def test_any_of_many_messages_that_fail_is_set_aside(rehearsing: Attacked) -> None:
    everything_is_set_aside(rehearsing, examples=200)
    rehearsing.unblamed()
