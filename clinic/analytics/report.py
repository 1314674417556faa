"""The numbers over a range of days, all from one state of the database, so that they add up."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from clinic.analytics.hours import REGISTERED
from clinic.analytics.queries import (
    FIRST_DAY,
    LAST_DAY,
    Days,
    select_booked_per_day,
    select_names,
    select_percentiles,
    select_tallies,
    select_used_days,
    select_uses,
)
from clinic.database import Database, Row, as_day
from clinic.events import EventType, Status

# What each type of event is counted as.
TOTALS = {name: name.removeprefix("appointment.") for name in get_args(EventType)}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# Up to here minutes are counted one by one, and from here on by seven binary digits.
EXACT_MINUTES = 128
UNKNOWN = "="

Named = tuple[int | None, str]
"""What an office or a doctor is now, and is called: no id if the registry does not know it."""


async def report(database: Database, days: Days) -> dict[str, object]:
    """Return the numbers as ``GET /analytics`` gives them, of what is counted by now.

    What happened (``totals``, ``booked_per_...``, lead time) counts on the day for which the
    appointment stood in the book right after; how appointments stand (``appointments``, rates,
    waiting time, utilisation) on the day for which they stand there now. Days are those of the
    clinic's clocks; days, offices, doctors and hours without any are left out. Offices and doctors
    have the names that they have now.
    """
    async with database.snapshot() as connection:
        tallies = await select_tallies(connection, days)
        percentiles = await select_percentiles(connection, days)
        per_day = await select_booked_per_day(connection, days)
        uses = await select_uses(connection, days)
        names = Names(await select_names(connection))
        several = names.of_several(uses)
        used_days = await select_used_days(connection, days, several) if several else []
    counted: dict[str, list[Row]] = defaultdict(list)
    for row in tallies:
        counted[row["measure"]].append(row)
    stand = dict.fromkeys(get_args(Status), 0)
    stand |= {row["key"]: int(row["n"]) for row in counted["status"]}
    came = stand["arrived"] + stand["in_room"] + stand["done"]
    events = {row["key"]: int(row["n"]) for row in counted["event"]}
    measured = {(row["measure"], row["key"]): row for row in percentiles}
    utilised = utilisations(names, uses, used_days)
    return {
        "from": None if days.first == FIRST_DAY else days.first.isoformat(),
        "to": None if days.last == LAST_DAY else days.last.isoformat(),
        "totals": {name: events.get(event, 0) for event, name in TOTALS.items()},
        "booked_per_day": [
            {"day": as_day(row["day"]).isoformat(), "booked": row["booked"]} for row in per_day
        ],
        "booked_per_office": [
            {"office_number": name, "booked": booked}
            for name, booked in booked_per_office(names, uses)
        ],
        "booked_per_hour_of_week": [
            {
                "weekday": WEEKDAYS[row["number"] // 24],
                "hour": row["number"] % 24,
                "booked": int(row["n"]),
            }
            for row in sorted(counted["hour"], key=lambda row: int(row["number"]))
        ],
        "lead_time_minutes": median_and_p90(measured.get(("lead", ""))),
        "appointments": stand,
        # Of those whose patients were to have come by now.
        "no_show_rate": share(stand["no_show"], stand["no_show"] + came),
        "cancellation_rate": share(stand["cancelled"], sum(stand.values())),
        "waiting_time_minutes": median_and_p90(measured.get(("waiting of all", ""))),
        "waiting_time_per_doctor": [
            {"doctor_name": name, "appointments": row["n"], **median_and_p90(row)}
            for name, row in waited_per_doctor(names, percentiles)
        ],
        "utilisation_per_office": [
            {"office_number": name, **used} for name, used in utilised["office"]
        ],
        "utilisation_per_doctor": [
            {"doctor_name": name, **used} for name, used in utilised["doctor"]
        ],
    }


class Names:
    """What offices and doctors are now, and are called.

    One that was merged into another is that other, and one that the registry does not know keeps
    the name that its events told.
    """

    def __init__(self, resources: Iterable[Row]) -> None:
        self._resources = {row["id"]: row for row in resources}

    def of(self, place: str) -> Named:
        """Return what a place of the counts is now."""
        if not place.startswith(REGISTERED):
            return None, place.removeprefix(UNKNOWN)
        row = self._resources[int(place.removeprefix(REGISTERED))]
        while row["merged_into"] is not None:
            row = self._resources[row["merged_into"]]
        return row["id"], row["name"]

    def of_several(self, uses: Iterable[Row]) -> set[str]:
        """Return the places in use of which several are one now."""
        places: dict[tuple[str, Named], set[str]] = defaultdict(set)
        for row in uses:
            places[row["kind"], self.of(row["place"])].add(row["place"])
        return {place for same in places.values() if len(same) > 1 for place in same}


def booked_per_office(names: Names, rows: Iterable[Row]) -> list[tuple[str, int]]:
    """Return the names of offices and how many bookings each has, in order."""
    booked: Counter[Named] = Counter()
    for row in rows:
        if row["booked"]:
            booked[names.of(row["place"])] += row["booked"]
    return sorted((name, number) for (_, name), number in booked.items())


def waited_per_doctor(names: Names, percentiles: Iterable[Row]) -> list[tuple[str, Row]]:
    """Return the names of doctors, and for how long their patients waited, in order."""
    found = [(names.of(row["key"])[1], row) for row in percentiles if row["measure"] == "waiting"]
    return sorted(found, key=lambda one: one[0])


def utilisations(
    names: Names, uses: Iterable[Row], used_days: Iterable[Row]
) -> dict[str, list[tuple[str, dict[str, object]]]]:
    """Return for both kinds the names of those in use, and how they are used, in order.

    ``used_days`` are the days of those of which several are one now: a day counts once.
    """
    used: dict[tuple[str, Named], list[Row]] = defaultdict(list)
    for row in uses:
        if row["appointments"]:
            used[row["kind"], names.of(row["place"])].append(row)
    open_on: dict[tuple[str, Named], dict[object, int]] = defaultdict(dict)
    for row in used_days:
        open_on[row["kind"], names.of(row["place"])][row["day"]] = row["minutes_open"] or 0
    found: dict[str, list[tuple[str, dict[str, object]]]] = {"office": [], "doctor": []}
    for (kind, named), rows in used.items():
        days = open_on.get((kind, named))
        found[kind].append((named[1], utilisation(rows, days)))
    return {kind: sorted(one, key=lambda row: row[0]) for kind, one in found.items()}


def utilisation(rows: Sequence[Row], days: Mapping[object, int] | None) -> dict[str, object]:
    """Return how an office or a doctor is used on those days that have any appointment.

    ``days`` are these with the minutes open, where several have become one. At most 1 is in use:
    more can only be while some event is not known yet that will make room.
    """

    def total(name: str) -> int:
        return sum(row[name] or 0 for row in rows)

    minutes_open = total("minutes_open") if days is None else sum(days.values())
    in_use = share(total("minutes_in_hours"), minutes_open)
    return {
        "minutes": total("minutes"),
        "days": total("days") if days is None else len(days),
        "utilisation": None if in_use is None else min(in_use, 1.0),
        "minutes_open": minutes_open,
        "minutes_in_hours": total("minutes_in_hours"),
        "overbooked_minutes": total("overbooked_minutes"),
    }


def median_and_p90(row: Row | None) -> dict[str, int | None]:
    """Return the median and the 90th percentile; None of nothing."""
    if row is None:
        return {"median": None, "p90": None}
    return {name: middle(row[name]) for name in ("median", "p90")}


def middle(rounded: int) -> int:
    """Return the middle of all minutes that are rounded to these, towards 0."""
    width = 1 << max(0, abs(rounded).bit_length() - EXACT_MINUTES.bit_length() + 1)
    return rounded + (width // 2 if rounded > 0 else -(width // 2))


def share(part: int, whole: int) -> float | None:
    """Return a part of a whole as a fraction, or None if there is no whole."""
    return round(part / whole, 4) if whole else None
