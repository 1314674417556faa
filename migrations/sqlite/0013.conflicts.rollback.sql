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
        check (round((julianday(end_time) - julianday(date_time)) * 1440, 1) = duration_minutes),
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
create index if not exists appointment_override on appointment (date_time)
    where override_reason is not null and status <> 'cancelled';

drop trigger if exists appointment_inserted;
drop trigger if exists appointment_updated;
create trigger if not exists appointment_inserted before insert on appointment
when new.status <> 'cancelled' and new.override_reason is null
begin
    select raise(abort, 'office_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.office_number = new.office_number
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'doctor_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.doctor_name = new.doctor_name
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select case when a.office_number = new.office_number
        then raise(abort, 'office_taken') else raise(abort, 'doctor_taken') end
    from appointment a
    where a.override_reason is not null and a.status <> 'cancelled'
        and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        and a.end_time > new.date_time
        and (+a.office_number = new.office_number or +a.doctor_name = new.doctor_name);
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
            and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'doctor_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.doctor_name = new.doctor_name and a.id <> new.id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select case when a.office_number = new.office_number
        then raise(abort, 'office_taken') else raise(abort, 'doctor_taken') end
    from appointment a
    where a.id <> new.id and a.override_reason is not null and a.status <> 'cancelled'
        and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        and a.end_time > new.date_time
        and (+a.office_number = new.office_number or +a.doctor_name = new.doctor_name);
end;
