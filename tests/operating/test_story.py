"""The story of events, and how long what it is told from is kept."""

import datetime
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from clinic.database import utc_now
from clinic.messaging.attempts import attempt, insert_attempts
from clinic.messaging.message import Message
from clinic.messaging.outbox import Outbox
from clinic.operating import service
from clinic.operating.operations import Verb
from clinic.operating.queries import update_states
from clinic.operating.service import Operating
from clinic.operating.story import story_of
from tests.messaging.test_consumer import log_events
from tests.operating.worlds import World, world

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


@pytest.fixture(params=["sqlite", "postgresql"])
async def clinic(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world(request.param, request) as found:
        yield found


async def story(clinic: World, event: Message) -> tuple[str, list[str]]:
    """Return where an event is, and its steps."""
    appointment = json.loads(event.body)["data"]["appointment_id"]
    told = await story_of(clinic.database, appointment)
    assert told
    (found,) = (one for one in told if one["id"] == event.id)
    steps = found["story"]
    assert isinstance(steps, list)
    moments = [step["at"] for step in steps[1:] if step["at"]]
    assert moments == sorted(moments)
    return str(found["state"]), [step["what"] for step in steps[1:]]


async def test_where_an_event_is_and_how_it_came_there(clinic: World) -> None:
    outbox = Outbox(clinic.database, datetime.timedelta(seconds=-1))
    (event,) = await log_events(clinic.database, outbox, 1)
    assert await story(clinic, event) == ("to_be_published", [])
    outbox.take_held(1)
    async with clinic.database.transaction() as connection:
        early = utc_now() - datetime.timedelta(hours=1)
        await connection.execute("update outbox set relay_at = :early", {"early": early})
    for times in range(1, 4):
        held = await outbox.claim(10)
        assert [one.publications for one in held] == [times - 1]
        await outbox.mark(outbox.published(held))
        assert await story(clinic, event) == ("published", ["published"] * times)
    async with clinic.database.transaction() as connection:
        await outbox.close(connection, [event.id])
    assert await story(clinic, event) == ("missing", ["published"] * 3)
    assert await story_of(clinic.database, 10**9) is None


async def test_each_stay_in_not_solved_is_told(clinic: World) -> None:
    (event,) = await clinic.set_aside(1)
    assert await story(clinic, event) == ("not_solved", ["attempt", "set_aside"])
    await clinic.run(Verb.REPLAY)
    await clinic.consume(lambda: clinic._has("set_aside", 2), error_probability=1.0)
    round_trip = ["attempt", "set_aside", "replayed"]
    assert await story(clinic, event) == ("not_solved", [*round_trip, "attempt", "set_aside"])
    await clinic.run(Verb.DISCARD, reason="why not")
    state, steps = await story(clinic, event)
    assert (state, steps[-1]) == ("discarded", "discarded")
    await clinic.run(Verb.RESTORE)
    await clinic.run(Verb.REPLAY)
    await clinic.record_all(1)
    state, steps = await story(clinic, event)
    assert (state, steps[-1]) == ("recorded", "recorded")


async def test_what_was_kept_for_long_enough_is_forgotten_in_steps(
    clinic: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_DELETED", 4)
    await clinic.set_aside(6)
    await clinic.run(Verb.DISCARD, reason="why not")
    await clinic.set_aside(1)
    now, day = utc_now(), datetime.timedelta(days=1)
    old = attempt(ValueError(), now - 2 * day, None, 1)
    async with clinic.database.transaction() as connection:
        await insert_attempts(connection, [replace(old)] * 6)
        states = [{"position": position, "state": "discarded"} for position in range(1, 7)]
        await update_states(connection, states, 1, now - 2 * day)
    operating = Operating(clinic.worker(), day)
    for left in (3, 1, 1):
        await operating.clean()
        assert await clinic.count("set_aside") == left
    assert await clinic.count("attempt") == 7
    assert await clinic.states() == {"waiting": 1}
    assert await clinic.count("operation") == 1
    later = Operating(clinic.worker(), day, clock=lambda: now + 3 * day)
    for _ in range(3):
        await later.clean()
    assert await clinic.count("attempt") == 0
    assert await clinic.count("operation") == 0
    # What waits for a person is never forgotten.
    assert await clinic.states() == {"waiting": 1}
