"""What a client may ask for: to book an appointment, or to change one."""

import datetime
import re
import unicodedata
import zoneinfo
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import (
    no_info_after_validator_function,
    no_info_before_validator_function,
)

from clinic.appointments import changing
from clinic.appointments.appointment import LONGEST, NewAppointment
from clinic.appointments.wall_clock import FORM, read_wall_clock
from clinic.database import wall_clock_text
from clinic.events import Status
from clinic.web.problems import wrong_fields
from clinic.web.reading import DayRange, read_fields

# What has no place in one line: control characters, surrogates, line and paragraph separators (the
# categories Cc, Cs, Zl and Zp), and what turns the direction of the text around it, and so can make
# one name look like another: https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
BANNED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")

LARGEST_PAGE = 500
CURSOR = re.compile("([0-9T:.-]{19,26}),([0-9]{1,18})")
MOST_MINUTES = LONGEST // datetime.timedelta(minutes=1)


def one_line(text: str) -> str:
    """Return a text as it is stored: composed (NFC) and without the blanks around it.

    Raises:
        PydanticCustomError: it has characters that have no place in a line of text.
    """
    if BANNED.search(text):
        raise PydanticCustomError(
            "banned_character", "must be one line of text, without control characters"
        )
    return unicodedata.normalize("NFC", text).strip()


# Composed, a text is no shorter than a quarter of what it was: no character is composed of more
# than four (https://www.unicode.org/faq/normalization.html#12).
MOST_COMPOSED = 4
# More marks on one letter than any language has, and composing takes the square of their number:
# https://www.unicode.org/reports/tr15/#Stream_Safe_Text_Format
MOST_MARKS = 30


@dataclass(frozen=True, slots=True)
class NoLongerThan:
    """A check of a text's length, in characters, that names the limit.

    It judges a text both as it was sent, for what else is done with it to take no time that a
    client can choose, and after that.
    """

    most: int

    def check_sent(self, value: object) -> object:
        """Return what a client sent, be it a text or not.

        Raises:
            PydanticCustomError: it is too long, or has a letter with too many marks.
        """
        if not isinstance(value, str) or len(value) <= MOST_MARKS:
            return value
        text = value.strip()
        if len(text) > MOST_COMPOSED * self.most:
            raise self._too_long()
        if not text.isascii():
            marks = 0
            for character in text:
                marks = marks + 1 if unicodedata.combining(character) else 0
                if marks > MOST_MARKS:
                    raise PydanticCustomError(
                        "marks", "must have at most {most} marks on a letter", {"most": MOST_MARKS}
                    )
        return value

    def check(self, text: str) -> str:
        """Return the text.

        Raises:
            PydanticCustomError: it is empty or too long.
        """
        if not text:
            raise PydanticCustomError("empty", "must not be empty")
        if len(text) > self.most:
            raise self._too_long()
        return text

    def _too_long(self) -> PydanticCustomError:
        return PydanticCustomError(
            "too_long", "must have at most {most} characters", {"most": self.most}
        )

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        judged = no_info_after_validator_function(self.check, handler(source))
        return no_info_before_validator_function(self.check_sent, judged)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(schema) | {"minLength": 1, "maxLength": self.most}


def wall_clock(value: object, info: ValidationInfo) -> datetime.datetime:
    """Return the wall-clock time that a text stands for in the ``zone`` of the context."""
    if not isinstance(value, str):
        raise PydanticCustomError("time_type", "must be a date and time, as text")
    zone: zoneinfo.ZoneInfo = (info.context or {})["zone"]
    try:
        return read_wall_clock(value, zone)
    except ValueError as error:
        raise PydanticCustomError("time", "{reason}", {"reason": str(error)}) from None


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


def page_size(value: object) -> object:
    """Return the number of appointments that a page may have."""
    if not isinstance(value, str):
        return value
    if re.fullmatch("[0-9]{1,4}", value) and 1 <= int(value) <= LARGEST_PAGE:
        return int(value)
    raise PydanticCustomError(
        "page_size", "must be a number from 1 to {most}", {"most": LARGEST_PAGE}
    )


