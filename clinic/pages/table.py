"""Which page is at which address.

Pages stand in a table of their own and not in that of the API: they have no description, and are
neither in ``/openapi.json`` nor in ``/docs``.
"""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from clinic.database import OutcomeUnknown
from clinic.pages import booking, card, day_page, finding, refusing, signing_in
from clinic.pages.front import Front
from clinic.supervisor import Unavailable
from clinic.web.callers import NoToken, Permission
from clinic.web.endpoints import Guard
from clinic.web.problems import route_of
from clinic.web.refusals import (
    MaybeDone,
    NoSuchMethod,
    NotNow,
    OurFault,
    Refusal,
    WrongFields,
    wrong_fields,
)

log = logging.getLogger(__name__)

# A page says by itself which of them it has: what is refused is a page, too.
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Page:
    """One method on one path, which is the same with and without a final slash."""

    method: str
    path: str
    handler: Callable[[Front, Request], Awaitable[Response]]
    needs: Permission = Permission.DESK
    audited: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return f"page {self.path}"


PAGES = (
    Page("GET", "/", day_page.show_today),
    Page("GET", "/day", day_page.jump),
    Page("GET", "/day/{day}", day_page.show_day),
    Page("POST", "/step", day_page.step),
    Page("GET", "/new", booking.form),
    Page("POST", "/new", booking.book),
    Page("GET", "/find", finding.find),
    Page("GET", "/card/{id}", card.show),
    Page("POST", "/card/{id}", card.change),
    Page("POST", "/card/{id}/move", card.move),
    Page("GET", "/news", day_page.news, Permission.READ),
    Page("GET", "/sign-in", signing_in.form, Permission.OPEN),
    Page("POST", "/sign-in", signing_in.sign_in, Permission.OPEN),
    Page("POST", "/sign-out", signing_in.sign_out, Permission.OPEN),
    Page("POST", "/language", day_page.choose_language, Permission.OPEN),
    Page("GET", "/static/{name}", day_page.asset, Permission.OPEN),
)


def routes(front: Front, guard: Guard) -> list[Route]:
    """Return the routes of the pages, to which the ``guard`` lets requests in."""
    by_path: defaultdict[str, dict[str, Page]] = defaultdict(dict)
    for page in PAGES:
        by_path[page.path][page.method] = page
    return [
        Route(path + slash, _answering(pages, front, guard), methods=METHODS)
        for path, pages in by_path.items()
        for slash in ("", "/")
        if path != "/" or not slash
    ]


def _answering(
    pages: Mapping[str, Page], front: Front, guard: Guard
) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers all methods on a path; HEAD is answered as GET is, without the body."""

    async def answer(request: Request) -> Response:
        page = pages.get("GET" if request.method == "HEAD" else request.method)
        if page is None:
            refused = NoSuchMethod(request.method, ", ".join(pages))
            return refusing.page(front, request, refused)
        try:
            await guard(page, request)
            return await page.handler(front, request)
        except NoToken:
            return signing_in.ask(request)
        except ClientDisconnect:
            raise  # there is nobody to show a page to
        except Exception as error:  # noqa: BLE001 - each is told of by a page
            return refusing.page(front, request, _refusal(request, error))

    return answer


def _refusal(request: Request, error: Exception) -> Refusal:
    """Return the refusal that tells of an exception; one that nobody foresaw is logged."""
    match error:
        case Refusal():
            return error
        case ValidationError():
            return WrongFields(wrong_fields(error))
        case OutcomeUnknown():
            return MaybeDone()
        case Unavailable():
            return NotNow()
        case _:
            log.error("%s %s failed", request.method, route_of(request), exc_info=error)
            return OurFault()
