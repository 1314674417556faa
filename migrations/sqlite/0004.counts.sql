-- Analytics at any size: what was recorded, added up by day and by month. Batches are recorded by themselves,
-- and counted a moment later (clinic/analytics/counts.py); `uncounted` says which are still to be. All that
-- is below can be made again from `recorded` and the registry.

-- What was recorded before there were these columns has them in the event log only. It is copied, because a
-- migration may be applied again, which `add column` could not.
drop view if exists event_standing;
drop view if exists told_event;
create table if not exists recorded_anew (
    event_id text primary key,
    type text not null,
    appointment_id integer not null,
    version integer not null,
    status text not null,
    office_id integer not null,
    office_number text not null,
    doctor_id integer,
    doctor_name text,
    day text not null,
    hour_of_week integer not null check (hour_of_week between 0 and 167),
    duration_minutes integer not null,
    lead_minutes integer not null,
    occurred_at text not null,
    recorded_at text not null,
    begins_minute integer check (begins_minute between 0 and 1439),
    override integer check (override in (0, 1))
) without rowid;
insert into recorded_anew (
    event_id, type, appointment_id, version, status, office_id, office_number, doctor_id,
    doctor_name, day, hour_of_week, duration_minutes, lead_minutes, occurred_at, recorded_at
)
select
    event_id, type, appointment_id, version, status, office_id, office_number, doctor_id,
    doctor_name, day, hour_of_week, duration_minutes, lead_minutes, occurred_at, recorded_at
from recorded
where true
on conflict do nothing;
drop table recorded;
alter table recorded_anew rename to recorded;
create index if not exists recorded_appointment on recorded (appointment_id, version);

-- The ids of the events of a batch.
create table if not exists uncounted (
    position integer primary key autoincrement,
    event_ids text not null check (json_valid(event_ids))
);

-- How each appointment stands by the latest event that was counted: what a later one has to take back.
-- An office or a doctor is '#' and its id or, if the registry does not know it, '=' and the name that the
-- event told; the doctor is '' if there is none. `begins` and `ends` are minutes of the day; what lasts
-- beyond midnight ends with the day. `waiting` is for how many minutes the patient waited, below 0 only if
-- clocks disagree.
create table if not exists standing (
    appointment_id integer primary key,
    version integer not null,
    status text not null,
    day text not null,
    month text not null,
    year text not null,
    begins integer not null,
    ends integer not null,
    duration_minutes integer not null,
    override integer not null check (override in (0, 1)),
    office text not null,
    doctor text not null,
    waiting integer
);
create index if not exists standing_day on standing (day);

-- How many there are on a day, in a month or in a year, whose first day is `first`:
--
--     measure   key         number
--     event     its type                 events
--     hour                  of the week  bookings
--     lead                  minutes      bookings, by how long before the appointment they were made
--     status    the status               appointments
--     waiting   the doctor  minutes      appointments, by how long their patients waited
--
-- Minutes are rounded towards 0 to seven binary digits, and told as the middle of what is rounded to them:
-- with an error of less than 0.8 %, and of none below 128.
create table if not exists tally (
    span text not null check (span in ('day', 'month', 'year')),
    measure text not null,
    first text not null,
    key text not null,
    number integer not null,
    n integer not null,
    primary key (span, measure, first, key, number)
) without rowid;

-- How offices and doctors are in use on a day or in a month. `booked` are the bookings of an office. Of the
-- rest cancelled appointments and those that were not kept are left out; `minutes_in_hours` leaves out overrides, too, and what lies outside of the hours. While
-- `days` is null, the last three are still to be found: of a day by its hours, of a month from its days.
create table if not exists in_use (
    span text not null check (span in ('day', 'month')),
    first text not null,
    kind text not null check (kind in ('office', 'doctor')),
    place text not null,
    booked integer not null,
    appointments integer not null,
    minutes integer not null,
    overbooked_minutes integer not null,
    minutes_in_hours integer not null,
    minutes_open integer,
    days integer,
    primary key (span, first, kind, place)
) without rowid;
create index if not exists in_use_unknown on in_use (span, first) where days is null;

