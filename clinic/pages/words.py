"""Words for where a patient is, for what can be done, and for what has happened; in English."""

from collections.abc import Mapping

from clinic.events import EventType, Status
from clinic.pages.day import State

STATES: Mapping[State, str] = {
    "booked": "Expected",
    "late": "Late",
    "arrived": "Waiting",
    "in_room": "In the room",
    "open": "No outcome",
    "done": "Done",
    "no_show": "Did not come",
    "cancelled": "Cancelled",
}

# What a button says that brings an appointment on ...
STEPS: Mapping[Status, str] = {
    "arrived": "Arrived",
    "in_room": "Call in",
    "done": "Finish",
    "no_show": "Did not come",
    "cancelled": "Cancel",
    "booked": "Undo",
}
# ... or back.
STEPS_BACK: Mapping[tuple[Status, Status], str] = {
    ("arrived", "booked"): "Not here yet",
    ("in_room", "arrived"): "Back to waiting",
    ("done", "in_room"): "Back to the room",
    ("done", "arrived"): "Back to waiting",
    ("no_show", "booked"): "Expect again",
    ("cancelled", "booked"): "Restore",
}

# What has just been done, as a line above the day: of a status and of the rest.
SAID: Mapping[str, str] = {
    "booked": "Booked",
    "booked before": "This stood in the book already",
    "moved": "Moved",
    "changed": "Changed",
}

HAPPENED: Mapping[EventType, str] = {
    "appointment.booked": "Booked",
    "appointment.renamed": "Name corrected",
    "appointment.annotated": "Phone or note changed",
    "appointment.reassigned": "Given to another doctor",
    "appointment.rescheduled": "Moved or changed",
    "appointment.reopened": "Expected again",
    "appointment.arrived": "Arrived",
    "appointment.in_room": "Called in",
    "appointment.done": "Finished",
    "appointment.no_show": "Did not come",
    "appointment.cancelled": "Cancelled",
}

CLOSED: Mapping[str, str] = {
    "clinic": "The clinic is closed",
    "office": "The office is closed",
    "doctor": "The doctor does not work",
}

FIELDS: Mapping[str, str] = {
    "patient_name": "Patient",
    "patient_phone": "Phone",
    "office_number": "Office",
    "doctor_name": "Doctor",
    "appointment_type": "Type",
    "date_time": "Day and time",
    "duration_minutes": "Minutes",
    "note": "Note",
    "reason": "Reason to book it all the same",
}


def step_word(status: Status, wanted: Status) -> str:
    """Return what the button says that brings an appointment from a status to another."""
    return STEPS_BACK.get((status, wanted), STEPS[wanted])
