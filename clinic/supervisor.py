"""Keep services running: start them together, restart the failed, stop them together."""

import asyncio
import contextlib
import logging
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import anyio

log = logging.getLogger(__name__)


class Unavailable(Exception):
    """Something the clinic depends on is away; the same call may succeed later.

    The supervisor tries a service again for as long as it ends so: an outage of the world around
    us is no reason to end the process.
    """


class StoppedEarly(Exception):
    """A service returned, or was cancelled, before anyone asked it to stop."""


class GaveUp(Exception):
    """A service went on failing; the process had better end than pretend."""


class State(StrEnum):
    """What a service is doing, as ``/health/ready`` tells it."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Patience:
    """How long to pause between tries, and how many crashes in a row are too many.

    Pauses grow exponentially, with full jitter ("Exponential Backoff And Jitter", AWS Architecture
    Blog, 2015). With the values given here a service that crashes at once is given up after about
    8 s; "in a row" means without having been up for ``healthy_after_seconds`` in between.
    """

    first_pause_seconds: float = 0.2
    # So long after an outage, at most, is a service back at work.
    longest_pause_seconds: float = 5.0
    healthy_after_seconds: float = 60.0
    most_crashes: int = 8

    def pause_seconds(self, failures: int) -> float:
        """Return a random pause that suits the given number of failures in a row, from 1."""
        # The exponent is bounded because an outage may last for days and 2.0**1024 overflows.
        ceiling = self.first_pause_seconds * 2.0 ** min(failures - 1, 32)
        return random.uniform(0, min(ceiling, self.longest_pause_seconds))  # noqa: S311


class Lifecycle:
    """What a running service shares with its supervisor."""

    def __init__(self, stop: "Stop", report_up: Callable[[], None]) -> None:
        self._stop = stop
        self._report_up = report_up

    def up(self) -> None:
        """Report that the service does its work (again); call it as often as you like."""
        self._report_up()

    @property
    def stopping(self) -> bool:
        """Whether the service has been asked to finish what it has in hand and return."""
        return self._stop.requested

    def until_stop(self) -> contextlib.AbstractContextManager[anyio.CancelScope]:
        """Cancel the body when a stop is requested: for waiting, never for work in hand."""
        return self._stop.interrupts()


@dataclass(frozen=True)
class Service:
    """A named coroutine that runs until it is asked to stop.

    ``essential`` says whether the process is of any use while this service is down. It is asked to
    stop only once those services have stopped that it ``serves``.
    """

    name: str
    run: Callable[[Lifecycle], Awaitable[None]]
    essential: bool = True
    serves: tuple[str, ...] = ()


@dataclass
class Stop:
    """A request to stop, which interrupts whoever is only waiting."""

    requested: bool = False
    event: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: set[anyio.CancelScope] = field(default_factory=set)

    def request(self) -> None:
        """Ask everyone to stop; asking again changes nothing."""
        self.requested = True
        self.event.set()
        for scope in self._waiting:
            scope.cancel()

    @contextlib.contextmanager
    def interrupts(self) -> Iterator[anyio.CancelScope]:
        """Cancel the body of the ``with`` when the stop is requested, or at once if it was."""
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                if self.requested:
                    scope.cancel()
                yield scope
            finally:
                self._waiting.discard(scope)


class Supervisor:
    """Runs services side by side until it is stopped or one of them is beyond help."""

    def __init__(
        self, services: Sequence[Service], *, grace_seconds: float, patience: Patience | None = None
    ) -> None:
        self._services = services
        self._grace_seconds = grace_seconds
        self._patience = patience or Patience()
        self._stop = Stop()
        self._stops = {service.name: Stop() for service in services}
        self.states = {service.name: State.STARTING for service in services}

    @property
    def stopping(self) -> bool:
        """Whether a stop has been requested."""
        return self._stop.requested

    @property
    def working(self) -> bool:
        """Whether every essential service is up and nobody has asked for a stop."""
        return not self.stopping and all(
            self.states[service.name] is State.UP for service in self._services if service.essential
        )

    def stop(self) -> None:
        """Let every service finish what it has in hand and return."""
        self._stop.request()
        self._pass_on()

    def _pass_on(self) -> None:
        """Ask those to stop who serve nobody any more."""
        for service in self._services:
            if all(self.states[name] is State.STOPPED for name in service.serves):
                self._stops[service.name].request()

    async def run(self) -> bool:
        """Run all services; return whether they all stopped within the grace period.

        Raises:
            GaveUp: a service failed too often in a row; the others were stopped first.
        """
        given_up: list[GaveUp] = []

        async def keep(service: Service) -> None:
            try:
                await self._keep(service)
            except GaveUp as error:
                given_up.append(error)
                self.stop()
            self.states[service.name] = State.STOPPED
            if self.stopping:
                self._pass_on()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._bound_the_drain, tasks.cancel_scope)
            async with anyio.create_task_group() as kept:
                for service in self._services:
                    kept.start_soon(keep, service)
            tasks.cancel_scope.cancel()
        if given_up:
            raise given_up[0]
        return all(state is State.STOPPED for state in self.states.values())

    async def _bound_the_drain(self, everything: anyio.CancelScope) -> None:
        await self._stop.event.wait()
        await anyio.sleep(self._grace_seconds)
        unfinished = [name for name, state in self.states.items() if state is not State.STOPPED]
        log.error(
            "Stopping took longer than %g s: cut off %s. What they had in hand comes back by "
            "itself at the next start.",
            self._grace_seconds,
            ", ".join(unfinished),
        )
        everything.cancel()

    async def _keep(self, service: Service) -> None:
        history = _History(service.name, self._patience)
        stop = self._stops[service.name]
        while not stop.requested:
            self.states[service.name] = State.STARTING

            def report_up(history: "_History" = history) -> None:
                self.states[service.name] = State.UP
                history.recovered()

            failure = await _run_once(service, Lifecycle(stop, report_up))
            if failure is None and stop.requested:
                return
            self.states[service.name] = State.DOWN
            pause_seconds = history.failed(
                failure or StoppedEarly("it returned before it was asked to")
            )
            with stop.interrupts():
                await anyio.sleep(pause_seconds)


async def _run_once(service: Service, lifecycle: Lifecycle) -> Exception | None:
    """Run a service to its end and return what ended it, if that was a failure."""
    try:
        await service.run(lifecycle)
    except asyncio.CancelledError:
        # aiormq raises a bare CancelledError into whoever waits for a broker that went silent
        # (STACK 1.1). Only a task that really is being cancelled counts its cancellations.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return StoppedEarly("a library cancelled it")
    except Exception as error:  # noqa: BLE001 - whatever it is, the service is to be restarted
        return error
    return None


class _History:
    """The failures of one service: what to log of them, and when they are too many."""

    def __init__(self, name: str, patience: Patience) -> None:
        self._name = name
        self._patience = patience
        self._failures = 0
        self._crashes = 0
        self._up_since: float | None = None
        self._down_since: float | None = None

    def recovered(self) -> None:
        """Note that the service is up, and say so if it had been down."""
        now = time.monotonic()
        self._up_since = self._up_since or now
        if self._down_since is not None:
            log.info("%s: working again after %.1f s", self._name, now - self._down_since)
            self._down_since = None

    def failed(self, failure: Exception) -> float:
        """Log a failure and return the pause before the next try, in seconds.

        An outage is one line when it starts and one when it ends (``recovered``), however long it
        lasts; any other failure is a crash, logged each time with its cause, and they add up.

        Raises:
            GaveUp: this was one failure too many.
        """
        now = time.monotonic()
        lasted = self._up_since is not None and (
            now - self._up_since >= self._patience.healthy_after_seconds
        )
        if lasted:
            self._failures = self._crashes = 0
        self._failures += 1
        self._up_since = None
        outage_known = self._down_since is not None
        self._down_since = self._down_since or now

        if isinstance(failure, Unavailable):
            level = logging.DEBUG if outage_known else logging.WARNING
            log.log(level, "%s: %s. Trying again until it is back.", self._name, failure)
        else:
            self._crashes += 1
            log.error("%s failed (%d in a row)", self._name, self._crashes, exc_info=failure)
            if self._crashes >= self._patience.most_crashes:
                raise GaveUp(f"{self._name} failed {self._crashes} times in a row")
        return self._patience.pause_seconds(self._failures)


@contextlib.asynccontextmanager
async def stopped_by_signals(supervisor: Supervisor) -> AsyncIterator[None]:
    """Within the body, let SIGTERM or SIGINT drain the supervisor and a second one end it at once.

    Ending at once is safe because nothing here relies on a tidy end: a SIGKILL would do no harm.
    """

    async def heed() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            ready.set()
            async for number in signals:
                if supervisor.stopping:
                    log.warning("%s again: ending at once", number.name)
                    logging.shutdown()
                    os._exit(128 + number)
                log.info("%s: finishing what is in hand; a second signal ends at once", number.name)
                supervisor.stop()

    ready = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heed)
        await ready.wait()
        yield
        tasks.cancel_scope.cancel()
