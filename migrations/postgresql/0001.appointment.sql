-- What the clinic does. Times are the clinic's wall-clock time.
create table if not exists appointment (
    id bigint generated always as identity primary key,
    patient_name text not null check (length(patient_name) between 1 and 200),
    office_number text not null check (length(office_number) between 1 and 50),
    doctor_name text check (length(doctor_name) between 1 and 200),
    date_time timestamp not null,
    duration_minutes integer not null check (duration_minutes between 1 and 1440)
);
