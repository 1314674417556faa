-- Analytics at any size: what was recorded, added up by day and by month. Batches are recorded by themselves,
-- and counted a moment later (clinic/analytics/counts.py); `uncounted` says which are still to be. All that
-- is below can be made again from `recorded` and the registry.

-- What was recorded before there were these columns has them in the event log only.
alter table recorded add column if not exists begins_minute integer
    check (begins_minute between 0 and 1439);
alter table recorded add column if not exists override boolean;

-- The ids of the events of a batch.
create table if not exists uncounted (
    position bigint generated always as identity primary key,
    event_ids text[] not null
);

-- How each appointment stands by the latest event that was counted: what a later one has to take back.
-- An office or a doctor is '#' and its id or, if the registry does not know it, '=' and the name that the
-- event told; the doctor is '' if there is none. `begins` and `ends` are minutes of the day; what lasts
-- beyond midnight ends with the day. `waiting` is how many minutes the patient waited, rounded as below.
create table if not exists standing (
    appointment_id bigint primary key,
    version integer not null,
    status text not null,
    day date not null,
    month date not null,
    begins integer not null,
    ends integer not null,
    duration_minutes integer not null,
    override boolean not null,
    office text not null,
    doctor text not null,
    waiting integer
);
create index if not exists standing_day on standing (day);

-- How many there are on a day or in a month, whose first day is `first`:
--
--     measure   key         number
--     event     its type                 events
--     office    the office               bookings
--     hour                  of the week  bookings
--     lead                  minutes      bookings, by how long before the appointment they were made
--     status    the status               appointments
--     waiting   the doctor  minutes      appointments, by how long their patients waited
create table if not exists tally (
    span text not null check (span in ('day', 'month')),
    measure text not null,
    first date not null,
    key text not null,
    number integer not null,
    n bigint not null,
    primary key (span, measure, first, key, number)
);

-- How offices and doctors are in use on a day or in a month. Cancelled appointments and those that were not
-- kept are left out; `minutes_in_hours` leaves out overrides, too, and what lies outside of the hours. While
-- `days` is null, the last three are still to be found: of a day by its hours, of a month from its days.
create table if not exists in_use (
    span text not null check (span in ('day', 'month')),
    first date not null,
    kind text not null check (kind in ('office', 'doctor')),
    place text not null,
    appointments bigint not null,
    minutes bigint not null,
    overbooked_minutes bigint not null,
    minutes_in_hours bigint not null,
    minutes_open bigint,
    days integer,
    primary key (span, first, kind, place)
);
create index if not exists in_use_unknown on in_use (span, first) where days is null;

-- The hours by which these minutes were found, in minutes of the day.
create table if not exists open_span (
    day date not null,
    kind text not null,
    place text not null,
    opens integer not null,
    closes integer not null,
    primary key (day, kind, place, opens)
);
-- What the registry said of a month's hours then. When it says something else, they are found anew.
create table if not exists counted_hours (
    month date primary key,
    fingerprint text not null
);

-- An event as it is counted. Minutes are rounded towards 0 to seven binary digits, and told as the middle
-- of what is rounded to them: with an error of less than 0.8 %, and of none below 128.
create or replace view told_event as
select
    event_id, type, appointment_id, version, status, day,
    cast(date_trunc('month', day) as date) as month,
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
    end as lead
from recorded
left join resource as office on office.id = office_id
left join resource as doctor on doctor.id = doctor_id;

-- How each appointment stands by the latest event that was recorded, in whatever order they came. A patient
-- who is in_room or done has waited from their arrival, the first since they were last expected, until they
-- were called in, which was after they were last seen waiting.
create or replace view standing_now as
select
    appointment_id, version, status, day, month, begins,
    least(begins + duration_minutes, 1440) as ends,
    duration_minutes, override, office, doctor,
    waited - waited % case
        when abs(waited) < 128 then 1
        when abs(waited) < 256 then 2
        when abs(waited) < 512 then 4
        when abs(waited) < 1024 then 8
        when abs(waited) < 2048 then 16
        when abs(waited) < 4096 then 32
        when abs(waited) < 8192 then 64
        when abs(waited) < 16384 then 128
        when abs(waited) < 32768 then 256
        when abs(waited) < 65536 then 512
        when abs(waited) < 131072 then 1024
        when abs(waited) < 262144 then 2048
        when abs(waited) < 524288 then 4096
        when abs(waited) < 1048576 then 8192
        when abs(waited) < 2097152 then 16384
        when abs(waited) < 4194304 then 32768
        when abs(waited) < 8388608 then 65536
        when abs(waited) < 16777216 then 131072
        when abs(waited) < 33554432 then 262144
        when abs(waited) < 67108864 then 524288
        when abs(waited) < 134217728 then 1048576
        when abs(waited) < 268435456 then 2097152
        when abs(waited) < 536870912 then 4194304
        when abs(waited) < 1073741824 then 8388608
        when abs(waited) < 2147483648 then 16777216
    end as waiting
