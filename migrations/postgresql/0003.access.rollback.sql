drop table if exists session_key;
drop table if exists audit;
drop table if exists token;
