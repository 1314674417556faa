-- The event log is never altered. Which of its events are not settled yet, and when a relay may
-- publish them, is kept beside it, in rows that are small and go when a consumer has settled them:
-- to update an event was to write all of it anew, with an entry in each of its indexes.
--
-- Nobody may write an event while what is open is copied: it would have no row, and never be published.
lock table event in access exclusive mode;
create table if not exists outbox (
    -- The event's. No foreign key: both are written by one statement, and events are never deleted.
    position bigint primary key,
    -- Not before then may a relay publish it, or publish it again: the end of a relay's hold on it,
    -- or the time by which it should have been settled.
    relay_at timestamptz not null,
    published_at timestamptz,
    publications integer not null default 0
);
create index if not exists outbox_due on outbox (relay_at, position);
do $$
begin
    if exists (
        select from information_schema.columns
        where table_schema = current_schema() and table_name = 'event' and column_name = 'settled_at'
    ) then
        insert into outbox (position, relay_at, published_at, publications)
        select position, relay_at, published_at, publications from event where settled_at is null
        on conflict do nothing;
    end if;
end
$$;
drop index if exists event_due;
alter table event
    drop column if exists relay_at,
    drop column if exists published_at,
    drop column if exists publications,
    drop column if exists settled_at;
