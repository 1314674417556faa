create table if not exists event_kept (
    position integer primary key autoincrement,
    id text not null unique,
    type text not null,
    subject text not null,
    body text not null check (json_valid(body)),
    relay_at text not null,
    published_at text,
    publications integer not null default 0,
    settled_at text
);
insert into event_kept (
    position, id, type, subject, body, relay_at, published_at, publications, settled_at
)
select
    event.position, id, type, subject, body, coalesce(relay_at, '-'), published_at,
    coalesce(publications, 0), iif(outbox.position is null, '-', null)
from event left join outbox on outbox.position = event.position;
drop table event;
alter table event_kept rename to event;
create index if not exists event_due on event (relay_at, position) where settled_at is null;
create index if not exists event_subject on event (subject, position);
drop table if exists outbox;
