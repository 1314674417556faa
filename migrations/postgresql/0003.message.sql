-- The embedded broker's queues.
create table if not exists message (
    position bigint generated always as identity primary key,
    queue text not null check (queue in ('main', 'dead_letter', 'not_solved')),
    id text not null,
    type text not null,
    subject text not null,
    body text not null,
    deaths integer not null default 0 check (deaths >= 0),
    reason text,
    -- Not before then is it delivered: the end of its TTL, or of the lease that a delivery holds.
    ready_at timestamptz not null,
    lease text
);
create index if not exists message_ready on message (ready_at) where queue <> 'not_solved';
create index if not exists message_lease on message (lease) where lease is not null;
