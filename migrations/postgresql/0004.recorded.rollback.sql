drop table if exists recorded;
