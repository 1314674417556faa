"""Which services each role runs."""

import logging
import math
import socket
from collections.abc import Callable, Sequence
from functools import cached_property

import anyio
from starlette.requests import Request
from starlette.routing import Route

from clinic import __version__, metrics
from clinic.database import DatabaseUnavailable, Upkeep, open_database, utc_now
from clinic.events import age_of
from clinic.parts import Parts
from clinic.settings import Role, Settings
from clinic.signals import stopped_by_signals
from clinic.supervisor import Lifecycle, Misconfigured, Report, Service, State, Supervisor
from clinic.web import health, scraping
from clinic.web.application import application
from clinic.web.browsers import known_hosts, reaches_others
from clinic.web.endpoints import routes
from clinic.web.health import Backlog, Health
from clinic.web.server import HttpServer, Limits, address_of

log = logging.getLogger(__name__)

# Orchestrators commonly wait for a health check no longer than 5 s.
PING_SECONDS = 2.0

DATABASE = "database"


class Process:
    """The services of a role, on the parts of the house and on a socket that listens."""

    def __init__(self, parts: Parts, listener: socket.socket) -> None:
        self.parts = parts
        self.settings = parts.settings
        self.listener = listener

    @cached_property
    def supervisor(self) -> Supervisor:
        """What runs the services of the role."""
        services = [service(self) for service in ROLES[self.settings.role]]
        if self.settings.role is not Role.CONSUMER:
            services.extend(retention(self))
        return Supervisor(services, grace_seconds=self.settings.grace_seconds)

    async def health(self, request: Request) -> Health:
        """Return the health of the process, in parts if the client may know them."""
        supervisor = self.supervisor
        parts = dict(supervisor.reports)
        if parts[DATABASE].state is State.UP and not await self._database_answers():
            now = utc_now()
            parts[DATABASE] = Report(
                State.DOWN, now, "it cannot be read and written at this moment"
            )
        backlog = await self._backlog() if parts[DATABASE].state is State.UP else None
        behind_seconds = self.settings.behind_seconds
        return Health(
            ready=supervisor.working and parts[DATABASE].state is State.UP,
            parts=parts,
            backlog=backlog,
            behind=backlog is not None and backlog.oldest_seconds > behind_seconds,
            tells=self.parts.guard.is_known(request),
        )

    async def numbers(self) -> bytes:
        """Return the numbers of the process, and those of the whole clinic that it can see."""
        for name, state in self.supervisor.states.items():
            metrics.SERVICE_UP.labels(name).set(state is State.UP)
        found = await self._backlog()
        metrics.EVENTS_OPEN.set(math.nan if found is None else found.open)
        metrics.OLDEST_OPEN_SECONDS.set(math.nan if found is None else found.oldest_seconds)
        return metrics.text()

    async def _backlog(self) -> Backlog | None:
        """Return which events are open, or None if the database does not say."""
        try:
            with anyio.fail_after(PING_SECONDS):
                count, oldest = await self.parts.outbox.backlog()
        except (DatabaseUnavailable, TimeoutError):
            return None
        return Backlog(count, 0.0 if oldest is None else age_of(oldest).total_seconds())

    async def _database_answers(self) -> bool:
        """Tell whether the database can be read and written now."""
        try:
            with anyio.fail_after(PING_SECONDS):
                await self.parts.database.ping()
        except (DatabaseUnavailable, TimeoutError):
            return False
        return True


def api(process: Process) -> Service:
    """Serve the HTTP API and the pages."""
    served = _http(process, [*process.parts.api, *process.parts.pages])

    async def run(lifecycle: Lifecycle) -> None:
        async with anyio.create_task_group() as tasks:
            # It ends the streams of open screens at a stop, for which HTTP waits.
            tasks.start_soon(process.parts.feed.run, lifecycle)
            await served.run(lifecycle)
            tasks.cancel_scope.cancel()

    return Service(served.name, run)


def health_only(process: Process) -> Service:
    """Serve only the process's health over HTTP."""
    return _http(process, [])