def read_cursor(value: object) -> object:
    """Return the time and id after which a page begins."""
    if not isinstance(value, str):
        return value
    found = CURSOR.fullmatch(value)
    try:
        if found:
            return datetime.datetime.fromisoformat(found[1]), int(found[2])
    except ValueError:
        pass
    raise PydanticCustomError(
        "cursor", "must be taken from the Link of the page before, as it stands there"
    )


Name = Annotated[str, AfterValidator(one_line), NoLongerThan(200)]
OfficeNumber = Annotated[str, AfterValidator(one_line), NoLongerThan(50)]
Reason = Annotated[str, AfterValidator(one_line), NoLongerThan(500)]
# No format "date-time", which asks for an offset.
WallClock = Annotated[
    datetime.datetime,
    BeforeValidator(wall_clock),
    WithJsonSchema(
        {
            "description": "Wall-clock time such as 2027-12-01T15:30:00; with an offset it is "
            "converted to the clinic's.",
            "type": "string",
            "pattern": f"^{FORM.pattern}$",
        }
    ),
]
Minutes = Annotated[
    int,
    BeforeValidator(whole_number),
    AfterValidator(minutes),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_MINUTES}),
]
PageSize = Annotated[
    int,
    BeforeValidator(page_size),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}),
]
Cursor = Annotated[
    tuple[datetime.datetime, int],
    BeforeValidator(read_cursor),
    WithJsonSchema(
        {
            "description": "Where the page begins, as it stands in the Link of the page before.",
            "type": "string",
            "pattern": f"^{CURSOR.pattern}$",
        }
    ),
]

DateTime = Annotated[
    WallClock, Field(validation_alias=AliasChoices("date_time", "appointment_datetime"))
]


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
    properties["reason"]["description"] = "Required with override, not allowed without it."
    for name in ("override", "reason"):
        properties[name] = properties.pop(name)  # after what is of more use
    overridden = {"type": "boolean", "const": True}
    schema["if"] = {"properties": {"override": overridden}, "required": ["override"]}
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
            Problem: it names every field that is wrong.
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

    patient_name: Name
    office_number: OfficeNumber
    date_time: DateTime
    doctor_name: Name | None = None
    duration_minutes: Minutes | None = None

    def wanted(self) -> NewAppointment:
        """Return it in the desk's words."""
        return NewAppointment(
            patient_name=self.patient_name,
            office_number=self.office_number,
            date_time=self.date_time,
            doctor_name=self.doctor_name,
            duration_minutes=self.duration_minutes,
            override_reason=self.reason,
        )


class Change(_Request):
    """What is to become of an appointment; a field that was not sent stays as it is."""

    patient_name: Name = NOT_SENT
    office_number: OfficeNumber = NOT_SENT
    date_time: DateTime = NOT_SENT
    doctor_name: Name | None = None
    duration_minutes: Minutes = NOT_SENT
    status: Status = NOT_SENT

    def wanted(self) -> changing.Change:
        """Return it in the desk's words."""
        sent = self.model_fields_set - {"override", "reason", "status"}
        return changing.Change(self.model_dump(include=sent), self.status, self.reason)


class Search(DayRange):
    """What a client looks for in the list; what it does not give matters not."""

    office_number: OfficeNumber | None = None
    doctor_name: Name | None = None
    patient_name: Name | None = None
    status: Status | None = None
    limit: PageSize | None = None
    after: Cursor | None = None


class FeedSearch(DayRange):
    """Whose calendar a client wants: an office's, a doctor's, or of both together."""

    office_number: OfficeNumber | None = None
    doctor_name: Name | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.office_number is None and self.doctor_name is None:
            raise PydanticCustomError("whose", "must name an office_number or a doctor_name")
        return self


def cursor(time: datetime.datetime, appointment_id: int) -> str:
    """Return what stands as ``after`` for a page that begins after an appointment."""
    return f"{wall_clock_text(time)},{appointment_id}"
