"""The form by which appointments are booked, changed and moved, and what it says of a conflict."""

import datetime
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from clinic.appointments.availability import ClosedThen, TimeTaken
from clinic.appointments.day import Staff
from clinic.appointments.free_time import FreeTime
from clinic.appointments.idempotency import IdempotencyKey, KeyReused
from clinic.appointments.requests import Booking
from clinic.appointments.search import FreeTimeSearch
from clinic.database import OutcomeUnknown, wall_clock_text
from clinic.pages.day_page import read_date, with_news
from clinic.pages.forms import Filled, errors_of, filled, new_key, values_of, wanted_of
from clinic.pages.front import Front, go
from clinic.pages.refusing import SAID
from clinic.registry.records import NotInUse, NotRegistered
from clinic.supervisor import Unavailable
from clinic.web.reading import read_form
from clinic.web.refusals import MaybeDone, NotNow, Refusal, WrongFields

ID = re.compile("[0-9]{1,18}")
# Refusals after which the form is shown again, with what is wrong and all that was typed.
MENDABLE = (WrongFields, TimeTaken, ClosedThen, NotInUse, NotRegistered, KeyReused)
# Free times that are offered besides those of a refusal.
OFFERS = 4
# ... of as many, which begin with the first of the day.
MOST_LOOKED_THROUGH = 200
# How far ahead the form looks for them.
HORIZON = datetime.timedelta(days=56)


async def form(front: Front, request: Request) -> Response:
    """Show the form: empty, for a free time of the grid, or for a patient who was here before."""
    query = request.query_params
    staff = await front.desk.staff()
    values = dict.fromkeys(("date", "time"), "")
    if ID.fullmatch(query.get("again", "")):
        before = await front.desk.show(int(query["again"]))
        values = values_of(before) | {"date": "", "time": "", "note": ""}
    date, _, time = query.get("t", "").partition("T")
    if read_date(date):
        values |= {"date": date, "time": time}
    elif not values["date"]:
        values["date"] = front.now().date().isoformat()
    for name, known in (("o", staff.offices), ("d", staff.doctors)):
        for one in known:
            if query.get(name) == str(one.id):
                values["office_number" if name == "o" else "doctor_name"] = one.name
    return await show(front, request, Filled(values, new_key()))


async def book(front: Front, request: Request) -> Response:
    """Book, and go to the day; or show the form again, with what is wrong."""
    sent = await read_form(request)
    found = Filled(filled(sent), sent.get("key") or new_key())
    if "suggest" in sent:
        found.asked = True
        return await show(front, request, found)
    if "check" in sent:
        return await check(front, request, found)
    wanted = wanted_of(found.values)
    try:
        booking = Booking.read(wanted, front.zone)
        key = IdempotencyKey.read(found.key, wanted)
        confirmed = await front.desk.book(booking.wanted(), key)
    except MENDABLE as refusal:
        return await show_refused(front, request, found, refusal)
    except Unavailable as error:
        # The same form can be sent again: its key makes it one booking.
        away = MaybeDone() if isinstance(error, OutcomeUnknown) else NotNow()
        return await show_refused(front, request, found, away)
    booked = await front.desk.show(confirmed.appointment_id)
    back = f"/day/{booked.date_time.date().isoformat()}"
    return go(with_news(back, booked, "booked" if confirmed.created else "booked before"))


async def check(front: Front, request: Request, found: Filled) -> Response:
    """Show a form with what conflicts with it, if anything does: it is still being filled in."""
    current = found.changing.id if found.changing else 0
    try:
        # Whose it is makes no difference, and is typed last.
        booking = Booking.read(wanted_of({**found.values, "patient_name": "?"}), front.zone)
        await front.desk.check(booking.wanted(), current)
    except (TimeTaken, ClosedThen) as refusal:
        return await show_refused(front, request, found, refusal)
    except (Refusal, Unavailable):
        pass  # it is said when the form is sent
    return await show(front, request, found)


async def show_refused(front: Front, request: Request, found: Filled, refusal: Refusal) -> Response:
    """Show a form again, with what is wrong and all that was typed."""
    found.errors = errors_of(refusal)
    found.title, found.text = SAID[refusal.slug]
    if isinstance(refusal, TimeTaken):
        found.conflicts = refusal.conflicts
    if isinstance(refusal, ClosedThen):
        found.closed = cast("list[Any]", refusal.members["closed"])
    if isinstance(refusal, TimeTaken | ClosedThen):
        found.asked = True
        times = cast("list[str]", refusal.members["free_times"])
        found.offered = [datetime.datetime.fromisoformat(one) for one in times]
    if isinstance(refusal, NotRegistered):
        found.nearest = cast("list[str]", refusal.members["nearest"])
    if isinstance(refusal, KeyReused):
        found.key = new_key()
    response = await show(front, request, found, refusal.status)
    response.headers.update(refusal.headers)
    return response


async def show(
    front: Front, request: Request, found: Filled, status: int = HTTPStatus.OK
) -> Response:
    """Show a form; if free times are asked for, with those of any office and doctor."""
    if found.asked:
        await _offer(front, found)
    try:
        staff = await front.desk.staff()
    except Unavailable:
        if not found.title:
            raise
        staff = Staff((), (), ())  # what was typed is worth more than suggestions
    return front.show(
        request,
        "form.html",
        status,
        form=found,
        staff=staff,
        take=_take,
        usual_minutes=front.step_minutes,
    )


async def _offer(front: Front, found: Filled) -> None:
    """Look for free times: of the office and doctor that were asked for, and of any."""
    values = found.values
    named = {name: values[name] for name in ("office_number", "doctor_name") if values.get(name)}
    try:
        if not found.offered:
            found.offered = await _free_times(front, values, named)
        if named:
            found.elsewhere = await _free_times(front, values, {})
    except (Refusal, ValidationError, Unavailable):
        pass  # a convenience only: what was asked for is answered all the same


async def _free_times(
    front: Front, values: Mapping[str, str], named: Mapping[str, str]
) -> list[FreeTime]:
    """Return the first free times from the day and time on that was asked for."""
    day = read_date(values.get("date", "")) or front.now().date()
    query: dict[str, str] = {
        **named,
        "from": day.isoformat(),
        "to": (day + HORIZON).isoformat(),
        "limit": str(MOST_LOOKED_THROUGH),
    }
    for name in ("appointment_type", "duration_minutes"):
        if values.get(name):
            query[name] = values[name]
    found = await front.desk.free_times(FreeTimeSearch.model_validate(query))
    wanted = f"{day.isoformat()}T{values.get('time', '')}"
    later = [one for one in found if wall_clock_text(one.date_time) >= wanted]
    return (later or found)[:OFFERS]


def _take(offer: FreeTime | datetime.datetime) -> list[str]:
    """Return what a button sends that takes a free time."""
    if isinstance(offer, datetime.datetime):
        return [wall_clock_text(offer)]
    return [wall_clock_text(offer.date_time), offer.office_number, offer.doctor_name or ""]
