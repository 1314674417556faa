"""The endpoints of the schedule and of the appointment types, described."""

import datetime
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel

from clinic.events import Id, Status, WallClockTime
from clinic.registry import schedule_handlers as handlers
from clinic.registry.names import Name, OfficeNumber, Reason, TypeName
from clinic.registry.records import NameTaken, NoSuchRecord, NotRegistered
from clinic.registry.schedule import FIRST_PAGE, HoursOverlap
from clinic.registry.schedule_handlers import Scheduling
from clinic.registry.schedule_requests import (
    WEEKDAYS,
    Buffer,
    Closure,
    Colour,
    Duration,
    HoursChange,
    NewType,
    Opening,
    TimeOfDay,
    TypeChange,
    WeeklyHours,
)
from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Body, Content, Endpoint, Header
from clinic.web.reading import CHANGE_TYPES, JSON
from clinic.web.refusals import MaybeDone, NotNow


class HoursRecord(BaseModel):
    """Hours of a day."""

    opens: TimeOfDay
    closes: TimeOfDay
    office_number: OfficeNumber | None


class WeekRecord(BaseModel):
    """The hours of each day of the week."""

    monday: list[HoursRecord]
    tuesday: list[HoursRecord]
    wednesday: list[HoursRecord]
    thursday: list[HoursRecord]
    friday: list[HoursRecord]
    saturday: list[HoursRecord]
    sunday: list[HoursRecord]


class WeeklyHoursRecord(BaseModel):
    """Weekly hours of the clinic, or of the office or the doctor that is named."""

    id: Id
    office_number: OfficeNumber | None
    doctor_name: Name | None
    valid_from: datetime.date | None
    valid_until: datetime.date | None
    week: WeekRecord


class ExceptionalRecord(BaseModel):
    """A closure or an opening of the clinic, or of the office and the doctor that are named."""

    id: Id
    office_number: OfficeNumber | None
    doctor_name: Name | None
    begins: WallClockTime
    ends: WallClockTime
    reason: Reason | None


class StandingRecord(BaseModel):
    """An appointment that stands in a closure, in a version; never whose it is."""

    id: Id
    version: int
    status: Status
    office_number: OfficeNumber
    doctor_name: Name | None
    date_time: WallClockTime
    end_time: WallClockTime


class ClosureMade(ExceptionalRecord):
    """A closure, the first appointments that stand in it, and how many do: they stay."""

    appointments: list[StandingRecord]
    appointments_count: int


class TypeRecord(BaseModel):
    """A kind of appointment; null for offices or doctors means all."""

    id: Id
    name: TypeName
    active: bool
    duration_minutes: Duration
    buffer_before_minutes: Buffer
    buffer_after_minutes: Buffer
    colour: Colour | None
    offices: list[OfficeNumber] | None
    doctors: list[Name] | None


MORNING = {"opens": "09:00", "closes": "13:00"}
AFTERNOON = {"opens": "14:00", "closes": "18:00"}
DOCTOR = "Доктор Ватсон"
WEEK = {
    "doctor_name": DOCTOR,
    "valid_from": "2027-01-01",
    "week": {"monday": [MORNING, AFTERNOON], "friday": [MORNING]},
}
WEEK_RECORD = {
    "id": 1,
    "office_number": None,
    "doctor_name": DOCTOR,
    "valid_from": "2027-01-01",
    "valid_until": None,
    "week": {
        day: [
            {**hours, "office_number": None}
            for hours in {"monday": [MORNING, AFTERNOON], "friday": [MORNING]}.get(day, [])
        ]
        for day in WEEKDAYS
    },
}
HOLIDAY = {
    "begins": "2027-12-25T00:00:00",
    "ends": "2027-12-26T00:00:00",
    "reason": "a public holiday",
}
EXCEPTIONAL = {"id": 1, "office_number": None, "doctor_name": None, **HOLIDAY}
STANDING = {
    "id": 1,
    "version": 1,
    "status": "booked",
    "office_number": "221B",
    "doctor_name": None,
    "date_time": "2027-12-25T15:30:00",
    "end_time": "2027-12-25T15:45:00",
}
SATURDAY = {"doctor_name": DOCTOR, "begins": "2027-12-18T10:00:00", "ends": "2027-12-18T14:00:00"}
OPENING = {"id": 2, "office_number": None, **SATURDAY, "reason": None}
TYPE = {
    "name": "first visit",
    "duration_minutes": 30,
    "buffer_after_minutes": 10,
    "colour": "#3366cc",
    "doctors": [DOCTOR],
}
TYPE_RECORD = {
    "id": 1,
    "active": True,
    "buffer_before_minutes": 0,
    "offices": None,
    **TYPE,
}

