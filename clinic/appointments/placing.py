"""Where, with whom and for how long: what the names in a booking or a change stand for."""

from dataclasses import dataclass

from clinic.appointments.appointment import Appointment, NewAppointment
from clinic.appointments.availability import Length
from clinic.registry.memory import Memory, Rules
from clinic.registry.names import name_key
from clinic.registry.records import (
    FIELDS,
    AppointmentType,
    Kind,
    NewResource,
    NotInUse,
    Resource,
)
from clinic.registry.timetable import Closed, Place, Span, Timetable
from clinic.web.refusals import WrongFields

Known = Resource | NewResource


@dataclass(frozen=True, slots=True)
class Placed:
    """What a booking stands for, by one version of the registry."""

    office: Known
    doctor: Known | None
    type: AppointmentType | None
    length: Length

    @property
    def new(self) -> tuple[NewResource, ...]:
        """What is to be registered with it."""
        return tuple(one for one in (self.office, self.doctor) if isinstance(one, NewResource))


async def place(wanted: NewAppointment, memory: Memory, rules: Rules, usual_minutes: int) -> Placed:
    """Return what a booking stands for.

    Raises:
        NotInUse: the office, the doctor or the type is booked no more.
        NotRegistered: there is no such office or doctor, and bookings register none.
        WrongFields: there is no such type, or office or doctor do not offer it.
        DatabaseUnavailable: the database cannot do it now.
    """
    kind = find_type(wanted.appointment_type, rules)
    office = await memory.to_book("office", wanted.office_number)
    doctor = None
    if wanted.doctor_name is not None:
        doctor = await memory.to_book("doctor", wanted.doctor_name)
    check_offered(kind, office.id, doctor.id if doctor else None)
    return Placed(office, doctor, kind, length_of(kind, wanted.duration_minutes, usual_minutes))


def find_type(name: str | None, rules: Rules) -> AppointmentType | None:
    """Return the type of a name, None for None.

    Raises:
        NotInUse: it is booked no more.
        WrongFields: there is none.
    """
    if name is None:
        return None
    found = rules.types.get(name_key(name))
    if found is None:
        known = ", ".join(sorted(one.name for one in rules.types.values() if one.active)[:10])
        detail = f"is no appointment type; there are: {known or 'none yet'}"
        raise WrongFields([{"pointer": "#/appointment_type", "detail": detail}])
    if not found.active:
        raise NotInUse("appointment type")
    return found


def check_offered(
    kind: AppointmentType | None, office_id: int | None, doctor_id: int | None
) -> None:
    """Check that an office and a doctor offer a type; None is not checked.

    Raises:
        WrongFields: one of them does not.
    """
    if kind is None:
        return
    offered: tuple[tuple[Kind, int | None, frozenset[int] | None], ...]
    offered = (("office", office_id, kind.offices), ("doctor", doctor_id, kind.doctors))
    wrong = [
        one
        for one, number, those in offered
        if number is not None and those is not None and number not in those
    ]
    if wrong:
        detail = f"does not offer {kind.name}"
        raise WrongFields([{"pointer": f"#/{FIELDS[one]}", "detail": detail} for one in wrong])


def length_of(kind: AppointmentType | None, minutes: int | None, usual_minutes: int) -> Length:
    """Return the length that is asked for, or the type's, or the usual one; with its buffers."""
    if kind is None:
        return Length(minutes or usual_minutes)
    return Length(
        minutes or kind.duration_minutes, kind.buffer_before_minutes, kind.buffer_after_minutes
    )


def closed(appointment: Appointment, timetable: Timetable) -> list[Closed]:
    """Return what is closed during an appointment; one that overrides may be then all the same."""
    if appointment.override_reason is not None:
        return []
    span = Span(appointment.date_time, appointment.end_time)
    return timetable.closed(Place(appointment.office_id, appointment.doctor_id), span)
