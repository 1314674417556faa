-- All there is, so that it can be read at once. A crash may keep yoyo from noting that it was applied,
-- and it is applied again: hence `if not exists`.

-- Which clinic this book is of, for what leaves it: no other clinic has the same id. One row.
create table if not exists clinic (
    single integer primary key check (single = 1),
    id text not null
);
insert into clinic (single, id) values (1, lower(hex(randomblob(16))))
on conflict do nothing;

-- What the clinic does. Times are the clinic's wall-clock time as ISO 8601 text, which sorts.
--
-- Two appointments that overlap never share an office, nor a doctor where one is named. Cancelled
-- ones occupy nothing. One with an override_reason was laid over others on purpose: it is refused
-- by nothing, but whatever ordinary one comes after it is refused by it.
create table if not exists appointment (
    id integer primary key autoincrement,
    version integer not null default 1 check (version >= 1),
    status text not null default 'booked'
        check (status in ('booked', 'arrived', 'done', 'no_show', 'cancelled')),
    patient_name text not null check (length(patient_name) between 1 and 200),
    -- The name as it is searched for: without regard to case, in any alphabet.
    patient_key text not null,
    office_number text not null check (length(office_number) between 1 and 50),
    doctor_name text check (length(doctor_name) between 1 and 200),
    date_time text not null check (date_time glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*'),
    duration_minutes integer not null check (duration_minutes between 1 and 1440),
    -- Durations are real minutes: where the clocks change, an appointment ends at another wall-clock
    -- time than its beginning plus its duration. Two days on the clocks are the most that a day of real
    -- time can last (Pacific/Apia left out 2011-12-30).
    end_time text not null
        check (end_time > date_time
        and julianday(end_time) - julianday(date_time) between 0 and 2.0001),
    override_reason text check (length(override_reason) between 1 and 500)
);
create index if not exists appointment_time on appointment (date_time, id);
create index if not exists appointment_office on appointment (office_number, date_time, id);
create index if not exists appointment_doctor on appointment (doctor_name, date_time, id)
    where doctor_name is not null;
create index if not exists appointment_patient on appointment (patient_key, date_time, id);
create index if not exists appointment_status on appointment (status, date_time, id);
-- The few that last beyond midnight, and so are on the next day's list, too.
create index if not exists appointment_overnight on appointment (date_time)
    where date(end_time) > date(date_time);
-- Overrides of an office or a doctor are found by indexes of their own: a time may have been
-- overbooked thousands of times, and thousands may be overbooked at one time.
create index if not exists appointment_override_office on appointment (office_number, date_time)
    where override_reason is not null and status <> 'cancelled';
create index if not exists appointment_override_doctor on appointment (doctor_name, date_time)
    where override_reason is not null and status <> 'cancelled';

-- Ordinary appointments of one office or doctor never overlap, so only the last of them that begins
-- before the new one ends can overlap it. Overrides are looked through by their own index. (What
-- datetime() returns sorts before every time of the same day, and so widens the range a little.)
create trigger if not exists appointment_inserted before insert on appointment
when new.status <> 'cancelled' and new.override_reason is null
begin
    select raise(abort, 'office_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.office_number = new.office_number
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-2 days') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'doctor_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.doctor_name = new.doctor_name
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-2 days') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'office_taken')
    from appointment a indexed by appointment_override_office
    where a.office_number = new.office_number and a.override_reason is not null
        and a.status <> 'cancelled' and a.date_time > datetime(new.date_time, '-2 days')
        and a.date_time < new.end_time and a.end_time > new.date_time;
    select raise(abort, 'doctor_taken')
    from appointment a indexed by appointment_override_doctor
    where a.doctor_name = new.doctor_name and a.override_reason is not null
        and a.status <> 'cancelled' and a.date_time > datetime(new.date_time, '-2 days')
        and a.date_time < new.end_time and a.end_time > new.date_time;
end;
-- Only what takes up time anew is judged anew: a patient may arrive whatever was laid over them.
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
            and a.date_time > datetime(new.date_time, '-2 days') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'doctor_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.doctor_name = new.doctor_name and a.id <> new.id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-2 days') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'office_taken')
    from appointment a indexed by appointment_override_office
    where a.office_number = new.office_number and a.id <> new.id and a.override_reason is not null
        and a.status <> 'cancelled' and a.date_time > datetime(new.date_time, '-2 days')
        and a.date_time < new.end_time and a.end_time > new.date_time;
    select raise(abort, 'doctor_taken')
    from appointment a indexed by appointment_override_doctor
    where a.doctor_name = new.doctor_name and a.id <> new.id and a.override_reason is not null
        and a.status <> 'cancelled' and a.date_time > datetime(new.date_time, '-2 days')
        and a.date_time < new.end_time and a.end_time > new.date_time;
end;

-- What was answered to a POST with an Idempotency-Key. The answer is what was sent plus the id, so
-- that the request's fingerprint and the id are all there is to keep.
create table if not exists idempotency_key (
    key text primary key,
    fingerprint text not null,
    appointment_id integer not null references appointment (id),
    created integer not null check (created in (0, 1)),
    stored_at text not null
) without rowid;
create index if not exists idempotency_key_stored_at on idempotency_key (stored_at);

-- The event log, which is never altered. Moments are UTC as ISO 8601 text, which sorts.
create table if not exists event (
    position integer primary key autoincrement,
    id text not null unique,
    type text not null,
    subject text not null,
    body text not null check (json_valid(body))
);
create index if not exists event_subject on event (subject, position);

-- Which events are not settled yet, and when a relay may publish them: small rows beside the log, which
-- go when a consumer has recorded the event or set it aside.
create table if not exists outbox (
    -- The event's. No foreign key: both are written in one go, and events are never deleted.
    position integer primary key,
    -- Not before then may a relay publish it, or publish it again: the end of a relay's hold on it,
    -- or the time by which it should have been settled.
    relay_at text not null,
    published_at text,
    publications integer not null default 0
);
create index if not exists outbox_due on outbox (relay_at, position);

-- The embedded broker's queues.
create table if not exists message (
    position integer primary key autoincrement,
    queue text not null check (queue in ('main', 'dead_letter', 'not_solved')),
    id text not null,
    type text not null,
    subject text not null,
    body text not null,
    deaths integer not null default 0 check (deaths >= 0),
    reason text,
    -- Not before then is it delivered: the end of its TTL, or of the lease that a delivery holds.
    ready_at text not null,
    lease text
);
create index if not exists message_ready on message (ready_at) where queue <> 'not_solved';
create index if not exists message_lease on message (lease) where lease is not null;

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
