"""Analytics over HTTP."""

import datetime
import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clinic.analytics.queries import FIRST_DAY, LAST_DAY, Days
from clinic.analytics.report import report
from clinic.database import Database
from clinic.web.problems import invalid
from clinic.web.reading import read_query


def analytics_routes(database: Database) -> list[Route]:
    """Return the routes of analytics."""

    async def show(request: Request) -> Response:
        return JSONResponse(await report(database, read_days(request)))

    return [Route("/analytics", show), Route("/analytics/", show)]


def read_days(request: Request) -> Days:
    """Return the range of days that ``from`` and ``to`` name; either end may be left open.

    Raises:
        Problem: a parameter is unknown or no day, or the range ends before it begins.
    """
    sent = read_query(request, ("from", "to"))
    errors = [
        {"pointer": f"#/{name}", "detail": "must be a day such as 2025-12-01"}
        for name, text in sent.items()
        if _read_day(text) is None
    ]
    if errors:
        raise invalid(errors)
    first = _read_day(sent["from"]) if "from" in sent else None
    last = _read_day(sent["to"]) if "to" in sent else None
    days = Days(first or FIRST_DAY, last or LAST_DAY)
    if days.first > days.last:
        raise invalid([{"pointer": "#/to", "detail": "must not be before from"}])
    return days


def _read_day(text: str) -> datetime.date | None:
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None
