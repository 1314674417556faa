"""The endpoints of appointments: what each does, and how it is described."""

import datetime
import json
import zoneinfo
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict

from clinic.appointments import handlers, standing_endpoints
from clinic.appointments.appointment import EXAMPLE, IllegalTransition, NoSuchAppointment, Stale
from clinic.appointments.availability import ClosedThen, TimeTaken
from clinic.appointments.desk import Desk
from clinic.appointments.feed import END, beginning, entry, utc
from clinic.appointments.handlers import CALENDAR, CSV
from clinic.appointments.idempotency import FORM, KEPT, BadKey, KeyReused
from clinic.appointments.requests import Booking, Change, Minutes
from clinic.appointments.search import FeedSearch, FreeTimeSearch, Search, cursor
from clinic.appointments.spreadsheet import as_csv
from clinic.events import Event, Id, Status, WallClockTime, tell
from clinic.registry.names import Name, Note, OfficeNumber, Phone, Reason, TypeName
from clinic.registry.records import NotInUse, NotRegistered
from clinic.web.callers import Permission
from clinic.web.conditions import entity_tag
from clinic.web.endpoints import Answer, Body, Content, Endpoint, Header
from clinic.web.reading import CHANGE_TYPES, JSON, without_defaults
from clinic.web.refusals import MaybeDone, NotNow


class AppointmentRecord(BaseModel):
    """An appointment as it stands in the book; its time is there under both of its names.

    Who may not see patients gets null for patient_name, patient_phone, note and override_reason.
    Once the patient was erased, patient_name is "(erased)", and so is an override_reason that there
    was; patient_phone and note are null.
    """

    id: Id
    patient_name: Name | None
    office_number: OfficeNumber
    date_time: WallClockTime
    doctor_name: Name | None
    appointment_datetime: WallClockTime
    appointment_type: TypeName | None
    duration_minutes: Minutes
    status: Status
    patient_phone: Phone | None
    note: Note | None
    override_reason: Reason | None


class FreeTimeRecord(BaseModel):
    """A time at which an appointment fits, and with whom."""

    date_time: WallClockTime
    end_time: WallClockTime
    office_number: OfficeNumber
    doctor_name: Name | None


@dataclass(slots=True, kw_only=True)
class ToldEvent(Event):
    """An event, and the reason that was given for it, if any: that is in no published event."""

    reason: Reason | None = None


