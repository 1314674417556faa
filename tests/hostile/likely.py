"""Hooks for schemathesis: what the description cannot say, so that some bookings are made."""

import zlib
from datetime import datetime, timedelta
from typing import Any

import schemathesis
from schemathesis import Case, HookContext

FIRST = datetime(2027, 1, 4, 8)
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
    if number % 4 == 0:
        return
    case.headers.pop("If-Match", None)
    if isinstance(case.body, dict) and "date_time" in case.body:
        time = FIRST + STEP * (number % STEPS)
        case.body = case.body | {
            "date_time": time.isoformat(),
            "office_number": f"likely {number % OFFICES}",
        }
        case.body.pop("appointment_datetime", None)
