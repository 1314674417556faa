"""The appointment's table: one function, one statement."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from clinic.appointments.appointment import ERASED, Appointment, Occupancy
from clinic.database import Connection, Database, Row, Sql, as_wall_clock
from clinic.registry.names import patient_key, words_of
from clinic.registry.records import RegistryChanged

# An appointment with the names that its office, doctor and type have now.
SELECT = """
    select appointment.id, version, status, patient_name, patient_phone, note,
        office_id, office.name as office_number, doctor_id, doctor.name as doctor_name,
        type_id, appointment_type.name as appointment_type, date_time,
        appointment.duration_minutes, end_time, occupied_from, occupied_until, override_reason
    from appointment
    join resource as office on office.id = office_id
    left join resource as doctor on doctor.id = doctor_id
    left join appointment_type on appointment_type.id = type_id
"""

# Books what is free, and logs the events of what was booked: an appointment never stands in the
# book without its event, and all of it is one round trip. The statement writes the tables of
# `clinic.messaging.outbox` as well, for each further one would be half of what a booking takes.
#
# Nothing is booked under another version of the registry than the one that the requests were judged
# by: the row 0 says so. Until the transaction ends nobody makes another version.
#
# On PostgreSQL the schema's constraints decide what is free, but for overrides, which no constraint
# can see. They are counted rather than looked for by `exists`: of a table that nobody has analyzed
# yet PostgreSQL expects many overrides, and would look for the first one in the whole book. The
# schema's trigger, which judges other statements, is told that this one has judged.
# On SQLite nobody else writes meanwhile, and the conditions repeat those of the schema's
# triggers (migrations/sqlite/0002.clinic.sql), which would abort the whole batch for one
# conflict. The numbers are fresh: an appointment that has one of them was booked here.
INSERT_FREE = Sql(
    sqlite=(
        """
        with request as (
            select
                value->>'id' as id, value->>'patient_name' as patient_name,
                value->>'patient_key' as patient_key, value->>'patient_phone' as patient_phone,
                value->>'phone_key' as phone_key, value->>'note' as note,
                value->>'office_id' as office_id, value->>'doctor_id' as doctor_id,
                value->>'type_id' as type_id, value->>'date_time' as date_time,
                value->>'duration_minutes' as duration_minutes, value->>'end_time' as end_time,
                value->>'occupied_from' as occupied_from,
                value->>'occupied_until' as occupied_until,
                value->>'override_reason' as override_reason
            from json_each(:requests)
        )
        insert into appointment (
            id, patient_name, patient_key, patient_phone, phone_key, note, office_id, doctor_id,
            type_id, date_time, duration_minutes, end_time, occupied_from, occupied_until,
            override_reason
        )
        select * from request
        where (select version from registry) = :version and (
            override_reason is not null or (
                coalesce((
                    select a.occupied_until from appointment a
                    where a.office_id = request.office_id
                        and a.override_reason is null and a.status <> 'cancelled'
                        and a.date_time < request.occupied_until
                        and a.date_time > datetime(request.occupied_from, '-3 days')
                    order by a.date_time desc limit 1
                ) <= request.occupied_from, true)
                and coalesce((
                    select a.occupied_from from appointment a
                    where a.office_id = request.office_id
                        and a.override_reason is null and a.status <> 'cancelled'
                        and a.date_time >= request.occupied_until
                        and a.date_time < datetime(request.occupied_until, '+2 days')
                    order by a.date_time limit 1
                ) >= request.occupied_until, true)
                and coalesce((
                    select a.occupied_until from appointment a
                    where a.doctor_id = request.doctor_id
                        and a.override_reason is null and a.status <> 'cancelled'
                        and a.date_time < request.occupied_until
                        and a.date_time > datetime(request.occupied_from, '-3 days')
                    order by a.date_time desc limit 1
                ) <= request.occupied_from, true)
                and coalesce((
                    select a.occupied_from from appointment a
                    where a.doctor_id = request.doctor_id
                        and a.override_reason is null and a.status <> 'cancelled'
                        and a.date_time >= request.occupied_until
                        and a.date_time < datetime(request.occupied_until, '+2 days')
                    order by a.date_time limit 1
                ) >= request.occupied_until, true)
                and not exists (
                    select 1 from appointment a indexed by appointment_override_office
                    where a.office_id = request.office_id
                        and a.override_reason is not null and a.status <> 'cancelled'
                        and a.occupied_from > datetime(request.occupied_from, '-4 days')
                        and a.occupied_from < request.occupied_until
                        and a.occupied_until > request.occupied_from
                )
                and not exists (
                    select 1 from appointment a indexed by appointment_override_doctor
                    where a.doctor_id = request.doctor_id
                        and a.override_reason is not null and a.status <> 'cancelled'
                        and a.occupied_from > datetime(request.occupied_from, '-4 days')
                        and a.occupied_from < request.occupied_until
                        and a.occupied_until > request.occupied_from
                )
            )
        )
        """,
        """
        insert into patient_word (word, appointment_id)
        select word.value, appointment.id
        from json_each(:requests) as request
        join appointment on appointment.id = request.value->>'id'
        join json_each(request.value->'words') as word
        """,
        """
        insert into event (id, type, subject, body)
        select
            value->>'event_id', value->>'event_type', value->>'event_subject', value->>'event_body'
        from json_each(:requests) join appointment on appointment.id = value->>'id'
        order by key
        """,
        """
        insert into outbox (position, relay_at)
        select event.position, :held_until
        from json_each(:requests) join event on event.id = value->>'event_id'
        """,
        """
        select appointment.id
        from json_each(:requests) join appointment on appointment.id = value->>'id'
        union all
        select 0 from registry where version <> :version
        """,
    ),
    postgresql="""
        with registry_as_known as (
            select version, set_config('clinic.judged', 'yes', true)
            from registry where version = :version for share
        ),
        request as (
            select * from json_to_recordset(cast(:requests as json)) as request (
                id bigint, patient_name text, patient_key text, patient_phone text, phone_key text,
                note text, office_id bigint, doctor_id bigint, type_id bigint, date_time timestamp,
                duration_minutes int, end_time timestamp, occupied_from timestamp,
                occupied_until timestamp, override_reason text, event_id text, event_type text,
                event_subject text, event_body text
            )
        ),
        booked as (
            insert into appointment (
                id, patient_name, patient_key, patient_phone, phone_key, note, office_id, doctor_id,
                type_id, date_time, duration_minutes, end_time, occupied_from, occupied_until,
                override_reason
            )
            select
                id, patient_name, patient_key, patient_phone, phone_key, note, office_id, doctor_id,
                type_id, date_time, duration_minutes, end_time, occupied_from, occupied_until,
                override_reason
            from request
            where exists (select from registry_as_known) and (
                override_reason is not null or coalesce(
                    (
                        select false from appointment a
                        where a.override_reason is not null and a.status <> 'cancelled'
                            and occupied(a.office_id, a.occupied_from, a.occupied_until)
                            && occupied(
                                request.office_id, request.occupied_from, request.occupied_until
                            )
                        having count(*) > 0
                    ),
                    (
                        select false from appointment a
                        where a.override_reason is not null and a.status <> 'cancelled'
                            and a.doctor_id is not null
                            and occupied(a.doctor_id, a.occupied_from, a.occupied_until)
                            && occupied(
                                request.doctor_id, request.occupied_from, request.occupied_until
                            )
                        having count(*) > 0
                    ),
                    true
                )
            )
            on conflict do nothing
            returning id
        ),
        logged as (
            insert into event (id, type, subject, body)
            select event_id, event_type, event_subject, event_body
            from request join booked using (id)
            returning position
        ),
        held as (
            insert into outbox (position, relay_at)
            select position, cast(:held_until as timestamptz) from logged
        )
        select id from booked
        union all
        select 0 where not exists (select from registry_as_known)
    """,
)

# Who sends again what stands in the book: the very same appointment, whatever its status but
# cancelled. By the index of patients, one look a request.
SELECT_SAME = Sql(
    sqlite="""
        select value->>'id' as request, (
            select a.id from appointment a
            where a.patient_key = value->>'patient_key' and a.date_time = value->>'date_time'
                and a.patient_name = value->>'patient_name'
                and a.office_id = value->>'office_id'
                and a.doctor_id is value->>'doctor_id'
                and a.end_time = value->>'end_time' and a.status <> 'cancelled'
            order by a.id limit 1
        ) as same
        from json_each(:requests)
    """,
    postgresql="""
        select request.id as request, found.id as same
        from json_to_recordset(cast(:requests as json)) as request (
            id bigint, patient_name text, patient_key text, office_id bigint, doctor_id bigint,
            date_time timestamp, end_time timestamp
        )
        cross join lateral (
            select a.id from appointment a
            where a.patient_key = request.patient_key and a.date_time = request.date_time
                and a.patient_name = request.patient_name
                and a.office_id = request.office_id
                and a.doctor_id is not distinct from request.doctor_id
                and a.end_time = request.end_time and a.status <> 'cancelled'
            order by a.id limit 1
        ) as found
    """,
)


async def insert_free(
    target: Connection | Database,
    requests: Sequence[Row],
    version: int,
    held_until: datetime.datetime,
) -> set[int]:
    """Book the appointments that are free, with their events; return the numbers of those.

    ``requests`` are rows of ``request_row``, of which no two may overlap; one with an
    ``override_reason`` is booked in any case. On a ``Database`` it is a transaction of its own, in
    one round trip. The events are held for this process's relay until then; see
    ``Outbox.hand_over``.

    Raises:
        RegistryChanged: they were judged by another version of it, and none was booked.
        StatementRefused: one of the rows contradicts the schema, and none was booked.
        DatabaseUnavailable: the database cannot do it now.
    """
    values = {"requests": list(requests), "version": version, "held_until": held_until}
    if isinstance(target, Database):
        rows = await target.at_once(INSERT_FREE, values)
    else:
        rows = await target.fetch_all(INSERT_FREE, values)
    booked = {row["id"] for row in rows}
    if 0 in booked:
        raise RegistryChanged
    return booked


def request_row(appointment: Appointment, event: Mapping[str, str]) -> Row:
    """Return what is to be written of a new appointment and of the event that tells of it.

    ``event`` has the columns ``event_id``, ``event_type``, ``event_subject``, ``event_body``.
    """
    return {"id": appointment.id, **_written(appointment), **event}


def _written(appointment: Appointment) -> dict[str, object]:
    key = stored_key(appointment.patient_name)
    return {
        "patient_name": appointment.patient_name,
        "patient_key": key,
        "words": words_of(key),
        "patient_phone": appointment.patient_phone,
        "phone_key": phone_key(appointment.patient_phone),
        "note": appointment.note,
        "office_id": appointment.office_id,
        "doctor_id": appointment.doctor_id,
        "type_id": appointment.type_id,
        "date_time": appointment.date_time,
        "duration_minutes": appointment.duration_minutes,
        "end_time": appointment.end_time,
        "occupied_from": appointment.occupied_from,
        "occupied_until": appointment.occupied_until,
        "override_reason": appointment.override_reason,
    }


def stored_key(patient_name: str) -> str:
    """Return the key by which a patient is looked for; of one who was erased, what no name has."""
    return "" if patient_name == ERASED else patient_key(patient_name)


async def select_same(target: Connection | Database, requests: Sequence[Row]) -> dict[int, int]:
    """Return which requests stand in the book already: by their numbers, the numbers there."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(SELECT_SAME, {"requests": list(requests)})
    return {row["request"]: row["same"] for row in rows if row["same"] is not None}


