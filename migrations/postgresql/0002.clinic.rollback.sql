drop table if exists idempotency_key, appointment, event, outbox, message, recorded, clinic;
drop function if exists refuse_over_override, refuse_inserted_over_override, occupied;
