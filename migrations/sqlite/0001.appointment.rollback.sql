drop table if exists appointment;
