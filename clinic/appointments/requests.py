"""What a client may ask for: to book an appointment, or to change one."""

import datetime
import zoneinfo
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from clinic.appointments.appointment import LONGEST
from clinic.appointments.names import Name, OfficeNumber, Reason
from clinic.appointments.wall_clock import WallClock
from clinic.events import Status

MOST_MINUTES = LONGEST // datetime.timedelta(minutes=1)


def minutes(value: int) -> int:
    """Check a duration in minutes."""
    if not 1 <= value <= MOST_MINUTES:
        raise PydanticCustomError(
            "duration", "must be from 1 to {most} minutes", {"most": MOST_MINUTES}
        )
    return value


Minutes = Annotated[
    int,
    AfterValidator(minutes),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_MINUTES}),
]
DateTime = Annotated[
    WallClock, Field(validation_alias=AliasChoices("date_time", "appointment_datetime"))
]


# Stands for a field that was not sent; null is something that a client may send.
NOT_SENT: Any = None


def _rules_between_fields(schema: dict[str, Any]) -> None:
    """Add to a JSON Schema what no field has by itself: either name of the time, and the reason."""
    properties, required = schema["properties"], schema.get("required", [])
    properties["appointment_datetime"] = properties["date_time"] | {
        "description": "The older name of date_time; if both are sent, they must be equal."
    }
    if "date_time" in required:
        required.remove("date_time")
        schema["anyOf"] = [{"required": ["date_time"]}, {"required": ["appointment_datetime"]}]
    else:
        for field in properties.values():
            if field.get("default", ...) is None:
                del field["default"]  # not sent is not null here
    properties["override"]["description"] = "Book it whatever is in the way; say the reason."
    properties["reason"]["description"] = "Why; it goes only with an override, and must."
    for name in ("override", "reason"):
        properties[name] = properties.pop(name)  # after what is of more use
    schema["if"] = {"properties": {"override": {"const": True}}, "required": ["override"]}
    schema["then"] = {"properties": {"reason": {"type": "string"}}, "required": ["reason"]}
    schema["else"] = {"properties": {"reason": {"type": "null"}}}


class _Request(BaseModel):
    """What both have: the time under either of its names, and the override with its reason."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra=_rules_between_fields,
    )

    override: bool = False
    reason: Annotated[Reason | None, Field(validate_default=True)] = None

    @field_validator("reason")
    @classmethod
    def _goes_with_an_override(cls, reason: str | None, info: ValidationInfo) -> str | None:
        if reason is None and info.data.get("override"):
            raise PydanticCustomError("reason", "is required with an override")
        if reason is not None and info.data.get("override") is False:
            raise PydanticCustomError("reason", "goes only with an override")
        return reason

    @classmethod
    def read(cls, sent: dict[str, Any], zone: zoneinfo.ZoneInfo) -> Self:
        """Return what a client sent.

        Raises:
            ValidationError: it names every field that is wrong.
        """
        if "date_time" in sent and sent.get("appointment_datetime") == sent["date_time"]:
            sent = {name: value for name, value in sent.items() if name != "appointment_datetime"}
        return cls.model_validate(sent, context={"zone": zone})


class Booking(_Request):
    """An appointment for a patient, in an office, at a time.

    An older description of the API calls ``date_time`` ``appointment_datetime``; both are taken.
    """

    patient_name: Name
    office_number: OfficeNumber
    date_time: DateTime
    doctor_name: Name | None = None
    duration_minutes: Minutes | None = None


class Change(_Request):
    """What is to become of an appointment; a field that was not sent stays as it is.

    See ``given`` for those that were.
    """

    patient_name: Name = NOT_SENT
    office_number: OfficeNumber = NOT_SENT
    date_time: DateTime = NOT_SENT
    doctor_name: Name | None = None
    duration_minutes: Minutes = NOT_SENT
    status: Status = NOT_SENT

    def given(self) -> dict[str, Any]:
        """Return the fields of the appointment that were sent."""
        return self.model_dump(include=self.model_fields_set - {"override", "reason"})
