"""The day as a page, the one button of each appointment, and what every page stands on."""

import datetime
import re
from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from clinic.appointments.appointment import TRANSITIONS, Appointment, NoSuchAppointment
from clinic.appointments.changing import Change
from clinic.events import Status
from clinic.pages import refusing
from clinic.pages.assets import takes_gzip
from clinic.pages.day import ORDER, Looking, lay_out
from clinic.pages.front import Front, Look, go, here
from clinic.pages.languages import COOKIE, LANGUAGES, language_of
from clinic.registry.records import Kind
from clinic.registry.timetable import DAY
from clinic.registry.wall_clock import FIRST_YEAR, LAST_YEAR
from clinic.web.headers import header
from clinic.web.reading import read_form
from clinic.web.refusals import NoSuchAddress, Refusal
from clinic.web.streaming import stream

STEP = re.compile(r"([0-9]{1,18}):([0-9]{1,9}):([a-z_]{4,9})")
FIRST_DAY, LAST_DAY = datetime.date(FIRST_YEAR, 1, 1), datetime.date(LAST_YEAR, 12, 31)
ONE_YEAR_SECONDS = 365 * 24 * 3600
# How a day is looked at; whatever else stands in its address is said once.
KEPT = ("view", "by", "all", "move")


async def show_today(front: Front, request: Request) -> Response:
    """Show the present day."""
    return await _show(front, request, front.now().date())


async def jump(_front: Front, request: Request) -> Response:
    """Go to the day that was chosen."""
    chosen = read_date(request.query_params.get("date", ""))
    return go(_address(request, chosen) if chosen else "/")


async def show_day(front: Front, request: Request) -> Response:
    """Show a day."""
    day = read_date(request.path_params["day"])
    if day is None:
        raise NoSuchAddress
    return await _show(front, request, day)


async def _show(front: Front, request: Request, date: datetime.date) -> Response:
    query = request.query_params
    look = await front.look(date)
    moving = await _appointment(front, query.get("move"))
    said = await _said(front, request)
    if moving is not None or said is not None:
        return _page(front, request, look, moving, said)
    key = here(request), language_of(request).code, takes_gzip(request)
    made = look.made.get(key)
    if made is None:
        made = look.made[key] = _page(front, request, look, None, None)
    return Response(made.body, headers=dict(made.headers))


def _page(
    front: Front,
    request: Request,
    look: Look,
    moving: Appointment | None,
    said: Mapping[str, object] | None,
) -> Response:
    query, date = request.query_params, look.day.date
    by: Kind = "doctor" if query.get("by") == "doctor" else "office"
    looking = Looking(
        by=by,
        now=front.now(),
        step_minutes=front.step_minutes,
        alarm_minutes=front.alarm_minutes,
        cancelled=query.get("all") == "1",
        moving=moving,
        only=read_numbers(query.get("only")),
    )
    view = "list" if query.get("view") == "list" and moving is None else "grid"
    return front.show(
        request,
        f"{view}.html",
        board=lay_out(look.day, looking),
        order=ORDER,
        view=view,
        by=by,
        cancelled=looking.cancelled,
        moving=moving,
        position=look.position,
        today=looking.now.date(),
        yesterday=date - DAY if date > FIRST_DAY else None,
        tomorrow=date + DAY if date < LAST_DAY else None,
        week=[
            date + n * DAY
            for n in range(-date.weekday(), 7 - date.weekday())
            if FIRST_DAY <= date + n * DAY <= LAST_DAY
        ],
        address=lambda to, **changed: _address(request, to, **changed),
        back=_address(request, date),
        said=said,
    )


async def _appointment(front: Front, number: str | None) -> Appointment | None:
    if not number or not re.fullmatch("[0-9]{1,18}", number):
        return None
    try:
        return await front.desk.show(int(number))
    except NoSuchAppointment:
        return None


async def _said(front: Front, request: Request) -> dict[str, object] | None:
    """Return what has just been done, and the step by which it is undone."""
    query = request.query_params
    appointment = await _appointment(front, query.get("done"))
    if appointment is None:
        return None
    was = query.get("was")
    undo = was if was in TRANSITIONS[appointment.status] else None
    return {"appointment": appointment, "undo": undo, "what": query.get("what", "")}


def _address(request: Request, day: datetime.date, **changed: str | None) -> str:
    """Return the address of a day looked at as this one is, but for what is changed."""
    query = {name: request.query_params.get(name) for name in KEPT} | changed
    given = {name: value for name, value in query.items() if value}
    return f"/day/{day.isoformat()}" + (f"?{urlencode(given)}" if given else "")


def with_news(back: str, appointment: Appointment, what: str, was: str = "") -> str:
    """Return the address of a day that says what has just been done with an appointment."""
    news = urlencode({"done": appointment.id, "what": what, "was": was})
    return f"{back}{'&' if '?' in back else '?'}{news}#a{appointment.id}"


def read_date(text: str) -> datetime.date | None:
    """Return the day that a text stands for, or None."""
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        return None
    return day if FIRST_DAY <= day <= LAST_DAY else None


def read_numbers(text: str | None) -> frozenset[int] | None:
    """Return the ids that stand in a text, or None if it is none of ids."""
    if text is None or not re.fullmatch("[0-9]{1,18}(,[0-9]{1,18}){0,99}", text):
        return None
    return frozenset(int(one) for one in text.split(","))


async def step(front: Front, request: Request) -> Response:
    """Have an appointment come to its next status, or back; unless it was changed meanwhile."""
    sent = await read_form(request)
    back = sent.get("back") or "/"
    found = STEP.fullmatch(sent.get("step", ""))
    if found is None:
        raise NoSuchAddress
    number, version, status = int(found[1]), int(found[2]), found[3]
    if status not in TRANSITIONS:
        raise NoSuchAddress
    wanted: Status = status
    before = await front.desk.show(number)
    if before.status == wanted:
        # A second click, or somebody else did the same: there is nothing to say but that it is so.
        return go(with_news(back, before, "status"))
    try:
        after = await front.desk.change(
            number, Change(status=wanted), lambda current: current == version
        )
    except Refusal as refusal:
        now = await front.desk.show(number)
        return refusing.page(front, request, refusal, appointment=now, back=back)
    return go(with_news(back, after, "status", before.status))


async def news(front: Front, request: Request) -> Response:
    """Tell a screen what happens, from the position on that it has."""
    text = header(request.scope, b"last-event-id") or request.query_params.get("after", "")
    after = int(text) if re.fullmatch("[0-9]{1,18}", text) else None
    response = await stream(front.feed.screen(after), "text/event-stream")
    # nginx keeps answers back until it has 4 KiB of them, unless it is told not to.
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def choose_language(_front: Front, request: Request) -> Response:
    """Remember the language that somebody chose, and go back."""
    sent = await read_form(request)
    response = go(sent.get("back") or "/")
    if sent.get("language") in LANGUAGES:
        response.set_cookie(
            COOKIE,
            sent["language"],
            max_age=ONE_YEAR_SECONDS,
            path=request.scope.get("root_path", "") or "/",
            httponly=True,
            samesite="lax",
        )
    return response


async def asset(front: Front, request: Request) -> Response:
    """Answer with a style sheet, a script or an icon."""
    return front.assets.answer(request)