async def lock_resources(connection: Connection, occupancies: Sequence[Occupancy]) -> None:
    """Wait for others who want these offices or doctors, at any time, until they end.

    Without it appointments that move to one time at once deadlock, since each writes its row before
    it looks for others; and no rule of the schema stops two overrides.
    """
    ids = {one.office_id for one in occupancies}
    ids |= {one.doctor_id for one in occupancies if one.doctor_id is not None}
    await connection.execute(
        Sql(
            # A transaction that writes is alone anyway.
            sqlite="select value from json_each(:ids)",
            postgresql="""
                select pg_advisory_xact_lock(cast(value as bigint))
                from json_array_elements_text(cast(:ids as json))
            """,
        ),
        # In one order for all, so that no two deadlock.
        {"ids": sorted(ids)},
    )


UPDATE_APPOINTMENT = """
    update appointment
    set version = :version, status = :status, patient_name = :patient_name,
        patient_key = :patient_key, patient_phone = :patient_phone, phone_key = :phone_key,
        note = :note, office_id = :office_id, doctor_id = :doctor_id, type_id = :type_id,
        date_time = :date_time, duration_minutes = :duration_minutes, end_time = :end_time,
        occupied_from = :occupied_from, occupied_until = :occupied_until,
        override_reason = :override_reason
    where id = :id
"""
UPDATE_WORDS = Sql(
    sqlite=(
        """
        delete from patient_word
        where appointment_id = :id and word in (select value from json_each(:old_words))
        """,
        "insert into patient_word (word, appointment_id) select value, :id from json_each(:words)",
    ),
    postgresql="select 1",  # an index keeps them
)


