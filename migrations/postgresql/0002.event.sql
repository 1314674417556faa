-- The event log, which is also the outbox.
create table if not exists event (
    position bigint generated always as identity primary key,
    id text not null unique,
    type text not null,
    subject text not null,
    -- As text: jsonb would not give back what was written.
    body text not null check (cast(body as json) is not null),
    -- Not before then may a relay publish it, or publish it again: the end of a relay's hold on it,
    -- or the time by which it should have been settled.
    relay_at timestamptz not null,
    published_at timestamptz,
    publications integer not null default 0,
    -- When a consumer recorded it or set it aside: from then on nobody need publish it.
    settled_at timestamptz
);
create index if not exists event_due on event (relay_at, position) where settled_at is null;
create index if not exists event_subject on event (subject, position);
