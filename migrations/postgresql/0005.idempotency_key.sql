-- What was answered to a POST with an Idempotency-Key. The answer is what was sent plus the id, so
-- that the request's fingerprint and the id are all there is to keep.
create table if not exists idempotency_key (
    key text primary key,
    fingerprint text not null,
    appointment_id bigint not null references appointment (id),
    created boolean not null,
    stored_at timestamptz not null
);
create index if not exists idempotency_key_stored_at on idempotency_key (stored_at);
