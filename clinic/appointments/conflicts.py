"""What conflicts with an appointment, and what is taken from then on: one statement."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from clinic.appointments.appointment import LONGEST_BUFFER, LONGEST_OCCUPIED, Appointment, Occupancy
from clinic.appointments.queries import appointment_of
from clinic.database import Database, Sql, as_wall_clock
from clinic.registry.timetable import Span, common

# All there is to say of a time that is not free, in one round trip: the appointments that conflict,
# and what is taken of the office and of the doctor from then on. Each is one JSON text, for rows
# take several times as long.
#
# Each branch is answered from one index. On PostgreSQL those are the indexes of the schema's rule
# and of overrides, and the branches yield whole rows: of a table that nobody has analyzed yet it
# expects many conflicts, and to join them by their ids it would read the whole book. On SQLite
# those are the indexes of an office's or a doctor's times, and of overrides. There the ordinary
# appointments that conflict begin at or after the last that begins before, the only one of its
# kind that can last until then, and end with the first after, which may have a buffer before.
SELECT_CONFLICTS = Sql(
    sqlite="""
        with conflict as (
            select id from (
                select id from appointment
                where office_id = :office_id and status <> 'cancelled'
                    and override_reason is null and occupied_until > :begins
                    and occupied_from < :ends and date_time <= coalesce((
                        select date_time from appointment
                        where office_id = :office_id and status <> 'cancelled'
                            and override_reason is null and date_time >= :ends
                        order by date_time limit 1
                    ), :ends) and date_time >= coalesce((
                        select date_time from appointment
                        where office_id = :office_id and status <> 'cancelled'
                            and override_reason is null and date_time <= :begins
                        order by date_time desc limit 1
                    ), :begins)
                union
                select id from appointment
                where doctor_id = :doctor_id and status <> 'cancelled'
                    and override_reason is null and occupied_until > :begins
                    and occupied_from < :ends and date_time <= coalesce((
                        select date_time from appointment
                        where doctor_id = :doctor_id and status <> 'cancelled'
                            and override_reason is null and date_time >= :ends
                        order by date_time limit 1
                    ), :ends) and date_time >= coalesce((
                        select date_time from appointment
                        where doctor_id = :doctor_id and status <> 'cancelled'
                            and override_reason is null and date_time <= :begins
                        order by date_time desc limit 1
                    ), :begins)
                union
                select * from (
                    select id from appointment indexed by appointment_override_office
                    where office_id = :office_id and status <> 'cancelled'
                        and override_reason is not null and occupied_from > :earliest
                        and occupied_from < :ends and occupied_until > :begins
                    order by occupied_from limit :most_conflicts
                )
                union
                select * from (
                    select id from appointment indexed by appointment_override_doctor
                    where doctor_id = :doctor_id and status <> 'cancelled'
                        and override_reason is not null and occupied_from > :earliest
                        and occupied_from < :ends and occupied_until > :begins
                    order by occupied_from limit :most_conflicts
                )
            )
            where id <> :besides
        )
        select (
            select json_group_array(json_object(
                'id', id, 'version', version, 'status', status, 'patient_name', patient_name,
                'patient_phone', patient_phone, 'note', note, 'office_id', office_id,
                'office_number', office_number, 'doctor_id', doctor_id,
                'doctor_name', doctor_name, 'type_id', type_id,
                'appointment_type', appointment_type, 'date_time', date_time,
                'duration_minutes', duration_minutes, 'end_time', end_time,
                'occupied_from', occupied_from, 'occupied_until', occupied_until,
                'override_reason', override_reason
            )) from (
                select appointment.*, office.name as office_number, doctor.name as doctor_name,
                    appointment_type.name as appointment_type
                from conflict join appointment using (id)
                join resource as office on office.id = office_id
                left join resource as doctor on doctor.id = doctor_id
                left join appointment_type on appointment_type.id = type_id
                order by date_time, appointment.id limit :most_conflicts
            )
        ) as conflicts, (
            select json_group_array(json_array(occupied_from, occupied_until)) from (
                select occupied_from, occupied_until from appointment
                where office_id = :office_id and status <> 'cancelled' and id <> :besides
                    and date_time < :beyond and occupied_until > :begins and date_time >= min(
                        coalesce((
                            select date_time from appointment
                            where office_id = :office_id and status <> 'cancelled'
                                and override_reason is null and date_time <= :begins
                            order by date_time desc limit 1
                        ), :begins),
                        coalesce((
                            select min(date_time)
                            from appointment indexed by appointment_override_office
                            where office_id = :office_id and status <> 'cancelled'
                                and override_reason is not null
                                and occupied_from > :earliest and occupied_from <= :begins
                        ), :begins)
                    )
                order by date_time limit :most_taken
            )
        ) as office_taken, (
            select json_group_array(json_array(occupied_from, occupied_until)) from (
                select occupied_from, occupied_until from appointment
                where doctor_id = :doctor_id and status <> 'cancelled' and id <> :besides
                    and date_time < :beyond and occupied_until > :begins and date_time >= min(
                        coalesce((
                            select date_time from appointment
                            where doctor_id = :doctor_id and status <> 'cancelled'
                                and override_reason is null and date_time <= :begins
                            order by date_time desc limit 1
                        ), :begins),
                        coalesce((
                            select min(date_time)
                            from appointment indexed by appointment_override_doctor
                            where doctor_id = :doctor_id and status <> 'cancelled'
                                and override_reason is not null
                                and occupied_from > :earliest and occupied_from <= :begins
                        ), :begins)
                    )
                order by date_time limit :most_taken
            )
        ) as doctor_taken
    """,
    postgresql="""
        with conflict as (
            select * from (
                select * from appointment
                where status <> 'cancelled' and override_reason is null
                    and occupied(office_id, occupied_from, occupied_until)
                    && occupied(:office_id, :begins, :ends)
                union
                select * from appointment
                where status <> 'cancelled' and override_reason is null and doctor_id is not null
                    and occupied(doctor_id, occupied_from, occupied_until)
                    && occupied(:doctor_id, :begins, :ends)
                union
                select * from appointment
                where status <> 'cancelled' and override_reason is not null
                    and occupied(office_id, occupied_from, occupied_until)
                    && occupied(:office_id, :begins, :ends)
                union
                select * from appointment
                where status <> 'cancelled' and override_reason is not null
                    and doctor_id is not null
                    and occupied(doctor_id, occupied_from, occupied_until)
                    && occupied(:doctor_id, :begins, :ends)
            ) as overlapping
            where id <> :besides
        )
        select (
            select json_agg(named) from (
                select conflict.id, version, status, patient_name, patient_phone, note,
                    office_id, office.name as office_number, doctor_id,
                    doctor.name as doctor_name, type_id,
                    appointment_type.name as appointment_type, date_time,
                    conflict.duration_minutes, end_time, occupied_from, occupied_until,
                    override_reason
                from conflict
                join resource as office on office.id = office_id
                left join resource as doctor on doctor.id = doctor_id
                left join appointment_type on appointment_type.id = type_id
                order by date_time, conflict.id limit :most_conflicts
            ) as named
        ) as conflicts, (
            select json_agg(json_build_array(occupied_from, occupied_until)) from (
                select occupied_from, occupied_until from appointment
                where office_id = :office_id and status <> 'cancelled' and id <> :besides
                    and date_time > :earliest and date_time < :beyond and occupied_until > :begins
                order by date_time limit :most_taken
            ) as taken
        ) as office_taken, (
            select json_agg(json_build_array(occupied_from, occupied_until)) from (
                select occupied_from, occupied_until from appointment
                where doctor_id = :doctor_id and status <> 'cancelled' and id <> :besides
                    and date_time > :earliest and date_time < :beyond and occupied_until > :begins
                order by date_time limit :most_taken
            ) as taken
        ) as doctor_taken
    """,
)


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
) -> tuple[list[Appointment], list[Span]]:
    """Return what overlaps an occupancy, in order of time, and when from then on all is free.

    The appointment ``besides`` does not count. In the spans neither the office nor the doctor is
    taken.
    """
    (row,) = await database.look(
        SELECT_CONFLICTS,
        {
            "office_id": wanted.office_id,
            "doctor_id": wanted.doctor_id,
            "begins": wanted.begins,
            "ends": wanted.ends,
            # No appointment that begins before this lasts until then.
            "earliest": wanted.begins - LONGEST_OCCUPIED,
            # No appointment that begins after this occupies anything before the end.
            "beyond": limits.until + LONGEST_BUFFER,
            "besides": besides,
            "most_conflicts": limits.most_conflicts,
            "most_taken": limits.most_taken,
        },
    )
    conflicts = [appointment_of(one) for one in from_json(row["conflicts"] or "[]")]
    gaps = [Span(wanted.begins, limits.until)]
    for name in ("office_taken", "doctor_taken"):
        taken = from_json(row[name] or "[]")
        ends = limits.until
        if len(taken) == limits.most_taken:
            # What was not read begins no earlier than the last, but for its buffer.
            ends = max(wanted.begins, as_wall_clock(taken[-1][0]) - LONGEST_BUFFER)
        known = list(common(gaps, [Span(wanted.begins, ends)]))
        gaps = list(common(known, list(between(taken, wanted.begins, ends))))
    return conflicts, gaps


def between(
    taken: Sequence[Sequence[str]], begins: datetime.datetime, ends: datetime.datetime
) -> Iterator[Span]:
    """Yield the gaps between spans of ISO 8601 texts, which sort as the times do.

    The spans are in the order of their appointments' times; those of overrides overlap others.
    """
    free_from = ""
    for taken_from, taken_until in taken:
        if taken_from > free_from:
            gap = Span(as_wall_clock(free_from) if free_from else begins, as_wall_clock(taken_from))
            if gap.begins < gap.ends:
                yield gap
        free_from = max(free_from, taken_until)
    last = Span(as_wall_clock(free_from) if free_from else begins, ends)
    if last.begins < last.ends:
        yield last
