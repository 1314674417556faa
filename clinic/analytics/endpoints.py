"""Analytics over HTTP."""

from dataclasses import dataclass, field
from functools import partial
from typing import get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clinic.analytics.counting import Counting
from clinic.analytics.queries import FIRST_DAY, LAST_DAY, Days
from clinic.analytics.report import TOTALS, WEEKDAYS, report
from clinic.database import Database, DatabaseUnavailable, ExpensiveReads, SchemaUnfit
from clinic.events import Status
from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Content, Endpoint, Schema
from clinic.web.reading import JSON, DayRange
from clinic.web.refusals import NotNow


@dataclass(frozen=True)
class Analytics:
    """What the clinic has learned."""

    database: Database
    counting: Counting
    # A long range over many offices and doctors takes longer than other requests.
    _reads: ExpensiveReads = field(default_factory=lambda: ExpensiveReads(places=1, rest=1.0))

    async def report(self, days: Days) -> dict[str, object]:
        """Return the numbers over a range of days.

        Raises:
            Crowded: too many ask for them.
            DatabaseUnavailable: the database cannot do it now.
        """
        return await self._reads.read(days, partial(self._read, days))

    async def _read(self, days: Days) -> dict[str, object]:
        try:
            await self.counting.catch_up(days)
        except SchemaUnfit:
            raise
        except DatabaseUnavailable:
            # A database that can only be read answers with what was counted before.
            pass
        return await report(self.database, days)


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


PERCENTILES: dict[str, Schema] = {name: {"type": ["number", "null"]} for name in ("median", "p90")}
ROUNDED = (
    "The median and the 90th percentile, by nearest rank: exact below 128 minutes, and from there "
    "on with an error of less than 1 %; null if there is nothing. "
)
WAITING: Schema = {
    "description": ROUNDED + "A patient who was called in has waited from their arrival until they "
    "stood as in_room, or as done where that came next; until then they are not counted.",
    "type": "object",
    "properties": PERCENTILES,
}
UTILISATION: dict[str, Schema] = {
    "minutes": {
        "description": "How long its appointments last, without cancelled ones and no-shows.",
        "type": "integer",
        "minimum": 0,
    },
    "days": {
        "description": "On how many days any of them begins.",
        "type": "integer",
        "minimum": 0,
    },
    "utilisation": {
        "description": "minutes_in_hours as a part of minutes_open, from 0 to 1; null if it is "
        "open on none of these days.",
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 1,
    },
    "minutes_open": {
        "description": "How long it is open on these days: its weekly hours and those of the "
        "clinic, without closures and with openings, as they are set now; where the clinic has no "
        "weekly hours, CLINIC_HOURS. A doctor is open in whatever office.",
        "type": "integer",
        "minimum": 0,
    },
    "minutes_in_hours": {
        "description": "How many of the minutes lie in these hours, without overrides.",
        "type": "integer",
        "minimum": 0,
    },
    "overbooked_minutes": {
        "description": "How many of the minutes are of overrides.",
        "type": "integer",
        "minimum": 0,
    },
}
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
        "description": ROUNDED + "For how long before their appointments bookings were made; "
        "negative for what was entered afterwards.",
        "type": "object",
        "properties": PERCENTILES,
    },
    "appointments": counts(*get_args(Status)),
    "no_show_rate": SHARE,
    "cancellation_rate": SHARE,
    "waiting_time_minutes": WAITING,
    "waiting_time_per_doctor": rows(
        doctor_name={"type": "string"}, appointments=COUNT, **PERCENTILES
    ),
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
    "waiting_time_minutes": {"median": None, "p90": None},
    "waiting_time_per_doctor": [],
    "utilisation_per_office": [
        {
            "office_number": "221B",
            "minutes": 15,
            "days": 1,
            "utilisation": 0.0208,
            "minutes_open": 720,
            "minutes_in_hours": 15,
            "overbooked_minutes": 0,
        }
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
        "either may be left out. All is read from counts that are kept up to date, so that a long "
        "range takes little longer than a short one.",
        query=DayRange,
        queries=[{"from": "2027-12-01", "to": "2027-12-31"}],
        answers=[
            Answer(text="The numbers.", contents={JSON: Content(REPORT, {"report": EXAMPLE})})
        ],
        refusals=[NotNow],
    ),
)
