-- Durations are real minutes: where the clocks change, an appointment ends at another wall-clock time
-- than its beginning plus its duration. Two days on the clocks are the most that a day of real time
-- can last (Pacific/Apia left out 2011-12-30). SQLite changes no constraint of a table that stands, so
-- the table is made anew; to rename it, SQLite wants a place for temporary files.
pragma temp_store = memory;
drop trigger if exists appointment_inserted;
drop trigger if exists appointment_updated;
drop table if exists appointment_kept;
create table appointment_kept (
    id integer primary key autoincrement,
    version integer not null default 1 check (version >= 1),
    status text not null default 'booked'
        check (status in ('booked', 'arrived', 'done', 'no_show', 'cancelled')),
    patient_name text not null check (length(patient_name) between 1 and 200),
    -- The name as it is searched for: without regard to case, in any alphabet.
    patient_key text not null,
    office_number text not null check (length(office_number) between 1 and 50),
    doctor_name text check (length(doctor_name) between 1 and 200),
    date_time text not null check (date_time glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*'),
    duration_minutes integer not null check (duration_minutes between 1 and 1440),
    end_time text not null
        check (end_time > date_time
        and julianday(end_time) - julianday(date_time) between 0 and 2.0001),
    override_reason text check (length(override_reason) between 1 and 500)
);
insert into appointment_kept (
    id, version, status, patient_name, patient_key, office_number, doctor_name, date_time,
    duration_minutes, end_time, override_reason
)
select
    id, version, status, patient_name, patient_key, office_number, doctor_name, date_time,
    duration_minutes, end_time, override_reason
from appointment;
-- The numbers go on where they were, also after appointments that were deleted.
insert into sqlite_sequence (name, seq)
select 'appointment_kept', 0
where not exists (select 1 from sqlite_sequence where name = 'appointment_kept');
update sqlite_sequence
set seq = max(seq, coalesce((select seq from sqlite_sequence where name = 'appointment'), 0))
where name = 'appointment_kept';
drop table appointment;
alter table appointment_kept rename to appointment;
create index if not exists appointment_time on appointment (date_time, id);
create index if not exists appointment_office on appointment (office_number, date_time, id);
create index if not exists appointment_doctor on appointment (doctor_name, date_time, id)
    where doctor_name is not null;
create index if not exists appointment_patient on appointment (patient_key, date_time, id);
create index if not exists appointment_status on appointment (status, date_time, id);
create index if not exists appointment_overnight on appointment (date_time)
    where date(end_time) > date(date_time);
-- Overrides of an office or a doctor are found by indexes of their own: a time may have been
-- overbooked thousands of times, and thousands may be overbooked at one time.
create index if not exists appointment_override_office on appointment (office_number, date_time)
    where override_reason is not null and status <> 'cancelled';
create index if not exists appointment_override_doctor on appointment (doctor_name, date_time)
    where override_reason is not null and status <> 'cancelled';

-- Ordinary appointments of one office or doctor never overlap, so only the last of them that begins
-- before the new one ends can overlap it. Overrides are looked through by their own index.
create trigger if not exists appointment_inserted before insert on appointment
when new.status <> 'cancelled' and new.override_reason is null
begin
    select raise(abort, 'office_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.office_number = new.office_number
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-2 days') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'doctor_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.doctor_name = new.doctor_name
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-2 days') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'office_taken')
    from appointment a indexed by appointment_override_office
    where a.office_number = new.office_number and a.override_reason is not null
        and a.status <> 'cancelled' and a.date_time > datetime(new.date_time, '-2 days')
        and a.date_time < new.end_time and a.end_time > new.date_time;
    select raise(abort, 'doctor_taken')
    from appointment a indexed by appointment_override_doctor
    where a.doctor_name = new.doctor_name and a.override_reason is not null
        and a.status <> 'cancelled' and a.date_time > datetime(new.date_time, '-2 days')
        and a.date_time < new.end_time and a.end_time > new.date_time;
end;
create trigger if not exists appointment_updated before update on appointment
when new.status <> 'cancelled' and new.override_reason is null
    and (
        old.status = 'cancelled' or old.override_reason is not null
        or old.office_number <> new.office_number or old.doctor_name is not new.doctor_name
        or old.date_time <> new.date_time or old.end_time <> new.end_time
    )
begin
    select raise(abort, 'office_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.office_number = new.office_number and a.id <> new.id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-2 days') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'doctor_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.doctor_name = new.doctor_name and a.id <> new.id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-2 days') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'office_taken')
    from appointment a indexed by appointment_override_office
    where a.office_number = new.office_number and a.id <> new.id and a.override_reason is not null
        and a.status <> 'cancelled' and a.date_time > datetime(new.date_time, '-2 days')
        and a.date_time < new.end_time and a.end_time > new.date_time;
    select raise(abort, 'doctor_taken')
    from appointment a indexed by appointment_override_doctor
    where a.doctor_name = new.doctor_name and a.id <> new.id and a.override_reason is not null
        and a.status <> 'cancelled' and a.date_time > datetime(new.date_time, '-2 days')
        and a.date_time < new.end_time and a.end_time > new.date_time;
end;
