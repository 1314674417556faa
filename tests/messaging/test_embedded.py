"""What only the embedded broker does: leases, by the database's clock."""

from datetime import timedelta

import anyio
import pytest

from clinic.database import Database, Dialect, utc_now
from clinic.messaging.embedded import EmbeddedBroker
from tests.messaging.brokers import nothing_comes, publish, take
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = pytest.mark.anyio


def lasting(database: Database, lease_seconds: float) -> EmbeddedBroker:
    ttl, lease = timedelta(seconds=1), timedelta(seconds=lease_seconds)
    return EmbeddedBroker(database, ttl, lease)


@pytest.fixture
def hasty(database: Database) -> EmbeddedBroker:
    """A broker whose leases soon run out."""
    return lasting(database, 0.5)


@pytest.fixture
def broker(database: Database) -> EmbeddedBroker:
    """A broker whose leases last."""
    return lasting(database, 2 * PATIENCE_SECONDS)


async def test_a_lease_that_runs_out_gives_the_message_to_others_without_a_death(
    hasty: EmbeddedBroker, broker: EmbeddedBroker
) -> None:
    await publish(broker, 1)
    async with hasty.consuming(10) as dying:
        await take(dying, 1)
        async with broker.consuming(10) as receive:
            (delivery,) = await take(receive, 1)
            assert delivery.deaths == 0
            await delivery.solved()


async def test_a_session_that_has_lost_its_lease_settles_nothing(
    hasty: EmbeddedBroker, broker: EmbeddedBroker
) -> None:
    await publish(broker, 1)
    async with hasty.consuming(10) as slow:
        (late,) = await take(slow, 1)
        async with broker.consuming(10) as receive:
            (delivery,) = await take(receive, 1)
            await late.not_solved("too late")
            with anyio.move_on_after(0.1):
                await slow()
            await delivery.retry()
        async with broker.consuming(10) as receive:
            (again,) = await take(receive, 1)
            assert again.deaths == 1
            await again.solved()


@pytest.mark.parametrize("database_url", [Dialect.POSTGRESQL], indirect=True)
@pytest.mark.parametrize("minutes", [-1, 1])
async def test_hosts_whose_clocks_differ_neither_wait_nor_take_anything_twice(
    database: Database, minutes: int
) -> None:
    """The database's clock decides what is ready, leased, and has rested."""
    ttl, lease = timedelta(seconds=1), timedelta(seconds=PATIENCE_SECONDS)
    wrong = EmbeddedBroker(database, ttl, lease, lambda: utc_now() + timedelta(minutes=minutes))
    right = EmbeddedBroker(database, ttl, lease)
    for here, there in ((wrong, right), (right, wrong)):
        await publish(here, 1)
        async with there.consuming(10) as receive, here.consuming(10) as others:
            with anyio.fail_after(SLACK_SECONDS):
                (delivery,) = await take(receive, 1)
            assert await nothing_comes(others)
            died_at = anyio.current_time()
            await delivery.retry()
            assert await nothing_comes(receive, 0.9)
            with anyio.fail_after(SLACK_SECONDS):
                (again,) = await take(others, 1)
            assert anyio.current_time() - died_at > 0.95
            assert await nothing_comes(receive)
            await again.solved()


@pytest.mark.parametrize("database_url", [Dialect.POSTGRESQL], indirect=True)
@pytest.mark.parametrize("minutes", [-1, 1])
async def test_a_lease_that_a_host_with_another_clock_gave_runs_out_in_time(
    database: Database, minutes: int
) -> None:
    ttl, lease = timedelta(seconds=1), timedelta(seconds=1)
    wrong = EmbeddedBroker(database, ttl, lease, lambda: utc_now() + timedelta(minutes=minutes))
    right = EmbeddedBroker(database, ttl, lease)
    for here, there in ((wrong, right), (right, wrong)):
        await publish(here, 1)
        async with here.consuming(10) as dying, there.consuming(10) as receive:
            await take(dying, 1)
            assert await nothing_comes(receive, 0.8)
            with anyio.fail_after(SLACK_SECONDS):
                (delivery,) = await take(receive, 1)
            await delivery.solved()
