"""Analytics over HTTP."""

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clinic.analytics.queries import FIRST_DAY, LAST_DAY, Days
from clinic.analytics.report import report
from clinic.database import Database, ExpensiveReads
from clinic.web.leaving import ends_with_client
from clinic.web.reading import DayRange


def analytics_routes(database: Database, opening_minutes: int) -> list[Route]:
    """Return the routes of analytics; ``opening_minutes`` is how long a day's opening hours are."""
    # A report over many events keeps a core busy for seconds, and bookings need it, too.
    reads = ExpensiveReads(places=1, rest=1.0)

    async def show(request: Request) -> Response:
        wanted = DayRange.of(request)
        days = Days(wanted.first_day or FIRST_DAY, wanted.last_day or LAST_DAY)
        found = await reads.read(days, partial(report, database, days, opening_minutes))
        return JSONResponse(found)

    answer = ends_with_client(show)
    return [Route("/analytics", answer), Route("/analytics/", answer)]
