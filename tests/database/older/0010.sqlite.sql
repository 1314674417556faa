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
INSERT INTO "_yoyo_migration" VALUES('e0a43e8d47e68c9f7394822176992a28bb288125877f2d6d76944dab6535b613','0001.appointment','2026-11-26T18:19:46.127477');
INSERT INTO "_yoyo_migration" VALUES('a29f34ea07b4b582f9ae03a73f7cf872f4b6d4b830be3a09579693bcaedb7329','0002.event','2026-11-26T18:19:46.148376');
INSERT INTO "_yoyo_migration" VALUES('194d9f6117fbe3749adcb32de2cf27d62c0e35f17537ce6fab321c91f744425f','0003.message','2026-11-26T18:19:46.165856');
INSERT INTO "_yoyo_migration" VALUES('52197f96d1d0d3e7409b902e8c2f7e9961ce464e09c03f2820e3f87da8701620','0004.recorded','2026-11-26T18:19:46.191520');
INSERT INTO "_yoyo_migration" VALUES('786430097194810328d7f83eb7ae062a406bab585b78407650b6417f64b76e80','0005.idempotency_key','2026-11-26T18:19:46.218961');
INSERT INTO "_yoyo_migration" VALUES('02e6940056fc52822edf0cf7f4172ad28306623692e77a9ac6027c69456b7374','0006.last_before','2026-11-26T18:19:46.243037');
INSERT INTO "_yoyo_migration" VALUES('3d278aebaa937564626c986ca521374936706f1761cb3db453112d51906be284','0007.outbox','2026-11-26T18:19:46.304531');
INSERT INTO "_yoyo_migration" VALUES('663411220e322aa0ed49d86143d1fd6201140f35a5f5ce5c1907d02895d8dda7','0008.override_once','2026-11-26T18:19:46.332933');
INSERT INTO "_yoyo_migration" VALUES('adda42fe55095d556cb5e904c39eb2349a76c6b2ce33a559c7e7a6f868a9c018','0009.rectangles','2026-11-26T18:19:46.346696');
INSERT INTO "_yoyo_migration" VALUES('ac249a683c1bb75ca4d542a76a416f2a664696f35b37a1dea2a458961fc84fa8','0010.overrides_by_time','2026-11-26T18:19:46.360719');
CREATE TABLE "_yoyo_version" (
            "version" INT NOT NULL PRIMARY KEY,
            "installed_at_utc" TIMESTAMP
        );
INSERT INTO "_yoyo_version" VALUES(2,'2026-11-26T18:19:45.964303');
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
    end_time text not null
        check (round((julianday(end_time) - julianday(date_time)) * 1440, 1) = duration_minutes),
    override_reason text check (length(override_reason) between 1 and 500)
);
CREATE TABLE "event" (
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
CREATE INDEX message_ready on message (ready_at) where queue <> 'not_solved';
CREATE INDEX message_lease on message (lease) where lease is not null;
CREATE INDEX recorded_day on recorded (day, type);
CREATE INDEX recorded_appointment on recorded (appointment_id, version);
CREATE INDEX idempotency_key_stored_at on idempotency_key (stored_at);
CREATE INDEX appointment_override on appointment (date_time)
    where override_reason is not null and status <> 'cancelled';
CREATE TRIGGER appointment_inserted before insert on appointment
when new.status <> 'cancelled' and new.override_reason is null
begin
    select raise(abort, 'office_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.office_number = new.office_number
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'doctor_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.doctor_name = new.doctor_name
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select case when a.office_number = new.office_number
        then raise(abort, 'office_taken') else raise(abort, 'doctor_taken') end
    from appointment a
    where a.override_reason is not null and a.status <> 'cancelled'
        and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        and a.end_time > new.date_time
        and (+a.office_number = new.office_number or +a.doctor_name = new.doctor_name);
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
            and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select raise(abort, 'doctor_taken') where new.date_time < (
        select a.end_time from appointment a
        where a.doctor_name = new.doctor_name and a.id <> new.id
            and a.override_reason is null and a.status <> 'cancelled'
            and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        order by a.date_time desc limit 1
    );
    select case when a.office_number = new.office_number
        then raise(abort, 'office_taken') else raise(abort, 'doctor_taken') end
    from appointment a
    where a.id <> new.id and a.override_reason is not null and a.status <> 'cancelled'
        and a.date_time > datetime(new.date_time, '-1 day') and a.date_time < new.end_time
        and a.end_time > new.date_time
        and (+a.office_number = new.office_number or +a.doctor_name = new.doctor_name);
end;
CREATE INDEX outbox_due on outbox (relay_at, position);
CREATE INDEX event_subject on event (subject, position);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('event',0);
COMMIT;
