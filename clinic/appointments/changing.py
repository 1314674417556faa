"""Change an appointment: move it, correct it, say what became of it; each with its events."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

from clinic.appointments.appointment import (
    MOVES,
    Appointment,
    IllegalMove,
    NoSuchAppointment,
    Stale,
)
from clinic.appointments.desk import Desk
from clinic.appointments.occupancy import TAKEN, occupied_by
from clinic.appointments.queries import lock_places, select_for_change, update_appointment
from clinic.appointments.requests import Change
from clinic.database import StatementRefused, again_if_lost
from clinic.events import EventType, Status

REACHED: dict[Status, EventType] = {
    "booked": "appointment.reopened",
    "arrived": "appointment.arrived",
    "done": "appointment.done",
    "no_show": "appointment.no_show",
    "cancelled": "appointment.cancelled",
}

Precondition = Callable[[int], bool]
"""Says of a version whether it is one that the client has seen."""


async def change(
    desk: Desk, appointment_id: int, wanted: Change, precondition: Precondition
) -> Appointment:
    """Change an appointment, and tell of it: all of it or nothing.

    What is so already is no change, and nothing is told.

    Raises:
        NoSuchAppointment: there is none with this id.
        Stale: its version is none that the client has seen.
        IllegalMove: its status cannot become the one wanted.
        SlotTaken: the office or the doctor is taken at the time wanted.
        DatabaseUnavailable: the database cannot do it now.
    """
    return await again_if_lost(partial(_change, desk, appointment_id, wanted, precondition))


async def _change(
    desk: Desk, appointment_id: int, wanted: Change, precondition: Precondition
) -> Appointment:
    changed: Appointment | None = None
    try:
        async with desk.database.transaction() as connection:
            current = await select_for_change(connection, appointment_id)
            if current is None:
                raise NoSuchAppointment
            if not precondition(current.version):
                raise Stale
            happened = list(steps(current, wanted))
            if not happened:
                return current
            changed = happened[-1][1]
            if _takes_up_time_anew(current, changed):
                await lock_places(connection, [occupied_by(current), occupied_by(changed)])
            await update_appointment(connection, changed)
            await desk.tell(connection, happened)
    except StatementRefused as error:
        if changed is None or error.constraint not in TAKEN:
            raise
        raise await desk.refuse(occupied_by(changed), besides=appointment_id) from None
    return changed


def steps(current: Appointment, wanted: Change) -> Iterator[tuple[EventType, Appointment]]:
    """Yield what happens to an appointment on its way to what is wanted, one version each.

    Raises:
        IllegalMove: its status cannot become the one wanted.
    """
    given = wanted.given()
    status: Status = given.pop("status", current.status)
    if status != current.status and status not in MOVES[current.status]:
        raise IllegalMove(current.status, status)
    fields: tuple[tuple[EventType, tuple[str, ...]], ...] = (
        ("appointment.renamed", ("patient_name",)),
        ("appointment.reassigned", ("doctor_name",)),
        ("appointment.rescheduled", ("office_number", "date_time", "duration_minutes")),
        (REACHED[status], ("status",)),
    )
    target = dataclasses.replace(current, status=status, **given)
    if _takes_up_time_anew(current, target):
        target = dataclasses.replace(target, override_reason=wanted.reason)
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


def _takes_up_time_anew(current: Appointment, target: Appointment) -> bool:
    """Tell whether the schema will judge it anew: an override counts for what it was given for."""
    reopened = current.status == "cancelled" and target.status != "cancelled"
    return reopened or occupied_by(current) != occupied_by(target)
