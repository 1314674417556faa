"""Appointments as CSV."""

from collections.abc import Sequence

from clinic.appointments.appointment import Appointment
from clinic.web.spreadsheet import lines

COLUMNS = (
    "id",
    "patient_name",
    "office_number",
    "date_time",
    "doctor_name",
    "appointment_type",
    "duration_minutes",
    "status",
    "patient_phone",
    "note",
    "override_reason",
)


def as_csv(appointments: Sequence[Appointment], *, header: bool, personal: bool = True) -> str:
    """Return appointments as lines of CSV.

    With ``header`` they are the beginning of a file; without it they go on with one. What is not
    ``personal`` has no patient in it.
    """
    records = [appointment.record(personal=personal) for appointment in appointments]
    rows = ([record[name] for name in COLUMNS] for record in records)
    return lines(rows, header=COLUMNS if header else ())
