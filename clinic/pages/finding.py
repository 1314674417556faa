"""A patient's appointments: by beginnings of the name, or by the end of the phone number."""

import re
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from clinic.appointments.appointment import Appointment
from clinic.appointments.search import LEAST_DIGITS, Search
from clinic.pages.day import state_of
from clinic.pages.front import Front
from clinic.registry.timetable import DAY
from clinic.web.refusals import wrong_fields

# More than this nobody reads through: a longer name finds fewer.
MOST_FOUND = 100
# What there may be in a phone number besides digits.
PHONE = re.compile(r"[-+0-9 ().]+")


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: those to come, the next first, and those before today, the last first."""

    coming: list[Appointment]
    past: list[Appointment]
    more: bool

    @property
    def last(self) -> Appointment | None:
        """The appointment to book again from, if all are of one patient."""
        every = [*self.past, *reversed(self.coming)]
        names = {(one.patient_name, one.patient_phone) for one in every}
        return every[0] if len(names) == 1 else None


async def find(front: Front, request: Request) -> Response:
    """Show what is found, or how to look for it."""
    asked = " ".join(request.query_params.get("q", "").split())
    error, found = None, None
    if asked:
        digits = sum(one.isdecimal() for one in asked)
        by_phone = PHONE.fullmatch(asked) is not None and digits >= LEAST_DIGITS
        try:
            found = await _look(front, "patient_phone" if by_phone else "patient", asked)
        except ValidationError as invalid:
            error = wrong_fields(invalid)[0]["detail"]
    now = front.now()
    return front.show(
        request,
        "find.html",
        asked=asked,
        error=error,
        found=found,
        state_of=lambda one: state_of(one, now),
    )


async def _look(front: Front, name: str, asked: str) -> Found:
    today = front.now().date()
    ahead = Search.model_validate({name: asked, "from": today.isoformat()})
    behind = Search.model_validate({name: asked, "to": (today - DAY).isoformat()})
    coming = await front.desk.page(ahead, MOST_FOUND + 1)
    past = await front.desk.page(behind, 10 * MOST_FOUND + 1)
    last = past[::-1][:MOST_FOUND]
    return Found(
        coming[:MOST_FOUND],
        last,
        more=len(coming) > MOST_FOUND or len(past) > len(last),
    )