async def update_appointment(
    connection: Connection, changed: Appointment, before: Appointment
) -> None:
    """Write down what an appointment has become.

    Raises:
        StatementRefused: ``office_taken`` or ``doctor_taken``, as its ``constraint`` says.
    """
    row = _written(changed)
    words = row.pop("words")
    values = {"id": changed.id, "version": changed.version, "status": changed.status, **row}
    await connection.execute(UPDATE_APPOINTMENT, values)
    if changed.patient_name != before.patient_name:
        old_words = words_of(stored_key(before.patient_name))
        await connection.execute(
            UPDATE_WORDS, {"id": changed.id, "words": words, "old_words": old_words}
        )


async def select_appointment(
    target: Connection | Database, appointment_id: int
) -> Appointment | None:
    """Return one appointment, or None if there is no such."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(f"{SELECT} where appointment.id = :id", {"id": appointment_id})
    return appointment_of(rows[0]) if rows else None


async def select_for_change(connection: Connection, appointment_id: int) -> Appointment | None:
    """Return one appointment that nobody else can change until the transaction ends, or None."""
    select = f"{SELECT} where appointment.id = :id"
    # On SQLite a transaction that writes is alone anyway.
    statement = Sql(sqlite=select, postgresql=select + " for update of appointment")
    rows = await connection.fetch_all(statement, {"id": appointment_id})
    return appointment_of(rows[0]) if rows else None


def appointment_of(row: Mapping[str, Any]) -> Appointment:
    """Return the appointment in a row of ``SELECT``, or in JSON made of one."""
    values = dict(row)
    for name in ("date_time", "end_time", "occupied_from", "occupied_until"):
        values[name] = as_wall_clock(values[name])
    return Appointment(**values)


def phone_key(phone: str | None) -> str | None:
    """Return the digits of a phone number from the last to the first, by which it is looked for."""
    if phone is None:
        return None
    return "".join(str(int(one)) for one in reversed(phone) if one.isdecimal()) or None
