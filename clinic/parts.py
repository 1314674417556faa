"""The parts of a process or command; each is built when it is first needed."""

import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from starlette.routing import Route

from clinic import __version__
from clinic.access import endpoints as access
from clinic.access.audit import Audit
from clinic.access.file import TokensFile
from clinic.access.guard import Guard
from clinic.access.sessions import Sessions
from clinic.access.token import BadToken
from clinic.access.tokens import Tokens
from clinic.addresses import ADVICE, is_misread
from clinic.analytics import endpoints as analytics
from clinic.analytics.counting import Counting
from clinic.analytics.recording import recognise, record
from clinic.appointments import endpoints as appointments
from clinic.appointments.desk import Desk
from clinic.appointments.registry_book import RegistryBook
from clinic.appointments.retention import Retention
from clinic.database import Database, in_thread, read_database_url, wipe
from clinic.events import describe
from clinic.messaging.broker import Broker
from clinic.messaging.consumer import Consumer
from clinic.messaging.embedded import EmbeddedBroker
from clinic.messaging.journal import Journal
from clinic.messaging.outbox import Outbox
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.rabbitmq.address import read_address
from clinic.messaging.rabbitmq.topology import QueueType, Topology
from clinic.messaging.relay import Relay
from clinic.operating import endpoints as operating
from clinic.operating.operations import Operations
from clinic.operating.service import Operating
from clinic.operating.walking import Worker
from clinic.pages import table as pages
from clinic.pages.front import Front
from clinic.pages.live import Feed, clock
from clinic.registry import endpoints as registry
from clinic.registry import schedule_endpoints as schedule
from clinic.registry.importing import Importing
from clinic.registry.memory import Memory
from clinic.registry.registry import Registry
from clinic.registry.schedule import Schedule
from clinic.registry.schedule_handlers import Scheduling
from clinic.registry.timetable import Hours
from clinic.registry.types import Types
from clinic.settings import BadSetting, Settings
from clinic.web import docs, health, scraping
from clinic.web.browsers import reaches_others
from clinic.web.endpoints import Endpoint, routes

ENDPOINTS: tuple[Endpoint[Any], ...] = (
    *appointments.ENDPOINTS,
    *registry.ENDPOINTS,
    *schedule.ENDPOINTS,
    *analytics.ENDPOINTS,
    *access.ENDPOINTS,
    *operating.ENDPOINTS,
    *health.ENDPOINTS,
    *scraping.ENDPOINTS,
    *docs.ENDPOINTS,
)