-- The hours by which these minutes were found, in minutes of the day.
create table if not exists open_span (
    day text not null,
    kind text not null,
    place text not null,
    opens integer not null,
    closes integer not null,
    primary key (day, kind, place, opens)
) without rowid;
-- What the registry said of a month's hours then. When it says something else, they are found anew.
create table if not exists counted_hours (
    month text primary key,
    fingerprint text not null
);

-- An event as it is counted.
create view if not exists told_event as
select
    event_id, type, appointment_id, version, status, day,
    date(day, 'start of month') as month,
    date(day, 'start of year') as year,
    hour_of_week, duration_minutes, occurred_at, begins_minute, override,
    case when office.id is null then '=' || office_number else '#' || office_id end as office,
    case
        when doctor_name is null then ''
        when doctor.id is null then '=' || doctor_name
        else '#' || doctor_id
    end as doctor,
    lead_minutes - lead_minutes % case
        when abs(lead_minutes) < 128 then 1
        when abs(lead_minutes) < 256 then 2
        when abs(lead_minutes) < 512 then 4
        when abs(lead_minutes) < 1024 then 8
        when abs(lead_minutes) < 2048 then 16
        when abs(lead_minutes) < 4096 then 32
        when abs(lead_minutes) < 8192 then 64
        when abs(lead_minutes) < 16384 then 128
        when abs(lead_minutes) < 32768 then 256
        when abs(lead_minutes) < 65536 then 512
        when abs(lead_minutes) < 131072 then 1024
        when abs(lead_minutes) < 262144 then 2048
        when abs(lead_minutes) < 524288 then 4096
        when abs(lead_minutes) < 1048576 then 8192
        when abs(lead_minutes) < 2097152 then 16384
        when abs(lead_minutes) < 4194304 then 32768
        when abs(lead_minutes) < 8388608 then 65536
        when abs(lead_minutes) < 16777216 then 131072
        when abs(lead_minutes) < 33554432 then 262144
        when abs(lead_minutes) < 67108864 then 524288
        when abs(lead_minutes) < 134217728 then 1048576
        when abs(lead_minutes) < 268435456 then 2097152
        when abs(lead_minutes) < 536870912 then 4194304
        when abs(lead_minutes) < 1073741824 then 8388608
        when abs(lead_minutes) < 2147483648 then 16777216
    end as lead_rounded
from recorded
left join resource as office on office.id = office_id
left join resource as doctor on doctor.id = doctor_id;

-- How an appointment stands by an event, if that is its latest: the one of the highest version, in whatever
-- order they come. A patient who is in_room or done has waited from their arrival, the first since they were
-- last expected, until they were called in, which was after they were last seen waiting.
create view if not exists event_standing as
select
    event_id, appointment_id, version, status, day, month, year, begins,
    min(begins + duration_minutes, 1440) as ends,
    duration_minutes, override, office, doctor, waiting
from (
    select
        told_event.event_id, told_event.appointment_id, told_event.version, told_event.status, day,
        month, year, duration_minutes, office, doctor,
        coalesce(
            begins_minute,
            (
                select 60 * cast(substr(body -> 'data' ->> 'date_time', 12, 2) as integer)
                    + cast(substr(body -> 'data' ->> 'date_time', 15, 2) as integer)
                from event where event.id = told_event.event_id
            ),
            hour_of_week % 24 * 60
        ) as begins,
        coalesce(
            override,
            (
                select body -> 'data' ->> 'override'
                from event where event.id = told_event.event_id
            ),
            0
        ) as override,
        case when told_event.status in ('in_room', 'done') then (
            select (
                1000000 * (
                    unixepoch(substr(call.occurred_at, 1, 19))
                    - unixepoch(substr(arrival.occurred_at, 1, 19))
                ) + substr(call.occurred_at, 21, 6) - substr(arrival.occurred_at, 21, 6)
            ) / 60000000
            from recorded as call
            join recorded as arrival on arrival.appointment_id = call.appointment_id
            where call.appointment_id = told_event.appointment_id
                and call.status in ('in_room', 'done')
                and call.version > (
                    select max(waiting.version) from recorded as waiting
                    where waiting.appointment_id = told_event.appointment_id
                        and waiting.status = 'arrived'
                )
                and arrival.status = 'arrived'
                and arrival.version > coalesce((
                    select max(expected.version) from recorded as expected
                    where expected.appointment_id = told_event.appointment_id
                        and expected.status not in ('arrived', 'in_room', 'done')
                ), 0)
            order by call.version, arrival.version limit 1
        ) end as waiting
    from told_event
) as found;