class Confirmation(BaseModel):
    """What was sent, exactly as it was sent, and the id; what was not sent is not in it."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    id: Id
    patient_name: str
    office_number: str
    date_time: str = ""
    appointment_datetime: str = ""
    doctor_name: str | None = None
    appointment_type: str | None = None
    duration_minutes: int | None = None
    patient_phone: str | None = None
    note: str | None = None
    override: bool = False
    reason: str | None = None


MOSCOW = zoneinfo.ZoneInfo("Europe/Moscow")
BOOKED_AT = datetime.datetime(2027, 11, 20, 9, tzinfo=datetime.UTC)
RECORD = EXAMPLE.record()
SENT = {name: RECORD[name] for name in ("patient_name", "office_number", "date_time")}
MORE_SENT = SENT | {
    "doctor_name": "Доктор Ватсон",
    "duration_minutes": 30,
    "override": True,
    "reason": "an emergency",
}
HAPPENED = replace(
    tell("appointment.booked", EXAMPLE.facts(MOSCOW.key), BOOKED_AT),
    id="8e03978e-40d5-43e8-bc93-6894a57f9324",
)
FREE_TIME = {
    "date_time": "2027-12-01T15:45:00",
    "end_time": "2027-12-01T16:15:00",
    "office_number": "221B",
    "doctor_name": None,
}
NEXT = f"/appointment?office_number=221B&limit=1&after={cursor(EXAMPLE.date_time, EXAMPLE.id)}"
FEED = (
    beginning(FeedSearch(office_number="221B"), MOSCOW)
    + entry(EXAMPLE, MOSCOW, "6f1d7a1c3b0e4f0c9b1f5d2f8a7e6c54", utc(BOOKED_AT))
    + END
)

LOCATION = Header(name="Location", text="Where the appointment is.", example="/appointment/1")
ETAG = Header(name="ETag", text="The appointment's version.", example=entity_tag(EXAMPLE.version))
VARY = Header(name="Vary", text="Accept chooses the media type.", example="Accept")
LINK = Header(
    name="Link",
    text="The next page, if there is one.",
    example=f'<{NEXT}>; rel="next"',
    always=False,
)
IF_MATCH = Header(
    name="If-Match",
    text="An ETag: change the appointment only if it is still in this version.",
    example=ETAG.example,
    always=False,
)
IF_NONE_MATCH = Header(
    name="If-None-Match",
    text="An ETag: answer 304 if the appointment is still in this version.",
    example=ETAG.example,
    always=False,
)
KEY = Header(
    name="Idempotency-Key",
    text="A key of your own making: a booking that is sent again with it is made once, and "
    f"confirmed as the first time. Keys are kept for {KEPT.days} days.",
    example='"8e03978e-40d5-43e8-bc93-6894a57f9324"',
    always=False,
    pattern=f"^(?:{FORM.pattern})$",
)


def confirmed(status: HTTPStatus, text: str) -> Answer:
    """Return the answer that confirms a booking."""
    content = Content(
        Confirmation, {"least": {"id": EXAMPLE.id, **SENT}, "most": {"id": EXAMPLE.id, **MORE_SENT}}
    )
    return Answer(status=status, text=text, contents={JSON: content}, headers=[LOCATION])


def shown(text: str, **changed: object) -> Answer:
    """Return the answer that shows an appointment."""
    content = Content(AppointmentRecord, {"appointment": RECORD | changed})
    return Answer(text=text, contents={JSON: content}, headers=[ETAG])


ON_ONE: dict[str, Any] = {"group": "Appointments", "ids": {"id": EXAMPLE.id}}
"""What the endpoints of one appointment have in common."""

ENDPOINTS: tuple[Endpoint[Desk], ...] = (
    Endpoint(
        method="POST",
        path="/appointment",
        handler=handlers.book,
        needs=Permission.DESK,
        audited=True,
        name="book",
        group="Appointments",
        summary="Book an appointment",
        text="An appointment that stands in the book already, just as it is sent, is not booked "
        "again. Names and reasons are stored with single blanks, and without characters that "
        'nobody sees. The patient_name "(erased)" stands for a patient who was erased, and is '
        "refused.",
        headers=[KEY],
        body=Body(media_types=[JSON], content=Content(Booking, {"least": SENT, "most": MORE_SENT})),
        answers=[
            confirmed(HTTPStatus.CREATED, "It is booked."),
            confirmed(HTTPStatus.OK, "This very appointment stood in the book already."),
        ],
        refusals=[
            TimeTaken,
            ClosedThen,
            NotInUse,
            NotRegistered,
            BadKey,
            KeyReused,
            NotNow,
            MaybeDone,
        ],
    ),
    Endpoint(
        method="GET",
        path="/appointment",
        handler=handlers.search,
        audited=handlers.is_bulk,
        needs=Permission.READ,
        expensive=True,
        name="list",
        group="Appointments",
        summary="List appointments",
        text="Without parameters all of them, in the order of their ids; with parameters those "
        "that are sought, in the order of their times, and with limit page by page. from and to "
        "are days, both included: an appointment is on each day of which it takes up time. "
        "patient_name is the whole name; case, the kind of apostrophes and hyphens, and ё or е "
        "make no difference. The header Accept chooses between JSON and CSV, which is UTF-8 with a "
        "byte order mark and has an apostrophe before whatever a spreadsheet would take for a "
        "formula.",
        query=Search,
        queries=[
            {},
            {"office_number": "221B", "limit": "1"},
            {"from": "2027-12-01", "to": "2027-12-31", "status": "booked"},
        ],
        answers=[
            Answer(
                text="The appointments.",
                contents={
                    JSON: Content(AppointmentRecord, {"appointments": [RECORD]}, many=True),
                    CSV: Content({"type": "string"}, {"lines": as_csv([EXAMPLE], header=True)}),
                },
                headers=[VARY, LINK],
            )
        ],
        refusals=[NotNow],
    ),
    Endpoint(
        method="GET",
        path="/appointment.ics",
        handler=handlers.calendar,
        needs=Permission.FEED,
        expensive=True,
        name="feed",
        group="Appointments",
        summary="Subscribe to a calendar",
        text="When an office or a doctor is taken, never by whom: an office_number or a "
        "doctor_name must be given. Without from and to, from a month ago to a year ahead. Times "
        "are in UTC. An appointment keeps its UID, and no other clinic has the same.",
        query=FeedSearch,
        queries=[{"office_number": "221B"}],
        answers=[
            Answer(
                text="The calendar (iCalendar, RFC 5545).",
                contents={CALENDAR: Content({"type": "string"}, {"calendar": FEED})},
                headers=[VARY],
            )
        ],
        refusals=[NotNow],
    ),
    Endpoint(
        method="GET",
        path="/free-time",
        handler=handlers.free_times,
        needs=Permission.READ,
        expensive=True,
        name="free_times",
        group="Appointments",
        summary="List free times",
        text="The earliest first, each with an office and a doctor: those that are named, or any "
        "that offer the type. Without to, on 28 days; on at most 92. Within the hours, outside of "
        "closures, with room for the buffers of the type. As early as possible, or with "
        "step_minutes all that are so many minutes apart, counted from midnight.",
        query=FreeTimeSearch,
        queries=[{"office_number": "221B", "duration_minutes": "30"}],
        answers=[
            Answer(
                text="The free times.",
                contents={JSON: Content(FreeTimeRecord, {"times": [FREE_TIME]}, many=True)},
            )
        ],
        refusals=[NotRegistered, NotInUse, NotNow],
    ),
    Endpoint(
        method="GET",
        path="/appointment/{id}",
        handler=handlers.show,
        needs=Permission.READ,
        name="show",
        summary="Get an appointment",
        headers=[IF_NONE_MATCH],
        answers=[
            shown("The appointment."),
            Answer(status=HTTPStatus.NOT_MODIFIED, text="You have it already.", headers=[ETAG]),
        ],
        refusals=[NoSuchAppointment, NotNow],
        **ON_ONE,
    ),
    Endpoint(
        method="PATCH",
        path="/appointment/{id}",
        handler=handlers.change,
        needs=Permission.DESK,
        audited=True,
        name="change",
        summary="Change an appointment",
        text="A merge patch (RFC 7396): what is not sent stays as it is. A reason stays in its "
        "history. An appointment whose patient was erased can be changed like any other.",
        headers=[IF_MATCH],
        body=Body(
            media_types=CHANGE_TYPES,
            content=Content(
                Change,
                {"move": {"date_time": "2027-12-01T16:00:00"}, "arrive": {"status": "arrived"}},
            ),
        ),
        answers=[shown("The appointment as it is now.", status="arrived")],
        refusals=[
            *(NoSuchAppointment, TimeTaken, ClosedThen, NotInUse, NotRegistered),
            *(IllegalTransition, Stale, NotNow, MaybeDone),
        ],
        **ON_ONE,
    ),
    Endpoint(
        method="DELETE",
        path="/appointment/{id}",
        handler=handlers.cancel,
        needs=Permission.DESK,
        audited=True,
        name="cancel",
        summary="Cancel an appointment",
        text="It stays in the book, cancelled, and its time is free.",
        headers=[IF_MATCH],
        answers=[shown("The appointment as it is now.", status="cancelled")],
        refusals=[NoSuchAppointment, IllegalTransition, Stale, NotNow, MaybeDone],
        **ON_ONE,
    ),
    Endpoint(
        method="GET",
        path="/appointment/{id}/events",
        handler=handlers.history,
        needs=Permission.READ,
        name="history",
        summary="List the events of an appointment",
        answers=[
            Answer(
                text="All that happened to it, oldest first, as CloudEvents 1.0; beside each the "
                "reason, if one was given.",
                contents={
                    JSON: Content(
                        ToldEvent, {"events": [json.loads(HAPPENED.message().body)]}, many=True
                    )
                },
            )
        ],
        refusals=[NoSuchAppointment, NotNow],
        **ON_ONE,
    ),
    *standing_endpoints.ENDPOINTS,
)
