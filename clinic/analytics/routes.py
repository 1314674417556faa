"""Analytics over HTTP."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clinic.analytics.queries import FIRST_DAY, LAST_DAY, Days
from clinic.analytics.report import report
from clinic.database import Database
from clinic.web.reading import DayRange


def analytics_routes(database: Database, opening_minutes: int) -> list[Route]:
    """Return the routes of analytics; ``opening_minutes`` is how long a day's opening hours are."""

    async def show(request: Request) -> Response:
        wanted = DayRange.of(request)
        days = Days(wanted.first_day or FIRST_DAY, wanted.last_day or LAST_DAY)
        return JSONResponse(await report(database, days, opening_minutes))

    return [Route("/analytics", show), Route("/analytics/", show)]
