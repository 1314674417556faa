drop table if exists audit;
drop table if exists token;
