drop table if exists retention;
drop index if exists idempotency_key_appointment;
