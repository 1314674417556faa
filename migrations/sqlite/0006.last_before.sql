-- The same rule as in 0001, at the same cost whatever the day holds.
--
-- Ordinary appointments of one office or doctor never overlap, so only the last of them that begins
-- before the new one ends can be in its way. Those laid over others are few, and looked through one
-- by one: by their own index, as the `+` says, for their offices' indexes hold all others, too.
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
