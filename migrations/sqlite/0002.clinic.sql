-- All there is, so that it can be read at once. A crash may keep yoyo from noting that it was applied,
-- and it is applied again: hence `if not exists`.

-- Which clinic this book is of, for what leaves it: no other clinic has the same id. One row.
create table if not exists clinic (
    single integer primary key check (single = 1),
    id text not null
);
insert into clinic (single, id) values (1, lower(hex(randomblob(16))))
on conflict do nothing;

-- Who and where: offices and doctors, the resources of an appointment. A name is kept as people see it;
-- what is written is looked up by its key (name_key in clinic/registry/names.py), of which a resource has
-- one for each name that it ever had, so that who still writes an older one means the same. None is ever
-- deleted: what was booked stays.
create table if not exists resource (
    id integer primary key autoincrement,
    kind text not null check (kind in ('office', 'doctor')),
    name text not null check (length(name) between 1 and 200),
    active integer not null default 1 check (active in (0, 1)),
    merged_into integer references resource (id)
);
create table if not exists resource_key (
    kind text not null check (kind in ('office', 'doctor')),
    key text not null,
    resource_id integer not null references resource (id),
    primary key (kind, key)
) without rowid;

-- Kinds of appointments. The buffers occupy office and doctor before and after. Who offers it is a JSON
-- list of ids; null means all.
create table if not exists appointment_type (
    id integer primary key autoincrement,
    key text not null unique,
    name text not null check (length(name) between 1 and 100),
    active integer not null default 1 check (active in (0, 1)),
    duration_minutes integer not null check (duration_minutes between 1 and 1440),
    buffer_before_minutes integer not null check (buffer_before_minutes between 0 and 240),
    buffer_after_minutes integer not null check (buffer_after_minutes between 0 and 240),
    colour text check (colour glob '#[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]'),
    offices text,
    doctors text
);

-- When. Weekly hours of the clinic, an office or a doctor, from one day to another: a JSON list of seven
-- days from Monday on, each a list of hours (clinic/registry/timetable.py).
create table if not exists weekly_hours (
    id integer primary key autoincrement,
    office_id integer references resource (id),
    doctor_id integer references resource (id),
    valid_from text,
    valid_until text,
    days text not null,
    check (office_id is null or doctor_id is null),
    check (valid_from <= valid_until)
);
-- Closures, and extra openings against the weekly hours.
create table if not exists exceptional_hours (
    id integer primary key autoincrement,
    office_id integer references resource (id),
    doctor_id integer references resource (id),
    opens integer not null check (opens in (0, 1)),
    begins text not null,
    ends text not null,
    reason text check (length(reason) between 1 and 500),
    -- What it was imported as: once, however often the file is.
    imported_as text unique,
    check (begins < ends)
);

-- Each change of the above that a booking must not miss is a version more. Who books judges by the version
-- in memory, and the statement that books does nothing under another one (clinic/registry/memory.py).
create table if not exists registry (
    single integer primary key check (single = 1),
    version integer not null
);
insert into registry (single, version) values (1, 1)
on conflict do nothing;

