"""What analytics over HTTP is, described."""

from http import HTTPStatus
from typing import get_args

from clinic.analytics.report import TOTALS, WEEKDAYS
from clinic.events import Status
from clinic.web.description import Answer, Content, Operation, Schema
from clinic.web.mishaps import UNAVAILABLE
from clinic.web.reading import JSON, DayRange

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

OPERATIONS = (
    Operation(
        name="analytics",
        group="Analytics",
        method="GET",
        path="/analytics",
        summary="Count",
        text="What happened counts on the day of the appointment at that time; how appointments "
        "stand, on the day for which they stand in the book now. from and to are both included; "
        "either may be left out.",
        query=DayRange,
        queries=[{"from": "2027-12-01", "to": "2027-12-31"}],
        answers=[
            Answer(
                status=HTTPStatus.OK,
                text="The numbers.",
                contents={JSON: Content(REPORT, {"report": EXAMPLE})},
            )
        ],
        problems=[UNAVAILABLE],
    ),
)
