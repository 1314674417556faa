-- The event log, which is also the outbox. Moments are UTC as ISO 8601 text, which sorts.
create table if not exists event (
    position integer primary key autoincrement,
    id text not null unique,
    type text not null,
    subject text not null,
    body text not null check (json_valid(body)),
    -- Not before then may a relay publish it, or publish it again: the end of a relay's hold on it,
    -- or the time by which it should have been settled.
    relay_at text not null,
    published_at text,
    publications integer not null default 0,
    -- When a consumer recorded it or set it aside: from then on nobody need publish it.
    settled_at text
);
create index if not exists event_due on event (relay_at, position) where settled_at is null;
create index if not exists event_subject on event (subject, position);
