"""Change an appointment: move it, correct it, say what became of it; each with its events."""

import dataclasses
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clinic.appointments.appointment import (
    TRANSITIONS,
    Appointment,
    IllegalTransition,
    NoSuchAppointment,
    Stale,
)
from clinic.appointments.availability import TAKEN
from clinic.appointments.queries import (
    lock_offices_and_doctors,
    select_for_change,
    update_appointment,
)
from clinic.appointments.wall_clock import end_of
from clinic.database import Database, StatementRefused, utc_now
from clinic.events import EventType, Status, tell
from clinic.messaging.outbox import Outbox

REACHED: dict[Status, EventType] = {
    "booked": "appointment.reopened",
    "arrived": "appointment.arrived",
    "done": "appointment.done",
    "no_show": "appointment.no_show",
    "cancelled": "appointment.cancelled",
}

Precondition = Callable[[int], bool]
"""Says of a version whether the client may change the appointment in it."""


@dataclass(frozen=True)
class Change:
    """What is to become of an appointment.

    ``fields`` are new values of ``patient_name``, ``office_number``, ``doctor_name``, ``date_time``
    and ``duration_minutes``; those that are not in it stay as they are, and so does a ``status``
    of None. ``override_reason`` says why to move it over others on purpose.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    status: Status | None = None
    override_reason: str | None = None


class Conflicting(Exception):
    """What an appointment was to become overlaps others; which ones is for the desk to find out."""

    def __init__(self, target: Appointment) -> None:
        super().__init__()
        self.target = target


async def change_appointment(  # noqa: PLR0913 - what it works with, and what it works on
    database: Database,
    outbox: Outbox,
    zone: zoneinfo.ZoneInfo,
    *,
    appointment_id: int,
    wanted: Change,
    precondition: Precondition,
) -> Appointment:
    """Change an appointment in one transaction; see ``Desk.change``.

    Raises:
        Conflicting: it would overlap others.
    """
    target: Appointment | None = None
    try:
        async with database.transaction() as connection:
            current = await select_for_change(connection, appointment_id)
            if current is None:
                raise NoSuchAppointment
            if not precondition(current.version):
                raise Stale
            happened = list(steps(current, wanted, zone))
            if not happened:
                return current
            target = happened[-1][1]
            if _occupies_anew(current, target):
                await lock_offices_and_doctors(connection, [current.occupancy, target.occupancy])
            await update_appointment(connection, target)
            now = utc_now()
            events = [tell(kind, made.facts(zone.key), now) for kind, made in happened]
            await outbox.append(connection, [event.message() for event in events])
    except StatementRefused as error:
        if target is None or error.constraint not in TAKEN:
            raise
        raise Conflicting(target) from None
    return target


def steps(
    current: Appointment, wanted: Change, zone: zoneinfo.ZoneInfo
) -> Iterator[tuple[EventType, Appointment]]:
    """Yield what happens to an appointment on its way to what is wanted, one version each.

    Raises:
        IllegalTransition: its status cannot become the one wanted.
    """
    status = wanted.status or current.status
    if status != current.status and status not in TRANSITIONS[current.status]:
        raise IllegalTransition(current.status, status)
    fields: tuple[tuple[EventType, tuple[str, ...]], ...] = (
        ("appointment.renamed", ("patient_name",)),
        ("appointment.reassigned", ("doctor_name",)),
        ("appointment.rescheduled", ("office_number", "date_time", "duration_minutes", "end_time")),
        (REACHED[status], ("status",)),
    )
    target = dataclasses.replace(current, status=status, **wanted.fields)
    if (target.date_time, target.duration_minutes) != (current.date_time, current.duration_minutes):
        ends = end_of(target.date_time, target.duration_minutes, zone)
        target = dataclasses.replace(target, end_time=ends)
    if _occupies_anew(current, target):
        target = dataclasses.replace(target, override_reason=wanted.override_reason)
    for kind, names in fields:
        new = {name: getattr(target, name) for name in names}
        if any(getattr(current, name) != value for name, value in new.items()):
            current = dataclasses.replace(
                current,
                version=current.version + 1,
                override_reason=target.override_reason,
                **new,
            )
            yield kind, current


def _occupies_anew(current: Appointment, target: Appointment) -> bool:
    """Tell whether the schema will judge it anew: an override counts for what it was given for."""
    reopened = current.status == "cancelled" and target.status != "cancelled"
    return reopened or current.occupancy != target.occupancy
