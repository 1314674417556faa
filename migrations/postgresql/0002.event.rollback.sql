drop table if exists event;
