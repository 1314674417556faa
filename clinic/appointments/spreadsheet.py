"""Appointments as CSV (RFC 4180), safe to open in a spreadsheet.

It is UTF-8 with a byte order mark, without which Excel takes Cyrillic for something else; programs
read it as ``utf-8-sig``.
"""

import csv
import io
import re
from collections.abc import Sequence

from clinic.appointments.appointment import Appointment

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
BYTE_ORDER_MARK = "\ufeff"
# What a spreadsheet takes for a formula, and carries out; an apostrophe before it makes it text:
# https://owasp.org/www-community/attacks/CSV_Injection. The wide forms are those of East Asian
# keyboards. It may begin a cell, or stand after what begins a cell for a spreadsheet that separates
# by semicolons or tabs (Excel does so by the computer's language): quotes protect only the cell
# that they begin.
FORMULA = re.compile('(^|[,;\t\r\n])(?=["\\s]*[=+\\-@＝＋－＠])')


def as_csv(appointments: Sequence[Appointment], *, header: bool) -> str:
    """Return appointments as lines of CSV.

    With ``header`` they come after the byte order mark and a line that names the columns, as the
    beginning of a file; without it they go on with one.
    """
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    if header:
        text.write(BYTE_ORDER_MARK)
        writer.writerow(COLUMNS)
    for appointment in appointments:
        record = appointment.record()
        writer.writerow([_cell(record[name]) for name in COLUMNS])
    return text.getvalue()


def _cell(value: object) -> object:
    return FORMULA.sub(r"\1'", value) if isinstance(value, str) else value