-- What the clinic does. Times are the clinic's wall-clock time as ISO 8601 text, which sorts.
--
-- Two appointments whose times with their buffers overlap never share an office, nor a doctor where one is
-- named. Cancelled ones occupy nothing. One with an override_reason was laid over others on purpose: it is
-- refused by nothing, but whatever ordinary one comes after it is refused by it.
create table if not exists appointment (
    -- Drawn before an appointment is written (clinic/appointments/numbers.py).
    id integer primary key autoincrement,
    version integer not null default 1 check (version >= 1),
    status text not null default 'booked'
        check (status in ('booked', 'arrived', 'in_room', 'done', 'no_show', 'cancelled')),
    patient_name text not null check (length(patient_name) between 1 and 200),
    -- The name as it is searched for: without regard to case, in any alphabet.
    patient_key text not null,
    patient_phone text check (length(patient_phone) between 1 and 50),
    -- Its digits from the last to the first: numbers are looked for by their ends.
    phone_key text,
    note text check (length(note) between 1 and 500),
    -- No foreign keys: who books knows these ids by a version of the registry, from which none is ever
    -- deleted, and to look each up again is a fifth of what a row costs.
    office_id integer not null,
    doctor_id integer,
    type_id integer,
    date_time text not null check (date_time glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*'),
    duration_minutes integer not null check (duration_minutes between 1 and 1440),
    -- Durations are real minutes: where the clocks change, an appointment ends at another wall-clock
    -- time than its beginning plus its duration. Two days on the clocks are the most that a day of real
    -- time can last (Pacific/Apia left out 2011-12-30).
    end_time text not null
        check (end_time > date_time
        and julianday(end_time) - julianday(date_time) between 0 and 2.0001),
    -- With the buffers of its type.
    occupied_from text not null,
    occupied_until text not null,
    override_reason text check (length(override_reason) between 1 and 500),
    check (
        occupied_from <= date_time and occupied_until >= end_time
        and julianday(occupied_until) - julianday(occupied_from) between 0 and 4.0001
    )
);
create index if not exists appointment_time on appointment (date_time, id);
create index if not exists appointment_office on appointment (office_id, date_time, id);
create index if not exists appointment_doctor on appointment (doctor_id, date_time, id)
    where doctor_id is not null;
-- Names are looked for by the beginnings of their words.
create table if not exists patient_word (
    word text not null,
    appointment_id integer not null,
    primary key (word, appointment_id)
) without rowid;
create index if not exists appointment_phone on appointment (phone_key) where phone_key is not null;
create index if not exists appointment_patient on appointment (patient_key, date_time, id);
create index if not exists appointment_status on appointment (status, date_time, id);
-- The few that last beyond midnight, and so are on the next day's list, too.
create index if not exists appointment_overnight on appointment (date_time)
    where date(end_time) > date(date_time);
-- Overrides of an office or a doctor are found by indexes of their own: a time may have been
-- overbooked thousands of times, and thousands may be overbooked at one time.
create index if not exists appointment_override_office on appointment (office_id, occupied_from)
    where override_reason is not null and status <> 'cancelled';
create index if not exists appointment_override_doctor on appointment (doctor_id, occupied_from)
    where override_reason is not null and status <> 'cancelled';

-- Ordinary appointments of one office or doctor never overlap, so two of them can overlap a new one: the
-- last that begins before the new one ends, and, with its buffer, the first after. Overrides are looked
-- through by their own index. (What datetime() returns sorts before every time of the same day, and so
-- widens the range a little.)
create trigger if not exists appointment_inserted before insert on appointment
when new.status <> 'cancelled' and new.override_reason is null
begin
    select raise(abort, 'office_taken') where new.occupied_from < (
        select a.occupied_until from appointment a
        where a.office_id = new.office_id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time < new.occupied_until
            and a.date_time > datetime(new.occupied_from, '-3 days')
        order by a.date_time desc limit 1
    ) or new.occupied_until > (
        select a.occupied_from from appointment a
        where a.office_id = new.office_id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time >= new.occupied_until
            and a.date_time < datetime(new.occupied_until, '+2 days')
        order by a.date_time limit 1
    );
    select raise(abort, 'doctor_taken') where new.occupied_from < (
        select a.occupied_until from appointment a
        where a.doctor_id = new.doctor_id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time < new.occupied_until
            and a.date_time > datetime(new.occupied_from, '-3 days')
        order by a.date_time desc limit 1
    ) or new.occupied_until > (
        select a.occupied_from from appointment a
        where a.doctor_id = new.doctor_id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time >= new.occupied_until
            and a.date_time < datetime(new.occupied_until, '+2 days')
        order by a.date_time limit 1
    );
    select raise(abort, 'office_taken')
    from appointment a indexed by appointment_override_office
    where a.office_id = new.office_id and a.override_reason is not null
        and a.status <> 'cancelled' and a.occupied_from > datetime(new.occupied_from, '-4 days')
        and a.occupied_from < new.occupied_until and a.occupied_until > new.occupied_from;
    select raise(abort, 'doctor_taken')
    from appointment a indexed by appointment_override_doctor
    where a.doctor_id = new.doctor_id and a.override_reason is not null
        and a.status <> 'cancelled' and a.occupied_from > datetime(new.occupied_from, '-4 days')
        and a.occupied_from < new.occupied_until and a.occupied_until > new.occupied_from;
end;
-- Only what takes up time anew is judged anew: a patient may arrive whatever was laid over them.
create trigger if not exists appointment_updated before update on appointment
when new.status <> 'cancelled' and new.override_reason is null
    and (
        old.status = 'cancelled' or old.override_reason is not null
        or old.office_id <> new.office_id or old.doctor_id is not new.doctor_id
        or old.occupied_from <> new.occupied_from or old.occupied_until <> new.occupied_until
    )
begin
    select raise(abort, 'office_taken') where new.occupied_from < (
        select a.occupied_until from appointment a
        where a.office_id = new.office_id and a.id <> new.id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time < new.occupied_until
            and a.date_time > datetime(new.occupied_from, '-3 days')
        order by a.date_time desc limit 1
    ) or new.occupied_until > (
        select a.occupied_from from appointment a
        where a.office_id = new.office_id and a.id <> new.id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time >= new.occupied_until
            and a.date_time < datetime(new.occupied_until, '+2 days')
        order by a.date_time limit 1
    );
    select raise(abort, 'doctor_taken') where new.occupied_from < (
        select a.occupied_until from appointment a
        where a.doctor_id = new.doctor_id and a.id <> new.id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time < new.occupied_until
            and a.date_time > datetime(new.occupied_from, '-3 days')
        order by a.date_time desc limit 1
    ) or new.occupied_until > (
        select a.occupied_from from appointment a
        where a.doctor_id = new.doctor_id and a.id <> new.id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time >= new.occupied_until
            and a.date_time < datetime(new.occupied_until, '+2 days')
        order by a.date_time limit 1
    );
    select raise(abort, 'office_taken')
    from appointment a indexed by appointment_override_office
    where a.office_id = new.office_id and a.id <> new.id and a.override_reason is not null
        and a.status <> 'cancelled' and a.occupied_from > datetime(new.occupied_from, '-4 days')
        and a.occupied_from < new.occupied_until and a.occupied_until > new.occupied_from;
    select raise(abort, 'doctor_taken')
    from appointment a indexed by appointment_override_doctor
    where a.doctor_id = new.doctor_id and a.id <> new.id and a.override_reason is not null
        and a.status <> 'cancelled' and a.occupied_from > datetime(new.occupied_from, '-4 days')
        and a.occupied_from < new.occupied_until and a.occupied_until > new.occupied_from;
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
    office_id integer not null,
    office_number text not null,
    doctor_id integer,
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
