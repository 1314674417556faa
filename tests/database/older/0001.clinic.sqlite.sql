BEGIN TRANSACTION;
CREATE TABLE "_yoyo_log" (
            "id" VARCHAR(36),
            "migration_hash" VARCHAR(64),
            "migration_id" VARCHAR(255),
            "operation" VARCHAR(10),
            "username" VARCHAR(255),
            "hostname" VARCHAR(255),
            "comment" VARCHAR(255),
            "created_at_utc" TIMESTAMP,
            PRIMARY KEY ("id")
        );
CREATE TABLE "_yoyo_migration" (
            "migration_hash" VARCHAR(64),
            "migration_id" VARCHAR(255),
            "applied_at_utc" TIMESTAMP,
            PRIMARY KEY ("migration_hash")
        );
INSERT INTO "_yoyo_migration" VALUES('08451f301ed3545e90f03ea11dda8b3e75cac98e5cc552d0dce4376b51943628','0001.clinic','2026-11-29T14:14:36.566675');
CREATE TABLE "_yoyo_version" (
            "version" INT NOT NULL PRIMARY KEY,
            "installed_at_utc" TIMESTAMP
        );
INSERT INTO "_yoyo_version" VALUES(2,'2026-11-29T14:14:36.513216');
CREATE TABLE appointment (
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
CREATE TABLE clinic (
    single integer primary key check (single = 1),
    id text not null
);
INSERT INTO "clinic" VALUES(1,'0123456789abcdef0123456789abcdef');
CREATE TABLE event (
    position integer primary key autoincrement,
    id text not null unique,
    type text not null,
    subject text not null,
    body text not null check (json_valid(body))
);
CREATE TABLE idempotency_key (
    key text primary key,
    fingerprint text not null,
    appointment_id integer not null references appointment (id),
    created integer not null check (created in (0, 1)),
    stored_at text not null
) without rowid;
CREATE TABLE message (
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
CREATE TABLE outbox (
    -- The event's. No foreign key: both are written in one go, and events are never deleted.
    position integer primary key,
    -- Not before then may a relay publish it, or publish it again: the end of a relay's hold on it,
    -- or the time by which it should have been settled.
    relay_at text not null,
    published_at text,
    publications integer not null default 0
);
CREATE TABLE recorded (
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
CREATE TABLE "yoyo_lock" ("locked" INT DEFAULT 1, "ctime" TIMESTAMP,"pid" INT NOT NULL,PRIMARY KEY ("locked"));
CREATE INDEX appointment_time on appointment (date_time, id);
CREATE INDEX appointment_office on appointment (office_number, date_time, id);
CREATE INDEX appointment_doctor on appointment (doctor_name, date_time, id)
    where doctor_name is not null;
CREATE INDEX appointment_patient on appointment (patient_key, date_time, id);
CREATE INDEX appointment_status on appointment (status, date_time, id);
CREATE INDEX appointment_overnight on appointment (date_time)
    where date(end_time) > date(date_time);
CREATE INDEX appointment_override_office on appointment (office_number, date_time)
    where override_reason is not null and status <> 'cancelled';
CREATE INDEX appointment_override_doctor on appointment (doctor_name, date_time)
    where override_reason is not null and status <> 'cancelled';
CREATE TRIGGER appointment_inserted before insert on appointment
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
CREATE TRIGGER appointment_updated before update on appointment
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
CREATE INDEX idempotency_key_stored_at on idempotency_key (stored_at);
CREATE INDEX event_subject on event (subject, position);
CREATE INDEX outbox_due on outbox (relay_at, position);
CREATE INDEX message_ready on message (ready_at) where queue <> 'not_solved';
CREATE INDEX message_lease on message (lease) where lease is not null;
CREATE INDEX recorded_day on recorded (day, type);
CREATE INDEX recorded_appointment on recorded (appointment_id, version);
DELETE FROM "sqlite_sequence";
COMMIT;
