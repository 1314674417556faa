"""The appointment's table: one function, one statement."""

import datetime
import unicodedata
from collections.abc import Sequence

from clinic.appointments.appointment import LONGEST, Appointment
from clinic.appointments.occupancy import Slot
from clinic.appointments.requests import Booking
from clinic.database import Connection, Database, Row, Sql, as_row, as_wall_clock
from clinic.events import BOOKED, NUMBER_TO_COME, subject_of
from clinic.messaging.message import Message
from clinic.messaging.outbox import HOLD_LOGGED_ON_SQLITE, LOG_TOLD_ON_POSTGRESQL

COLUMNS = """
    id, version, status, patient_name, office_number, doctor_name, date_time, duration_minutes,
    override_reason
"""

_WANTED = """
    wanted as (
        select * from rows from (
            json_to_recordset(cast(:bookings as json)) as (
                patient_name text, patient_key text, office_number text, doctor_name text,
                date_time timestamp, duration_minutes int, end_time timestamp,
                event_id text, event_body text
            )
        ) with ordinality as booking (
            patient_name, patient_key, office_number, doctor_name,
            date_time, duration_minutes, end_time, event_id, event_body, number
        )
    )
"""
_INSERT_WANTED = """
    insert into appointment (
        patient_name, patient_key, office_number, doctor_name, date_time, duration_minutes, end_time
    )
    select
        patient_name, patient_key, office_number, doctor_name, date_time, duration_minutes, end_time
    from wanted
    where not exists (
        -- By the index of overrides alone (migrations/postgresql/0010.overrides_by_time.sql).
        select from appointment a
        where a.override_reason is not null and a.status <> 'cancelled'
            and tsrange(a.date_time, a.end_time) && tsrange(wanted.date_time, wanted.end_time)
            and (
                a.office_number = wanted.office_number or a.doctor_name = wanted.doctor_name
            ) is true
    )
    on conflict do nothing
"""

# What overlaps an appointment that was there before is left out. On PostgreSQL that is the schema's
# own rule but for overrides, which no constraint can see. On SQLite nobody else is writing, and the
# words are the schema's (migrations/sqlite/0006.last_before.sql), which would refuse all for one.
_INSERT_WANTED_ON_SQLITE = """
    with wanted as (
        select
            value->>'patient_name' as patient_name, value->>'patient_key' as patient_key,
            value->>'office_number' as office_number, value->>'doctor_name' as doctor_name,
            value->>'date_time' as date_time, value->>'duration_minutes' as duration_minutes,
            value->>'end_time' as end_time
        from json_each(:bookings)
    )
    insert into appointment (
        patient_name, patient_key, office_number, doctor_name, date_time, duration_minutes,
        end_time
    )
    select * from wanted
    where coalesce((
        select a.end_time from appointment a
        where a.office_number = wanted.office_number
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(wanted.date_time, '-1 day')
            and a.date_time < wanted.end_time
        order by a.date_time desc limit 1
    ) <= wanted.date_time, true)
    and coalesce((
        select a.end_time from appointment a
        where a.doctor_name = wanted.doctor_name
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(wanted.date_time, '-1 day')
            and a.date_time < wanted.end_time
        order by a.date_time desc limit 1
    ) <= wanted.date_time, true)
    and not exists (
        select 1 from appointment a
        where a.override_reason is not null and a.status <> 'cancelled'
            and a.date_time > datetime(wanted.date_time, '-1 day')
            and a.date_time < wanted.end_time and a.end_time > wanted.date_time
            and (
                +a.office_number = wanted.office_number or +a.doctor_name = wanted.doctor_name
            )
    )
"""
INSERT_FREE = Sql(
    sqlite=_INSERT_WANTED_ON_SQLITE + "returning id, office_number, date_time",
    postgresql=f"with {_WANTED} {_INSERT_WANTED} returning id, office_number, date_time",
)

# SQLite gives ids in a row, and each statement before writes as many rows: appointments, then their
# events, then what holds these (https://sqlite.org/lang_corefunc.html#changes).
_MADE_ON_SQLITE = """
    json_each(:bookings) join appointment as made
        on made.office_number = value->>'office_number' and made.date_time = value->>'date_time'
        and made.id > (select seq - changes() from sqlite_sequence where name = 'appointment')
"""

