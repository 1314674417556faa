"""What the pages are made of, and the one way in which a page is answered."""

import datetime
import gzip
import zoneinfo
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clinic.acting import ANONYMOUS
from clinic.appointments.appointment import TRANSITIONS
from clinic.appointments.day import Day
from clinic.appointments.desk import Desk
from clinic.database import ExpensiveReads, utc_now
from clinic.pages import words
from clinic.pages.assets import LEAST_COMPRESSED, LEVEL, Assets, takes_gzip
from clinic.pages.languages import LANGUAGES, language_of
from clinic.pages.live import Feed
from clinic.web.callers import CALLER, Caller

# Days that are read from the database at a time.
PLACES = 2
# Nothing runs and nothing is shown that is not a file of ours, wherever it came from.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    # With "no-referrer", which other answers have, a browser sends "Origin: null" with a form, and
    # over plain HTTP nothing else that says where the form comes from: it would be refused
    # (https://fetch.spec.whatwg.org/#append-a-request-origin-header).
    "Referrer-Policy": "same-origin",
    "Vary": "Accept-Encoding, Accept-Language, Cookie",
}


SignIn = Callable[[Request, str], Awaitable[str | None]]
"""Returns the header that begins a session with a token, or None if it does not count."""


@dataclass(eq=False)
class Look:
    """A look into the book at a day, shared by all who asked before it; and what was made of it.

    ``position`` is from where a screen that shows it has to hear. What was ``made`` is by the
    address, the language and the coding.
    """

    position: int
    day: Day
    made: dict[tuple[str, str, bool], Response] = field(default_factory=dict)


class Front:
    """The pages of the front desk: the desk that they stand on, and how they are shown.

    ``step_minutes`` is how far apart the free times of the grid are; after ``alarm_minutes`` a
    patient has waited for too long.
    """

    def __init__(
        self,
        desk: Desk,
        feed: Feed,
        sign_in: SignIn,
        *,
        step_minutes: int,
        alarm_minutes: int,
    ) -> None:
        self.desk = desk
        self.feed = feed
        self.sign_in = sign_in
        self.step_minutes = step_minutes
        self.alarm_minutes = alarm_minutes
        self.assets = Assets()
        self._looks = ExpensiveReads(PLACES)
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {
            "states": words.STATES,
            "steps": words.STEPS,
            "step_word": words.step_word,
            "done_words": words.SAID,
            "happened": words.HAPPENED,
            "closed_words": words.CLOSED,
            "fields": words.FIELDS,
            "transitions": TRANSITIONS,
        }

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The clinic's time zone."""
        return self.desk.zone

    def now(self) -> datetime.datetime:
        """Return the clinic's wall-clock time."""
        return utc_now().astimezone(self.zone).replace(tzinfo=None)

    async def look(self, date: datetime.date) -> Look:
        """Return a day as it stands in the book now.

        When something happens, all screens ask for the same at once: one look serves them all.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        return await self._looks.read(date, partial(self._look, date))

    async def _look(self, date: datetime.date) -> Look:
        # Before the day is read: what happens meanwhile is told of twice, and nothing is missed.
        position = await self.feed.position()
        return Look(position, await self.desk.day(date))

    def render(self, request: Request, template: str, **values: Any) -> str:
        """Return a page in the language of a request."""
        language = language_of(request)
        root: str = request.scope.get("root_path", "")
        names = self.assets.names
        return self._environment.get_template(template).render(
            _=language.text,
            n_=language.count,
            language=language,
            languages=LANGUAGES.values(),
            root=root,
            asset=lambda name: f"{root}/static/{names[name]}",
            now=self.now(),
            state_texts={one: language.text(text) for one, text in words.STATES.items()},
            step_texts={one: language.text(text) for one, text in words.STEPS.items()},
            here=here(request),
            signed_in=is_signed_in(request),
            **values,
        )

    def show(
        self,
        request: Request,
        template: str,
        status: int = HTTPStatus.OK,
        **values: Any,
    ) -> Response:
        """Return the answer that shows a page."""
        content = self.render(request, template, **values).encode()
        headers = dict(HEADERS)
        if len(content) >= LEAST_COMPRESSED and takes_gzip(request):
            content = gzip.compress(content, LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return Response(content, status, headers=headers, media_type="text/html")


def is_signed_in(request: Request) -> bool:
    """Tell whether somebody with a token asks; of what was refused early nobody knows."""
    caller: Caller | None = request.scope.get(CALLER)
    return caller is not None and caller.known and caller.name != ANONYMOUS


def here(request: Request) -> str:
    """Return the path and query of a request, without what the path begins with at a proxy."""
    root: str = request.scope.get("root_path", "")
    path: str = request.scope["path"].removeprefix(root)
    query: str = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def local(path: str | None) -> str:
    """Return a path if it leads to a page of the clinic, else that of today.

    It may come from a form: what begins with two slashes, say, leads to another site.
    """
    if not path or not path.startswith("/") or path.startswith("//"):
        return "/"
    return path if path.isprintable() and "\\" not in path else "/"


def go(path: str | None) -> Response:
    """Return the answer after which a browser gets a page, one of the clinic's own only."""
    return RedirectResponse(local(path), HTTPStatus.SEE_OTHER, headers=HEADERS)
