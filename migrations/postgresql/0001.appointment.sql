-- What the clinic does. Times are the clinic's wall-clock time.
--
-- Two appointments that overlap never share an office, nor a doctor where one is named. Cancelled
-- ones occupy nothing. One with an override_reason was laid over others on purpose: it is refused
-- by nothing, but whatever ordinary one comes after it is refused by it.
create extension if not exists btree_gist;
create table if not exists appointment (
    id bigint generated always as identity primary key,
    version integer not null default 1 check (version >= 1),
    status text not null default 'booked'
        check (status in ('booked', 'arrived', 'done', 'no_show', 'cancelled')),
    patient_name text not null check (length(patient_name) between 1 and 200),
    -- The name as it is searched for: without regard to case, in any alphabet.
    patient_key text not null,
    office_number text not null check (length(office_number) between 1 and 50),
    doctor_name text check (length(doctor_name) between 1 and 200),
    date_time timestamp not null,
    duration_minutes integer not null check (duration_minutes between 1 and 1440),
    end_time timestamp not null
        check (end_time = date_time + duration_minutes * interval '1 minute'),
    override_reason text check (length(override_reason) between 1 and 500),
    -- Keyed by integers: over text the same rule costs more than twice as much (DESIGN.md).
    constraint office_taken exclude using gist (
        hashtextextended(office_number, 0) with =, tsrange(date_time, end_time) with &&
    ) where (status <> 'cancelled' and override_reason is null),
    constraint doctor_taken exclude using gist (
        hashtextextended(doctor_name, 0) with =, tsrange(date_time, end_time) with &&
    ) where (doctor_name is not null and status <> 'cancelled' and override_reason is null)
);
create index if not exists appointment_override on appointment
    using gist (tsrange(date_time, end_time))
    where (override_reason is not null and status <> 'cancelled');
create index if not exists appointment_time on appointment (date_time, id);
create index if not exists appointment_office on appointment (office_number, date_time, id);
create index if not exists appointment_doctor on appointment (doctor_name, date_time, id)
    where doctor_name is not null;
create index if not exists appointment_patient on appointment (patient_key, date_time, id);
create index if not exists appointment_status on appointment (status, date_time, id);

-- The constraints cannot say "refused by what came before it on purpose"; this says it. Whoever
-- does not see an override that is being committed at this moment came before it.
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
create or replace trigger appointment_inserted before insert on appointment
    for each row when (new.status <> 'cancelled' and new.override_reason is null)
    execute function refuse_over_override();
-- Only what takes up time anew is judged anew: a patient may arrive whatever was laid over them.
create or replace trigger appointment_updated before update on appointment
    for each row when (
        new.status <> 'cancelled' and new.override_reason is null
        and (
            old.status = 'cancelled' or old.override_reason is not null
            or (old.office_number, old.doctor_name, old.date_time, old.end_time)
                is distinct from (new.office_number, new.doctor_name, new.date_time, new.end_time)
        )
    )
    execute function refuse_over_override();
