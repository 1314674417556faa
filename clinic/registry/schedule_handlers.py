"""The schedule and the appointment types over HTTP: names become ids, and ids names."""

import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from clinic.database import wall_clock_text
from clinic.registry.memory import Memory
from clinic.registry.records import AppointmentType, Kind, NoSuchRecord, NotRegistered
from clinic.registry.registry import Registry
from clinic.registry.schedule import Schedule, Standing
from clinic.registry.schedule_requests import (
    WEEKDAYS,
    Closure,
    HoursChange,
    HoursOfDay,
    NewType,
    Opening,
    TypeChange,
    WeeklyHours,
    time_text,
)
from clinic.registry.timetable import Exceptional, Hours, Place, Week
from clinic.registry.types import Types
from clinic.web.reading import CHANGE_TYPES, JSON, read_fields, read_id, read_json_object


@dataclass(frozen=True)
class Scheduling:
    """What the handlers work with."""

    schedule: Schedule
    types: Types
    registry: Registry
    memory: Memory
    zone: zoneinfo.ZoneInfo

    async def names(self) -> dict[int, str]:
        """Return the names of all offices and doctors by their ids."""
        found = [*await self.registry.all("office"), *await self.registry.all("doctor")]
        return {one.id: one.name for one in found}

    async def id_of(self, kind: Kind, name: str | None) -> int | None:
        """Return the id of an office or a doctor; None for None.

        Raises:
            NotRegistered: there is none of this name.
        """
        if name is None:
            return None
        found = await self.memory.find(kind, name)
        if found is None:
            raise NotRegistered(kind, await self.memory.nearest(kind, name))
        return found.id

    async def place(self, office_number: str | None, doctor_name: str | None) -> Place:
        """Return the place that these name.

        Raises:
            NotRegistered: there is no office or no doctor of this name.
        """
        return Place(
            await self.id_of("office", office_number), await self.id_of("doctor", doctor_name)
        )

    async def ids_of(self, kind: Kind, names: Sequence[str] | None) -> frozenset[int] | None:
        """Return the ids of offices or doctors; None for None.

        Raises:
            NotRegistered: there is none of one of the names.
        """
        if names is None:
            return None
        found = [await self.id_of(kind, name) for name in names]
        return frozenset(one for one in found if one is not None)


def shown(value: object, status: HTTPStatus = HTTPStatus.OK, location: str = "") -> Response:
    """Return the response that shows something."""
    headers = {"Location": location} if location else None
    return Response(to_json(value), status, headers, JSON)


def place_record(place: Place, names: Mapping[int, str]) -> dict[str, object]:
    """Return whose something is, as clients know it."""
    return {
        "office_number": None if place.office_id is None else names.get(place.office_id),
        "doctor_name": None if place.doctor_id is None else names.get(place.doctor_id),
    }


def week_record(week: Week, names: Mapping[int, str]) -> dict[str, object]:
    """Return weekly hours as clients know them."""
    return {
        "id": week.id,
        **place_record(week.place, names),
        "valid_from": week.valid_from and week.valid_from.isoformat(),
        "valid_until": week.valid_until and week.valid_until.isoformat(),
        "week": {
            day: [
                {
                    "opens": time_text(one.opens),
                    "closes": time_text(one.closes),
                    "office_number": None if one.office_id is None else names.get(one.office_id),
                }
                for one in hours
            ]
            for day, hours in zip(WEEKDAYS, week.days, strict=True)
        },
    }


def exceptional_record(one: Exceptional, names: Mapping[int, str]) -> dict[str, object]:
    """Return a closure or an opening as clients know it."""
    return {
        "id": one.id,
        **place_record(one.place, names),
        "begins": wall_clock_text(one.begins),
        "ends": wall_clock_text(one.ends),
        "reason": one.reason,
    }


def standing_record(one: Standing) -> dict[str, object]:
    """Return an appointment that stands in a closure; never whose it is."""
    return {
        "id": one.id,
        "version": one.version,
        "status": one.status,
        "office_number": one.office_number,
        "doctor_name": one.doctor_name,
        "date_time": wall_clock_text(one.date_time),
        "end_time": wall_clock_text(one.end_time),
    }


def type_record(kind: AppointmentType, names: Mapping[int, str]) -> dict[str, object]:
    """Return an appointment type as clients know it."""

    def named(ids: frozenset[int] | None) -> list[str] | None:
        return None if ids is None else sorted(names[one] for one in ids if one in names)

    return {
        "id": kind.id,
        "name": kind.name,
        "active": kind.active,
        "duration_minutes": kind.duration_minutes,
        "buffer_before_minutes": kind.buffer_before_minutes,
        "buffer_after_minutes": kind.buffer_after_minutes,
        "colour": kind.colour,
        "offices": named(kind.offices),
        "doctors": named(kind.doctors),
    }


async def list_hours(part: Scheduling, _request: Request) -> Response:
    """List all weekly hours."""
    names = await part.names()
    return shown([week_record(week, names) for week in await part.schedule.weeks()])