HOURS: dict[str, Any] = {"group": "Hours"}
TYPES: dict[str, Any] = {"group": "Appointment types"}
ONE: dict[str, Any] = {"ids": {"id": 1}}
CHANGED = [NotNow, MaybeDone]


def content(form: type[BaseModel], example: object, *, many: bool = False) -> dict[str, Content]:
    """Return JSON of a form, with an example."""
    return {JSON: Content(form, {"example": example}, many=many)}


def made(path: str, form: type[BaseModel], example: object, text: str) -> Answer:
    """Return the answer that shows what was made."""
    location = Header(name="Location", text="Where it is.", example=f"{path}/1")
    return Answer(
        status=HTTPStatus.CREATED, text=text, contents=content(form, example), headers=[location]
    )


def removed(text: str) -> Answer:
    """Return the answer that says that something was taken back."""
    return Answer(status=HTTPStatus.NO_CONTENT, text=text)


def of_exceptional(kind: Literal["closure", "opening"]) -> tuple[Endpoint[Scheduling], ...]:
    """Return the endpoints of closures, or of openings."""
    closes = kind == "closure"
    shown = EXCEPTIONAL if closes else OPENING
    return (
        Endpoint(
            method="GET",
            path=f"/{kind}",
            handler=handlers.list_closures if closes else handlers.list_openings,
            needs=Permission.READ,
            name=f"list_{kind}s",
            summary=f"List {kind}s",
            text="In the order of time.",
            answers=[
                Answer(
                    text=f"The {kind}s.", contents=content(ExceptionalRecord, [shown], many=True)
                )
            ],
            refusals=[NotNow],
            **HOURS,
        ),
        Endpoint(
            method="POST",
            path=f"/{kind}",
            handler=handlers.close if closes else handlers.open_up,
            needs=Permission.ADMINISTER,
            audited=True,
            name="close" if closes else "open",
            summary="Close the clinic, an office or a doctor"
            if closes
            else "Open against the weekly hours",
            text="From then on nothing is booked in it, but on purpose. The appointments that "
            f"stand in it stay, for you to move or cancel: the first {FIRST_PAGE} are named, and "
            "GET /closure/{id}/appointments has all of them."
            if closes
            else "An opening of a doctor opens the clinic and the office for that doctor, and one "
            "of an office the clinic for that office.",
            body=Body(
                media_types=[JSON],
                content=Content(
                    Closure if closes else Opening,
                    {"holiday": HOLIDAY} if closes else {"saturday": SATURDAY},
                ),
            ),
            answers=[
                made(
                    f"/{kind}",
                    ClosureMade if closes else ExceptionalRecord,
                    {**EXCEPTIONAL, "appointments": [STANDING], "appointments_count": 1}
                    if closes
                    else OPENING,
                    "It is closed then." if closes else "It is open then.",
                )
            ],
            refusals=[NotRegistered, *CHANGED],
            **HOURS,
        ),
        Endpoint(
            method="DELETE",
            path=f"/{kind}/{{id}}",
            handler=handlers.remove_closure if closes else handlers.remove_opening,
            needs=Permission.ADMINISTER,
            audited=True,
            name=f"remove_{kind}",
            summary=f"Take a{'n' if kind == 'opening' else ''} {kind} back",
            answers=[removed("It is gone.")],
            refusals=[NoSuchRecord, *CHANGED],
            **HOURS,
            **ONE,
        ),
    )


