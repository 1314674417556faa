"""The list: all of it, or what a client looks for, page by page.

Whatever its length it is read in pieces, each from where the last one ended (keyset), so that its
memory does not grow with the table, and so that no transaction waits for a slow reader.
"""

import asyncio
import contextlib
import datetime
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from clinic.appointments.appointment import LONGEST_ON_CLOCKS, Appointment
from clinic.appointments.finding import Patient, select_of_patient
from clinic.appointments.queries import SELECT, appointment_of
from clinic.database import WAIT_SECONDS, Connection, Database, ExpensiveReads, Sql
from clinic.events import LARGEST_ID, Status

Result = TypeVar("Result")

# Appointments of one piece that is read and sent; writing its JSON holds up everyone else.
PIECE = 500
# ... unless it is the database that writes the JSON: then this many, and this number of pieces is
# under way while one is sent (benchmarks/README.md).
RECORDS = 1000
IN_ADVANCE = 1

DAY = datetime.timedelta(days=1)

# Each condition is served by an index that goes on with date_time and id, as the order does.
CONDITIONS = {
    # What lasts beyond midnight is looked up in an index of its own, so that the list begins there
    # and not two days before. Few of those that follow have ended by midnight: PostgreSQL expects
    # so of `<>`, and would take a plain comparison for independent of date_time, and sort them all.
    "ends_after": """
        date_time >= coalesce((
            select min(earlier.date_time) from appointment as earlier
            where date(earlier.end_time) > date(earlier.date_time)
                and earlier.date_time > :begins_after and earlier.date_time < :ends_after
                and earlier.end_time > :ends_after
        ), :ends_after)
        and cast(end_time > :ends_after as integer) <> 0
    """,
    "begins_before": "date_time < :begins_before",
    "office_id": "office_id = :office_id",
    "doctor_id": "doctor_id = :doctor_id",
    "type_id": "type_id = :type_id",
    "patient_key": "patient_key = :patient_key",
    "status": "status = :status",
    "after_time": "(date_time, appointment.id) > (:after_time, :after_id)",
}

# The records as JSON, made by the database: Python takes ten times as long over them.
SELECT_RECORDS_WITHIN = Sql(
    sqlite="""
        select group_concat(record) as records from (
            select json_object(
                'id', appointment.id, 'patient_name', iif(:personal, patient_name, null),
                'office_number', office.name, 'date_time', date_time,
                'doctor_name', doctor.name, 'appointment_datetime', date_time,
                'appointment_type', appointment_type.name,
                'duration_minutes', appointment.duration_minutes, 'status', status,
                'patient_phone', iif(:personal, patient_phone, null),
                'note', iif(:personal, note, null),
                'override_reason', iif(:personal, override_reason, null)
            ) as record
            from appointment
            join resource as office on office.id = office_id
            left join resource as doctor on doctor.id = doctor_id
            left join appointment_type on appointment_type.id = type_id
            where appointment.id > :after and appointment.id <= :last order by appointment.id
        )
    """,
    postgresql="""
        select string_agg(cast(row_to_json(record) as text), ',' order by id) as records
        from (
            select appointment.id, case when asked.personal then patient_name end as patient_name,
                office.name as office_number, date_time,
                doctor.name as doctor_name, date_time as appointment_datetime,
                appointment_type.name as appointment_type, appointment.duration_minutes, status,
                case when asked.personal then patient_phone end as patient_phone,
                case when asked.personal then note end as note,
                case when asked.personal then override_reason end as override_reason
            from (select cast(:personal as boolean) as personal) as asked, appointment
            join resource as office on office.id = office_id
            left join resource as doctor on doctor.id = doctor_id
            left join appointment_type on appointment_type.id = type_id
            where appointment.id > :after and appointment.id <= :last order by appointment.id
        ) as record
    """,
)


SELECT_LAST_OF_PIECE = """
    select id from appointment where id > :after order by id limit 1 offset :before
"""


@dataclass(frozen=True)
class Sought:
    """What is looked for, by ids and keys; None matches everything.

    ``words`` are beginnings of words of the patient's name, and ``phone_end`` the last digits of
    the phone number from the last on; what is looked for has all of them.
    """

    first_day: datetime.date | None = None
    last_day: datetime.date | None = None
    office_id: int | None = None
    doctor_id: int | None = None
    type_id: int | None = None
    patient_key: str | None = None
    words: tuple[str, ...] = ()
    phone_end: str | None = None
    status: Status | None = None
    after: tuple[datetime.datetime, int] | None = None


