-- What the clinic does. Times are the clinic's wall-clock time as ISO 8601 text, which sorts.
--
-- Two appointments that overlap never share an office, nor a doctor where one is named. Cancelled
-- ones occupy nothing. One with an override_reason was laid over others on purpose: it is refused
-- by nothing, but whatever ordinary one comes after it is refused by it.
create table if not exists appointment (
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
create index if not exists appointment_time on appointment (date_time, id);
create index if not exists appointment_office on appointment (office_number, date_time, id);
create index if not exists appointment_doctor on appointment (doctor_name, date_time, id)
    where doctor_name is not null;
create index if not exists appointment_patient on appointment (patient_key, date_time, id);
create index if not exists appointment_status on appointment (status, date_time, id);

-- No appointment is longer than a day, so none that began a day before is in the way. (What
-- datetime() returns sorts before every time of the same day, and so widens the range a little.)
create trigger if not exists appointment_inserted before insert on appointment
when new.status <> 'cancelled' and new.override_reason is null
begin
    select raise(abort, 'office_taken') from appointment a
    where a.office_number = new.office_number and a.status <> 'cancelled'
        and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        and a.end_time > new.date_time;
    select raise(abort, 'doctor_taken') from appointment a
    where a.doctor_name = new.doctor_name and a.status <> 'cancelled'
        and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        and a.end_time > new.date_time;
end;
-- Only what takes up time anew is judged anew: a patient may arrive whatever was laid over them.
create trigger if not exists appointment_updated before update on appointment
when new.status <> 'cancelled' and new.override_reason is null
    and (
        old.status = 'cancelled' or old.override_reason is not null
        or old.office_number <> new.office_number or old.doctor_name is not new.doctor_name
        or old.date_time <> new.date_time or old.end_time <> new.end_time
    )
begin
    select raise(abort, 'office_taken') from appointment a
    where a.office_number = new.office_number and a.status <> 'cancelled' and a.id <> new.id
        and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        and a.end_time > new.date_time;
    select raise(abort, 'doctor_taken') from appointment a
    where a.doctor_name = new.doctor_name and a.status <> 'cancelled' and a.id <> new.id
        and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        and a.end_time > new.date_time;
end;
