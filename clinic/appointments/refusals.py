"""What the clinic says no to, explained, with an example of each."""

import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from clinic.appointments.appointment import Appointment, IllegalMove, NoSuchAppointment, Stale
from clinic.appointments.availability import SlotTaken
from clinic.appointments.idempotency import LONGEST_KEY, BadKey, KeyReused
from clinic.appointments.names import Name, OfficeNumber
from clinic.appointments.routes import REFUSALS
from clinic.events import LARGEST_ID, Status, WallClockTime
from clinic.web.description import Explained

Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]

EXAMPLE = Appointment(
    id=1,
    version=1,
    status="booked",
    patient_name="Иван Иванов",
    office_number="221B",
    doctor_name=None,
    date_time=datetime.datetime(2027, 12, 1, 15, 30),  # noqa: DTZ001 - wall-clock time
    duration_minutes=15,
    end_time=datetime.datetime(2027, 12, 1, 15, 45),  # noqa: DTZ001
    override_reason=None,
)


class InTheWay(BaseModel):
    """An appointment that has the office or the doctor at that time; never whose it is."""

    id: Id
    office_number: OfficeNumber
    doctor_name: Name | None
    date_time: WallClockTime
    end_time: WallClockTime


class Taken(BaseModel):
    """What is in the way, and the next times at which nothing is."""

    model_config = ConfigDict(extra="allow")

    in_the_way: list[InTheWay]
    free_times: list[WallClockTime]


class Moves(BaseModel):
    """The status of the appointment, and those that it can come to from there."""

    model_config = ConfigDict(extra="allow")

    status_now: Status
    legal: list[Status]


NO_SUCH = Explained.refusal(
    REFUSALS[NoSuchAppointment], NoSuchAppointment(), "There is no appointment with this id."
)
SLOT_TAKEN = Explained.refusal(
    REFUSALS[SlotTaken],
    SlotTaken([EXAMPLE], [EXAMPLE.end_time]),
    "Somebody else has the office or the doctor at that time. Take one of the free times, or send "
    "it again with override and a reason to double-book on purpose.",
    Taken,
)
ILLEGAL_MOVE = Explained.refusal(
    REFUSALS[IllegalMove],
    IllegalMove("done", "cancelled"),
    "The appointment cannot go from its status to the one asked for; legal names those it can.",
    Moves,
)
STALE = Explained.refusal(
    REFUSALS[Stale],
    Stale(),
    "The appointment is not in the version that If-Match names: somebody has changed it since. "
    "Read it again, and then change it if that is still what you want.",
)
BAD_KEY = Explained.refusal(
    REFUSALS[BadKey],
    BadKey(),
    f"This is no Idempotency-Key: one has 1 to {LONGEST_KEY} visible characters, in quotes or "
    "without.",
)
KEY_REUSED = Explained.refusal(
    REFUSALS[KeyReused],
    KeyReused(),
    "The Idempotency-Key came before, with another booking. Take a new key for a new booking.",
)
