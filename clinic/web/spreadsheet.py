"""CSV (RFC 4180) that is safe to open in a spreadsheet.

It is UTF-8 with a byte order mark, without which Excel takes Cyrillic for something else; programs
read it as ``utf-8-sig``.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

BYTE_ORDER_MARK = "\ufeff"
# What a spreadsheet takes for a formula, and carries out; an apostrophe before it makes it text:
# https://owasp.org/www-community/attacks/CSV_Injection. The wide forms are those of East Asian
# keyboards. It may begin a cell, or stand after what begins a cell for a spreadsheet that separates
# by semicolons or tabs (Excel does so by the computer's language): quotes protect only the cell
# that they begin.
FORMULA = re.compile('(^|[,;\t\r\n])(?=["\\s]*[=+\\-@＝＋－＠])')


def lines(rows: Iterable[Iterable[object]], *, header: Sequence[str] = ()) -> str:
    """Return rows as lines of CSV.

    With a ``header`` they come after the byte order mark and a line that names the columns, as the
    beginning of a file; without one they go on with it.
    """
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    if header:
        text.write(BYTE_ORDER_MARK)
        writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: object) -> object:
    return FORMULA.sub(r"\1'", value) if isinstance(value, str) else value
