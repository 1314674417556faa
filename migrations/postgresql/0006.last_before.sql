-- Nothing: what 0006 does for SQLite, the constraints of 0001 do here.
select 1;
