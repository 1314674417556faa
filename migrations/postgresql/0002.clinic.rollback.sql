drop table if exists idempotency_key, appointment, event, outbox, message, recorded, clinic;
drop table if exists registry, exceptional_hours, weekly_hours, appointment_type, resource_key, resource;
drop function if exists refuse_over_override, refuse_inserted_over_override, occupied;
