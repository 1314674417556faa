create or replace function refuse_over_override() returns trigger language plpgsql as $$
declare
    taken text;
begin
    select case when a.office_number = new.office_number then 'office_taken' else 'doctor_taken' end
    into taken
    from appointment a
    where a.override_reason is not null and a.status <> 'cancelled' and a.id <> new.id
        and tsrange(a.date_time, a.end_time) && tsrange(new.date_time, new.end_time)
        and (a.office_number = new.office_number or a.doctor_name = new.doctor_name)
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
        and (a.office_number = made.office_number or a.doctor_name = made.doctor_name)
    where made.override_reason is null and made.status <> 'cancelled'
        and a.override_reason is not null and a.status <> 'cancelled' and a.id <> made.id
    limit 1;
    if found then
        raise exclusion_violation using message = 'an override is in the way', constraint = taken;
    end if;
    return null;
end
$$;
