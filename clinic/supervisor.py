"""Keep services running: start them together, restart the failed, stop them together."""

import asyncio
import contextlib
import datetime
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import anyio

from clinic.metrics import SERVICE_FAILURES

log = logging.getLogger(__name__)


class Unavailable(Exception):
    """Something the clinic depends on is away; the same call may succeed later.

    The supervisor tries a service again for as long as it ends so: an outage of the world around
    us is no reason to end the process.
    """


class StoppedEarly(Exception):
    """A service returned, or was cancelled, before anyone asked it to stop."""


class GaveUp(Exception):
    """A service keeps failing, or says that the process must end."""


class Misconfigured(GaveUp):
    """Only a person can correct what is wrong; the message says what to correct."""


class State(StrEnum):
    """What a service is doing, as ``/health/ready`` tells it."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Report:
    """What a service is doing, since which moment (aware UTC), and if it is not up, why."""

    state: State
    since: datetime.datetime
    why: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long to pause between tries, and how many crashes in a row are too many.

    Pauses grow exponentially, with full jitter ("Exponential Backoff And Jitter", AWS Architecture
    Blog, 2015). With the values given here a service that crashes at once is given up after about
    8 s; "in a row" means without having been up for ``healthy_after_seconds`` in between.

    A service that is given up and is not essential is tried again after ``given_up_pause_seconds``.
    """

    first_pause_seconds: float = 0.2
    # A service is back at work within this time after an outage.
    longest_pause_seconds: float = 3.0
    healthy_after_seconds: float = 60.0
    most_crashes: int = 8
    given_up_pause_seconds: float = 60.0

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

    Without an ``essential`` service the process is of no use. A service starts once all services in
    ``after`` are up, and is asked to stop once all services in ``serves`` have stopped.
    """

    name: str
    run: Callable[[Lifecycle], Awaitable[None]]
    essential: bool = True
    after: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()


@dataclass
class Stop:
    """A request to stop, which interrupts services that are only waiting."""

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
    """Runs services side by side until it is stopped or an essential one gives up."""

    def __init__(
        self, services: Sequence[Service], *, grace_seconds: float, patience: Patience | None = None
    ) -> None:
        check_names(services)
        self._services = services
        self._grace_seconds = grace_seconds
        self._patience = patience or Patience()
        self._stop = Stop()
        self._stops = {service.name: Stop() for service in services}
        self._first_up = {service.name: asyncio.Event() for service in services}
        self.reports: dict[str, Report] = {}
        for service in services:
            self._report(service.name, State.STARTING)

    @property
    def states(self) -> dict[str, State]:
        """What each service is doing, by its name."""
        return {name: report.state for name, report in self.reports.items()}

    def _report(self, name: str, state: State, why: str | None = None) -> None:
        former = self.reports.get(name)
        if former is not None and former.state is State.DOWN and state is State.STARTING:
            return  # it is down until it is up
        if former is None or former.state is not state:
            self.reports[name] = Report(state, datetime.datetime.now(datetime.UTC), why)
        elif former.why != why:
            self.reports[name] = Report(state, former.since, why)

    @property
    def stopping(self) -> bool:
        """Whether a stop has been requested."""
        return self._stop.requested

    @property
    def working(self) -> bool:
        """Whether every essential service is up and nobody has asked for a stop."""
        return not self.stopping and all(
            self.reports[service.name].state is State.UP
            for service in self._services
            if service.essential
        )

    def stop(self) -> None:
        """Let every service finish what it has in hand and return."""
        self._stop.request()
        self._pass_on()

    def _pass_on(self) -> None:
        """Ask each service to stop once all those that it serves have stopped."""
        for service in self._services:
            if all(self.reports[name].state is State.STOPPED for name in service.serves):
                self._stops[service.name].request()

    async def run(self) -> bool:
        """Run all services; return whether they all stopped within the grace period.

        Raises:
            GaveUp: an essential service failed too often in a row, or one says that the process
                must end; the others were stopped first.
        """
        given_up: list[GaveUp] = []

        async def keep(service: Service) -> None:
            try:
                await self._keep(service)
            except GaveUp as error:
                given_up.append(error)
                self.stop()
            self._report(service.name, State.STOPPED)
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
            "The stop took longer than %g s. These services were cut off: %s. The clinic "
            "continues their work after the next start.",
            self._grace_seconds,
            ", ".join(unfinished),
        )
        everything.cancel()

    async def _keep(self, service: Service) -> None:
        history = _History(service, self._patience)
        stop = self._stops[service.name]

        def report_up() -> None:
            self._report(service.name, State.UP)
            self._first_up[service.name].set()
            history.recovered()

        with stop.interrupts():
            for name in service.after:
                await self._first_up[name].wait()
        while not stop.requested:
            self._report(service.name, State.STARTING)
            failure = await _run_once(service, Lifecycle(stop, report_up))
            if failure is None and stop.requested:
                return
            failure = failure or StoppedEarly("it returned before it was asked to stop")
            self._report(service.name, State.DOWN, reason(failure))
            pause_seconds = history.failed(failure)
            with stop.interrupts():
                await anyio.sleep(pause_seconds)


async def _run_once(service: Service, lifecycle: Lifecycle) -> Exception | None:
    """Run a service to its end and return what ended it, if that was a failure."""
    try:
        await service.run(lifecycle)
    except asyncio.CancelledError:
        # aiormq raises a bare CancelledError in tasks that wait for a broker that went silent
        # (docs/libraries.md). Only a task that really is being cancelled counts its cancellations.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return StoppedEarly("a library cancelled it")
    except Exception as error:  # noqa: BLE001 - whatever it is, the service is to be restarted
        return error
    return None


def reason(failure: Exception) -> str:
    """Return why a service is down, for whoever may ask; a bug's own text may hold anything."""
    if isinstance(failure, Unavailable | GaveUp | StoppedEarly):
        return str(failure)
    return f"it failed with {type(failure).__name__}; the log says more"


def check_names(services: Sequence[Service]) -> None:
    """Check that services name only services that exist.

    Raises:
        ValueError: a service names an unknown one.
    """
    names = {service.name for service in services}
    for service in services:
        unknown = {*service.after, *service.serves} - names
        if unknown:
            raise ValueError(
                f"the service {service.name} names unknown services: {', '.join(sorted(unknown))}"
            )


class _History:
    """The failures of one service: what to log of them, and when they are too many."""

    def __init__(self, service: Service, patience: Patience) -> None:
        self._name = service.name
        self._essential = service.essential
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

        An outage is logged once when it starts and once when it ends (``recovered``), however long
        it lasts. Any other failure is a crash: each one is logged with its cause, and counts.

        Raises:
            GaveUp: this was one failure too many, and the service is essential; or it says itself
                that the process must end.
        """
        if isinstance(failure, GaveUp):
            raise failure
        SERVICE_FAILURES.labels(self._name).inc()
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
                if self._essential:
                    raise GaveUp(
                        f"{self._name} failed {self._crashes} times in a row; the log lines "
                        "above say why"
                    )
                pause_seconds = self._patience.given_up_pause_seconds
                log.error(
                    "%s failed %d times in a row: it stays down, everything else goes on. It is "
                    "tried again in %g s.",
                    self._name,
                    self._crashes,
                    pause_seconds,
                )
                return pause_seconds
        return self._patience.pause_seconds(self._failures)
