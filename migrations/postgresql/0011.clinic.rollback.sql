drop table if exists clinic;
