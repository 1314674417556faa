"""The facts the clinic tells, in the past tense, as CloudEvents 1.0.

An event tells everything that analytics needs and nothing else: no patient's name ever.
The format is https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md.
"""

import datetime
import functools
import zoneinfo
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    NaiveDatetime,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import from_json
from uuid_utils import uuid7

from clinic.acting import acting
from clinic.messaging.message import Message, Unreadable
from clinic.messaging.set_aside import Description

EventType = Literal[
    "appointment.booked",
    "appointment.renamed",
    "appointment.annotated",
    "appointment.erased",
    "appointment.reassigned",
    "appointment.rescheduled",
    "appointment.reopened",
    "appointment.arrived",
    "appointment.in_room",
    "appointment.done",
    "appointment.no_show",
    "appointment.cancelled",
]
"""What happened: booked; its patient's name corrected; phone or note written down; all that the
book had of its patient erased; given to another doctor (or none); moved to another time, office,
type or duration; a step back to booked; and each status that it came to.
"""

BOOKED: EventType = "appointment.booked"

Status = Literal["booked", "arrived", "in_room", "done", "no_show", "cancelled"]
"""How far an appointment has come."""

# The format is of https://spec.openapis.org/registry/format/; "date-time" would ask for an offset.
WallClockTime = Annotated[
    NaiveDatetime, WithJsonSchema({"type": "string", "format": "date-time-local"})
]
"""A time without an offset, such as ``2025-12-01T15:30:00``."""

# In bytes. Ours have less than 2 KiB, and a newer clinic may tell more. Parsing a body of many MiB
# would block the event loop.
LARGEST_BODY = 64 * 1024

# It fits PostgreSQL's bigint, and most programs read a JSON number up to here without loss.
LARGEST_ID = 2**53
Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]


# The older project published the bare record, with no id of its own and no time of booking. It
# cannot be counted exactly once, for nothing tells a second delivery from a second booking; and the
# appointment is in the older project's database, not in this book, which analytics has to match.
OLDER_FIELDS = frozenset({"patient_name", "office_number", "date_time"})
OLDER_REASON = (
    "a message of the older project, which has no event id: it cannot be counted exactly once. "
    "Book the appointment with POST /appointment if it is not in the book, and discard this message"
)


class OlderMessage(Unreadable):
    """A message of the older project."""

    def __init__(self) -> None:
        super().__init__(OLDER_REASON)


@functools.cache
def _known_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError("is no time zone") from None
    return name


# How an event is read: unknown fields, as of a newer clinic, are ignored, as CloudEvents asks. Our
# own events are not validated again: booking and changing have validated their input, and plain
# dataclasses take half the time of models (benchmarks/README.md).
_READING = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


@dataclass(slots=True, kw_only=True)
class AppointmentFacts:
    """What an event tells of its appointment: how it was after what happened.

    ``version`` counts the events of one appointment from 1, without gaps, so that a reader who gets
    them late or shuffled knows their order. Office, doctor and type have the names of that moment;
    events from before there was a registry have no ids. ``date_time`` is wall-clock time in
    ``time_zone``; ``override`` says that it was booked over others on purpose.
    """

    __pydantic_config__ = _READING

    appointment_id: Id
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    status: Status
    office_id: Id | None = None
    office_number: Annotated[str, Field(min_length=1, max_length=50)]
    doctor_id: Id | None = None
    doctor_name: Annotated[str, Field(min_length=1, max_length=200)] | None
    appointment_type: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    date_time: WallClockTime
    time_zone: Annotated[str, AfterValidator(_known_zone)]
    duration_minutes: Annotated[int, Field(ge=1, le=24 * 60)]
    override: bool

    @property
    def starts_at(self) -> datetime.datetime:
        """The moment at which the appointment begins, as aware UTC."""
        zone = zoneinfo.ZoneInfo(self.time_zone)
        return self.date_time.replace(tzinfo=zone).astimezone(datetime.UTC)


@dataclass(slots=True, kw_only=True)
class Event:
    """Something that happened to an appointment at the moment ``time``.

    ``actor`` is who did it, the name of a token or ``anonymous``, ``requestid`` by which request,
    and ``traceparent`` the trace that this was part of; these are extensions of CloudEvents, whose
    names have nothing but small letters:
    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/distributed-tracing.md.
    """

    __pydantic_config__ = _READING

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, Field(min_length=1, max_length=100)]
    source: Literal["/clinic"] = "/clinic"
    type: EventType
    subject: Annotated[str, Field(min_length=1, max_length=100)]
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    actor: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    requestid: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    traceparent: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    data: AppointmentFacts

    def message(self) -> Message:
        """Return the event in its envelope."""
        return Message(id=self.id, type=self.type, subject=self.subject, body=self._json())

    def _json(self) -> str:
        return _EVENT.serializer.to_json(self).decode()


_EVENT = TypeAdapter(Event)


def subject_of(appointment_id: int) -> str:
    """Return the subject of all events that tell of an appointment."""
    return f"appointment/{appointment_id}"


def tell(event_type: EventType, facts: AppointmentFacts, now: datetime.datetime) -> Event:
    """Return a new event, which says what has just happened, by whoever acts."""
    actor, request_id, traceparent = acting()
    return Event(
        # UUIDs of version 7 grow with time (RFC 9562, 5.7), so an index over them grows at its end.
        # With random ones, a batch would rewrite a page of the index for each event.
        id=str(uuid7()),
        type=event_type,
        subject=subject_of(facts.appointment_id),
        time=now,
        actor=actor,
        requestid=request_id,
        traceparent=traceparent,
        data=facts,
    )


def age_of(body: str) -> datetime.timedelta:
    """Return how long ago an event of ours happened."""
    return datetime.datetime.now(datetime.UTC) - _EVENT.validate_json(body).time


def read(message: Message) -> Event:
    """Return the event that a message holds.

    Raises:
        Unreadable: it holds no event of ours.
    """
    # As bytes, because messages that others publish need not be UTF-8.
    body = message.body.encode("utf-8", "surrogateescape")
    if len(body) > LARGEST_BODY:
        raise Unreadable(f"no event of ours: the body is {len(body)} bytes long")
    try:
        return _EVENT.validate_json(body)
    except ValidationError as error:
        if _is_of_the_older_project(body):
            raise OlderMessage from None
        # Where and what, but never the input: old messages hold patients' names.
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise Unreadable(f"no event of ours: {where}: {first['msg']}") from None


def describe(message: Message) -> Description:
    """Tell which kind of event a message holds, and of which office; never fails."""
    try:
        event = read(message)
    except Unreadable:
        return Description()
    return Description(event.type, event.data.office_id)


def _is_of_the_older_project(body: bytes) -> bool:
    try:
        # Unlike json's, this parser limits how deep a text may nest, and raises a ValueError.
        found = from_json(body)
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() >= OLDER_FIELDS and "specversion" not in found
