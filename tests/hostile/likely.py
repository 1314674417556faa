"""Hooks for schemathesis: what the description cannot say, so that some bookings are made."""

import zlib
from datetime import datetime, timedelta
from typing import Any

import schemathesis
from schemathesis import Case, HookContext

FIRST = datetime(2027, 1, 4, 8)
LONG_AGO, LONG_DAYS = datetime(1901, 1, 1), 36_500
STEP = timedelta(minutes=5)
STEPS = 100_000
OFFICES = 20


@schemathesis.hook  # type: ignore[untyped-decorator]
def before_call(_context: HookContext, case: Case, _options: dict[str, Any]) -> None:
    """Turn three of four bodies that fit the schema into ones that fit the calendar, too.

    A pattern admits 0000-02-31, and draws it; an ETag that is made up is always stale.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    number = zlib.crc32(repr((case.body, dict(case.headers))).encode())
    if isinstance(case.body, dict):
        case.body = never_closing(case.body, number)
    if number % 4 == 0:
        return
    case.headers.pop("If-Match", None)
    if isinstance(case.body, dict) and "date_time" in case.body:
        time = FIRST + STEP * (number % STEPS)
        case.body = case.body | {
            "date_time": time.isoformat(),
            "office_number": f"likely {number % OFFICES}",
        }
        # Types, and most doctors, are made up, too.
        for name in ("appointment_datetime", "appointment_type"):
            case.body.pop(name, None)


def never_closing(body: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a body whose closures and hours are over: else nothing could be booked any more."""
    if {"begins", "ends"} <= body.keys():
        time = LONG_AGO + STEP * (number % STEPS)
        return body | {"begins": time.isoformat(), "ends": (time + STEP).isoformat()}
    if "week" in body:
        last = LONG_AGO.date() + timedelta(days=number % LONG_DAYS)
        return body | {"valid_from": None, "valid_until": last.isoformat()}
    return body