# The same and the events of what was free, in one trip to the database where a transaction with a
# statement for each takes four, which would be most of what a booking takes.
INSERT_FREE_AND_TELL = Sql(
    sqlite=(
        _INSERT_WANTED_ON_SQLITE,
        f"""
        insert into event (id, type, subject, body)
        select
            value->>'event_id', :event_type, replace(:event_subject, :number_to_come, made.id),
            replace(value->>'event_body', :number_to_come, made.id)
        from {_MADE_ON_SQLITE} order by key
        """,  # noqa: S608 - our own words, no input
        HOLD_LOGGED_ON_SQLITE,
        f"""
        select key as place, made.id as appointment_id from {_MADE_ON_SQLITE}
        """,  # noqa: S608 - our own words, no input
    ),
    postgresql=f"""
        with {_WANTED},
        made as ({_INSERT_WANTED} returning id, office_number, date_time),
        told as (
            select
                number - 1 as place, made.id as appointment_id, event_id as id,
                cast(:event_type as text) as type,
                replace(:event_subject, :number_to_come, cast(made.id as text)) as subject,
                replace(event_body, :number_to_come, cast(made.id as text)) as body
            from wanted join made using (office_number, date_time)
        ),
        {LOG_TOLD_ON_POSTGRESQL}
        select place, appointment_id from told
    """,  # noqa: S608 - our own words, no input
)

_OVERLAPPING = f"""
    select place, {COLUMNS} from wanted join appointment
        on office_number = wanted_office and status <> 'cancelled'
        and date_time > day_before and date_time < ends and end_time > begins
    union
    select place, {COLUMNS} from wanted join appointment
        on doctor_name = wanted_doctor and status <> 'cancelled'
        and date_time > day_before and date_time < ends and end_time > begins
    order by place, date_time, id
"""  # noqa: S608 - columns, no input
SELECT_IN_THE_WAY = Sql(
    sqlite="""
        with wanted as (
            select
                key as place, value->>'office_number' as wanted_office,
                value->>'doctor_name' as wanted_doctor, value->>'day_before' as day_before,
                value->>'date_time' as begins, value->>'end_time' as ends
            from json_each(:slots)
        )
    """
    + _OVERLAPPING,
    postgresql="""
        with wanted as (
            select
                place, office_number as wanted_office, doctor_name as wanted_doctor, day_before,
                date_time as begins, end_time as ends
            from json_to_recordset(cast(:slots as json)) as slot (
                place int, office_number text, doctor_name text, day_before timestamp,
                date_time timestamp, end_time timestamp
            )
        )
    """
    + _OVERLAPPING,
)


async def insert_free(
    connection: Connection, bookings: Sequence[tuple[Booking, Slot]]
) -> dict[int, int]:
    """Write those appointments into the book whose slots are free; return their ids, by place.

    No two of the slots may overlap.
    """
    rows = await connection.fetch_all(
        INSERT_FREE, {"bookings": [wanted(booking, slot) for booking, slot in bookings]}
    )
    made = {(row["office_number"], as_wall_clock(row["date_time"])): row["id"] for row in rows}
    found = {}
    for place, (_, slot) in enumerate(bookings):
        if (slot.office_number, slot.date_time) in made:
            found[place] = made[slot.office_number, slot.date_time]
    return found


async def insert_free_and_tell(
    database: Database, wanted: Sequence[Row], held_until: datetime.datetime
) -> dict[int, int]:
    """Do the same at once with the events, whose messages get the number that comes.

    ``wanted`` are rows of ``wanted_and_told``. The events are held for our own relay until then;
    see ``Outbox.hand_over``.
    """
    rows = await database.at_once(
        INSERT_FREE_AND_TELL,
        {
            "bookings": list(wanted),
            "event_type": BOOKED,
            "event_subject": subject_of(NUMBER_TO_COME),
            "number_to_come": NUMBER_TO_COME,
            "held_until": held_until,
        },
    )
    return {row["place"]: row["appointment_id"] for row in rows}


def wanted(booking: Booking, slot: Slot) -> dict[str, object]:
    """Return what is to be written of a booking."""
    return {
        "patient_name": booking.patient_name,
        "patient_key": patient_key(booking.patient_name),
        "office_number": slot.office_number,
        "doctor_name": slot.doctor_name,
        "date_time": slot.date_time,
        "duration_minutes": slot.duration_minutes,
        "end_time": slot.end_time,
    }


def wanted_and_told(booking: Booking, slot: Slot, told: Message) -> Row:
    """Return what is to be written of a booking and of its event."""
    return {**wanted(booking, slot), "event_id": told.id, "event_body": told.body}


async def lock_places(connection: Connection, slots: Sequence[Slot]) -> None:
    """Wait for others who want these offices or doctors, be it for another time, until they end.

    Without it those who move to one time at once wait for each other in circles, since each writes
    its row before it looks for others; and no rule of the schema stops two overrides.
    """
    places = {f"office {slot.office_number}" for slot in slots}
    places |= {f"doctor {slot.doctor_name}" for slot in slots if slot.doctor_name is not None}
    await connection.execute(
        Sql(
            # A transaction that writes is alone anyway.
            sqlite="select value from json_each(:places)",
            postgresql="""
                select pg_advisory_xact_lock(hashtextextended(value, 0))
                from json_array_elements_text(cast(:places as json))
            """,
        ),
        # In one order for all, so that no two wait for each other in a circle.
        {"places": sorted(places)},
    )


