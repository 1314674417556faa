drop index if exists appointment_override;
drop trigger if exists appointment_inserted;
drop trigger if exists appointment_updated;
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