async def set_hours(part: Scheduling, request: Request) -> Response:
    """Set weekly hours."""
    sent = read_fields(WeeklyHours, await read_json_object(request), {})
    days = [await hours_of(part, getattr(sent.week, day)) for day in WEEKDAYS]
    place = await part.place(sent.office_number, sent.doctor_name)
    week = Week(0, place, sent.valid_from, sent.valid_until, tuple(days))
    made = await part.schedule.set_week(week)
    record = week_record(made, await part.names())
    return shown(record, HTTPStatus.CREATED, f"/hours/{made.id}")


async def hours_of(part: Scheduling, hours: Sequence[HoursOfDay]) -> tuple[Hours, ...]:
    """Return the hours of a day with the ids of offices."""
    return tuple(
        [
            Hours(one.opens, one.closes, await part.id_of("office", one.office_number))
            for one in hours
        ]
    )


async def change_hours(part: Scheduling, request: Request) -> Response:
    """Let weekly hours end on another day."""
    sent = read_fields(HoursChange, await read_json_object(request, CHANGE_TYPES), {})
    week = await part.schedule.change_week(read_id(request, NoSuchRecord), sent.valid_until)
    return shown(week_record(week, await part.names()))


async def remove_hours(part: Scheduling, request: Request) -> Response:
    """Take weekly hours back."""
    await part.schedule.remove_week(read_id(request, NoSuchRecord))
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def list_closures(part: Scheduling, _request: Request) -> Response:
    """List all closures."""
    return await _list_exceptional(part, opens=False)


async def list_openings(part: Scheduling, _request: Request) -> Response:
    """List all openings."""
    return await _list_exceptional(part, opens=True)


async def _list_exceptional(part: Scheduling, *, opens: bool) -> Response:
    names = await part.names()
    found = await part.schedule.exceptional(opens=opens)
    return shown([exceptional_record(one, names) for one in found])


async def close(part: Scheduling, request: Request) -> Response:
    """Close, and say which appointments stand in the closure."""
    sent = read_fields(Closure, await read_json_object(request), {"zone": part.zone})
    made = await part.schedule.close(await _exceptional(part, sent, opens=False))
    record = exceptional_record(made.closure, await part.names())
    record["appointments"] = [standing_record(one) for one in made.standing]
    record["appointments_count"] = made.standing_count
    return shown(record, HTTPStatus.CREATED, f"/closure/{made.closure.id}")


async def open_up(part: Scheduling, request: Request) -> Response:
    """Open against the weekly hours."""
    sent = read_fields(Opening, await read_json_object(request), {"zone": part.zone})
    made = await part.schedule.open(await _exceptional(part, sent, opens=True))
    record = exceptional_record(made, await part.names())
    return shown(record, HTTPStatus.CREATED, f"/opening/{made.id}")


async def _exceptional(part: Scheduling, sent: Closure | Opening, *, opens: bool) -> Exceptional:
    place = await part.place(sent.office_number, sent.doctor_name)
    return Exceptional(0, place, opens, sent.begins, sent.ends, sent.reason)


async def remove_closure(part: Scheduling, request: Request) -> Response:
    """Take a closure back."""
    await part.schedule.remove_exceptional(read_id(request, NoSuchRecord), opens=False)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def remove_opening(part: Scheduling, request: Request) -> Response:
    """Take an opening back."""
    await part.schedule.remove_exceptional(read_id(request, NoSuchRecord), opens=True)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def list_types(part: Scheduling, _request: Request) -> Response:
    """List all appointment types."""
    names = await part.names()
    return shown([type_record(one, names) for one in await part.types.all()])


async def add_type(part: Scheduling, request: Request) -> Response:
    """Add an appointment type."""
    sent = read_fields(NewType, await read_json_object(request), {})
    made = await part.types.add(
        AppointmentType(
            id=0,
            name=sent.name,
            active=True,
            duration_minutes=sent.duration_minutes,
            buffer_before_minutes=sent.buffer_before_minutes,
            buffer_after_minutes=sent.buffer_after_minutes,
            colour=sent.colour,
            offices=await part.ids_of("office", sent.offices),
            doctors=await part.ids_of("doctor", sent.doctors),
        )
    )
    record = type_record(made, await part.names())
    return shown(record, HTTPStatus.CREATED, f"/appointment-type/{made.id}")


async def show_type(part: Scheduling, request: Request) -> Response:
    """Show an appointment type."""
    found = await part.types.show(read_id(request, NoSuchRecord))
    return shown(type_record(found, await part.names()))


async def change_type(part: Scheduling, request: Request) -> Response:
    """Change an appointment type."""
    sent = read_fields(TypeChange, await read_json_object(request, CHANGE_TYPES), {})
    fields: dict[str, Any] = sent.model_dump(include=sent.model_fields_set)
    if "offices" in fields:
        fields["offices"] = await part.ids_of("office", sent.offices)
    if "doctors" in fields:
        fields["doctors"] = await part.ids_of("doctor", sent.doctors)
    changed = await part.types.change(read_id(request, NoSuchRecord), fields)
    return shown(type_record(changed, await part.names()))
