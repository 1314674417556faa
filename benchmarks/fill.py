"""Every statement that knows the clinic's tables, so that a new column is met in one place."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from benchmarks.programs import run
from clinic.database.migration import MIGRATIONS
from clinic.messaging.message import Message
from tests.servers.postgres import find_binaries

# The offices of the book and of analytics, with the keys that clinic.registry.names.name_key gives.
REGISTER_OFFICES = """
    with office as (
        insert into resource (kind, name)
        select 'office', 'office ' || n from generate_series(0, 9) as n
        returning id, name
    )
    insert into resource_key (kind, key, resource_id)
    select 'office', replace(name, ' ', ''), id from office
"""

# Ten offices without a gap; a patient has fifty, so that a page of them is full in any book.
APPOINTMENTS = """
    insert into appointment (
        patient_name, patient_key, office_id, date_time, duration_minutes, end_time,
        occupied_from, occupied_until
    )
    select
        'Patient ' || (n / 50), 'patient ' || (n / 50), office.id, begins, 15, ends, begins, ends
    from generate_series(0, {count} - 1) as n
    join resource as office on office.kind = 'office' and office.name = 'office ' || (n % 10)
    cross join lateral (
        select
            timestamp '2027-01-01' + (n / 10) * interval '15 minutes' as begins,
            timestamp '2027-01-01' + (n / 10 + 1) * interval '15 minutes' as ends
    ) as times
    order by n
"""

# What a minute of the busiest rows writes: 1 GB.
LOG_FILES = 64

# What is taken away while it is filled, and how it is put back.
EXCLUSIONS = """
    select conname, pg_get_constraintdef(oid) from pg_constraint
    where conrelid = 'appointment'::regclass and contype = 'x'
"""
INDEXES = """
    select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index
    where indrelid = 'appointment'::regclass
        and not exists (select from pg_constraint where conindid = indexrelid)
"""

# The events of these, all of them settled long ago.
SETTLED_EVENTS = """
    insert into event (id, type, subject, body)
    select
        gen_random_uuid(), 'appointment.booked', 'appointment/' || n,
        format(
            '{{"specversion":"1.0","id":"%s","source":"/clinic","type":"appointment.booked",'
            '"subject":"appointment/%s","time":"2026-11-23T12:00:00.000000Z",'
            '"datacontenttype":"application/json","data":{{"appointment_id":%s,"version":1,'
            '"status":"booked","office_id":1,"office_number":"office 1","doctor_id":null,'
            '"doctor_name":null,"appointment_type":null,'
            '"date_time":"2027-01-01T15:30:00","time_zone":"UTC","duration_minutes":15,'
            '"override":false}}}}',
            gen_random_uuid(), n, n
        )
    from generate_series(1, {count}) as n
"""

# Events of a year, of as many offices as doctors: each appointment is booked, and three in four
# patients arrive and are called in.
RECORDED_EVENTS = """
    insert into recorded (
        event_id, type, appointment_id, version, status, office_id, office_number, doctor_id,
        doctor_name, day, hour_of_week, duration_minutes, lead_minutes, occurred_at, recorded_at,
        begins_minute, override
    )
    select
        n || '-' || version, type, n, version, status, office.id, office.name, doctor.id,
        doctor.name, day, cast(extract(isodow from day) as int) * 24 - 24 + minute / 60, 15,
        n % 40000, occurred_at, occurred_at, minute, false
    from (
        select
            n, version, type, status, 1 + n / 365 % {places} as place,
            date '2027-01-01' + n % 365 as day, 480 + 15 * (n / 365 / {places} % 40) as minute,
            timestamptz '2027-01-01' + n * interval '1 second'
                + waited * (n % 55) * interval '1 minute' as occurred_at
        from generate_series(1, {count} * 2 / 5) as n
        join (
            values (1, 'appointment.booked', 'booked', 0), (2, 'appointment.arrived', 'arrived', 0),
                (3, 'appointment.in_room', 'in_room', 1)
        ) as told (version, type, status, waited) on version = 1 or n % 4 > 0
    ) as events
    join resource as office on office.name = 'office ' || place
    join resource as doctor on doctor.name = 'doctor ' || place
"""
REGISTER_PLACES = """
    insert into resource (kind, name)
    select kind, kind || ' ' || n
    from generate_series(1, {places}) as n, (values ('office'), ('doctor')) as kinds (kind)
