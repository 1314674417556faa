"""The numbers over a range of days, all from one state of the database, so that they add up."""

from typing import get_args

from clinic.analytics.queries import (
    FIRST_DAY,
    LAST_DAY,
    Days,
    select_booked_per_day,
    select_booked_per_hour_of_week,
    select_booked_per_office,
    select_lead_minutes,
    select_occupied_per_doctor,
    select_occupied_per_office,
    select_standing,
    select_totals,
)
from clinic.database import Database, Row, as_day
from clinic.events import EventType, Status

# What each type of event is counted as.
TOTALS = {name: name.removeprefix("appointment.") for name in get_args(EventType)}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


async def report(database: Database, days: Days, opening_minutes: int) -> dict[str, object]:
    """Return the numbers as ``GET /analytics`` gives them.

    What happened (``totals``, ``booked_per_...``, lead time) counts on the day for which the
    appointment stood in the book right after; how appointments stand (``appointments``, rates,
    utilisation) on the day for which they stand there now. Days are those of the clinic's clocks;
    days, offices, doctors and hours without any are left out. Offices and doctors have the names
    that they have now.

    ``opening_minutes`` is how long the clinic is open on a day.
    """
    async with database.snapshot() as connection:
        totals = await select_totals(connection, days)
        per_day = await select_booked_per_day(connection, days)
        per_office = await select_booked_per_office(connection, days)
        per_hour = await select_booked_per_hour_of_week(connection, days)
        lead = await select_lead_minutes(connection, days)
        standing = await select_standing(connection, days)
        per_office_occupied = await select_occupied_per_office(connection, days)
        per_doctor_occupied = await select_occupied_per_doctor(connection, days)
    counted = dict.fromkeys(TOTALS.values(), 0)
    counted |= {TOTALS[row["type"]]: row["events"] for row in totals if row["type"] in TOTALS}
    stand = dict.fromkeys(get_args(Status), 0)
    stand |= {row["status"]: row["appointments"] for row in standing}
    came = stand["arrived"] + stand["in_room"] + stand["done"]
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
        "appointments": stand,
        # Of those whose patients were to have come by now.
        "no_show_rate": share(stand["no_show"], stand["no_show"] + came),
        "cancellation_rate": share(stand["cancelled"], sum(stand.values())),
        "utilisation_per_office": [
            {"office_number": row["office_number"], **utilisation(row, opening_minutes)}
            for row in per_office_occupied
        ],
        "utilisation_per_doctor": [
            {"doctor_name": row["doctor_name"], **utilisation(row, opening_minutes)}
            for row in per_doctor_occupied
        ],
    }


def utilisation(row: Row, opening_minutes: int) -> dict[str, object]:
    """Return the share of the opening hours in use, on those days that have any appointment.

    More than 1 where appointments lie over each other, or outside of the opening hours.
    """
    return {
        "minutes": row["minutes"],
        "days": row["days"],
        "utilisation": share(row["minutes"], row["days"] * opening_minutes),
    }


def share(part: int, whole: int) -> float | None:
    """Return a part of a whole as a fraction, or None if there is no whole."""
    return round(part / whole, 4) if whole else None
