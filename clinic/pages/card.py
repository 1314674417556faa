"""One appointment: everything, its history, and what can be done with it."""

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from clinic.appointments.appointment import NoSuchAppointment, Stale
from clinic.appointments.requests import Change
from clinic.pages import refusing
from clinic.pages.booking import MENDABLE, check, show_refused
from clinic.pages.booking import show as show_form
from clinic.pages.day import NEXT, state_of
from clinic.pages.day_page import with_news
from clinic.pages.forms import Filled, changes_of, filled, values_of
from clinic.pages.front import Front, go
from clinic.web.reading import read_form, read_id
from clinic.web.refusals import NoSuchAddress

TO = re.compile(r"([od])([0-9]{1,18})T([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2})")
VERSION = re.compile("[0-9]{1,9}")


async def show(front: Front, request: Request) -> Response:
    """Show an appointment; with ``edit`` the form that changes it."""
    number = read_id(request, NoSuchAppointment)
    appointment = await front.desk.show(number)
    if request.query_params.get("edit") == "1":
        values = values_of(appointment)
        return await show_form(front, request, Filled(values, changing=appointment))
    events = [from_json(one) for one in await front.desk.history(number)]
    now = front.now()
    return front.show(
        request,
        "card.html",
        appointment=appointment,
        state=state_of(appointment, now),
        step=NEXT.get(appointment.status) if now.date() >= appointment.date_time.date() else None,
        history=[*reversed(_history(front, events))],
        day=appointment.date_time.date(),
    )


def _history(front: Front, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what happened to an appointment, oldest first, with what each event changed."""
    told: list[dict[str, Any]] = []
    before: Mapping[str, Any] = {}
    for event in events:
        moment = datetime.datetime.fromisoformat(event["time"]).astimezone(front.zone)
        facts = event["data"]
        told.append(
            {
                "at": moment,
                "type": event["type"],
                "facts": facts,
                "date_time": datetime.datetime.fromisoformat(facts["date_time"]),
                "changed": {name for name in facts if facts[name] != before.get(name)},
            }
        )
        before = facts
    return told


async def change(front: Front, request: Request) -> Response:
    """Change an appointment to what the form says, unless it was changed meanwhile."""
    sent = await read_form(request)
    number = read_id(request, NoSuchAppointment)
    return await _change(front, request, number, filled(sent), sent)


async def _change(
    front: Front,
    request: Request,
    number: int,
    values: dict[str, str],
    sent: Mapping[str, str],
) -> Response:
    version = sent.get("version", "")
    if not VERSION.fullmatch(version):
        raise NoSuchAddress
    current = await front.desk.show(number)
    found = Filled(values, changing=current, asked="suggest" in sent)
    if found.asked:
        return await show_form(front, request, found)
    if "check" in sent:
        return await check(front, request, found)
    if current.version != int(version):
        return await _stale(front, request, number, sent)
    try:
        wanted = Change.read(changes_of(values, current), front.zone).wanted()
        after = await front.desk.change(number, wanted, lambda one: one == int(version))
    except Stale:
        return await _stale(front, request, number, sent)
    except MENDABLE as refusal:
        return await show_refused(front, request, found, refusal)
    back = f"/day/{after.date_time.date().isoformat()}"
    moved = after.occupancy != current.occupancy
    return go(with_news(back, after, "moved" if moved else "changed"))


async def _stale(front: Front, request: Request, number: int, sent: Mapping[str, str]) -> Response:
    """Say that somebody else was quicker, and show the appointment as it is now."""
    now = await front.desk.show(number)
    return refusing.page(front, request, Stale(), appointment=now, back=sent.get("back"))


async def move(front: Front, request: Request) -> Response:
    """Move an appointment to a free time of the grid: of an office, or of a doctor."""
    sent = await read_form(request)
    number = read_id(request, NoSuchAppointment)
    to = TO.fullmatch(sent.get("to", ""))
    if to is None:
        raise NoSuchAddress
    current = await front.desk.show(number)
    staff = await front.desk.staff()
    values = values_of(current)
    date, _, time = to[3].partition("T")
    values |= {"date": date, "time": time}
    known = staff.offices if to[1] == "o" else staff.doctors
    for one in known:
        if str(one.id) == to[2]:
            values["office_number" if to[1] == "o" else "doctor_name"] = one.name
    return await _change(front, request, number, values, sent)
