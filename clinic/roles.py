"""Which services each role runs, and what they are made of."""

import datetime
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from starlette.routing import Route

from clinic import __version__
from clinic.addresses import ADVICE, is_misread
from clinic.analytics import endpoints as analytics
from clinic.analytics.recording import recognise, record
from clinic.appointments import endpoints as appointments
from clinic.appointments.availability import OpeningHours
from clinic.appointments.desk import Desk
from clinic.database import (
    Database,
    DatabaseUnavailable,
    Upkeep,
    open_database,
    read_database_url,
)
from clinic.messaging.broker import Broker
from clinic.messaging.consumer import Consumer
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.outbox import Outbox
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.rabbitmq.address import read_address
from clinic.messaging.rabbitmq.topology import QueueType, Topology
from clinic.messaging.relay import Relay
from clinic.settings import BadSetting, Role, Settings
from clinic.signals import stopped_by_signals
from clinic.supervisor import Service, State, Supervisor
from clinic.web import docs
from clinic.web import health as health_endpoints
from clinic.web.application import application
from clinic.web.browsers import known_hosts
from clinic.web.endpoints import Endpoint, routes
from clinic.web.health import Health
from clinic.web.server import HttpServer, Limits, address_of

log = logging.getLogger(__name__)

ENDPOINTS: tuple[Endpoint[Any], ...] = (
    *appointments.ENDPOINTS,
    *analytics.ENDPOINTS,
    *health_endpoints.ENDPOINTS,
    *docs.ENDPOINTS,
)

# Orchestrators commonly wait for a health check no longer than 5 s.
PING_SECONDS = 2.0

DATABASE = "database"


def check(settings: Settings) -> None:
    """Have the rooms below judge the settings that only they understand, before anything starts.

    Raises:
        BadSetting: the path at a proxy is one that the clinic itself has, or what names RabbitMQ
            could be misread.
        BadDatabaseURL: what names the database cannot be understood.
        BadBrokerURL: what names RabbitMQ cannot be understood.
    """
    if settings.root_path.split("/")[:2] in [one.path.split("/")[:2] for one in ENDPOINTS]:
        raise BadSetting("CLINIC_ROOT_PATH: must not begin as a path of the clinic itself does")
    read_database_url(settings.database_url)
    if settings.amqp_url is not None:
        if is_misread(settings.amqp_url):
            raise BadSetting(f"AMQP_URL: write amqp://user:password@host:5672/vhost; {ADVICE}")
        read_address(settings.amqp_url).tls_context()


async def run(settings: Settings, listener: socket.socket) -> bool:
    """Run the services of the role until asked to stop; return whether all stopped in time.

    Raises:
        Misconfigured: a person has to put something right first.
        GaveUp: a service went on failing.
    """
    async with open_database(settings.database_url) as database:
        supervisor = Supervisor(
            services(settings, database, listener, lambda: health(supervisor, database)),
            grace_seconds=settings.grace_seconds,
        )
        async with stopped_by_signals(supervisor):
            return await supervisor.run()


def services(
    settings: Settings,
    database: Database,
    listener: socket.socket,
    look: Callable[[], Awaitable[Health]],
) -> list[Service]:
    """Return the services of the role."""
    broker = open_broker(settings, database)
    outbox = Outbox(database, settings.again_after)
    hours = OpeningHours(*settings.hours)
    desk = Desk(
        database,
        outbox,
        zone=settings.zone,
        appointment_minutes=settings.visit_minutes,
        hours=hours,
    )
    consumer = Consumer(
        broker, outbox, record, recognise, settings.death_limit, settings.error_probability
    )

    def announce() -> None:
        address = f"http://{address_of(settings.host, settings.port)}"
        log.info("clinic %s, role %s, on %s", __version__, settings.role, address)

    # HTTP does not wait for it, to say how things are; nor does booking, to say 503 meanwhile.
    upkeep = Service(DATABASE, Upkeep(database, settings.database_url, announce).run)

    limits = Limits(keep_alive_seconds=settings.keep_alive_seconds)

    def http(*features: Route) -> Service:
        knows = known_hosts(settings.hosts, settings.host)
        every = [*features, *routes(health_endpoints.ENDPOINTS, look)]
        app = application(every, knows, settings.root_path)
        server = HttpServer(app, listener, settings.grace_seconds, limits, settings.root_path)
        return Service("http", server.run)

    api = http(*api_routes(database, desk))
    # Requests in hand at a stop may have a booking to write yet.
    booking = Service("booking", desk.writer.run, serves=("http",))
    # Bookings go on while the broker is away, so the API is of use without its relay. It has in
    # memory what they have told, and publishes that before it stops.
    relay = Service(
        "relay",
        Relay(outbox, broker).run,
        essential=False,
        after=(DATABASE,),
        serves=("booking",),
    )
    alone = settings.role is Role.CONSUMER
    recording = Service("consumer", consumer.run, essential=alone, after=(DATABASE,))
    match settings.role:
        case Role.API:
            return [api, booking, relay, upkeep]
        case Role.CONSUMER:
            return [http(), recording, upkeep]
        case Role.ALL:
            return [api, booking, relay, recording, upkeep]


def api_routes(database: Database, desk: Desk) -> list[Route]:
    """Return the routes of the HTTP API, which describe themselves, too."""
    return [
        *routes(appointments.ENDPOINTS, desk),
        *routes(analytics.ENDPOINTS, analytics.Analytics(database, desk.hours.minutes)),
        *routes(docs.ENDPOINTS, docs.Documents(__version__, ENDPOINTS)),
    ]


def open_broker(settings: Settings, database: Database) -> Broker:
    """Return RabbitMQ, if it is named, or the broker in our own database."""
    if settings.amqp_url is None:
        return EmbeddedBroker(
            database,
            ttl=datetime.timedelta(milliseconds=settings.ttl_ms),
            lease=datetime.timedelta(seconds=settings.lease_seconds),
        )
    topology = Topology(
        main=settings.main_queue,
        main_exchange=settings.main_exchange,
        dead_letter=settings.dead_letter_queue,
        dead_letter_exchange=settings.dead_letter_exchange,
        not_solved=settings.not_solved_queue,
        ttl_ms=settings.ttl_ms,
        queue_type=QueueType(settings.queue_type),
    )
    return RabbitBroker(settings.amqp_url, topology)


async def health(supervisor: Supervisor, database: Database) -> Health:
    """Return how the process is."""
    parts = {name: str(state) for name, state in supervisor.states.items()}
    if supervisor.states[DATABASE] is State.UP and not await answers(database):
        parts[DATABASE] = str(State.DOWN)
    return Health(ready=supervisor.working and parts[DATABASE] == State.UP, parts=parts)


async def answers(database: Database) -> bool:
    """Tell whether the database can be read and written now."""
    try:
        with anyio.fail_after(PING_SECONDS):
            await database.ping()
    except (DatabaseUnavailable, TimeoutError):
        return False
    return True
