create index if not exists appointment_override on appointment
    using gist (tsrange(date_time, end_time))
    where (override_reason is not null and status <> 'cancelled');
drop index if exists appointment_override_office;
drop index if exists appointment_override_doctor;
create or replace function refuse_over_override() returns trigger language plpgsql as $$
declare
    taken text;
begin
    select case when a.office_number = new.office_number then 'office_taken' else 'doctor_taken' end
    into taken
    from appointment a
    where a.override_reason is not null and a.status <> 'cancelled' and a.id <> new.id
        and tsrange(a.date_time, a.end_time) && tsrange(new.date_time, new.end_time)
        and (a.office_number = new.office_number or a.doctor_name = new.doctor_name) is true
    limit 1;
    if found then
        raise exclusion_violation using message = 'an override is in the way', constraint = taken;
    end if;
    return new;
end
$$;
create or replace function refuse_inserted_over_override() returns trigger language plpgsql as $$
declare
    taken text;
begin
    select case when a.office_number = made.office_number then 'office_taken' else 'doctor_taken' end
    into taken
    from made join appointment a
        on tsrange(a.date_time, a.end_time) && tsrange(made.date_time, made.end_time)
        and (a.office_number = made.office_number or a.doctor_name = made.doctor_name) is true
    where made.override_reason is null and made.status <> 'cancelled'
        and a.override_reason is not null and a.status <> 'cancelled' and a.id <> made.id
    limit 1;
    if found then
        raise exclusion_violation using message = 'an override is in the way', constraint = taken;
    end if;
    return null;
end
$$;
alter table appointment alter column id set generated always;
alter table appointment drop constraint if exists appointment_ends;
alter table appointment add constraint appointment_check
    check (end_time = date_time + duration_minutes * interval '1 minute') not valid;