async def select_sought(connection: Connection, sought: Sought, limit: int) -> list[Appointment]:
    """Return the first appointments that are sought, in order of time and id.

    Of a range of days those are sought that take up time on any of them, also from the day before.
    """
    values: dict[str, object] = {
        **_bounds(sought),
        "office_id": sought.office_id,
        "doctor_id": sought.doctor_id,
        "type_id": sought.type_id,
        "patient_key": sought.patient_key,
        "status": sought.status,
        "after_time": sought.after and sought.after[0],
    }
    given = {name: value for name, value in values.items() if value is not None}
    if sought.after:
        given["after_id"] = sought.after[1]
    where = " and ".join(CONDITIONS[name] for name in given if name in CONDITIONS) or "true"
    if sought.words or sought.phone_end:
        patient = Patient(sought.words, sought.phone_end)
        return await select_of_patient(connection, patient, where, given, limit)
    rows = await connection.fetch_all(
        f"{SELECT} where {where} order by date_time, appointment.id limit :limit",
        given | {"limit": limit},
    )
    return [appointment_of(row) for row in rows]


def _bounds(sought: Sought) -> dict[str, datetime.datetime]:
    """Return the times that bound what is sought.

    Days in the first and the last year of Python's calendar bound nothing: the book has none.
    """
    first, last, bounds = sought.first_day, sought.last_day, {}
    if first is not None and first.year > datetime.MINYEAR:
        begins = midnight(first)
        # What begins after that ends after it.
        if sought.after is None or sought.after[0] < begins:
            bounds = {"ends_after": begins, "begins_after": begins - LONGEST_ON_CLOCKS}
    if last is not None and last.year < datetime.MAXYEAR:
        bounds["begins_before"] = midnight(last) + DAY
    return bounds


async def pieces(
    database: Database, reads: ExpensiveReads, sought: Sought
) -> AsyncIterator[Sequence[Appointment]]:
    """Yield all that is sought, piece by piece; at least one, which may be empty.

    Each piece is a read of its own, so that a client that is slow to take them keeps nobody from
    reading.

    Raises:
        Crowded: too many read lists, before the first piece.
        DatabaseUnavailable: the database cannot do it now.
    """
    wait_seconds: float | None = WAIT_SECONDS
    while True:
        piece = await reads.read(
            object(), partial(_piece, database, sought), wait_seconds=wait_seconds
        )
        yield piece
        if len(piece) < PIECE:
            return
        sought = replace(sought, after=(piece[-1].date_time, piece[-1].id))
        wait_seconds = None


async def _piece(database: Database, sought: Sought) -> list[Appointment]:
    async with database.snapshot() as connection:
        return await select_sought(connection, sought, PIECE)


async def all_records(
    database: Database, reads: ExpensiveReads, *, personal: bool
) -> AsyncIterator[str]:
    """Yield the JSON list of every record in the order of ids, piece by piece.

    While one is sent the next ones are read, side by side: making the JSON is what takes the time,
    and the database has more than one core for it.

    Raises:
        Crowded: too many read lists, before the first piece.
        DatabaseUnavailable: the database cannot do it now.
    """
    work = (
        reads.read(
            object(),
            partial(
                database.look,
                SELECT_RECORDS_WITHIN,
                {"after": after, "last": last, "personal": personal},
            ),
            wait_seconds=None if after else WAIT_SECONDS,
        )
        async for after, last in spans(database)
    )
    opening = "["
    async with contextlib.aclosing(in_advance(work)) as found:
        async for (piece,) in found:
            if piece["records"] is not None:
                yield opening + piece["records"]
                opening = ","
    yield "[]" if opening == "[" else "]"


async def spans(database: Database) -> AsyncIterator[tuple[int, int]]:
    """Yield after which id each piece begins, and its last id; the end of the last one is open."""
    after = 0
    while rows := await database.look(
        SELECT_LAST_OF_PIECE, {"after": after, "before": RECORDS - 1}
    ):
        yield after, rows[0]["id"]
        after = rows[0]["id"]
    yield after, LARGEST_ID


async def in_advance(
    work: AsyncIterator[Coroutine[object, object, Result]],
) -> AsyncGenerator[Result]:
    """Yield what comes of one piece of work after the other, with the next ones under way."""
    under_way: deque[asyncio.Task[Result]] = deque()
    try:
        async for one in work:
            under_way.append(asyncio.create_task(one))
            if len(under_way) > IN_ADVANCE:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        # The reader has gone, or the database: nobody asks for the rest, nor how it failed.
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def midnight(day: datetime.date) -> datetime.datetime:
    """Return the wall-clock time at which a day begins."""
    return datetime.datetime.combine(day, datetime.time())
