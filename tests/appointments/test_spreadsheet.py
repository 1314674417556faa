"""CSV as spreadsheets read it: whatever they separate by, no cell is a formula."""

import csv
import dataclasses
import datetime
import io
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clinic.appointments.appointment import EXAMPLE, Appointment
from clinic.appointments.spreadsheet import COLUMNS, as_csv

DANGEROUS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
# How programs that guess wrong, or know no quotes, take a line apart.
READINGS: list[dict[str, Any]] = [
    {"delimiter": separator} | quotes
    for separator in ",;\t"
    for quotes in (
        {},
        {"skipinitialspace": True},
        {"quoting": csv.QUOTE_NONE},
        {"doublequote": False},
    )
]
texts = st.text(st.sampled_from("=;,\"\t+ -@＝'x1Ё\r\n"), min_size=1, max_size=12)


def appointment(text: str) -> Appointment:
    time = datetime.datetime(2027, 12, 1, 15, 30)
    return dataclasses.replace(
        EXAMPLE,
        patient_name=text,
        patient_phone=text,
        note=text,
        office_number=text,
        doctor_name=text,
        appointment_type=text,
        date_time=time,
        override_reason=text,
    )


@given(text=texts)
@example("Ли;=1+1;x")
@example('x;"=1+1')
@example('x;""" =1+1')
@example("x\t=cmd|'/C calc'!A0")
@example("'=1;'=1")
def test_no_cell_is_a_formula_whatever_separates_them(text: str) -> None:
    lines = as_csv([appointment(text)], header=False)
    for reading in READINGS:
        for row in csv.reader(io.StringIO(lines, newline=""), **reading):
            for cell in row:
                # Some take a cell as it stands between separators, some take its quotes away.
                for shown in (cell, cell.strip(), cell.strip('" \t\r\n')):
                    assert not shown.startswith(DANGEROUS), (reading, lines)


@given(text=texts)
def test_a_reader_of_csv_gets_all_that_was_written(text: str) -> None:
    """But for apostrophes where a formula might begin."""
    lines = as_csv([appointment(text)], header=True).removeprefix("\ufeff")
    header, row = csv.reader(io.StringIO(lines, newline=""), strict=True)
    assert tuple(header) == COLUMNS
    assert row[0] == "1"
    assert row[2] == row[1]
    assert row[3:] == ["2027-12-01T15:30:00", row[1], row[1], "15", "booked", *[row[1]] * 3]
    assert row[1].replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize("text", ["Иванов", "O'Brien", "a, b; c", "x=1; y-2", "1-2, 3+4", "a@b.c"])
def test_what_is_no_formula_is_left_alone(text: str) -> None:
    lines = as_csv([appointment(text)], header=False)
    assert next(csv.reader(io.StringIO(lines, newline="")))[1] == text


def test_every_cell_is_quoted_and_the_file_says_that_it_is_unicode() -> None:
    first, second, rest = as_csv([appointment("Ли")], header=True).split("\r\n")
    assert first == "\ufeff" + ",".join(f'"{name}"' for name in COLUMNS)
    assert second == '"1","Ли","Ли","2027-12-01T15:30:00","Ли","Ли","15","booked","Ли","Ли","Ли"'
    assert rest == ""
    assert as_csv([], header=False) == ""
