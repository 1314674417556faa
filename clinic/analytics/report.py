"""The numbers over a range of days, all from one state of the database, so that they add up."""

from clinic.analytics.queries import (
    FIRST_DAY,
    LAST_DAY,
    Days,
    select_booked_per_day,
    select_booked_per_hour_of_week,
    select_booked_per_office,
    select_lead_minutes,
    select_totals,
)
from clinic.database import Database, as_day

# What each type of event is counted as.
TOTALS = {"appointment.booked": "booked"}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


async def report(database: Database, days: Days) -> dict[str, object]:
    """Return the numbers as ``GET /analytics`` gives them.

    A booking counts on the day of its appointment, on the clinic's clocks. Days, offices and hours
    without any are left out.
    """
    async with database.snapshot() as connection:
        totals = await select_totals(connection, days)
        per_day = await select_booked_per_day(connection, days)
        per_office = await select_booked_per_office(connection, days)
        per_hour = await select_booked_per_hour_of_week(connection, days)
        lead = await select_lead_minutes(connection, days)
    counted = dict.fromkeys(TOTALS.values(), 0)
    counted |= {TOTALS[row["type"]]: row["events"] for row in totals if row["type"] in TOTALS}
    return {
        "from": None if days.first == FIRST_DAY else days.first.isoformat(),
        "to": None if days.last == LAST_DAY else days.last.isoformat(),
        "totals": counted,
        "booked_per_day": [
            {"day": as_day(row["day"]).isoformat(), "booked": row["booked"]} for row in per_day
        ],
        "booked_per_office": [
            {"office_number": row["office_number"], "booked": row["booked"]} for row in per_office
        ],
        "booked_per_hour_of_week": [
            {
                "weekday": WEEKDAYS[row["hour_of_week"] // 24],
                "hour": row["hour_of_week"] % 24,
                "booked": row["booked"],
            }
            for row in per_hour
        ],
        "lead_time_minutes": {"median": lead["median"], "p90": lead["p90"]},
    }