ENDPOINTS: tuple[Endpoint[Scheduling], ...] = (
    Endpoint(
        method="GET",
        path="/hours",
        handler=handlers.list_hours,
        needs=Permission.READ,
        name="list_hours",
        summary="List weekly hours",
        answers=[
            Answer(
                text="The weekly hours.",
                contents=content(WeeklyHoursRecord, [WEEK_RECORD], many=True),
            )
        ],
        refusals=[NotNow],
        **HOURS,
    ),
    Endpoint(
        method="POST",
        path="/hours",
        handler=handlers.set_hours,
        needs=Permission.ADMINISTER,
        audited=True,
        name="set_hours",
        summary="Set weekly hours",
        text="Of the clinic, of an office or of a doctor, from one day to another; breaks are what "
        "is left out. An appointment needs all three to be open: the clinic, its office, and its "
        "doctor. Whoever has no hours on a day is open on it.",
        body=Body(media_types=[JSON], content=Content(WeeklyHours, {"doctor": WEEK})),
        answers=[made("/hours", WeeklyHoursRecord, WEEK_RECORD, "They are set.")],
        refusals=[HoursOverlap, NotRegistered, *CHANGED],
        **HOURS,
    ),
    Endpoint(
        method="PATCH",
        path="/hours/{id}",
        handler=handlers.change_hours,
        needs=Permission.ADMINISTER,
        audited=True,
        name="change_hours",
        summary="Let weekly hours end",
        body=Body(
            media_types=CHANGE_TYPES,
            content=Content(HoursChange, {"end": {"valid_until": "2027-12-31"}}),
        ),
        answers=[
            Answer(
                text="As they are now.",
                contents=content(WeeklyHoursRecord, WEEK_RECORD | {"valid_until": "2027-12-31"}),
            )
        ],
        refusals=[NoSuchRecord, HoursOverlap, *CHANGED],
        **HOURS,
        **ONE,
    ),
    Endpoint(
        method="DELETE",
        path="/hours/{id}",
        handler=handlers.remove_hours,
        needs=Permission.ADMINISTER,
        audited=True,
        name="remove_hours",
        summary="Take weekly hours back",
        answers=[removed("They are gone.")],
        refusals=[NoSuchRecord, *CHANGED],
        **HOURS,
        **ONE,
    ),
    *of_exceptional("closure"),
    *of_exceptional("opening"),
    Endpoint(
        method="GET",
        path="/appointment-type",
        handler=handlers.list_types,
        needs=Permission.READ,
        name="list_types",
        summary="List appointment types",
        answers=[Answer(text="The types.", contents=content(TypeRecord, [TYPE_RECORD], many=True))],
        refusals=[NotNow],
        **TYPES,
    ),
    Endpoint(
        method="POST",
        path="/appointment-type",
        handler=handlers.add_type,
        needs=Permission.ADMINISTER,
        audited=True,
        name="add_type",
        summary="Add an appointment type",
        text="Its buffers occupy office and doctor before and after, not the patient.",
        body=Body(media_types=[JSON], content=Content(NewType, {"visit": TYPE})),
        answers=[made("/appointment-type", TypeRecord, TYPE_RECORD, "It is added.")],
        refusals=[NameTaken, NotRegistered, *CHANGED],
        **TYPES,
    ),
    Endpoint(
        method="GET",
        path="/appointment-type/{id}",
        handler=handlers.show_type,
        needs=Permission.READ,
        name="show_type",
        summary="Get an appointment type",
        answers=[Answer(text="The type.", contents=content(TypeRecord, TYPE_RECORD))],
        refusals=[NoSuchRecord, NotNow],
        **TYPES,
        **ONE,
    ),
    Endpoint(
        method="PATCH",
        path="/appointment-type/{id}",
        handler=handlers.change_type,
        needs=Permission.ADMINISTER,
        audited=True,
        name="change_type",
        summary="Change an appointment type",
        text="What is booked stays as it is. With active false it is booked no more.",
        body=Body(
            media_types=CHANGE_TYPES,
            content=Content(TypeChange, {"longer": {"duration_minutes": 45}}),
        ),
        answers=[
            Answer(
                text="As it is now.",
                contents=content(TypeRecord, TYPE_RECORD | {"duration_minutes": 45}),
            )
        ],
        refusals=[NoSuchRecord, NameTaken, NotRegistered, *CHANGED],
        **TYPES,
        **ONE,
    ),
)