"""
BOOKED_AND_RECORDED = """
    select count(*) filter (where type = 'appointment.booked'), count(*) from recorded
"""

COPY_EVENTS = "copy event (id, type, subject, body) from stdin"
INSERT_OPEN = """
    insert into outbox (position, relay_at, published_at, publications)
    select position, now() + {published} * interval '1 hour', {published_at}, {published} from event
"""

SETTLE_ALL = "delete from outbox"

USUAL_APPOINTMENTS = """
    insert into usual_appointment (patient_name, office_number, date_time, duration_minutes)
    select patient_name, office.name, date_time, duration_minutes
    from appointment join resource as office on office.id = office_id order by appointment.id
"""

# What one booking commits, by a client that does nothing else. To pgbench every colon begins
# a name, also inside of a literal.
PGBENCH = """
\\set n :n + 1
begin;
insert into appointment (
    patient_name, patient_key, office_id, date_time, duration_minutes, end_time,
    occupied_from, occupied_until
)
values (
    'Иван Иванов', 'иван иванов', 1 + :n % 100,
    timestamp '2027-01-01' + :n / 100 * interval '15 minutes', 15,
    timestamp '2027-01-01' + (:n / 100 + 1) * interval '15 minutes',
    timestamp '2027-01-01' + :n / 100 * interval '15 minutes',
    timestamp '2027-01-01' + (:n / 100 + 1) * interval '15 minutes'
) returning id;
insert into event (id, type, subject, body)
values (
    'pgbench-' || :n, 'appointment.booked', 'appointment/' || :n,
    replace(
        '{"specversion"~"1.0","id"~"2f9a3dcc-3a04-4d6b-9c5b-0d6a6a1f8a3e","source"~"/clinic",'
        '"type"~"appointment.booked","subject"~"appointment/1",'
        '"time"~"2026-11-23T12~00~00.000000Z","datacontenttype"~"application/json","data"~{'
        '"appointment_id"~1,"version"~1,"status"~"booked","office_id"~1,"office_number"~"room 1",'
        '"doctor_id"~null,"doctor_name"~null,"appointment_type"~null,'
        '"date_time"~"2027-01-01T15~30~00","time_zone"~"UTC","duration_minutes"~15,"override"~false}}',
        '~', chr(58)
    )
) returning position \\gset
insert into outbox (position, relay_at) values (:position, now());
commit;
"""

LIST_AS_JSON = """
    select json_agg(listed) from (
        select
            appointment.id, patient_name, office.name as office_number, date_time,
            doctor.name as doctor_name, date_time as appointment_datetime,
            appointment_type.name as appointment_type, appointment.duration_minutes, status,
            patient_phone, note, override_reason
        from appointment
        join resource as office on office.id = office_id
        left join resource as doctor on doctor.id = doctor_id
        left join appointment_type on appointment_type.id = type_id
        order by appointment.id
    ) as listed
"""

BOOKED = "select count(*) from event"
RECORDED = "select count(*) from recorded"
OPEN = "select count(*) from outbox where published_at is null"
# Seconds from the first to the last, and how many came after the first.
RELAYED = """
    select
        count(*) filter (where published_at > first),
        extract(epoch from max(published_at) - min(published_at))::float
    from outbox, (select min(published_at) as first from outbox) as beginning
"""
RECORDED_PACE = """
    select
        count(*) filter (where recorded_at > first),
        extract(epoch from max(recorded_at) - min(recorded_at))::float
    from recorded, (select min(recorded_at) as first from recorded) as beginning
"""
# From the first booking after a moment to when the last one was counted.
COUNTED_PACE = """
    select count(*), extract(epoch from max(recorded_at) - min(occurred_at))::float
    from recorded where occurred_at > '{since}'
"""
COUNTED_LATENCY = """
    select
        percentile_cont(0.5) within group (order by seconds)::float,
        percentile_cont(0.99) within group (order by seconds)::float, count(*)
    from (
        select extract(epoch from recorded_at - occurred_at) as seconds
        from recorded where occurred_at > '{since}'
    ) as travelled
"""


def run_in(database_url: str) -> None:
    """Have a new server what every other has: files of its log to write to again.

    To make one takes 60 ms, and a new server makes one for each 16 MB of log.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create table run_in (n int)")
        for _ in range(LOG_FILES):
            connection.execute("insert into run_in values (1)")
            connection.execute("select pg_switch_wal()")
        connection.execute("checkpoint")


