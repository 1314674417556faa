"""Whatever anybody put into not solved can be listed, replayed, discarded and brought back."""

from collections.abc import AsyncIterator

import anyio.to_thread
import pytest

from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.rabbitmq.copies import LARGEST_BODY
from clinic.operating.operations import Verb
from clinic.operating.selection import Selection
from tests.messaging.attacked import ASIDE, HOSTILE, headers, integer
from tests.messaging.stranger import Stranger, long, properties, short
from tests.operating.worlds import World, world

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

HEADERS = [
    {"x_attempts": integer(2**63 - 1)},
    {"x_attempts": integer(-1)},
    {"x_attempts": b"S" + long(b"many")},
    {"x_reason": b"S" + long(b"\xff\0" * 10_000)},
    {"x_reason": integer(1)},
]
BODIES = [b"", b"\xff\xfe\0", b"[" * 100_000, b"x" * 300_000]


@pytest.fixture(params=["quorum over postgresql", "classic over sqlite"])
async def clinic(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world(request.param, request) as found:
        await found.in_queue()  # declares the queues
        yield found


def put(url: str, messages: list[tuple[bytes, bytes]]) -> None:
    with Stranger(url) as stranger:
        for raw, body in messages:
            stranger.publish(raw, body, routing_key=ASIDE.encode())


async def test_hostile_messages_are_operated_as_all_others(clinic: World) -> None:
    assert isinstance(clinic.broker, RabbitBroker)
    hostile = [(raw, f"body of {name}".encode()) for name, raw in HOSTILE.items()]
    hostile += [(properties(message_id=short(b"\xff")), body) for body in BODIES]
    hostile += [(headers(**one), f"{one}".encode()) for one in HEADERS]
    await anyio.to_thread.run_sync(put, clinic.broker.url, hostile)
    events = await clinic.set_aside(3)
    count = len(hostile)

    await clinic.run(Verb.CHECK)
    rows = await clinic.rows()
    assert len(rows) == count + 3
    for row in rows:
        shown = await clinic.operations.show(row["position"])
        assert shown.row["kind"] in ("Unknown", "ValueError")
    before = sorted((one.message.body, one.reason) for one in await clinic.in_queue())
    strange = Selection(kind="Unknown")
    done = await clinic.run(Verb.DISCARD, strange, reason="strange")
    assert done.results == {"discarded": count}
    assert len(await clinic.in_queue()) == 3
    done = await clinic.run(Verb.RESTORE, strange)
    assert done.results == {"waiting": count}
    after = await clinic.in_queue()
    assert [body for body, _ in before] == sorted(one.message.body for one in after)
    done = await clinic.run(Verb.REPLAY)
    assert done.results == {"replayed": count + 3}
    assert await clinic.in_queue() == []

    await clinic.record_all(3)
    await clinic.consume(lambda: clinic._has("set_aside", 2 * count + 3))
    groups = {row["kind"]: row["messages"] for row in await clinic.operations.groups()}
    assert groups == {"Unreadable": count}
    assert len(events) == 3


async def test_a_message_larger_than_servers_take_is_discarded_and_brought_back(
    clinic: World,
) -> None:
    assert isinstance(clinic.broker, RabbitBroker)
    large = [(properties(), b"x" * (LARGEST_BODY // 4))] * 3
    await anyio.to_thread.run_sync(put, clinic.broker.url, large)
    await clinic.run(Verb.CHECK)
    assert [row["message"] for row in await clinic.rows()] == [None] * 3
    done = await clinic.run(Verb.DISCARD, reason="large")
    assert done.results == {"discarded": 3}
    await clinic.run(Verb.RESTORE)
    assert [len(one.message.body) for one in await clinic.in_queue()] == [LARGEST_BODY // 4] * 3
