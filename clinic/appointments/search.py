"""What a client may look for: appointments in the list, or somebody's calendar."""

import datetime
import re
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from clinic.appointments.appointment import LONGEST
from clinic.database import wall_clock_text
from clinic.events import Status
from clinic.registry.names import Name, OfficeNumber, Phone, TypeName, name_key
from clinic.web.reading import DayRange

LARGEST_PAGE = 500
LEAST_DIGITS = 3
# Free times are looked for on so many days: clinics plan no further.
MOST_DAYS = 92
MOST_MINUTES = LONGEST // datetime.timedelta(minutes=1)
# As ``cursor`` writes it and no other way: of what datetime reads besides, it reads more from one
# Python to the next, and databases do not agree about an offset.
CURSOR = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?)"
    ",([0-9]{1,18})"
)


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


def cursor(time: datetime.datetime, appointment_id: int) -> str:
    """Return what stands as ``after`` for a page that begins after an appointment."""
    return f"{wall_clock_text(time)},{appointment_id}"


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


def phone_end(value: str) -> str:
    """Check the end of a phone number: few digits would find everybody."""
    if not len([one for one in value if one.isdecimal()]) >= LEAST_DIGITS:
        raise PydanticCustomError(
            "phone_end", "must have at least {least} digits", {"least": LEAST_DIGITS}
        )
    return value


PhoneEnd = Annotated[Phone, AfterValidator(phone_end)]


class Search(DayRange):
    """What a client looks for in the list; omitted filters match everything."""

    office_number: OfficeNumber | None = None
    doctor_name: Name | None = None
    appointment_type: TypeName | None = None
    patient_name: Name | None = None
    patient: Name | None = None
    patient_phone: PhoneEnd | None = None
    status: Status | None = None
    limit: PageSize | None = None
    after: Cursor | None = None

    @property
    def of_patient(self) -> bool:
        """Whether a patient's appointments are sought."""
        return any((self.patient_name, self.patient, self.patient_phone))


TOKEN_SCHEMA = {
    "description": "A token for this calendar alone; programs send theirs in a header.",
    "type": "string",
}


class FeedSearch(DayRange):
    """Whose calendar a client wants: an office's, a doctor's, or of both together."""

    office_number: OfficeNumber | None = None
    doctor_name: Name | None = None
    token: Annotated[str, WithJsonSchema(TOKEN_SCHEMA)] | None = None

    @property
    def key(self) -> str:
        """Whose calendar it is, whatever the spelling: what a token for one feed is good for."""
        named = {"office": self.office_number, "doctor": self.doctor_name}
        return " ".join(f"{kind}={name_key(name)}" for kind, name in named.items() if name)

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.office_number is None and self.doctor_name is None:
            raise PydanticCustomError("whose", "must name an office_number or a doctor_name")
        return self


def number_between(least: int, most: int, unit: str) -> BeforeValidator:
    """Return what reads a whole number from a query."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        if re.fullmatch("[0-9]{1,6}", value) and least <= int(value) <= most:
            return int(value)
        raise PydanticCustomError(
            "number",
            "must be a number of {unit} from {least} to {most}",
            {"unit": unit, "least": least, "most": most},
        )

    return BeforeValidator(read)


DayMinutes = Annotated[
    int,
    number_between(1, MOST_MINUTES, "minutes"),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_MINUTES}),
]


class FreeTimeSearch(DayRange):
    """Which free times a client wants: with whom, for how long, on which days."""

    office_number: OfficeNumber | None = None
    doctor_name: Name | None = None
    appointment_type: TypeName | None = None
    duration_minutes: DayMinutes | None = None
    step_minutes: DayMinutes | None = None
    limit: PageSize | None = None

    @model_validator(mode="after")
    def _is_not_too_long(self) -> Self:
        first, last = self.first_day, self.last_day
        if first is not None and last is not None and (last - first).days >= MOST_DAYS:
            raise PydanticCustomError(
                "days", "must ask for at most {most} days", {"most": MOST_DAYS}
            )
        return self
