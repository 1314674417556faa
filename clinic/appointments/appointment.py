"""The appointment, and what a client may ask for."""

import datetime
import unicodedata
import zoneinfo
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from clinic.appointments.wall_clock import read_wall_clock

# Control characters, surrogates, and line and paragraph separators have no place in one line.
BANNED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# These turn the direction of the text around them, and so can make one name look like another:
# https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
BANNED_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

MOST_MINUTES = 24 * 60


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


Name = Annotated[str, AfterValidator(one_line), no_longer_than(200)]
OfficeNumber = Annotated[str, AfterValidator(one_line), no_longer_than(50)]
WallClock = Annotated[datetime.datetime, BeforeValidator(wall_clock)]
Minutes = Annotated[int, AfterValidator(minutes)]


class Booking(BaseModel):
    """What a client asks for: an appointment for a patient, in an office, at a time.

    An older description of the API calls ``date_time`` ``appointment_datetime``; both are taken.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    patient_name: Name
    office_number: OfficeNumber
    date_time: Annotated[
        WallClock, Field(validation_alias=AliasChoices("date_time", "appointment_datetime"))
    ]
    doctor_name: Name | None = None
    duration_minutes: Minutes | None = None

    @classmethod
    def read(cls, sent: dict[str, object], zone: zoneinfo.ZoneInfo) -> Self:
        """Return the booking that a client sent.

        Raises:
            ValidationError: it names every field that is wrong.
        """
        if "date_time" in sent and sent.get("appointment_datetime") == sent["date_time"]:
            sent = {name: value for name, value in sent.items() if name != "appointment_datetime"}
        return cls.model_validate(sent, context={"zone": zone})


@dataclass(frozen=True, slots=True)
class Appointment:
    """An appointment in the book; ``date_time`` is the clinic's wall-clock time."""

    id: int
    patient_name: str
    office_number: str
    date_time: datetime.datetime
    doctor_name: str | None
    duration_minutes: int

    def record(self) -> dict[str, object]:
        """Return the full record as clients know it, with the time under both of its names."""
        time = self.date_time.isoformat()
        return {
            "id": self.id,
            "patient_name": self.patient_name,
            "office_number": self.office_number,
            "date_time": time,
            "doctor_name": self.doctor_name,
            "appointment_datetime": time,
            "duration_minutes": self.duration_minutes,
        }


class NoSuchAppointment(Exception):
    """There is no appointment with this id."""

    def __init__(self) -> None:
        super().__init__(str(self.__doc__))
