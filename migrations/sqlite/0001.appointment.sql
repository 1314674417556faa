-- What the clinic does. Times are the clinic's wall-clock time as ISO 8601 text, which sorts.
create table if not exists appointment (
    id integer primary key autoincrement,
    patient_name text not null check (length(patient_name) between 1 and 200),
    office_number text not null check (length(office_number) between 1 and 50),
    doctor_name text check (length(doctor_name) between 1 and 200),
    date_time text not null check (date_time glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*'),
    duration_minutes integer not null check (duration_minutes between 1 and 1440)
);
