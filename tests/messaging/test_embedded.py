"""What only the embedded broker does: leases."""

from datetime import timedelta

import anyio
import pytest

from clinic.database import Database
from clinic.messaging.embedded import EmbeddedBroker
from tests.messaging.test_broker import publish, take

pytestmark = pytest.mark.anyio


@pytest.fixture
def broker(database: Database) -> EmbeddedBroker:
    return EmbeddedBroker(database, ttl=timedelta(seconds=1), lease=timedelta(seconds=0.5))


async def test_a_lease_that_runs_out_gives_the_message_to_others_without_a_death(
    broker: EmbeddedBroker,
) -> None:
    await publish(broker, 1)
    async with broker.consuming(10) as dying:
        await take(dying, 1)
        async with broker.consuming(10) as receive:
            with anyio.fail_after(2):
                (delivery,) = await receive()
            assert delivery.deaths == 0
            await delivery.solved()


async def test_who_has_lost_the_lease_settles_nothing(broker: EmbeddedBroker) -> None:
    await publish(broker, 1)
    async with broker.consuming(10) as slow:
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
