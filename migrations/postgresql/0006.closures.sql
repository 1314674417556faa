-- Why an appointment was changed, where somebody has said so: the reason for the step to this version. It
-- is free text and may hold a name, so it is in no event; an appointment's history shows it beside the
-- event of the same version (clinic/appointments/reasons.py).
create table if not exists change_reason (
    appointment_id bigint not null,
    version integer not null,
    reason text not null check (length(reason) between 1 and 500),
    primary key (appointment_id, version)
);
