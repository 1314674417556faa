lock table event, outbox in access exclusive mode;
alter table event
    add column if not exists relay_at timestamptz not null default now(),
    add column if not exists published_at timestamptz,
    add column if not exists publications integer not null default 0,
    add column if not exists settled_at timestamptz default now();
alter table event alter column relay_at drop default, alter column settled_at drop default;
update event
set relay_at = outbox.relay_at, published_at = outbox.published_at,
    publications = outbox.publications, settled_at = null
from outbox where outbox.position = event.position;
create index if not exists event_due on event (relay_at, position) where settled_at is null;
drop table if exists outbox;
