drop index if exists message_not_solved;
drop table if exists attempt;
drop table if exists publication;
drop table if exists set_aside;
drop table if exists operation;
drop table if exists operation_lease;
