"""The list: all of it, or what a client looks for, page by page.

Whatever its length it is read in pieces, each from where the last one ended (keyset), so that its
memory does not grow with the table, and so that no transaction waits for a slow reader.
"""

import asyncio
import contextlib
import datetime
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from functools import partial
from typing import TypeVar

from clinic.appointments.appointment import LONGEST_ON_CLOCKS, Appointment
from clinic.registry.names import patient_key
from clinic.appointments.queries import COLUMNS, appointment_of
from clinic.appointments.search import Search
from clinic.database import WAIT_SECONDS, Connection, Database, ExpensiveReads, Sql
from clinic.events import LARGEST_ID

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
    "office_number": "office_number = :office_number",
    "doctor_name": "doctor_name = :doctor_name",
    "patient_key": "patient_key = :patient_key",
    "status": "status = :status",
    "after_time": "(date_time, id) > (:after_time, :after_id)",
}

# The records as JSON, made by the database: Python takes ten times as long over them.
SELECT_RECORDS_WITHIN = Sql(
    sqlite="""
        select group_concat(record) as records from (
            select id, json_object(
                'id', id, 'patient_name', patient_name, 'office_number', office_number,
                'date_time', date_time, 'doctor_name', doctor_name,
                'appointment_datetime', date_time, 'duration_minutes', duration_minutes,
                'status', status, 'override_reason', override_reason
            ) as record
            from appointment where id > :after and id <= :last order by id
        )
    """,
    postgresql="""
        select string_agg(cast(row_to_json(record) as text), ',' order by id) as records
        from (
            select id, patient_name, office_number, date_time, doctor_name,
                date_time as appointment_datetime, duration_minutes, status, override_reason
            from appointment where id > :after and id <= :last order by id
        ) as record
    """,
)


SELECT_LAST_OF_PIECE = """
    select id from appointment where id > :after order by id limit 1 offset :before
"""


async def select_sought(connection: Connection, search: Search, limit: int) -> list[Appointment]:
    """Return the first appointments that are sought, in order of time and id.

    Of a range of days those are sought that take up time on any of them, also from the day before.
    """
    values: dict[str, object] = {
        **_bounds(search),
        "office_number": search.office_number,
        "doctor_name": search.doctor_name,
        "patient_key": search.patient_name and patient_key(search.patient_name),
        "status": search.status,
        "after_time": search.after and search.after[0],
    }
    given = {name: value for name, value in values.items() if value is not None}
    if search.after:
        given["after_id"] = search.after[1]
    where = " and ".join(CONDITIONS[name] for name in given if name in CONDITIONS) or "true"
    rows = await connection.fetch_all(
        f"select {COLUMNS} from appointment where {where} "  # noqa: S608 - our own words only
        "order by date_time, id limit :limit",
        given | {"limit": limit},
    )
    return [appointment_of(row) for row in rows]


def _bounds(search: Search) -> dict[str, datetime.datetime]:
    """Return the times that bound what is sought.

    Days in the first and the last year of Python's calendar bound nothing: the book has none.
    """
    first, last, bounds = search.first_day, search.last_day, {}
    if first is not None and first.year > datetime.MINYEAR:
        begins = midnight(first)
        # What begins after that ends after it.
        if search.after is None or search.after[0] < begins:
            bounds = {"ends_after": begins, "begins_after": begins - LONGEST_ON_CLOCKS}
    if last is not None and last.year < datetime.MAXYEAR:
        bounds["begins_before"] = midnight(last) + DAY
    return bounds


async def pieces(
    database: Database, reads: ExpensiveReads, search: Search
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
            object(), partial(_piece, database, search), wait_seconds=wait_seconds
        )
        yield piece
        if len(piece) < PIECE:
            return
        search = search.model_copy(update={"after": (piece[-1].date_time, piece[-1].id)})
        wait_seconds = None


async def _piece(database: Database, search: Search) -> list[Appointment]:
    async with database.snapshot() as connection:
        return await select_sought(connection, search, PIECE)


async def all_records(database: Database, reads: ExpensiveReads) -> AsyncIterator[str]:
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
            partial(database.look, SELECT_RECORDS_WITHIN, {"after": after, "last": last}),
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
