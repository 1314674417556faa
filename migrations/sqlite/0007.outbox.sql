-- The event log is never altered. Which of its events are not settled yet, and when a relay may
-- publish them, is kept beside it, in rows that are small and go when a consumer has settled them:
-- to update an event was to write all of it anew, with an entry in each of its indexes.
--
-- To rename a table SQLite wants a place for temporary files, of which a container with a read-only
-- root has none.
pragma temp_store = memory;
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
-- In quotes, what is a column no more is a text to SQLite, and so never null: should a crash have
-- this migration applied twice, nothing is copied the second time.
insert or ignore into outbox (position, relay_at, published_at, publications)
select position, "relay_at", "published_at", "publications" from event where "settled_at" is null;
create table if not exists event_kept (
    position integer primary key autoincrement,
    id text not null unique,
    type text not null,
    subject text not null,
    body text not null check (json_valid(body))
);
insert into event_kept (position, id, type, subject, body)
select position, id, type, subject, body from event;
drop table event;
alter table event_kept rename to event;
create index if not exists event_subject on event (subject, position);
