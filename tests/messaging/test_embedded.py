"""What only the embedded broker does: leases."""

from datetime import timedelta

import anyio
import pytest

from clinic.database import Database
from clinic.messaging.embedded import EmbeddedBroker
from tests.messaging.brokers import publish, take
from tests.timing import PATIENCE_SECONDS

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


async def test_who_has_lost_the_lease_settles_nothing(
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
