"""What a form sends, in the words of the API's models, and what stands in its fields."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from clinic.appointments.appointment import Appointment
from clinic.appointments.free_time import FreeTime
from clinic.web.refusals import Refusal, WrongFields

# The fields of an appointment, as the form has them.
FIELDS = (
    *("patient_name", "patient_phone", "office_number", "doctor_name", "appointment_type"),
    *("date", "time", "duration_minutes", "note", "reason"),
)
# ... that may be left empty, and are nothing then.
OPTIONAL = ("patient_phone", "doctor_name", "appointment_type", "note")


@dataclass
class Filled:
    """A form as somebody filled it in: its values, what is wrong with them, and what conflicts.

    ``key`` makes the same form, sent twice, one booking. ``offered`` are free times of office and
    doctor, ``elsewhere`` those of any. ``changing`` is the appointment that it changes, if any.
    """

    values: dict[str, str]
    key: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    title: str | None = None
    text: str | None = None
    conflicts: Sequence[Appointment] = ()
    closed: Sequence[Mapping[str, Any]] = ()
    offered: Sequence[Any] = ()
    elsewhere: Sequence[FreeTime] = ()
    nearest: Sequence[str] = ()
    asked: bool = False
    changing: Appointment | None = None

    @property
    def overridable(self) -> bool:
        """Whether it can be booked all the same, for a reason."""
        return bool(self.conflicts or self.closed or self.values.get("reason"))

    @property
    def first(self) -> str | None:
        """The field to begin in: one that is wrong, or the first that is empty; None for none.

        What conflicts is to be read before anything else.
        """
        if self.title and not self.errors:
            return None
        needed = ("patient_name", "office_number", "time")
        return next((one for one in (*self.errors, *needed) if self._is_first(one)), None)

    def _is_first(self, name: str) -> bool:
        return name in FIELDS and (name in self.errors or not self.value(name))

    def value(self, name: str) -> str:
        """Return what stands in a field."""
        return self.values.get(name, "")


def new_key() -> str:
    """Return a key for a form that nobody else has."""
    return secrets.token_urlsafe(18)


def filled(sent: Mapping[str, str]) -> dict[str, str]:
    """Return the values of a form's fields, with a free time in place of the one that it had."""
    values = {name: sent.get(name, "").strip() for name in FIELDS}
    try:
        taken = json.loads(sent.get("take", ""))
    except ValueError:
        return values
    if isinstance(taken, list) and all(isinstance(one, str) for one in taken) and taken:
        date, _, time = taken[0].partition("T")
        values |= {"date": date, "time": time}
        values |= dict(zip(("office_number", "doctor_name"), taken[1:3], strict=False))
    return values


def wanted_of(values: Mapping[str, str]) -> dict[str, Any]:
    """Return what the API would be sent for a form."""
    sent: dict[str, Any] = {
        name: values[name] for name in ("patient_name", "office_number", *OPTIONAL) if values[name]
    }
    if values["duration_minutes"]:
        text = values["duration_minutes"]
        sent["duration_minutes"] = int(text) if text.isascii() and text.isdigit() else text
    if values["date"] or values["time"]:
        sent["date_time"] = f"{values['date']}T{values['time']}"
    if values["reason"]:
        sent |= {"override": True, "reason": values["reason"]}
    return sent


def changes_of(values: Mapping[str, str], current: Appointment) -> dict[str, Any]:
    """Return what the API would be sent to make an appointment what a form says."""
    before = wanted_of(values_of(current))
    after = wanted_of(values)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    changed |= {name: None for name in OPTIONAL if name in before and name not in after}
    for name in ("patient_name", "office_number", "date_time"):
        if name not in after:
            changed[name] = ""  # for it to be refused as empty
    return changed


def values_of(appointment: Appointment) -> dict[str, str]:
    """Return what stands in the fields of the form that changes an appointment."""
    return {
        "patient_name": appointment.patient_name,
        "patient_phone": appointment.patient_phone or "",
        "office_number": appointment.office_number,
        "doctor_name": appointment.doctor_name or "",
        "appointment_type": appointment.appointment_type or "",
        "date": appointment.date_time.date().isoformat(),
        "time": time_text(appointment),
        "duration_minutes": str(appointment.duration_minutes),
        "note": appointment.note or "",
        "reason": "",
    }


def time_text(appointment: Appointment) -> str:
    """Return the time of an appointment as a field of a form has it."""
    time = appointment.date_time.time()
    return time.isoformat("minutes" if not (time.second or time.microsecond) else "auto")


def errors_of(refusal: Refusal) -> dict[str, str]:
    """Return what is wrong, by the name of the form's field; under an empty name what has none."""
    if isinstance(refusal, WrongFields):
        found = cast("list[dict[str, str]]", refusal.members["errors"])
        return {one["pointer"].removeprefix("#/").removeprefix("#"): one["detail"] for one in found}
    return {}
