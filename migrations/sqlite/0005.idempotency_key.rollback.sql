drop table if exists idempotency_key;
