"""An operation that dies at any of its steps is taken up again: nothing lost, nothing twice."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from clinic.database import Connection
from clinic.messaging.broker import Aside, Broker, NotSolved
from clinic.messaging.message import Message
from clinic.operating.operations import Status, Verb
from clinic.operating.queries import give_back_lease
from clinic.operating.selection import Selection
from clinic.operating.walking import Worker
from tests.operating.worlds import World, never, world

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


class Died(Exception):
    """What a test takes for the end of a process."""


@dataclass
class Steps:
    """Counts steps, and dies at the last."""

    left: int

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Died


@dataclass
class DyingSession:
    """A session that may die before and after each of its verbs, and within a replay."""

    session: NotSolved
    steps: Steps

    def __post_init__(self) -> None:
        inner: Any = self.session
        if hasattr(inner, "_channel"):
            # A replay on RabbitMQ publishes, and then acknowledges: it may die in between.
            acknowledge = inner.discard

            async def discard(messages: Sequence[Aside]) -> None:
                self.steps.step()
                await acknowledge(messages)

            inner.discard = discard

    async def _do(self, act: Callable[[], Awaitable[Any]]) -> Any:
        self.steps.step()
        done = await act()
        self.steps.step()
        return done

    async def look(self) -> Sequence[Aside]:
        return await self._do(self.session.look)  # type: ignore[no-any-return]

    async def replay(self, messages: Sequence[Aside]) -> None:
        await self._do(lambda: self.session.replay(messages))

    async def discard(self, messages: Sequence[Aside]) -> None:
        await self._do(lambda: self.session.discard(messages))

    async def restore(self, messages: Sequence[tuple[Message, str]]) -> Sequence[str]:
        return await self._do(  # type: ignore[no-any-return]
            lambda: self.session.restore(messages)
        )

    async def count(self) -> int:
        return await self.session.count()


@dataclass
class DyingBroker:
    broker: Broker
    steps: Steps

    @asynccontextmanager
    async def set_aside(self) -> AsyncIterator[NotSolved]:
        async with self.broker.set_aside() as session:
            yield DyingSession(session, self.steps)


@dataclass
class DyingWorker(Worker):
    """A worker that may die before and after each of its transactions."""

    steps: Steps = field(default_factory=lambda: Steps(0))

    async def _transact(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        self.steps.step()
        done = await super()._transact(work)
        self.steps.step()
        return done


def dying(clinic: World, at: int) -> DyingWorker:
    steps = Steps(at)
    broker: Any = DyingBroker(clinic.broker, steps)
    worker = clinic.worker(broker)
    names = ("database", "broker", "outbox", "recognise", "describe")
    return DyingWorker(**{name: getattr(worker, name) for name in names}, steps=steps)


@pytest.fixture(params=["sqlite", "quorum over postgresql"])
async def clinic(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world(request.param, request) as found:
        yield found


# More than an operation has steps.
MOST_STEPS = 25
EACH = 3


async def die_at_each_step(clinic: World, verb: Verb, **more: Any) -> None:
    """Let operations over some messages each die, one step later each time, and go on."""
    for at in range(1, MOST_STEPS + 1):
        ids = tuple(range((at - 1) * EACH + 1, at * EACH + 1))
        started = await clinic.start(verb, Selection(ids=ids), **more)
        worker = dying(clinic, at)
        died = False
        try:
            await worker.work(never)
        except Died:
            died = True
            # It runs out by itself (``test_processes``); not waited for here.
            await give_back_lease(clinic.database, worker.name)
            await clinic.worker().work(never)
        done = await clinic.operations.show_operation(started.id)
        assert done.status is Status.DONE
        assert sum(done.results.values()) == EACH, at
        assert "missing" not in done.results, at
        if not died:
            assert at > 8
            return
    raise AssertionError("it has more steps than that")


async def test_a_replay_dies_at_each_step(clinic: World) -> None:
    told = MOST_STEPS * EACH
    events = await clinic.set_aside(told)
    await die_at_each_step(clinic, Verb.REPLAY)
    left = {one.message.id for one in await clinic.in_queue()}
    await clinic.record_all(told - len(left))
    recorded = {
        row["event_id"] for row in await clinic.database.look("select event_id from recorded")
    }
    assert recorded == {event.id for event in events} - left
    assert await clinic.database.look("select position from outbox") == []
    states = await clinic.states()
    assert states["waiting"] == len(left)
    assert states["replayed"] == told - len(left)


async def test_a_discard_dies_at_each_step_and_so_does_bringing_it_back(clinic: World) -> None:
    """What was brought back twice is recorded once."""
    told = MOST_STEPS * EACH
    await clinic.set_aside(told)
    await die_at_each_step(clinic, Verb.DISCARD, reason="a test")
    states = await clinic.states()
    assert states["waiting"] + states["discarded"] == told
    assert len(await clinic.in_queue()) == states["waiting"]
    await clinic.run(Verb.DISCARD, reason="the rest")
    assert await clinic.in_queue() == []
    await die_at_each_step(clinic, Verb.RESTORE)
    await clinic.run(Verb.RESTORE)
    await clinic.run(Verb.CHECK)
    done = await clinic.run(Verb.REPLAY)
    assert done.messages >= told
    assert await clinic.in_queue() == []
    await clinic.record_all(told)


async def test_a_worker_that_lost_its_lease_does_nothing_more(clinic: World) -> None:
    await clinic.set_aside(2)
    await clinic.start(Verb.REPLAY)
    slow = clinic.worker()
    async with clinic.database.transaction() as connection:
        assert await slow._claim(connection)
        assert not await clinic.worker()._claim(connection)
    assert not await clinic.worker().work(never)
    assert await slow.work(never)
    assert await clinic.states() == {"replayed": 2}
