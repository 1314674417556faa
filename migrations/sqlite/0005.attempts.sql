-- What is kept of deliveries that failed, and of the messages that were set aside.

-- Each delivery that failed. No text of it is a message's: those may hold names.
create table if not exists attempt (
    id integer primary key autoincrement,
    failed_at text not null,
    -- Of a message that is an event of our log; the others have none.
    event_id text,
    event_type text,
    -- Which delivery of the message it was, from 1; null where nobody knows.
    delivery integer,
    kind text not null,
    text text not null,
    traceback text not null,
    host text not null,
    pid integer not null
);
create index if not exists attempt_event on attempt (event_id, id) where event_id is not null;
create index if not exists attempt_failed_at on attempt (failed_at);

-- When events were published that were published more than once; most are recorded at once, and have no
-- row here.
create table if not exists publication (
    event_id text not null,
    published_at text not null,
    primary key (event_id, published_at)
) without rowid;
create index if not exists publication_published_at on publication (published_at);

-- The index of not solved: a row for each stay of a message there. The broker's queue is the truth, and
-- each walk through it corrects this.
create table if not exists set_aside (
    position integer primary key autoincrement,
    -- By which the broker knows the message; those that are alike to the last byte share one.
    key text not null,
    -- Of a message that is an event of our log; the others have none.
    event_id text,
    event_type text,
    office_id integer,
    kind text not null,
    reason text not null,
    deliveries integer,
    set_aside_at text not null,
    -- waiting: in the queue. replayed, dropped (it was recorded already), discarded: taken out of it.
    -- missing: it was not there.
    state text not null default 'waiting'
        check (state in ('waiting', 'replayed', 'dropped', 'discarded', 'missing')),
    ended_at text,
    operation_id integer,
    -- The whole message as JSON in ASCII, where it is not the event of our log.
    message text
);
create index if not exists set_aside_key on set_aside (key);
create index if not exists set_aside_event on set_aside (event_id) where event_id is not null;
create index if not exists set_aside_waiting
    on set_aside (kind, event_type, office_id, set_aside_at) where state = 'waiting';
create index if not exists set_aside_waiting_position on set_aside (position) where state = 'waiting';
create index if not exists set_aside_operation on set_aside (operation_id, state) where operation_id is not null;
create index if not exists set_aside_ended on set_aside (ended_at) where ended_at is not null;

-- What an operator has planned for the messages set aside, and how far it has come: whoever holds the
-- lease goes on with what is running.
create table if not exists operation (
    id integer primary key autoincrement,
    verb text not null check (verb in ('replay', 'discard', 'restore', 'check')),
    -- The filter, as JSON; it is about no row after this position.
    selection text not null,
    up_to integer not null,
    messages integer not null,
    recorded integer not null,
    foreign_messages integer not null,
    reason text check (length(reason) between 1 and 500),
    rate integer check (rate >= 1),
    status text not null default 'planned' check (status in ('planned', 'running', 'stopped', 'done')),
    planned_by text not null,
    planned_at text not null,
    started_at text,
    ended_at text,
    -- The positions that are being taken out of the queue at this moment, as a JSON list: written before
    -- they are, and emptied when their ends are written.
    in_hand text not null default '[]',
    -- Why it does not go on at this moment, if so.
    trouble text
);
create index if not exists operation_running on operation (id) where status = 'running';
create table if not exists operation_lease (
    single integer primary key check (single = 1),
    holder text not null,
    ends_at text not null
);
insert into operation_lease (single, holder, ends_at) values (1, '', '')
on conflict do nothing;

-- The embedded broker's not solved, oldest first.
create index if not exists message_not_solved on message (position) where queue = 'not_solved';