def appointments(database_url: str, count: int) -> None:
    """Fill an empty book, with the event of each appointment."""
    if not count:
        return
    with ThreadPoolExecutor() as threads:
        both = (fill_appointments, fill_events)
        for done in [threads.submit(one, database_url, count) for one in both]:
            done.result()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")


def fill_appointments(database_url: str, count: int) -> None:
    """Fill the book; indexes and what judges each row alone are built in one go afterwards."""
    with psycopg.connect(database_url) as connection:
        excluding = connection.execute(EXCLUSIONS).fetchall()
        indexes = connection.execute(INDEXES).fetchall()
        connection.execute("set local maintenance_work_mem = '512MB'")
        connection.execute("alter table appointment disable trigger user")
        for name, _ in excluding:
            connection.execute(f'alter table appointment drop constraint "{name}"'.encode())
        for name, _ in indexes:
            connection.execute(f'drop index "{name}"'.encode())
        connection.execute(REGISTER_OFFICES)
        connection.execute(APPOINTMENTS.format(count=count).encode())
        for name, rule in excluding:
            connection.execute(f'alter table appointment add constraint "{name}" {rule}'.encode())
        for _, definition in indexes:
            connection.execute(definition.encode())
        connection.execute("alter table appointment enable trigger user")


def fill_events(database_url: str, count: int) -> None:
    """Fill the event log."""
    with psycopg.connect(database_url) as connection:
        connection.execute(SETTLED_EVENTS.format(count=count).encode())


def events(database_url: str, messages: Sequence[Message], *, published: bool) -> None:
    """Write events into the log: open and due, or published and waiting for their consumer."""
    rows = [(message.id, message.type, message.subject, message.body) for message in messages]
    how = {"published": int(published), "published_at": "now()" if published else "null"}
    with psycopg.connect(database_url) as connection:
        with connection.cursor().copy(COPY_EVENTS) as copy:
            for row in rows:
                copy.write_row(row)
        connection.execute(INSERT_OPEN.format(**how).encode())
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")


def recorded(database_url: str, count: int, places: int) -> int:
    """Fill analytics with about as many events over a year; return how many are bookings.

    They are counted as the migration counts what it finds.
    """
    counts = (MIGRATIONS / "postgresql" / "0004.counts.sql").read_text()
    _, _, counting = counts.partition("-- What was recorded before.")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(REGISTER_PLACES.format(places=places).encode())
        connection.execute(RECORDED_EVENTS.format(count=count, places=places).encode())
        connection.execute("vacuum (analyze) recorded")
        connection.execute(counting.encode())
        connection.execute("vacuum (analyze)")
        (booked, _) = connection.execute(BOOKED_AND_RECORDED).fetchall()[0]
    return int(booked)


def settle_all(database_url: str) -> None:
    """Close what earlier turns have left open, for no relay to find it."""
    with psycopg.connect(database_url) as connection:
        connection.execute(SETTLE_ALL)


def usual_appointments(database_url: str) -> None:
    """Copy the book into the peer's table."""
    with psycopg.connect(database_url) as connection:
        connection.execute(USUAL_APPOINTMENTS)


def pgbench(database_url: str, folder: Path, seconds: int) -> list[float]:
    """Return the milliseconds of each booking that pgbench commits, one after the other."""
    script = folder / "booking.sql"
    script.write_text(PGBENCH)
    where = ["--log", f"--log-prefix={folder}/pgbench", "--file", str(script)]
    how = ["--no-vacuum", "--client=1", "--protocol=prepared", "--define=n=0"]
    run([f"{find_binaries()}/pgbench", *how, *where, f"--time={seconds}", database_url])
    (log,) = folder.glob("pgbench.*")
    # The third field is the transaction's time in microseconds.
    return [int(line.split()[2]) / 1000 for line in log.read_text().splitlines()]


def psql_list(database_url: str, output: Path) -> float:
    """Return the seconds psql takes to write the whole list as JSON."""
    start = time.perf_counter()
    how = ["-qAtX", "-c", LIST_AS_JSON, "-o", str(output)]
    run([f"{find_binaries()}/psql", *how, database_url])
    return time.perf_counter() - start
