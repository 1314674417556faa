"""What a client may ask of the schedule, and of the appointment types."""

import itertools
import re
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from clinic.registry.names import Name, OfficeNumber, Reason, TypeName
from clinic.registry.requests import STRICT
from clinic.registry.timetable import MINUTES_OF_DAY
from clinic.registry.wall_clock import WallClock
from clinic.web.reading import Day

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# More hours a day than a clinic has, and no more than a request should take.
MOST_HOURS = 24
MOST_BUFFER_MINUTES = 240
MOST_NAMES = 200

TIME = re.compile("([01][0-9]|2[0-3]):([0-5][0-9])")
COLOUR = re.compile("#[0-9A-Fa-f]{6}")


def read_time(value: object) -> object:
    """Return the minutes since midnight of a time such as 09:30; 24:00 is the end of the day."""
    if value == "24:00":
        return MINUTES_OF_DAY
    if isinstance(value, str) and (found := TIME.fullmatch(value)):
        return int(found[1]) * 60 + int(found[2])
    raise PydanticCustomError("time_of_day", "must be a time such as 09:30, to 24:00")


def time_text(minutes: int) -> str:
    """Return minutes since midnight as clients write them."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def colour(value: str) -> str:
    """Check a colour, and return it in small letters."""
    if not COLOUR.fullmatch(value):
        raise PydanticCustomError("colour", "must be a colour such as #3366cc")
    return value.lower()


TimeOfDay = Annotated[
    int,
    BeforeValidator(read_time),
    WithJsonSchema({"type": "string", "pattern": f"^(?:{TIME.pattern}|24:00)$"}),
]
Colour = Annotated[
    str,
    AfterValidator(colour),
    WithJsonSchema({"type": "string", "pattern": f"^{COLOUR.pattern}$"}),
]
Duration = Annotated[int, Field(ge=1, le=MINUTES_OF_DAY)]
Buffer = Annotated[int, Field(ge=0, le=MOST_BUFFER_MINUTES)]


class HoursOfDay(BaseModel):
    """Hours of a day; a doctor's may name the office that the doctor is in."""

    model_config = STRICT

    opens: TimeOfDay
    closes: TimeOfDay
    office_number: OfficeNumber | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.opens >= self.closes:
            raise PydanticCustomError("order", "must close after it opens")
        return self


def apart(hours: list[HoursOfDay]) -> list[HoursOfDay]:
    """Check that hours of a day are in order and do not overlap."""
    for one, other in itertools.pairwise(hours):
        if other.opens < one.closes:
            raise PydanticCustomError("overlap", "must be in order and not overlap")
    return hours


DayHours = Annotated[
    list[HoursOfDay], Field(default_factory=list, max_length=MOST_HOURS), AfterValidator(apart)
]


class WeekOfHours(BaseModel):
    """The hours of each day of the week; on a day without any it is closed."""

    model_config = STRICT

    monday: DayHours
    tuesday: DayHours
    wednesday: DayHours
    thursday: DayHours
    friday: DayHours
    saturday: DayHours
    sunday: DayHours


class WeeklyHours(BaseModel):
    """Weekly hours of the clinic, or of the office or the doctor that is named."""

    model_config = STRICT

    office_number: OfficeNumber | None = None
    doctor_name: Name | None = None
    valid_from: Day | None = None
    valid_until: Day | None = None
    week: WeekOfHours

    @model_validator(mode="after")
    def _is_of_one_and_ends_after_it_begins(self) -> Self:
        if self.office_number is not None and self.doctor_name is not None:
            raise PydanticCustomError(
                "whose",
                "must name an office or a doctor, not both: the hours of a doctor name offices",
            )
        begins, ends = self.valid_from, self.valid_until
        if begins is not None and ends is not None and begins > ends:
            raise PydanticCustomError("order", "must have valid_until on valid_from or later")
        return self


class HoursChange(BaseModel):
    """Until when weekly hours hold; null is no end."""

    model_config = STRICT

    valid_until: Day | None


class _Exceptional(BaseModel):
    model_config = STRICT

    office_number: OfficeNumber | None = None
    doctor_name: Name | None = None
    begins: WallClock
    ends: WallClock

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.begins >= self.ends:
            raise PydanticCustomError("order", "must end after it begins")
        return self


class Closure(_Exceptional):
    """From when until when the clinic, an office or a doctor is closed, and why."""

    reason: Reason


class Opening(_Exceptional):
    """From when until when the clinic, an office or a doctor is open against the weekly hours."""

    reason: Reason | None = None


class NewType(BaseModel):
    """A kind of appointment. Without ``offices`` or ``doctors`` all of them offer it."""

    model_config = STRICT

    name: TypeName
    duration_minutes: Duration
    buffer_before_minutes: Buffer = 0
    buffer_after_minutes: Buffer = 0
    colour: Colour | None = None
    offices: Annotated[list[OfficeNumber] | None, Field(max_length=MOST_NAMES)] = None
    doctors: Annotated[list[Name] | None, Field(max_length=MOST_NAMES)] = None


class TypeChange(BaseModel):
    """What is to become of a type; a field that was not sent stays as it is."""

    model_config = STRICT

    name: Annotated[TypeName, Field(default=None)]
    active: Annotated[bool, Field(default=None)]
    duration_minutes: Annotated[Duration, Field(default=None)]
    buffer_before_minutes: Annotated[Buffer, Field(default=None)]
    buffer_after_minutes: Annotated[Buffer, Field(default=None)]
    colour: Colour | None = None
    offices: Annotated[list[OfficeNumber] | None, Field(max_length=MOST_NAMES)] = None
    doctors: Annotated[list[Name] | None, Field(max_length=MOST_NAMES)] = None
