drop table if exists appointment;
drop function if exists refuse_over_override;