class Parts:
    """The parts of one process or command, over an open database."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database

    @cached_property
    def broker(self) -> Broker:
        """RabbitMQ, if it is named, or the broker in our own database."""
        settings = self.settings
        if settings.amqp_url is None:
            return EmbeddedBroker(
                self.database,
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

    @cached_property
    def outbox(self) -> Outbox:
        """The event log, and which of its events have to be published."""
        return Outbox(self.database, self.settings.again_after)

    @cached_property
    def relay(self) -> Relay:
        """The service that publishes the outbox's events."""
        return Relay(self.outbox, self.broker)

    @cached_property
    def desk(self) -> Desk:
        """What can be done with appointments."""
        return Desk(
            self.database,
            self.outbox,
            self.memory,
            zone=self.settings.zone,
            appointment_minutes=self.settings.appointment_minutes,
            usual=self.hours,
        )

    @cached_property
    def retention(self) -> Retention | None:
        """The service that erases patients after a time, if there is one."""
        settings = self.settings
        if settings.retention_days is None:
            return None
        # Not the whole file: that would keep others from booking.
        empty_log = partial(wipe, settings.database_url, (), compact=False)
        return Retention(
            self.database,
            self.outbox,
            settings.zone,
            settings.retention_days,
            partial(in_thread, empty_log),
        )

    @cached_property
    def memory(self) -> Memory:
        """What the process knows of the registry."""
        return Memory(self.database, closed=self.settings.registry == "closed")

    @cached_property
    def registry(self) -> Registry:
        """What can be done with offices and doctors."""
        return Registry(self.database, self.memory, self.registry_book)

    @cached_property
    def registry_book(self) -> RegistryBook:
        """What the registry has to ask of the book."""
        return RegistryBook(self.outbox, self.settings.zone)

    @cached_property
    def scheduling(self) -> Scheduling:
        """Weekly hours, closures, openings and appointment types."""
        return Scheduling(
            Schedule(self.database, self.memory, self.registry_book),
            Types(self.database, self.memory),
            self.registry,
            self.memory,
            self.settings.zone,
        )

    @cached_property
    def importing(self) -> Importing:
        """Closures from files."""
        return Importing(self.database, self.memory, self.registry_book)

    @cached_property
    def hours(self) -> Hours:
        """When the clinic is open on days for which no hours are set."""
        return Hours(*self.settings.hours)

    @cached_property
    def consumer(self) -> Consumer:
        """The service that records events for analytics."""
        settings = self.settings
        return Consumer(
            self.broker,
            self.outbox,
            record,
            recognise,
            settings.death_limit,
            settings.error_probability,
            Journal(self.database, describe),
        )

    @cached_property
    def tokens(self) -> Tokens:
        """The tokens by which clients are let in."""
        path = self.settings.tokens_file
        return Tokens(self.database, TokensFile(Path(path)) if path else None)

    @cached_property
    def sessions(self) -> Sessions:
        """The sessions of those who have signed in."""
        return Sessions(self.tokens)

    @cached_property
    def audit(self) -> Audit:
        """Who did what."""
        return Audit(self.database)

    @cached_property
    def guard(self) -> Guard:
        """What lets requests in."""
        settings = self.settings
        return Guard(
            self.tokens,
            self.sessions,
            self.audit,
            anonymous=settings.allow_anonymous or not reaches_others(settings.host, settings.hosts),
            per_second=settings.requests_per_second,
        )

    @cached_property
    def counting(self) -> Counting:
        """The service that counts what was recorded."""
        return Counting(self.database, self.hours)

    @cached_property
    def operations(self) -> Operations:
        """What can be done with messages that are not solved."""
        return Operations(self.database, self.broker)

    @cached_property
    def worker(self) -> Worker:
        """What carries out operations on messages that are not solved."""
        return Worker(self.database, self.broker, self.outbox, recognise, describe)

    @cached_property
    def operating(self) -> Operating:
        """The service that carries out operations."""
        return Operating(self.worker, datetime.timedelta(days=self.settings.messages_kept_days))

    @cached_property
    def feed(self) -> Feed:
        """What happens, for the screens that are open."""
        return Feed(self.database, clock(self.settings.zone))

    @cached_property
    def front(self) -> Front:
        """The pages of the front desk."""
        return Front(
            self.desk,
            self.feed,
            self.guard.sign_in,
            step_minutes=self.settings.appointment_minutes,
            alarm_minutes=self.settings.waiting_alarm_minutes,
        )

    @cached_property
    def pages(self) -> list[Route]:
        """The routes of the pages."""
        return pages.routes(self.front, self.guard)

    @cached_property
    def api(self) -> list[Route]:
        """The routes of the HTTP API and of its description."""
        numbers = analytics.Analytics(self.database, self.counting)
        not_solved = operating.NotSolved(self.operations, self.registry, self.memory)
        documents = docs.Documents(__version__, ENDPOINTS)
        return [
            *routes(appointments.ENDPOINTS, self.desk, self.guard),
            *routes(registry.ENDPOINTS, self.registry, self.guard),
            *routes(schedule.ENDPOINTS, self.scheduling, self.guard),
            *routes(analytics.ENDPOINTS, numbers, self.guard),
            *routes(operating.ENDPOINTS, not_solved, self.guard),
            *routes(access.ENDPOINTS, self.audit, self.guard),
            *routes(docs.ENDPOINTS, documents, self.guard),
        ]


def check(settings: Settings) -> None:
    """Check the settings that only the parts understand, before any part is built.

    Raises:
        BadSetting: the clinic itself has the path at the proxy, RabbitMQ's URL could be misread, or
            the file of tokens cannot be read.
        BadDatabaseURL: the database's URL cannot be understood.
        BadBrokerURL: RabbitMQ's URL cannot be understood.
    """
    first = settings.root_path.split("/")[:2]
    paths = [endpoint.path for endpoint in ENDPOINTS] + [page.path for page in pages.PAGES]
    if first in [path.split("/")[:2] for path in paths]:
        raise BadSetting(
            "CLINIC_ROOT_PATH: must not begin with a path of the clinic itself, such as /docs"
        )
    read_database_url(settings.database_url)
    if settings.tokens_file is not None:
        try:
            TokensFile(Path(settings.tokens_file)).read()
        except BadToken as error:
            raise BadSetting(f"API_TOKENS_FILE: {error}") from None
    if settings.amqp_url is not None:
        if is_misread(settings.amqp_url):
            raise BadSetting(f"AMQP_URL: write amqp://user:password@host:5672/vhost; {ADVICE}")
        read_address(settings.amqp_url).tls_context()