async def insert_overriding(connection: Connection, booking: Booking, slot: Slot) -> int:
    """Write an appointment into the book whatever is in its way, and return its id."""
    rows = await connection.fetch_all(
        """
        insert into appointment (
            patient_name, patient_key, office_number, doctor_name, date_time, duration_minutes,
            end_time, override_reason
        )
        values (
            :patient_name, :patient_key, :office_number, :doctor_name, :date_time,
            :duration_minutes, :end_time, :override_reason
        )
        returning id
        """,
        {
            **wanted(booking, slot),
            "override_reason": booking.reason,
        },
    )
    return int(rows[0]["id"])


async def update_appointment(connection: Connection, changed: Appointment) -> None:
    """Write down what an appointment has become.

    Raises:
        StatementRefused: ``office_taken`` or ``doctor_taken``, as its ``constraint`` says.
    """
    await connection.execute(
        """
        update appointment
        set version = :version, status = :status, patient_name = :patient_name,
            patient_key = :patient_key, office_number = :office_number,
            doctor_name = :doctor_name, date_time = :date_time,
            duration_minutes = :duration_minutes, end_time = :end_time,
            override_reason = :override_reason
        where id = :id
        """,
        as_row(changed)
        | {"patient_key": patient_key(changed.patient_name), "end_time": changed.end_time},
    )


async def select_in_the_way(
    connection: Connection, slots: Sequence[Slot]
) -> list[tuple[int, Appointment]]:
    """Return what overlaps each slot, with the slot's place in the sequence, in order of time."""
    rows = await connection.fetch_all(
        SELECT_IN_THE_WAY,
        {
            "slots": [
                {
                    **as_row(slot),
                    "place": place,
                    "day_before": slot.date_time - LONGEST,
                    "end_time": slot.end_time,
                }
                for place, slot in enumerate(slots)
            ]
        },
    )
    return [(int(row["place"]), appointment_of(row)) for row in rows]


async def select_taken(
    connection: Connection, slot: Slot, until: datetime.datetime, besides: int | None, limit: int
) -> list[tuple[datetime.datetime, datetime.datetime]]:
    """Return the first spans that are taken from the slot's beginning on, in order.

    Those are taken that have its office or its doctor, but for the appointment ``besides``.
    """
    rows = await connection.fetch_all(
        """
        select date_time, end_time from (
            select id, date_time, end_time from appointment
            where office_number = :office_number and status <> 'cancelled'
                and date_time > :day_before and date_time < :until and end_time > :begins
            union
            select id, date_time, end_time from appointment
            where doctor_name = :doctor_name and status <> 'cancelled'
                and date_time > :day_before and date_time < :until and end_time > :begins
        ) as taken
        where id <> :besides
        order by date_time limit :limit
        """,
        {
            "office_number": slot.office_number,
            "doctor_name": slot.doctor_name,
            "day_before": slot.date_time - LONGEST,
            "begins": slot.date_time,
            "until": until,
            "besides": besides or 0,
            "limit": limit,
        },
    )
    return [(as_wall_clock(row["date_time"]), as_wall_clock(row["end_time"])) for row in rows]


async def select_appointment(connection: Connection, appointment_id: int) -> Appointment | None:
    """Return one appointment, or None if there is no such."""
    rows = await connection.fetch_all(
        f"select {COLUMNS} from appointment where id = :id",  # noqa: S608 - columns, no input
        {"id": appointment_id},
    )
    return appointment_of(rows[0]) if rows else None


async def select_for_change(connection: Connection, appointment_id: int) -> Appointment | None:
    """Return one appointment that nobody else can change until the transaction ends, or None."""
    select = f"select {COLUMNS} from appointment where id = :id"  # noqa: S608 - columns, no input
    # On SQLite a transaction that writes is alone anyway.
    statement = Sql(sqlite=select, postgresql=select + " for update")
    rows = await connection.fetch_all(statement, {"id": appointment_id})
    return appointment_of(rows[0]) if rows else None


def patient_key(name: str) -> str:
    """Return a name as it is searched for: the same whatever its case, in any alphabet."""
    return unicodedata.normalize("NFC", name.casefold())


def appointment_of(row: Row) -> Appointment:
    """Return the appointment in a row of ``COLUMNS``."""
    return Appointment(
        id=row["id"],
        version=row["version"],
        status=row["status"],
        patient_name=row["patient_name"],
        office_number=row["office_number"],
        doctor_name=row["doctor_name"],
        date_time=as_wall_clock(row["date_time"]),
        duration_minutes=row["duration_minutes"],
        override_reason=row["override_reason"],
    )
