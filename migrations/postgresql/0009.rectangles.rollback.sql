alter table appointment
    drop constraint if exists office_taken,
    drop constraint if exists doctor_taken,
    add constraint office_taken exclude using gist (
        hashtextextended(office_number, 0) with =, tsrange(date_time, end_time) with &&
    ) where (status <> 'cancelled' and override_reason is null),
    add constraint doctor_taken exclude using gist (
        hashtextextended(doctor_name, 0) with =, tsrange(date_time, end_time) with &&
    ) where (doctor_name is not null and status <> 'cancelled' and override_reason is null);
drop function if exists occupied;
