-- Which clinic this book is of, for what leaves it: no other clinic has the same id. One row.
create table if not exists clinic (
    single boolean primary key default true check (single),
    id text not null
);
insert into clinic (id) values (replace(cast(gen_random_uuid() as text), '-', ''))
on conflict do nothing;
