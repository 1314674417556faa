"""Appointments as CSV (RFC 4180), safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Sequence

from clinic.appointments.appointment import Appointment

COLUMNS = (
    "id",
    "patient_name",
    "office_number",
    "date_time",
    "doctor_name",
    "duration_minutes",
    "status",
    "override_reason",
)
# What begins so, a spreadsheet takes for a formula and carries out; an apostrophe before it makes
# it text again. https://owasp.org/www-community/attacks/CSV_Injection; the wide forms are those of
# East Asian keyboards.
DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def as_csv(appointments: Sequence[Appointment], *, header: bool) -> str:
    """Return appointments as lines of CSV, after a line that names the columns if asked for."""
    text = io.StringIO()
    writer = csv.writer(text)
    if header:
        writer.writerow(COLUMNS)
    for appointment in appointments:
        record = appointment.record()
        writer.writerow([_cell(record[name]) for name in COLUMNS])
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(DANGEROUS):
        return "'" + value
    return value
