"""Analytics over HTTP."""

from dataclasses import dataclass, field
from functools import partial
from typing import get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clinic.analytics.queries import FIRST_DAY, LAST_DAY, Days
from clinic.analytics.report import TOTALS, WEEKDAYS, report
from clinic.database import Database, ExpensiveReads
from clinic.events import Status
from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Content, Endpoint, Schema
from clinic.web.reading import JSON, DayRange
from clinic.web.refusals import NotNow


@dataclass(frozen=True)
class Analytics:
    """What the clinic has learned; ``opening_minutes`` is how long it is open on a day."""

    database: Database
    opening_minutes: int
    # A report over many events keeps a core busy for seconds, and bookings need it, too.
    _reads: ExpensiveReads = field(default_factory=lambda: ExpensiveReads(places=1, rest=1.0))

    async def report(self, days: Days) -> dict[str, object]:
        """Return the numbers over a range of days.

        Raises:
            Crowded: too many ask for them.
            DatabaseUnavailable: the database cannot do it now.
        """
        ask = partial(report, self.database, days, self.opening_minutes)
        return await self._reads.read(days, ask)


async def show(analytics: Analytics, request: Request) -> Response:
    """Answer with the numbers over the days that the query names."""
    wanted = DayRange.of(request)
    days = Days(wanted.first_day or FIRST_DAY, wanted.last_day or LAST_DAY)
    return JSONResponse(await analytics.report(days))


COUNT: Schema = {"type": "integer", "minimum": 0}
DAY: Schema = {"type": ["string", "null"], "format": "date"}
SHARE: Schema = {
    "description": "A part of a whole, as a fraction; null if there is no whole.",
    "type": ["number", "null"],
    "minimum": 0,
}


def counts(*names: str) -> Schema:
    """Return the schema of an object that has a number for each name."""
    return {
        "type": "object",
        "properties": dict.fromkeys(names, COUNT),
        "required": list(names),
    }


def rows(**columns: Schema) -> Schema:
    """Return the schema of a list of objects with these members."""
    row = {"type": "object", "properties": columns, "required": list(columns)}
    return {"type": "array", "items": row}


UTILISATION = {"minutes": COUNT, "days": COUNT, "utilisation": SHARE}
MEMBERS: dict[str, Schema] = {
    "from": DAY,
    "to": DAY,
    "totals": counts(*TOTALS.values()),
    "booked_per_day": rows(day={"type": "string", "format": "date"}, booked=COUNT),
    "booked_per_office": rows(office_number={"type": "string"}, booked=COUNT),
    "booked_per_hour_of_week": rows(
        weekday={"type": "string", "enum": list(WEEKDAYS)},
        hour={"type": "integer", "minimum": 0, "maximum": 23},
        booked=COUNT,
    ),
    "lead_time_minutes": {
        "type": "object",
        "properties": {name: {"type": ["number", "null"]} for name in ("median", "p90")},
    },
    "appointments": counts(*get_args(Status)),
    "no_show_rate": SHARE,
    "cancellation_rate": SHARE,
    "utilisation_per_office": rows(office_number={"type": "string"}, **UTILISATION),
    "utilisation_per_doctor": rows(doctor_name={"type": "string"}, **UTILISATION),
}
REPORT: Schema = {
    "description": "The numbers over a range of days; more may come to stand here.",
    "type": "object",
    "properties": MEMBERS,
    "required": ["from", "to", "totals"],
    "additionalProperties": True,
}
EXAMPLE = {
    "from": "2027-12-01",
    "to": "2027-12-31",
    "totals": dict.fromkeys(TOTALS.values(), 0) | {"booked": 1},
    "booked_per_day": [{"day": "2027-12-01", "booked": 1}],
    "booked_per_office": [{"office_number": "221B", "booked": 1}],
    "booked_per_hour_of_week": [{"weekday": "wednesday", "hour": 15, "booked": 1}],
    "lead_time_minutes": {"median": 16230, "p90": 16230},
    "appointments": dict.fromkeys(get_args(Status), 0) | {"booked": 1},
    "no_show_rate": None,
    "cancellation_rate": 0.0,
    "utilisation_per_office": [
        {"office_number": "221B", "minutes": 15, "days": 1, "utilisation": 0.0313}
    ],
    "utilisation_per_doctor": [],
}

ENDPOINTS: tuple[Endpoint[Analytics], ...] = (
    Endpoint(
        method="GET",
        path="/analytics",
        handler=show,
        needs=Permission.READ,
        expensive=True,
        name="analytics",
        group="Analytics",
        summary="Get analytics",
        text="What happened counts on the day of the appointment at that time; how appointments "
        "stand, on the day for which they stand in the book now. from and to are both included; "
        "either may be left out.",
        query=DayRange,
        queries=[{"from": "2027-12-01", "to": "2027-12-31"}],
        answers=[
            Answer(text="The numbers.", contents={JSON: Content(REPORT, {"report": EXAMPLE})})
        ],
        refusals=[NotNow],
    ),
)
