-- Which clinic this book is of, for what leaves it: no other clinic has the same id. One row.
create table if not exists clinic (
    single integer primary key check (single = 1),
    id text not null
);
insert into clinic (single, id) values (1, lower(hex(randomblob(16))))
on conflict do nothing;
