"""What a client may ask for: to book an appointment, or to change one."""

import datetime
import re
import unicodedata
import zoneinfo
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from clinic.appointments.appointment import LONGEST
from clinic.appointments.wall_clock import read_wall_clock
from clinic.database import wall_clock_text
from clinic.events import Status
from clinic.web.reading import DayRange

# Control characters, surrogates, and line and paragraph separators have no place in one line.
BANNED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# These turn the direction of the text around them, and so can make one name look like another:
# https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
BANNED_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

LARGEST_PAGE = 500
MOST_MINUTES = LONGEST // datetime.timedelta(minutes=1)


def one_line(text: str) -> str:
    """Return a text as it is stored: composed (NFC) and without the blanks around it.

    Raises:
        PydanticCustomError: it has characters that have no place in a line of text.
    """
    if any(
        unicodedata.category(character) in BANNED_CATEGORIES or character in BANNED_DIRECTIONS
        for character in text
    ):
        raise PydanticCustomError(
            "banned_character", "must be one line of text, without control characters"
        )
    return unicodedata.normalize("NFC", text).strip()


def no_longer_than(most: int) -> AfterValidator:
    """Return a check of a text's length, in characters, that names the limit."""

    def check(text: str) -> str:
        if not text:
            raise PydanticCustomError("empty", "must not be empty")
        if len(text) > most:
            raise PydanticCustomError(
                "too_long", "must have at most {most} characters", {"most": most}
            )
        return text

    return AfterValidator(check)


def wall_clock(value: object, info: ValidationInfo) -> datetime.datetime:
    """Return the wall-clock time that a text stands for in the ``zone`` of the context."""
    if not isinstance(value, str):
        raise PydanticCustomError("time_type", "must be a date and time, as text")
    zone: zoneinfo.ZoneInfo = (info.context or {})["zone"]
    try:
        return read_wall_clock(value, zone)
    except ValueError as error:
        raise PydanticCustomError("time", "{reason}", {"reason": str(error)}) from None


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
    found = re.fullmatch(r"([0-9T:.-]{19,26}),([0-9]{1,18})", value)
    try:
        if found:
            return datetime.datetime.fromisoformat(found[1]), int(found[2])
    except ValueError:
        pass
    raise PydanticCustomError(
        "cursor", "must be taken from the Link of the page before, as it stands there"
    )


Name = Annotated[str, AfterValidator(one_line), no_longer_than(200)]
OfficeNumber = Annotated[str, AfterValidator(one_line), no_longer_than(50)]
Reason = Annotated[str, AfterValidator(one_line), no_longer_than(500)]
WallClock = Annotated[datetime.datetime, BeforeValidator(wall_clock)]
Minutes = Annotated[int, AfterValidator(minutes)]

DateTime = Annotated[
    WallClock, Field(validation_alias=AliasChoices("date_time", "appointment_datetime"))
]


# Stands for a field that was not sent; null is something that a client may send.
NOT_SENT: Any = None


class _Request(BaseModel):
    """What both have: the time under either of its names, and the override with its reason."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

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


class Search(DayRange):
    """What a client looks for in the list; what it does not give matters not."""

    office_number: OfficeNumber | None = None
    doctor_name: Name | None = None
    patient_name: Name | None = None
    status: Status | None = None
    limit: Annotated[int | None, BeforeValidator(page_size)] = None
    after: Annotated[tuple[datetime.datetime, int] | None, BeforeValidator(read_cursor)] = None


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
