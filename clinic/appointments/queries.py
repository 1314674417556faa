"""The appointment's table: one function, one statement."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic_core import from_json

from clinic.appointments.appointment import LONGEST_ON_CLOCKS, Appointment, Occupancy
from clinic.appointments.names import patient_key
from clinic.database import Connection, Database, Row, Sql, as_row, as_wall_clock

COLUMNS = """
    id, version, status, patient_name, office_number, doctor_name, date_time, duration_minutes,
    end_time, override_reason
"""

# Books what is free, and logs the events of what was booked: an appointment never stands in the
# book without its event, and all of it is one round trip. The statement writes the tables of
# `clinic.messaging.outbox` as well, for each further one would be half of what a booking takes.
#
# On PostgreSQL the schema's constraints decide what is free, but for overrides, which no constraint
# can see. They are counted rather than looked for by `exists`: of a table that nobody has analyzed
# yet PostgreSQL expects many overrides, and would look for the first one in the whole book. The
# schema's trigger, which judges other statements, is told that this one has judged.
# On SQLite nobody else writes meanwhile, and the conditions repeat those of the schema's
# triggers (migrations/sqlite/0001.clinic.sql), which would abort the whole batch for one
# conflict. The numbers are fresh: an appointment that has one of them was booked here.
INSERT_FREE = Sql(
    sqlite=(
        """
        with request as (
            select
                value->>'id' as id, value->>'patient_name' as patient_name,
                value->>'patient_key' as patient_key, value->>'office_number' as office_number,
                value->>'doctor_name' as doctor_name, value->>'date_time' as date_time,
                value->>'duration_minutes' as duration_minutes, value->>'end_time' as end_time,
                value->>'override_reason' as override_reason
            from json_each(:requests)
        )
        insert into appointment (
            id, patient_name, patient_key, office_number, doctor_name, date_time, duration_minutes,
            end_time, override_reason
        )
        select * from request
        where override_reason is not null or (
            coalesce((
                select a.end_time from appointment a
                where a.office_number = request.office_number
                    and a.override_reason is null and a.status <> 'cancelled'
                    and a.date_time > datetime(request.date_time, '-2 days')
                    and a.date_time < request.end_time
                order by a.date_time desc limit 1
            ) <= request.date_time, true)
            and coalesce((
                select a.end_time from appointment a
                where a.doctor_name = request.doctor_name
                    and a.override_reason is null and a.status <> 'cancelled'
                    and a.date_time > datetime(request.date_time, '-2 days')
                    and a.date_time < request.end_time
                order by a.date_time desc limit 1
            ) <= request.date_time, true)
            and not exists (
                select 1 from appointment a indexed by appointment_override_office
                where a.office_number = request.office_number
                    and a.override_reason is not null and a.status <> 'cancelled'
                    and a.date_time > datetime(request.date_time, '-2 days')
                    and a.date_time < request.end_time and a.end_time > request.date_time
            )
            and not exists (
                select 1 from appointment a indexed by appointment_override_doctor
                where a.doctor_name = request.doctor_name
                    and a.override_reason is not null and a.status <> 'cancelled'
                    and a.date_time > datetime(request.date_time, '-2 days')
                    and a.date_time < request.end_time and a.end_time > request.date_time
            )
        )
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
        """,
    ),
    postgresql="""
        with judged as (
            select set_config('clinic.judged', 'yes', true) as here
        ),
        request as (
            select * from json_to_recordset(cast(:requests as json)) as request (
                id bigint, patient_name text, patient_key text, office_number text,
                doctor_name text, date_time timestamp, duration_minutes int, end_time timestamp,
                override_reason text, event_id text, event_type text, event_subject text,
                event_body text
            )
        ),
        booked as (
            insert into appointment (
                id, patient_name, patient_key, office_number, doctor_name, date_time,
                duration_minutes, end_time, override_reason
            )
            select
                id, patient_name, patient_key, office_number, doctor_name, date_time,
                duration_minutes, end_time, override_reason
            from request
            where (select here from judged) = 'yes' and (
                override_reason is not null or coalesce(
                    (
                        select false from appointment a
                        where a.override_reason is not null and a.status <> 'cancelled'
                            and occupied(a.office_number, a.date_time, a.end_time)
                            && occupied(request.office_number, request.date_time, request.end_time)
                        having count(*) > 0
                    ),
                    (
                        select false from appointment a
                        where a.override_reason is not null and a.status <> 'cancelled'
                            and a.doctor_name is not null
                            and occupied(a.doctor_name, a.date_time, a.end_time)
                            && occupied(request.doctor_name, request.date_time, request.end_time)
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
                and a.office_number = value->>'office_number'
                and a.doctor_name is value->>'doctor_name'
                and a.end_time = value->>'end_time' and a.status <> 'cancelled'
            order by a.id limit 1
        ) as same
        from json_each(:requests)
    """,
    postgresql="""
        select request.id as request, found.id as same
        from json_to_recordset(cast(:requests as json)) as request (
            id bigint, patient_name text, patient_key text, office_number text, doctor_name text,
            date_time timestamp, end_time timestamp
        )
        cross join lateral (
            select a.id from appointment a
            where a.patient_key = request.patient_key and a.date_time = request.date_time
                and a.patient_name = request.patient_name
                and a.office_number = request.office_number
                and a.doctor_name is not distinct from request.doctor_name
                and a.end_time = request.end_time and a.status <> 'cancelled'
            order by a.id limit 1
        ) as found
    """,
)

# All there is to say of a time that is not free, in one round trip: the appointments that conflict,
# and what is taken of the office and of the doctor from then on. Each is one JSON text, for rows
# take several times as long.
#
# Each branch is answered from one index. On PostgreSQL those are the indexes of the schema's rule
# and of overrides; on SQLite those of an office's or a doctor's times. There the appointments that
# begin before are skipped but for the last ordinary one, the only one of its kind that can last
# until then, and for overrides.
SELECT_CONFLICTS = Sql(
    sqlite="""
        select (
            select json_group_array(json_object(
                'id', id, 'version', version, 'status', status, 'patient_name', patient_name,
                'office_number', office_number, 'doctor_name', doctor_name, 'date_time', date_time,
                'duration_minutes', duration_minutes, 'end_time', end_time,
                'override_reason', override_reason
            )) from (
                select * from (
                select * from appointment
                where office_number = :office_number and status <> 'cancelled'
                    and override_reason is null and end_time > :begins
                    and date_time < :ends and date_time >= coalesce((
                        select date_time from appointment
                        where office_number = :office_number and status <> 'cancelled'
                            and override_reason is null and date_time <= :begins
                        order by date_time desc limit 1
                    ), :begins)
                union
                select * from appointment
                where doctor_name = :doctor_name and status <> 'cancelled'
                    and override_reason is null and end_time > :begins
                    and date_time < :ends and date_time >= coalesce((
                        select date_time from appointment
                        where doctor_name = :doctor_name and status <> 'cancelled'
                            and override_reason is null and date_time <= :begins
                        order by date_time desc limit 1
                    ), :begins)
                union
                select * from (
                    select * from appointment indexed by appointment_override_office
                    where office_number = :office_number and status <> 'cancelled'
                        and override_reason is not null
                        and date_time > :earliest and date_time < :ends and end_time > :begins
                    order by date_time limit :most_conflicts
                )
                union
                select * from (
                    select * from appointment indexed by appointment_override_doctor
                    where doctor_name = :doctor_name and status <> 'cancelled'
                        and override_reason is not null
                        and date_time > :earliest and date_time < :ends and end_time > :begins
                    order by date_time limit :most_conflicts
                )
                )
                where id <> :besides
                order by date_time, id limit :most_conflicts
            )
        ) as conflicts, (
            select json_group_array(json_array(date_time, end_time)) from (
                select date_time, end_time from appointment
                where office_number = :office_number and status <> 'cancelled' and id <> :besides
                    and date_time < :until and end_time > :begins and date_time >= min(
                        coalesce((
                            select date_time from appointment
                            where office_number = :office_number and status <> 'cancelled'
                                and override_reason is null and date_time <= :begins
                            order by date_time desc limit 1
                        ), :begins),
                        coalesce((
                            select min(date_time)
                            from appointment indexed by appointment_override_office
                            where office_number = :office_number and status <> 'cancelled'
                                and override_reason is not null
                                and date_time > :earliest and date_time <= :begins
                        ), :begins)
                    )
                order by date_time limit :most_taken
            )
        ) as office_taken, (
            select json_group_array(json_array(date_time, end_time)) from (
                select date_time, end_time from appointment
                where doctor_name = :doctor_name and status <> 'cancelled' and id <> :besides
                    and date_time < :until and end_time > :begins and date_time >= min(
                        coalesce((
                            select date_time from appointment
                            where doctor_name = :doctor_name and status <> 'cancelled'
                                and override_reason is null and date_time <= :begins
                            order by date_time desc limit 1
                        ), :begins),
                        coalesce((
                            select min(date_time)
                            from appointment indexed by appointment_override_doctor
                            where doctor_name = :doctor_name and status <> 'cancelled'
                                and override_reason is not null
                                and date_time > :earliest and date_time <= :begins
                        ), :begins)
                    )
                order by date_time limit :most_taken
            )
        ) as doctor_taken
    """,
    postgresql="""
        select (
            select json_agg(conflict) from (
                select * from (
                select * from appointment
                where status <> 'cancelled' and override_reason is null
                    and occupied(office_number, date_time, end_time)
                    && occupied(:office_number, :begins, :ends)
                union
                select * from appointment
                where status <> 'cancelled' and override_reason is null and doctor_name is not null
                    and occupied(doctor_name, date_time, end_time)
                    && occupied(:doctor_name, :begins, :ends)
                union
                select * from appointment
                where status <> 'cancelled' and override_reason is not null
                    and occupied(office_number, date_time, end_time)
                    && occupied(:office_number, :begins, :ends)
                union
                select * from appointment
                where status <> 'cancelled' and override_reason is not null
                    and doctor_name is not null
                    and occupied(doctor_name, date_time, end_time)
                    && occupied(:doctor_name, :begins, :ends)
                ) as overlapping
                where id <> :besides
                order by date_time, id limit :most_conflicts
            ) as conflict
        ) as conflicts, (
            select json_agg(json_build_array(date_time, end_time)) from (
                select date_time, end_time from appointment
                where office_number = :office_number and status <> 'cancelled' and id <> :besides
                    and date_time > :earliest and date_time < :until and end_time > :begins
                order by date_time limit :most_taken
            ) as taken
        ) as office_taken, (
            select json_agg(json_build_array(date_time, end_time)) from (
                select date_time, end_time from appointment
                where doctor_name = :doctor_name and status <> 'cancelled' and id <> :besides
                    and date_time > :earliest and date_time < :until and end_time > :begins
                order by date_time limit :most_taken
            ) as taken
        ) as doctor_taken
    """,
)


class Gap(NamedTuple):
    """A span in which nothing is taken, from one wall-clock time up to another."""

    opens: datetime.datetime
    closes: datetime.datetime


async def insert_free(
    target: Connection | Database, requests: Sequence[Row], held_until: datetime.datetime
) -> set[int]:
    """Book the appointments that are free, with their events; return the numbers of those.

    ``requests`` are rows of ``request_row``, of which no two may overlap; one with an
    ``override_reason`` is booked in any case. On a ``Database`` it is a transaction of its own, in
    one round trip. The events are held for this process's relay until then; see
    ``Outbox.hand_over``.

    Raises:
        StatementRefused: one of the rows contradicts the schema, and none was booked.
        DatabaseUnavailable: the database cannot do it now.
    """
    values = {"requests": list(requests), "held_until": held_until}
    if isinstance(target, Database):
        rows = await target.at_once(INSERT_FREE, values)
    else:
        rows = await target.fetch_all(INSERT_FREE, values)
    return {row["id"] for row in rows}


def request_row(appointment: Appointment, event: Mapping[str, str]) -> Row:
    """Return what is to be written of a new appointment and of the event that tells of it.

    ``event`` has the columns ``event_id``, ``event_type``, ``event_subject``, ``event_body``.
    """
    return {
        "id": appointment.id,
        "patient_name": appointment.patient_name,
        "patient_key": patient_key(appointment.patient_name),
        "office_number": appointment.office_number,
        "doctor_name": appointment.doctor_name,
        "date_time": appointment.date_time,
        "duration_minutes": appointment.duration_minutes,
        "end_time": appointment.end_time,
        "override_reason": appointment.override_reason,
        **event,
    }


async def select_same(target: Connection | Database, requests: Sequence[Row]) -> dict[int, int]:
    """Return which requests stand in the book already: by their numbers, the numbers there."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(SELECT_SAME, {"requests": list(requests)})
    return {row["request"]: row["same"] for row in rows if row["same"] is not None}


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a look at conflicts goes.

    ``most_conflicts`` are named; free times are sought ``until`` then, and among ``most_taken``
    appointments of the office and as many of the doctor.
    """

    until: datetime.datetime
    most_conflicts: int
    most_taken: int


async def select_conflicts(
    database: Database, wanted: Occupancy, besides: int, limits: Limits
) -> tuple[list[Appointment], list[Gap]]:
    """Return what overlaps an occupancy, in order of time, and the gaps from then on.

    The appointment ``besides`` does not count. In the gaps neither the office nor the doctor is
    taken.
    """
    (row,) = await database.look(
        SELECT_CONFLICTS,
        {
            "office_number": wanted.office_number,
            "doctor_name": wanted.doctor_name,
            "begins": wanted.begins,
            "ends": wanted.ends,
            # No appointment that begins before this lasts until then.
            "earliest": wanted.begins - LONGEST_ON_CLOCKS,
            "besides": besides,
            **as_row(limits),
        },
    )
    conflicts = [appointment_of(one) for one in from_json(row["conflicts"] or "[]")]
    gaps = [Gap(wanted.begins, limits.until)]
    for name in ("office_taken", "doctor_taken"):
        taken = from_json(row[name] or "[]")
        whole = len(taken) < limits.most_taken
        closes = limits.until if whole else as_wall_clock(taken[-1][0])
        gaps = list(common(gaps, list(between(taken, wanted.begins, closes))))
    return conflicts, gaps


def between(
    taken: Sequence[Sequence[str]], opens: datetime.datetime, closes: datetime.datetime
) -> Iterator[Gap]:
    """Yield the gaps between spans of ISO 8601 texts, which sort as the times do.

    The spans are in the order of their beginnings; those of overrides overlap others.
    """
    free_from = ""
    for begins, ends in taken:
        if begins > free_from:
            gap = Gap(as_wall_clock(free_from) if free_from else opens, as_wall_clock(begins))
            if gap.opens < gap.closes:
                yield gap
        free_from = max(free_from, ends)
    last = Gap(as_wall_clock(free_from) if free_from else opens, closes)
    if last.opens < last.closes:
        yield last


def common(some: Sequence[Gap], others: Sequence[Gap]) -> Iterator[Gap]:
    """Yield what two sequences of gaps have in common; each is in order and without overlaps."""
    places = [0, 0]
    while places[0] < len(some) and places[1] < len(others):
        one, other = some[places[0]], others[places[1]]
        opens, closes = max(one.opens, other.opens), min(one.closes, other.closes)
        if opens < closes:
            yield Gap(opens, closes)
        places[one.closes > other.closes] += 1


def _span(wanted: Occupancy) -> dict[str, object]:
    return {
        "office_number": wanted.office_number,
        "doctor_name": wanted.doctor_name,
        "begins": wanted.begins,
        "ends": wanted.ends,
        # No appointment that begins before this lasts until then.
        "earliest": wanted.begins - LONGEST_ON_CLOCKS,
    }


async def lock_offices_and_doctors(
    connection: Connection, occupancies: Sequence[Occupancy]
) -> None:
    """Wait for others who want these offices or doctors, at any time, until they end.

    Without it appointments that move to one time at once deadlock, since each writes its row before
    it looks for others; and no rule of the schema stops two overrides.
    """
    names = {f"office {one.office_number}" for one in occupancies}
    names |= {f"doctor {one.doctor_name}" for one in occupancies if one.doctor_name is not None}
    await connection.execute(
        Sql(
            # A transaction that writes is alone anyway.
            sqlite="select value from json_each(:names)",
            postgresql="""
                select pg_advisory_xact_lock(hashtextextended(value, 0))
                from json_array_elements_text(cast(:names as json))
            """,
        ),
        # In one order for all, so that no two deadlock.
        {"names": sorted(names)},
    )


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
        as_row(changed) | {"patient_key": patient_key(changed.patient_name)},
    )


async def select_appointment(
    target: Connection | Database, appointment_id: int
) -> Appointment | None:
    """Return one appointment, or None if there is no such."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(
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
        end_time=as_wall_clock(row["end_time"]),
        override_reason=row["override_reason"],
    )