-- What was recorded before.
delete from uncounted;
delete from standing;
delete from tally;
delete from in_use;
delete from open_span;
delete from counted_hours;
insert into standing
select
    appointment_id, version, status, day, month, year, begins, ends, duration_minutes, override,
    office, doctor, waiting
from event_standing
where not exists (
    select 1 from recorded as later
    where later.appointment_id = event_standing.appointment_id
        and (later.version, later.event_id) > (event_standing.version, event_standing.event_id)
);
insert into tally (span, measure, first, key, number, n)
select span, measure, case span when 'day' then day when 'month' then month else year end as first, key, number, sum(n)
from (
    select 'event' as measure, day, month, year, type as key, 0 as number, count(*) as n
    from told_event group by type, day, month, year
    union all
    select 'hour', day, month, year, '', hour_of_week, count(*)
    from told_event where type = 'appointment.booked' group by hour_of_week, day, month, year
    union all
    select 'lead', day, month, year, '', lead_rounded, count(*)
    from told_event where type = 'appointment.booked' group by lead_rounded, day, month, year
    union all
    select 'status', day, month, year, status, 0, count(*) from standing group by status, day, month, year
    union all
    select
        'waiting', day, month, year, doctor,
        case
            when waiting < 0 then 0
            else waiting - waiting % case
                when abs(waiting) < 128 then 1
                when abs(waiting) < 256 then 2
                when abs(waiting) < 512 then 4
                when abs(waiting) < 1024 then 8
                when abs(waiting) < 2048 then 16
                when abs(waiting) < 4096 then 32
                when abs(waiting) < 8192 then 64
                when abs(waiting) < 16384 then 128
                when abs(waiting) < 32768 then 256
                when abs(waiting) < 65536 then 512
                when abs(waiting) < 131072 then 1024
                when abs(waiting) < 262144 then 2048
                when abs(waiting) < 524288 then 4096
                when abs(waiting) < 1048576 then 8192
                when abs(waiting) < 2097152 then 16384
                when abs(waiting) < 4194304 then 32768
                when abs(waiting) < 8388608 then 65536
                when abs(waiting) < 16777216 then 131072
                when abs(waiting) < 33554432 then 262144
                when abs(waiting) < 67108864 then 524288
                when abs(waiting) < 134217728 then 1048576
                when abs(waiting) < 268435456 then 2097152
                when abs(waiting) < 536870912 then 4194304
                when abs(waiting) < 1073741824 then 8388608
                when abs(waiting) < 2147483648 then 16777216
            end
        end as rounded,
        count(*)
    from standing where waiting is not null group by doctor, rounded, day, month, year
) as counted
cross join (select 'day' as span union all select 'month' union all select 'year') as spans
group by 1, 2, 3, 4, 5;
insert into in_use (
    span, first, kind, place, booked, appointments, minutes, overbooked_minutes, minutes_in_hours
)
select
    span, case span when 'day' then day else month end as first, kind, place,
    sum(booked), sum(appointments), sum(minutes), sum(overbooked_minutes), 0
from (
    select
        'office' as kind, office as place, day, month, count(*) as booked, 0 as appointments,
        0 as minutes, 0 as overbooked_minutes
    from told_event where type = 'appointment.booked'
    group by office, day, month
    union all
    select
        'office', office, day, month, 0, count(*), sum(duration_minutes),
        sum(case when override then duration_minutes else 0 end)
    from standing where status not in ('cancelled', 'no_show')
    group by office, day, month
    union all
    select
        'doctor', doctor, day, month, 0, count(*), sum(duration_minutes),
        sum(case when override then duration_minutes else 0 end)
    from standing where status not in ('cancelled', 'no_show') and doctor <> ''
    group by doctor, day, month
) as counted
cross join (select 'day' as span union all select 'month') as spans
group by 1, 2, 3, 4;
insert into counted_hours (month, fingerprint)
select distinct month, '' from standing;
