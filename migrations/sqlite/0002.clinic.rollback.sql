drop table if exists idempotency_key;
drop table if exists appointment;
drop table if exists event;
drop table if exists outbox;
drop table if exists message;
drop table if exists recorded;
drop table if exists clinic;
