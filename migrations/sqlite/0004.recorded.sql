-- What analytics has recorded: each event once, by its id.
create table if not exists recorded (
    event_id text primary key,
    type text not null,
    appointment_id integer not null,
    version integer not null,
    status text not null,
    office_number text not null,
    doctor_name text,
    day text not null,
    hour_of_week integer not null check (hour_of_week between 0 and 167),
    duration_minutes integer not null,
    lead_minutes integer not null,
    occurred_at text not null,
    recorded_at text not null
) without rowid;
create index if not exists recorded_day on recorded (day, type);
-- Which event is an appointment's latest is seen by its version, in whatever order they came.
create index if not exists recorded_appointment on recorded (appointment_id, version);
