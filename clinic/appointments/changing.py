"""Change an appointment: move it, correct it, say what became of it; each with its events."""

import dataclasses
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clinic.access import audit
from clinic.appointments.appointment import (
    ERASED,
    TRANSITIONS,
    Appointment,
    IllegalTransition,
    NoSuchAppointment,
    Stale,
)
from clinic.appointments.availability import TAKEN, Length
from clinic.appointments.placing import Known, check_offered, closed, find_type, length_of
from clinic.appointments.queries import lock_resources, select_for_change, update_appointment
from clinic.appointments.reasons import insert_reasons
from clinic.database import Connection, Database, StatementRefused, utc_now
from clinic.events import EventType, Status, tell
from clinic.messaging.outbox import Outbox
from clinic.registry.memory import Memory, Rules
from clinic.registry.queries import hold_version, insert_resources
from clinic.registry.records import AppointmentType, NewResource, RegistryChanged
from clinic.registry.timetable import Closed
from clinic.web.refusals import WrongFields

REACHED: dict[Status, EventType] = {
    "booked": "appointment.reopened",
    "arrived": "appointment.arrived",
    "in_room": "appointment.in_room",
    "done": "appointment.done",
    "no_show": "appointment.no_show",
    "cancelled": "appointment.cancelled",
}

# What each kind of event tells of, in the order in which they happen.
FIELDS: tuple[tuple[EventType, tuple[str, ...]], ...] = (
    ("appointment.renamed", ("patient_name",)),
    ("appointment.annotated", ("patient_phone", "note")),
    ("appointment.reassigned", ("doctor_id", "doctor_name")),
    (
        "appointment.rescheduled",
        (
            *("office_id", "office_number", "type_id", "appointment_type", "date_time"),
            *("duration_minutes", "end_time", "occupied_from", "occupied_until"),
        ),
    ),
)

NOT_A_NAME = "stands for a patient who was erased: write a name"

Precondition = Callable[[int], bool]
"""Says of a version whether the client may change the appointment in it."""


