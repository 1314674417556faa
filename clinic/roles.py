"""Which services each role runs, and what they are made of."""

import datetime
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
from starlette.routing import Route

from clinic import __version__
from clinic.analytics import description as analytics
from clinic.analytics.recording import record
from clinic.analytics.routes import analytics_routes
from clinic.appointments import description as appointments
from clinic.appointments.booking import Writer
from clinic.appointments.desk import Desk
from clinic.appointments.occupancy import OpeningHours
from clinic.appointments.routes import REFUSALS, AppointmentRoutes
from clinic.database import Database, DatabaseUnavailable, open_database, read_database_url
from clinic.messaging.broker import Broker
from clinic.messaging.consumer import Consumer
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.outbox import Outbox
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.topology import QueueType, Topology, connection_url
from clinic.settings import Role, Settings
from clinic.supervisor import Service, Supervisor, stopped_by_signals
from clinic.web import docs
from clinic.web import health as health_description
from clinic.web.application import application
from clinic.web.docs import docs_routes
from clinic.web.health import Health, health_routes
from clinic.web.server import HttpServer, Limits, address_of

log = logging.getLogger(__name__)

OPERATIONS = (
    *appointments.OPERATIONS,
    *analytics.OPERATIONS,
    *health_description.OPERATIONS,
    *docs.OPERATIONS,
)

# Orchestrators commonly wait for a health check no longer than 5 s.
PING_SECONDS = 2.0


def check(settings: Settings) -> None:
    """Have the rooms below judge the settings that only they understand, before anything starts.

    Raises:
        BadDatabaseURL: what names the database cannot be understood.
        BadBrokerURL: what names RabbitMQ cannot be understood.
    """
    read_database_url(settings.database_url)
    if settings.amqp_url is not None:
        connection_url(settings.amqp_url, "clinic")


async def run(settings: Settings, listener: socket.socket) -> bool:
    """Run the services of the role until asked to stop; return whether all stopped in time.

    Raises:
        GaveUp: a service went on failing.
    """
    async with open_database(settings.database_url) as database:
        supervisor = Supervisor(
            services(settings, database, listener, lambda: health(supervisor, database)),
            grace_seconds=settings.grace_seconds,
        )
        async with stopped_by_signals(supervisor):
            address = f"http://{address_of(settings.host, settings.port)}"
            log.info("clinic %s, role %s, on %s", __version__, settings.role, address)
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
    desk = Desk(database, outbox, settings.zone, settings.visit_minutes, hours)
    writer = Writer(desk)
    consumer = Consumer(broker, outbox, record, settings.death_limit, settings.error_probability)

    limits = Limits(keep_alive_seconds=settings.keep_alive_seconds)

    def http(*routes: Route) -> Service:
        app = application([*routes, *health_routes(look)], REFUSALS)
        return Service("http", HttpServer(app, listener, settings.grace_seconds, limits).run)

    api = http(*api_routes(desk, writer))
    # Requests in hand at a stop may have a booking to write yet.
    booking = Service("booking", writer.run, serves=("http",))
    # Bookings go on while the broker is away, so the API is of use without its relay. It has in
    # memory what they have told, and publishes that before it stops.
    relay = Service("relay", partial(outbox.relay, broker), essential=False, serves=("booking",))
    match settings.role:
        case Role.API:
            return [api, booking, relay]
        case Role.CONSUMER:
            return [http(), Service("consumer", consumer.run)]
        case Role.ALL:
            return [api, booking, relay, Service("consumer", consumer.run, essential=False)]


def api_routes(desk: Desk, writer: Writer) -> list[Route]:
    """Return the routes of the HTTP API, which describe themselves, too."""
    return [
        *AppointmentRoutes(desk, writer).routes(),
        *analytics_routes(desk.database, desk.hours.minutes),
        *docs_routes(__version__, OPERATIONS),
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
    try:
        with anyio.fail_after(PING_SECONDS):
            await database.ping()
        parts["database"] = "up"
    except (DatabaseUnavailable, TimeoutError):
        parts["database"] = "down"
    return Health(ready=supervisor.working and parts["database"] == "up", parts=parts)
