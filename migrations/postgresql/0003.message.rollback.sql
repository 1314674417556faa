drop table if exists message;
