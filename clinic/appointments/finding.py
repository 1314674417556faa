"""Find a patient's appointments: by beginnings of words of the name, by the end of the phone.

A common beginning is found soon in the order of time, and a rare one by its index. Which one it is
nobody knows before: so the first appointments in time are looked through, and if these are not
enough, the index says which ones there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from clinic.appointments.appointment import Appointment
from clinic.appointments.queries import SELECT, appointment_of
from clinic.database import Connection, Sql

# Appointments that are looked through in the order of time: that takes some milliseconds.
MOST_SCANNED = 10_000


@dataclass(frozen=True)
class Patient:
    """What is known of a patient: beginnings of words of the name, the end of the phone number.

    ``phone_end`` has the digits from the last on.
    """

    words: tuple[str, ...]
    phone_end: str | None


# The words of a name as the index has them, with a blank before each.
MATCHES = Sql(
    sqlite="""
        not exists (
            select 1 from json_each(:words)
            where instr(' ' || replace(patient_key, '-', ' '), ' ' || value) = 0
        )
        and (:phone_from is null or (phone_key >= :phone_from and phone_key < :phone_until))
    """,
    postgresql="""
        ' ' || replace(patient_key, '-', ' ') like all (array(
            select json_array_elements_text(cast(:patterns as json))
        ))
        and (
            cast(:phone_from as text) is null
            or (phone_key >= :phone_from and phone_key < :phone_until)
        )
    """,
)
# The ids of a patient's appointments by the index of phone numbers ...
BY_PHONE = """
    select id from appointment where phone_key >= :phone_from and phone_key < :phone_until
"""
# ... or of words: on SQLite by the longest of them, which few have.
BY_WORDS = Sql(
    sqlite="""
        select appointment_id as id from patient_word
        where word >= :longest_from and word < :longest_until
    """,
    postgresql="""
        select id from appointment
        where array_to_tsvector(
            array_remove(string_to_array(translate(patient_key, '-', ' '), ' '), '')
        ) @@ cast(:query as tsquery)
    """,
)


async def select_of_patient(
    connection: Connection, patient: Patient, where: str, given: Mapping[str, object], limit: int
) -> list[Appointment]:
    """Return the first of a patient's appointments that meet conditions, in order of time."""
    dialect = connection.dialect
    (matches,) = MATCHES.on(dialect)
    values = {**given, **_values(patient), "limit": limit}
    rows = await connection.fetch_all(
        f"""
        with near as (
            select id, date_time, patient_key, phone_key from appointment
            where {where} order by date_time, id limit :scanned
        ),
        found as (select id from near where {matches} order by date_time, id limit :limit)
        {SELECT} join found on found.id = appointment.id order by date_time, appointment.id
        """,  # noqa: S608 - our own words only
        values | {"scanned": MOST_SCANNED},
    )
    if len(rows) < limit:
        (found,) = (BY_PHONE,) if patient.phone_end else BY_WORDS.on(dialect)
        rows = await connection.fetch_all(
            f"""
            with found as materialized ({found})
            {SELECT} join found on found.id = appointment.id
            where {where} and {matches} order by date_time, appointment.id limit :limit
            """,
            values,
        )
    return [appointment_of(row) for row in rows]


def _values(patient: Patient) -> dict[str, object]:
    phone, longest = patient.phone_end, max(patient.words, key=len, default="")
    return {
        "words": list(patient.words),
        "patterns": [f"% {_escaped(word)}%" for word in patient.words],
        "query": " & ".join(f"{_quoted(word)}:*" for word in patient.words),
        "longest_from": longest,
        "longest_until": _after(longest),
        "phone_from": phone,
        "phone_until": phone and _after(phone),
    }


def _after(beginning: str) -> str:
    """Return a text that sorts after all with this beginning, and before all that come after."""
    return beginning + "\U0010ffff"


def _escaped(word: str) -> str:
    for special in "\\%_":
        word = word.replace(special, f"\\{special}")
    return word


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
