drop trigger if exists appointment_inserted on appointment;
drop function if exists refuse_inserted_over_override;
create trigger appointment_inserted before insert on appointment
    for each row when (new.status <> 'cancelled' and new.override_reason is null)
    execute function refuse_over_override();
