drop table if exists change_reason;