from (
    select
        found.*,
        case
            when called_at < arrived_at then 0
            when called_at >= arrived_at then cast(floor(extract(epoch from called_at - arrived_at) / 60) as integer)
        end as waited
    from (
        select
            latest.appointment_id, latest.version, latest.status, day, month, duration_minutes,
            office, doctor,
            coalesce(
                begins_minute,
                (
                    select 60 * cast(substr(cast(body as json) -> 'data' ->> 'date_time', 12, 2) as integer)
                        + cast(substr(cast(body as json) -> 'data' ->> 'date_time', 15, 2) as integer)
                    from event where event.id = latest.event_id
                ),
                hour_of_week % 24 * 60
            ) as begins,
            coalesce(
                override,
                (
                    select cast(cast(body as json) -> 'data' ->> 'override' as boolean)
                    from event where event.id = latest.event_id
                ),
                false
            ) as override,
            case when latest.status in ('in_room', 'done') then (
                select arrival.occurred_at from recorded as arrival
                where arrival.appointment_id = latest.appointment_id and arrival.status = 'arrived'
                    and arrival.version > coalesce((
                        select max(expected.version) from recorded as expected
                        where expected.appointment_id = latest.appointment_id
                            and expected.status not in ('arrived', 'in_room', 'done')
                    ), 0)
                order by arrival.version limit 1
            ) end as arrived_at,
            case when latest.status in ('in_room', 'done') then (
                select call.occurred_at from recorded as call
                where call.appointment_id = latest.appointment_id
                    and call.status in ('in_room', 'done')
                    and call.version > (
                        select max(waiting.version) from recorded as waiting
                        where waiting.appointment_id = latest.appointment_id
                            and waiting.status = 'arrived'
                    )
                order by call.version limit 1
            ) end as called_at
        from told_event as latest
        where not exists (
            select 1 from recorded as later
            where later.appointment_id = latest.appointment_id
                and (later.version, later.event_id) > (latest.version, latest.event_id)
        )
    ) as found
) as judged;

-- What was recorded before.
delete from uncounted;
delete from standing;
delete from tally;
delete from in_use;
delete from open_span;
delete from counted_hours;
insert into standing
select
    appointment_id, version, status, day, month, begins, ends, duration_minutes, override, office,
    doctor, waiting
from standing_now;
insert into tally (span, measure, first, key, number, n)
select span, measure, case span when 'day' then day else month end as first, key, number, sum(n)
from (
    select 'event' as measure, day, month, type as key, 0 as number, count(*) as n
    from told_event group by type, day, month
    union all
    select 'office', day, month, office, 0, count(*)
    from told_event where type = 'appointment.booked' group by office, day, month
    union all
    select 'hour', day, month, '', hour_of_week, count(*)
    from told_event where type = 'appointment.booked' group by hour_of_week, day, month
    union all
    select 'lead', day, month, '', lead, count(*)
    from told_event where type = 'appointment.booked' group by lead, day, month
    union all
    select 'status', day, month, status, 0, count(*) from standing group by status, day, month
    union all
    select 'waiting', day, month, doctor, waiting, count(*)
    from standing where waiting is not null group by doctor, waiting, day, month
) as counted
cross join (select 'day' as span union all select 'month') as spans
group by 1, 2, 3, 4, 5;
insert into in_use (
    span, first, kind, place, appointments, minutes, overbooked_minutes, minutes_in_hours
)
select
    span, case span when 'day' then day else month end as first, kind, place,
    sum(appointments), sum(minutes), sum(overbooked_minutes), 0
from (
    select
        'office' as kind, office as place, day, month, count(*) as appointments,
        sum(duration_minutes) as minutes,
        sum(case when override then duration_minutes else 0 end) as overbooked_minutes
    from standing where status not in ('cancelled', 'no_show')
    group by office, day, month
    union all
    select
        'doctor', doctor, day, month, count(*), sum(duration_minutes),
        sum(case when override then duration_minutes else 0 end)
    from standing where status not in ('cancelled', 'no_show') and doctor <> ''
    group by doctor, day, month
) as counted
cross join (select 'day' as span union all select 'month') as spans
group by 1, 2, 3, 4;
insert into counted_hours (month, fingerprint)
select distinct month, '' from standing;