def _http(process: Process, features: Sequence[Route]) -> Service:
    settings = process.settings
    app = application(
        [
            *features,
            *routes(health.ENDPOINTS, process.health, process.parts.guard),
            *routes(scraping.ENDPOINTS, process.numbers, process.parts.guard),
        ],
        known_hosts(settings.hosts, settings.host),
        settings.root_path,
        settings.cors_origins,
    )
    limits = Limits(keep_alive_seconds=settings.keep_alive_seconds)
    server = HttpServer(app, process.listener, settings.grace_seconds, limits, settings.root_path)
    return Service("http", server.run)


def booking(process: Process) -> Service:
    """Write bookings, until HTTP has stopped: requests in hand may still have one to write."""
    return Service("booking", process.parts.desk.writer.run, serves=("http",))


def relay(process: Process) -> Service:
    """Publish events; at a stop, first those of bookings that it still has in memory.

    Bookings go on while the broker is away, so the API is of use without this service.
    """
    run = process.parts.relay.run
    return Service("relay", run, essential=False, after=(DATABASE,), serves=("booking",))


def consumer(process: Process) -> Service:
    """Record events for analytics, in a process with an API, which is of use without it."""
    run = process.parts.consumer.run
    return Service("consumer", run, essential=False, after=(DATABASE,))


def consumer_alone(process: Process) -> Service:
    """Record events for analytics, in a process that does nothing else."""
    return Service("consumer", process.parts.consumer.run, after=(DATABASE,))


def counting(process: Process) -> Service:
    """Count what was recorded; without this service, whoever asks for the numbers does it."""
    run = process.parts.counting.run
    return Service("counting", run, essential=False, after=(DATABASE,))


def operating(process: Process) -> Service:
    """Replay and discard what an operator has started, and forget what was kept for long enough."""
    return Service("operating", process.parts.operating.run, essential=False, after=(DATABASE,))


def database(process: Process) -> Service:
    """Bring the database up to date, and look after it.

    HTTP does not wait for it, and reports health meanwhile; nor does booking, which answers 503.
    """
    settings = process.settings

    async def announce() -> None:
        if settings.role is not Role.CONSUMER:
            await look_at_door(process)
        address = f"http://{address_of(settings.host, settings.port)}"
        log.info("clinic %s, role %s, on %s", __version__, settings.role, address)

    upkeep = Upkeep(process.parts.database, settings.database_url, announce)
    return Service(DATABASE, upkeep.run)


def retention(process: Process) -> list[Service]:
    """Erase patients from what was long ago, if the clinic is told to; it books without that."""
    service = process.parts.retention
    if service is None:
        return []
    return [Service("retention", service.run, essential=False, after=(DATABASE,))]


async def look_at_door(process: Process) -> None:
    """Say who may come in; refuse to be open to others than this machine by mistake.

    Raises:
        Misconfigured: everyone could come in from elsewhere, and nobody has said that they may.
        DatabaseUnavailable: the database cannot say whether there are tokens.
    """
    settings = process.settings
    if (await process.parts.tokens.known()).any_ever:
        return
    if not process.parts.guard.anonymous:
        raise Misconfigured(
            f"others can reach the clinic at {_named(settings)}, and no token has been made: make "
            "one with `token make NAME --permission desk`, or listen on 127.0.0.1 only, or let "
            "everyone in with CLINIC_ALLOW_ANONYMOUS=1"
        )
    if reaches_others(settings.host, settings.hosts):
        log.warning(
            "CLINIC_ALLOW_ANONYMOUS: everyone who reaches %s reads and changes everything, until "
            "the first token is made.",
            _named(settings),
        )
    else:
        log.info("No token has been made yet: everyone on this machine may come in.")


def _named(settings: Settings) -> str:
    return ", ".join(settings.hosts) or settings.host


ROLES: dict[Role, tuple[Callable[[Process], Service], ...]] = {
    Role.ALL: (api, booking, relay, consumer, counting, operating, database),
    Role.API: (api, booking, relay, operating, database),
    Role.CONSUMER: (health_only, consumer_alone, counting, operating, database),
}


async def run(settings: Settings, listener: socket.socket) -> bool:
    """Run the services of the role until asked to stop; return whether all stopped in time.

    Raises:
        Misconfigured: a person has to correct something first.
        GaveUp: a service kept failing.
    """
    async with open_database(settings.database_url) as opened:
        supervisor = Process(Parts(settings, opened), listener).supervisor
        async with stopped_by_signals(supervisor):
            return await supervisor.run()