@dataclass(frozen=True)
class Change:
    """What is to become of an appointment.

    ``fields`` are new values of ``patient_name``, ``patient_phone``, ``note``, ``office_number``,
    ``doctor_name``, ``appointment_type``, ``date_time`` and ``duration_minutes``; those that are
    not in it stay as they are, and so does a ``status`` of None. ``override_reason`` says why to
    move it over others, or while something is closed, on purpose; ``reason`` says why to change it
    at all, and stays in its history.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    status: Status | None = None
    override_reason: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Meant:
    """What the names in a change stand for, by one version of the registry.

    ``office``, ``doctor`` and ``type`` count where their names are among the fields of the change.
    """

    rules: Rules
    office: Known | None = None
    doctor: Known | None = None
    type: AppointmentType | None = None

    @property
    def new(self) -> tuple[NewResource, ...]:
        """What is to be registered with the change."""
        return tuple(one for one in (self.office, self.doctor) if isinstance(one, NewResource))


class Conflicting(Exception):
    """What an appointment was to become overlaps others, or is while something is ``closed``.

    Which others is for the desk to find out.
    """

    def __init__(self, target: Appointment, length: Length, closed: Sequence[Closed] = ()) -> None:
        super().__init__()
        self.target = target
        self.length = length
        self.closed = closed


async def understand(wanted: Change, memory: Memory, rules: Rules) -> Meant:
    """Return what the names in a change stand for.

    Raises:
        NotInUse, NotRegistered, WrongFields: see ``placing.place``.
        DatabaseUnavailable: the database cannot do it now.
    """
    office = wanted.fields.get("office_number")
    doctor = wanted.fields.get("doctor_name")
    return Meant(
        rules,
        None if office is None else await memory.to_book("office", office),
        None if doctor is None else await memory.to_book("doctor", doctor),
        find_type(wanted.fields.get("appointment_type"), rules),
    )


async def change_appointment(  # noqa: PLR0913 - what it works with, and what it works on
    database: Database,
    outbox: Outbox,
    zone: zoneinfo.ZoneInfo,
    *,
    appointment_id: int,
    wanted: Change,
    meant: Meant,
    precondition: Precondition,
) -> Appointment:
    """Change an appointment in one transaction; see ``Desk.change``.

    Raises:
        Conflicting: it would overlap others, or be while something is closed.
        RegistryChanged: the registry has another version now, and nothing was changed.
    """
    target: Appointment | None = None
    length = Length(0)
    try:
        async with database.transaction() as connection:
            current = await select_for_change(connection, appointment_id)
            if current is None:
                raise NoSuchAppointment
            if not precondition(current.version):
                raise Stale
            target, length = _target(current, wanted, meant, zone)
            happened = list(steps(current, target))
            if not happened:
                return current
            if _occupies_anew(current, target):
                await _check(connection, current, target, meant, length)
            target = happened[-1][1]
            await update_appointment(connection, target, current)
            now = utc_now()
            events = [tell(kind, made.facts(zone.key), now) for kind, made in happened]
            await outbox.append(connection, [event.message() for event in events])
            await insert_reasons(connection, [made for _, made in happened], wanted.reason)
    except StatementRefused as error:
        if target is None or error.constraint not in TAKEN:
            raise
        raise Conflicting(target, length) from None
    return target


async def _check(
    connection: Connection, current: Appointment, target: Appointment, meant: Meant, length: Length
) -> None:
    """Check all but the overlaps, and have those who want the same wait; register what is new."""
    if await hold_version(connection) != meant.rules.version:
        raise RegistryChanged
    if found := closed(target, meant.rules.timetable):
        raise Conflicting(target, length, found)
    if meant.new and len(await insert_resources(connection, meant.new)) < len(meant.new):
        raise RegistryChanged  # somebody has registered the name since it was looked up
    for new in meant.new:
        await audit.write(connection, new.registered())
    await lock_resources(connection, [current.occupancy, target.occupancy])


def _target(
    current: Appointment, wanted: Change, meant: Meant, zone: zoneinfo.ZoneInfo
) -> tuple[Appointment, Length]:
    """Return what an appointment is to become, all at once, and its length.

    Raises:
        IllegalTransition: its status cannot become the one wanted.
        WrongFields: office or doctor do not offer its type, or it is to lose its patient's name.
        RegistryChanged: its type is not among those that are known.
    """
    status = wanted.status or current.status
    if status != current.status and status not in TRANSITIONS[current.status]:
        raise IllegalTransition(current.status, status)
    _check_name(current, wanted)
    fields = dict(wanted.fields)
    if meant.office is not None:
        fields |= {"office_id": meant.office.id, "office_number": meant.office.name}
    if "doctor_name" in fields:
        doctor = meant.doctor
        fields |= {"doctor_id": doctor and doctor.id, "doctor_name": doctor and doctor.name}
    kind = meant.type
    if "appointment_type" in fields:
        fields |= {"type_id": kind and kind.id, "appointment_type": kind and kind.name}
        if kind is not None:
            fields.setdefault("duration_minutes", kind.duration_minutes)
    elif current.type_id is not None:
        known = {one.id: one for one in meant.rules.types.values()}
        if current.type_id not in known:
            raise RegistryChanged  # it is newer than what is known
        kind = known[current.type_id]
    target = dataclasses.replace(current, status=status, **fields)
    moved = target.occupancy != current.occupancy or any(
        getattr(target, name) != getattr(current, name)
        for name in ("date_time", "duration_minutes", "type_id")
    )
    length = length_of(kind, target.duration_minutes, target.duration_minutes)
    if moved:
        check_offered(kind, target.office_id, target.doctor_id)
        own, occupied = length.at(target.date_time, zone)
        target = dataclasses.replace(
            target, end_time=own.ends, occupied_from=occupied.begins, occupied_until=occupied.ends
        )
    if _occupies_anew(current, target):
        target = dataclasses.replace(target, override_reason=wanted.override_reason)
    return target, length


def _check_name(current: Appointment, wanted: Change) -> None:
    """Refuse to write what stands for a patient who was erased, where none was."""
    if wanted.fields.get("patient_name") == ERASED != current.patient_name:
        raise WrongFields([{"pointer": "#/patient_name", "detail": NOT_A_NAME}])


def steps(current: Appointment, target: Appointment) -> Iterator[tuple[EventType, Appointment]]:
    """Yield what happens to an appointment on its way to what is wanted, one version each."""
    for kind, names in (*FIELDS, (REACHED[target.status], ("status",))):
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
