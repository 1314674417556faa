-- Who erases a patient erases the keys of the appointments, too.
create index if not exists idempotency_key_appointment on idempotency_key (appointment_id);

-- How far the day's erasure of old appointments is: the day on which all of them were last gone through,
-- and from how many patients have been erased since, which the audit is told at the end. One row.
create table if not exists retention (
    single integer primary key check (single = 1),
    gone_through_on text not null,
    erased integer not null
);
insert into retention (single, gone_through_on, erased) values (1, '', 0)
on conflict do nothing;
