drop index if exists appointment_overnight;
