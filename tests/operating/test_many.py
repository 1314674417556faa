"""100,000 messages that are not solved stay workable."""

import datetime
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

from clinic.database import Database, utc_now
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.set_aside import SetAside, insert_set_aside
from clinic.operating.operations import Operations, Verb, preview
from clinic.operating.selection import Selection
from tests.timing import SLACK_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

MANY, AT_A_TIME = 100_000, 20_000
KINDS = ["ValueError", "TimeoutError", "StatementRefused", "OlderMessage"]


async def fill(database: Database) -> None:
    now = utc_now()
    for start in range(0, MANY, AT_A_TIME):
        rows = [
            SetAside(
                key=f"{number:032x}",
                event_id=f"01a22819-1039-7442-81e2-{number:012}",
                event_type="appointment.booked" if number % 3 else "appointment.cancelled",
                office_id=number % 40,
                kind=KINDS[number % 4],
                reason=f"failed 4 times, at last with {KINDS[number % 4]}",
                deliveries=4,
                set_aside_at=now - datetime.timedelta(seconds=MANY - number),
                message=None,
            )
            for number in range(start, start + AT_A_TIME)
        ]
        async with database.transaction() as connection:
            await insert_set_aside(connection, rows)


async def fastest(ask: Callable[[], Awaitable[object]]) -> float:
    """Return how many seconds the fastest of some tries took."""
    found = []
    for _ in range(5):
        began = time.monotonic()
        await ask()
        found.append(time.monotonic() - began)
        await anyio.sleep(0.01)
    return min(found)


async def test_lists_groups_and_counts_of_many_take_no_time(database: Database) -> None:
    await fill(database)
    broker = EmbeddedBroker(database, datetime.timedelta(1), datetime.timedelta(1))
    operations = Operations(database, broker)
    now = utc_now()
    selections = [
        Selection(),
        Selection(kind="ValueError"),
        Selection(office_id=7, event_type="appointment.cancelled"),
        Selection(after=now - datetime.timedelta(hours=1)),
        Selection(kind="TimeoutError", before=now - datetime.timedelta(hours=20), office_id=5),
    ]
    took = {}
    for selection in selections:
        took[f"groups of {selection.words()}"] = await fastest(
            lambda selection=selection: operations.groups(selection)  # type: ignore[misc]
        )
        for past in (0, MANY // 2, MANY - 100):
            took[f"a page of {selection.words()}, after {past}"] = await fastest(
                lambda selection=selection, past=past: operations.waiting(  # type: ignore[misc]
                    selection, past, 50
                )
            )
    assert sum(row["messages"] for row in await operations.groups()) == MANY
    # 200 ms is promised; what is slower here is the machine.
    assert {what: seconds for what, seconds in took.items() if seconds > 0.2} == {}
    began = time.monotonic()
    planned = await operations.plan(Verb.REPLAY, Selection(), "a test")
    assert time.monotonic() - began < 1 + SLACK_SECONDS
    assert preview(planned).startswith("100,000 messages, up to position 100,000")
