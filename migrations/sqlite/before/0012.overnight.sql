-- The few that last beyond midnight, and so are on the next day's list, too.
create index if not exists appointment_overnight on appointment (date_time)
    where date(end_time) > date(date_time);
