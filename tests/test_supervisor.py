"""The supervisor: restart, giving up, early return, drain, second stop."""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from clinic.signals import stopped_by_signals
from clinic.supervisor import (
    GaveUp,
    Lifecycle,
    Misconfigured,
    Patience,
    Service,
    State,
    Supervisor,
    Unavailable,
)
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

QUICK = Patience(first_pause_seconds=0.001, longest_pause_seconds=0.01, most_crashes=4)


def supervise(
    *services: Callable[[Lifecycle], Awaitable[None]], grace_seconds: float = PATIENCE_SECONDS
) -> Supervisor:
    return Supervisor(
        [Service(run.__name__, run) for run in services],
        grace_seconds=grace_seconds,
        patience=QUICK,
    )


async def idle(lifecycle: Lifecycle) -> None:
    lifecycle.up()
    with lifecycle.until_stop():
        await anyio.sleep_forever()


async def stop_when(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    while not condition():
        await anyio.sleep(0.001)
    supervisor.stop()


async def test_a_service_that_fails_is_started_again_and_its_failure_logged_with_its_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = 0

    async def flaky(lifecycle: Lifecycle) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("the cause")
        await idle(lifecycle)

    supervisor = supervise(flaky)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.working)
        assert await supervisor.run()
    assert runs == 2
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [str(record.exc_info[1]) for record in errors if record.exc_info] == ["the cause"]


async def test_a_service_that_returns_early_is_started_again() -> None:
    runs = 0

    async def hasty(lifecycle: Lifecycle) -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            await idle(lifecycle)

    supervisor = supervise(hasty)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.working)
        assert await supervisor.run()
    assert runs == 3


async def test_a_service_that_a_library_cancels_is_started_again() -> None:
    """aiormq raises a bare CancelledError when a broker goes silent: docs/libraries.md."""
    runs = 0

    async def cancelled_once(lifecycle: Lifecycle) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise asyncio.CancelledError
        await idle(lifecycle)

    supervisor = supervise(cancelled_once, idle)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.working)
        assert await supervisor.run()
    assert runs == 2


async def test_a_service_that_keeps_crashing_ends_all_after_the_others_drained() -> None:
    drained = False

    async def crashing(_: Lifecycle) -> None:
        raise ValueError

    async def neighbour(lifecycle: Lifecycle) -> None:
        nonlocal drained
        await idle(lifecycle)
        await anyio.sleep(0.01)
        drained = True

    with pytest.raises(GaveUp, match="crashing failed 4 times in a row"):
        await supervise(crashing, neighbour).run()
    assert drained


async def test_one_that_is_not_essential_never_takes_the_others_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = 0
    patience = dataclasses.replace(QUICK, given_up_pause_seconds=0.01)

    async def crashing(lifecycle: Lifecycle) -> None:
        nonlocal runs
        runs += 1
        if runs < 3 * QUICK.most_crashes:
            raise ValueError("the cause")
        await idle(lifecycle)

    supervisor = Supervisor(
        [Service("idle", idle), Service("crashing", crashing, essential=False)],
        grace_seconds=PATIENCE_SECONDS,
        patience=patience,
    )

    def given_up() -> bool:
        assert not supervisor.stopping
        if "it stays down" in caplog.text and supervisor.states["crashing"] is State.DOWN:
            assert supervisor.working
        return supervisor.states["crashing"] is State.UP

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, given_up)
        assert await supervisor.run()
    assert runs == 3 * QUICK.most_crashes
    assert "crashing failed 4 times in a row: it stays down, everything else goes on" in caplog.text


@pytest.mark.parametrize("essential", [False, True])
async def test_one_that_says_that_the_process_must_end_is_not_asked_again(
    caplog: pytest.LogCaptureFixture, *, essential: bool
) -> None:
    async def hopeless(_: Lifecycle) -> None:
        raise Misconfigured("put it right")

    supervisor = Supervisor(
        [Service("idle", idle), Service("hopeless", hopeless, essential=essential)],
        grace_seconds=PATIENCE_SECONDS,
        patience=QUICK,
    )
    with pytest.raises(Misconfigured, match="put it right"):
        await supervisor.run()
    assert caplog.text == ""


async def test_what_ends_the_services_comes_out_as_it_is() -> None:
    """It is not wrapped in a group of exceptions, in which nobody would look for it."""

    async def crashing(_: Lifecycle) -> None:
        raise ValueError

    supervisor = supervise(crashing, idle)
    with pytest.raises(GaveUp, match="crashing failed 4 times in a row"):
        async with stopped_by_signals(supervisor):
            await supervisor.run()


@pytest.mark.parametrize("relation", ["serves", "after"])
async def test_a_misspelt_name_is_refused_at_once(relation: str) -> None:
    relations: dict[str, Any] = {relation: ("idel",)}
    with pytest.raises(ValueError, match=r"the service other names unknown services: idel"):
        Supervisor([Service("idle", idle), Service("other", idle, **relations)], grace_seconds=1)


