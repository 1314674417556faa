"""What a client may ask for: to book an appointment, or to change one."""

import datetime
import zoneinfo
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from clinic.appointments import changing
from clinic.appointments.appointment import ERASED, LONGEST, NewAppointment
from clinic.events import Status
from clinic.registry.names import Name, Note, OfficeNumber, Phone, Reason, TypeName
from clinic.registry.wall_clock import WallClock
from clinic.web.reading import read_fields
from clinic.web.refusals import wrong_fields

MOST_MINUTES = LONGEST // datetime.timedelta(minutes=1)


def whole_number(value: object) -> object:
    """Return 15 for 15.0 as well: both are the same integer in JSON Schema (2020-12, 6.1.1)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def minutes(value: int) -> int:
    """Check a duration in minutes."""
    if not 1 <= value <= MOST_MINUTES:
        raise PydanticCustomError(
            "duration", "must be from 1 to {most} minutes", {"most": MOST_MINUTES}
        )
    return value


Minutes = Annotated[
    int,
    BeforeValidator(whole_number),
    AfterValidator(minutes),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_MINUTES}),
]
DateTime = Annotated[
    WallClock, Field(validation_alias=AliasChoices("date_time", "appointment_datetime"))
]


def not_erased(value: str) -> str:
    """Check that a name is not what stands for a patient who was erased."""
    if value == ERASED:
        raise PydanticCustomError("erased", changing.NOT_A_NAME)
    return value


PatientName = Annotated[Name, AfterValidator(not_erased)]

TIME: TypeAdapter[datetime.datetime] = TypeAdapter(WallClock)

# Stands for a field that was not sent; null is something that a client may send.
NOT_SENT: Any = None


def _rules_between_fields(schema: dict[str, Any]) -> None:
    """Add to a JSON Schema what no field has by itself: the older name of the time, and the reason.

    A booking by the older name alone is taken, too. To say so takes an ``anyOf`` beside the
    properties, and generators of clients then lose the properties.
    """
    properties = schema["properties"]
    properties["appointment_datetime"] = properties["date_time"] | {
        "description": "The older name of date_time, taken where date_time is not sent. If both "
        "are sent, they must be the same time.",
        "deprecated": True,
    }
    for field in properties.values():
        # Generators of clients make what has a default something that must be sent.
        field.pop("default", None)
    properties["override"]["description"] = "Book in spite of conflicts; needs a reason."
    for name in ("override", "reason"):
        properties[name] = properties.pop(name)  # after what is of more use
    overridden = {"type": "boolean", "const": True}
    schema["if"] = {"properties": {"override": overridden}, "required": ["override"]}
    schema["then"] = {"properties": {"reason": {"type": "string"}}, "required": ["reason"]}


def _rules_of_a_booking(schema: dict[str, Any]) -> None:
    _rules_between_fields(schema)
    schema["properties"]["reason"]["description"] = "Required with override, not allowed without."
    schema["else"] = {"properties": {"reason": {"type": "null"}}}


def _rules_of_a_change(schema: dict[str, Any]) -> None:
    _rules_between_fields(schema)
    schema["properties"]["reason"]["description"] = (
        "Why: required with override. It stays in the appointment's history."
    )


class _Request(BaseModel):
    """What both have: the time under either of its names, and the override with its reason."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    override: bool = False
    reason: Annotated[Reason | None, Field(validate_default=True)] = None

    @field_validator("reason")
    @classmethod
    def _is_there_for_an_override(cls, reason: str | None, info: ValidationInfo) -> str | None:
        if reason is None and info.data.get("override"):
            raise PydanticCustomError("reason", "is required with an override")
        return reason

    @classmethod
    def read(cls, sent: dict[str, Any], zone: zoneinfo.ZoneInfo) -> Self:
        """Return what a client sent.

        Raises:
            WrongFields: it names every field that is wrong.
        """
        context = {"zone": zone}
        if "date_time" not in sent or "appointment_datetime" not in sent:
            return read_fields(cls, sent, context)
        detail = _wrong_beside(sent["date_time"], sent["appointment_datetime"], context)
        errors = [{"pointer": "#/appointment_datetime", "detail": detail}] if detail else []
        sent = {name: value for name, value in sent.items() if name != "appointment_datetime"}
        return read_fields(cls, sent, context, errors)


def _wrong_beside(newer: object, older: object, context: dict[str, Any]) -> str | None:
    """Return what is wrong with a time by its older name beside the same by its newer name."""
    if newer == older:
        return None  # wrong or not, it is judged by its newer name
    try:
        time = TIME.validate_python(older, context=context)
    except ValidationError as error:
        return wrong_fields(error)[0]["detail"]
    try:
        equal = time == TIME.validate_python(newer, context=context)
    except ValidationError:
        return None
    return None if equal else "differs from date_time: send one of them, or both the same"


class Booking(_Request):
    """An appointment for a patient, in an office, at a time.

    An older description of the API calls ``date_time`` ``appointment_datetime``; both are taken.
    """

    model_config = ConfigDict(json_schema_extra=_rules_of_a_booking)

    patient_name: PatientName
    office_number: OfficeNumber
    date_time: DateTime
    doctor_name: Name | None = None
    appointment_type: TypeName | None = None
    duration_minutes: Minutes | None = None
    patient_phone: Phone | None = None
    note: Note | None = None

    @field_validator("reason")
    @classmethod
    def _goes_with_an_override(cls, reason: str | None, info: ValidationInfo) -> str | None:
        if reason is not None and info.data.get("override") is False:
            raise PydanticCustomError("reason", "goes only with an override")
        return reason

    def wanted(self) -> NewAppointment:
        """Return it in the desk's words."""
        return NewAppointment(
            patient_name=self.patient_name,
            office_number=self.office_number,
            date_time=self.date_time,
            doctor_name=self.doctor_name,
            appointment_type=self.appointment_type,
            duration_minutes=self.duration_minutes,
            patient_phone=self.patient_phone,
            note=self.note,
            override_reason=self.reason,
        )


class Change(_Request):
    """What is to become of an appointment; a field that was not sent stays as it is."""

    model_config = ConfigDict(json_schema_extra=_rules_of_a_change)

    patient_name: Name = NOT_SENT
    office_number: OfficeNumber = NOT_SENT
    date_time: DateTime = NOT_SENT
    doctor_name: Name | None = None
    appointment_type: TypeName | None = None
    duration_minutes: Minutes = NOT_SENT
    patient_phone: Phone | None = None
    note: Note | None = None
    status: Status = NOT_SENT

    def wanted(self) -> changing.Change:
        """Return it in the desk's words."""
        sent = self.model_fields_set - {"override", "reason", "status"}
        override_reason = self.reason if self.override else None
        fields = self.model_dump(include=sent)
        return changing.Change(fields, self.status, override_reason, self.reason)