async def test_who_comes_after_another_starts_once_that_one_is_up() -> None:
    seen: list[str] = []

    async def first(lifecycle: Lifecycle) -> None:
        if len(seen) < 3:
            seen.append("tried")
            raise Unavailable("not yet")
        seen.append("first")
        await idle(lifecycle)

    async def second(lifecycle: Lifecycle) -> None:
        seen.append("second")
        await idle(lifecycle)

    supervisor = Supervisor(
        [Service("second", second, after=("first",)), Service("first", first)],
        grace_seconds=PATIENCE_SECONDS,
        patience=QUICK,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.working)
        assert await supervisor.run()
    assert seen == ["tried"] * 3 + ["first", "second"]


async def test_who_waits_for_another_to_be_up_stops_at_once() -> None:
    async def away(_: Lifecycle) -> None:
        raise Unavailable("away")

    supervisor = Supervisor(
        [Service("waiting", idle, after=("away",)), Service("away", away)],
        grace_seconds=PATIENCE_SECONDS,
        patience=QUICK,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.states["away"] is State.DOWN)
        with anyio.fail_after(SLACK_SECONDS):
            assert await supervisor.run()


async def test_an_outage_is_waited_out_and_logged_when_it_starts_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    runs = 0

    async def dependent(lifecycle: Lifecycle) -> None:
        nonlocal runs
        runs += 1
        if runs <= 3 * QUICK.most_crashes:
            raise Unavailable("the broker is away")
        await idle(lifecycle)

    supervisor = supervise(dependent)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.working)
        assert await supervisor.run()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith("dependent: the broker is away.")
    assert messages[1].startswith("dependent: working again after")


async def test_crashes_between_outages_add_up() -> None:
    runs = 0

    async def both(lifecycle: Lifecycle) -> None:
        nonlocal runs
        runs += 1
        lifecycle.up()
        raise Unavailable("away") if runs % 2 else ValueError

    with pytest.raises(GaveUp):
        await supervise(both).run()
    assert runs == 2 * QUICK.most_crashes


async def test_stopping_lets_work_in_hand_finish() -> None:
    finished = False

    async def busy(lifecycle: Lifecycle) -> None:
        nonlocal finished
        lifecycle.up()
        while not lifecycle.stopping:
            await anyio.sleep(0.001)
        await anyio.sleep(0.05)
        finished = True

    supervisor = supervise(busy)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.working)
        assert await supervisor.run()
    assert finished
    assert not supervisor.working
    assert supervisor.states == {"busy": State.STOPPED}


async def test_stopping_takes_no_longer_than_the_grace_period(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn(lifecycle: Lifecycle) -> None:
        lifecycle.up()
        await anyio.sleep_forever()

    supervisor = supervise(stubborn, idle, grace_seconds=0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.working)
        with anyio.fail_after(SLACK_SECONDS):
            assert not await supervisor.run()
    assert "cut off: stubborn." in caplog.text


async def test_stopping_does_not_wait_for_a_pause_to_end() -> None:
    async def failing(_: Lifecycle) -> None:
        raise Unavailable("away")

    supervisor = Supervisor(
        [Service("failing", failing)],
        grace_seconds=PATIENCE_SECONDS,
        patience=Patience(first_pause_seconds=1000, longest_pause_seconds=1000),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.states["failing"] is State.DOWN)
        with anyio.fail_after(SLACK_SECONDS):
            assert await supervisor.run()


async def test_an_essential_service_that_is_down_makes_the_whole_not_work() -> None:
    async def failing(_: Lifecycle) -> None:
        raise Unavailable("away")

    supervisor = Supervisor(
        [Service("idle", idle), Service("failing", failing, essential=False)],
        grace_seconds=PATIENCE_SECONDS,
        patience=QUICK,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when, supervisor, lambda: supervisor.working)
        await supervisor.run()
    assert not supervise(idle, failing).working


@pytest.mark.parametrize("round_", range(10))
async def test_fifty_starts_and_stops_leave_nothing_behind(round_: int) -> None:
    async def one() -> None:
        supervisor = supervise(idle, idle)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_when, supervisor, lambda: supervisor.working or bool(round_ % 2))
            assert await supervisor.run()

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(one)


async def test_who_serves_another_is_asked_to_stop_only_when_that_one_has_stopped() -> None:
    seen: list[str] = []

    async def server(lifecycle: Lifecycle) -> None:
        await idle(lifecycle)
        seen.append("server")

    async def served(lifecycle: Lifecycle) -> None:
        await idle(lifecycle)
        await anyio.sleep(0.05)
        seen.append("served")

    supervisor = Supervisor(
        [Service("server", server, serves=("served",)), Service("served", served)],
        grace_seconds=1,
        patience=QUICK,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            stop_when, supervisor, lambda: set(supervisor.states.values()) == {State.UP}
        )
        assert await supervisor.run()
    assert seen == ["served", "server"]


async def test_who_serves_one_that_gave_up_is_stopped_too() -> None:
    async def served(_lifecycle: Lifecycle) -> None:
        raise ValueError("always")

    supervisor = Supervisor(
        [Service("server", idle, serves=("served",)), Service("served", served)],
        grace_seconds=1,
        patience=QUICK,
    )
    with pytest.raises(GaveUp):
        await supervisor.run()
    assert supervisor.states["server"] is State.STOPPED
