CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA public;

CREATE FUNCTION public.occupied(name text, begins timestamp without time zone, ends timestamp without time zone) RETURNS box
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN box(point(((date_part('epoch'::text, date_trunc('minute'::text, begins)) * ('1000000'::numeric)::double precision) + date_part('microseconds'::text, begins)), ((hashtextextended(name, (0)::bigint) >> 12))::double precision), point((((date_part('epoch'::text, date_trunc('minute'::text, ends)) * ('1000000'::numeric)::double precision) + date_part('microseconds'::text, ends)) - (1)::double precision), (((hashtextextended(name, (0)::bigint) >> 12))::double precision + (0.5)::double precision)));

CREATE FUNCTION public.refuse_inserted_over_override() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
declare
    taken text;
begin
    select constraint_name into taken from (
        select
            case
                when (
                    select count(*) from appointment a
                    where a.override_reason is not null and a.status <> 'cancelled'
                        and occupied(a.office_number, a.date_time, a.end_time)
                        && occupied(made.office_number, made.date_time, made.end_time)
                ) > 0 then 'office_taken'
                when (
                    select count(*) from appointment a
                    where a.override_reason is not null and a.status <> 'cancelled'
                        and a.doctor_name is not null
                        and occupied(a.doctor_name, a.date_time, a.end_time)
                        && occupied(made.doctor_name, made.date_time, made.end_time)
                ) > 0 then 'doctor_taken'
            end as constraint_name
        from made where made.override_reason is null and made.status <> 'cancelled'
    ) as judged
    where constraint_name is not null
    limit 1;
    if found then
        raise exclusion_violation using message = 'conflicts with an override', constraint = taken;
    end if;
    return null;
end
$$;

CREATE FUNCTION public.refuse_over_override() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    if (
        select count(*) from appointment a
        where a.override_reason is not null and a.status <> 'cancelled' and a.id <> new.id
            and occupied(a.office_number, a.date_time, a.end_time)
            && occupied(new.office_number, new.date_time, new.end_time)
    ) > 0 then
        raise exclusion_violation using message = 'conflicts with an override', constraint = 'office_taken';
    end if;
    if (
        select count(*) from appointment a
        where a.override_reason is not null and a.status <> 'cancelled' and a.id <> new.id
            and a.doctor_name is not null
            and occupied(a.doctor_name, a.date_time, a.end_time)
            && occupied(new.doctor_name, new.date_time, new.end_time)
    ) > 0 then
        raise exclusion_violation using message = 'conflicts with an override', constraint = 'doctor_taken';
    end if;
    return new;
end
$$;

CREATE TABLE public._yoyo_log (
    id character varying(36) NOT NULL,
    migration_hash character varying(64),
    migration_id character varying(255),
    operation character varying(10),
    username character varying(255),
    hostname character varying(255),
    comment character varying(255),
    created_at_utc timestamp without time zone
);

CREATE TABLE public._yoyo_migration (
    migration_hash character varying(64) NOT NULL,
    migration_id character varying(255),
    applied_at_utc timestamp without time zone
);

CREATE TABLE public._yoyo_version (
    version integer NOT NULL,
    installed_at_utc timestamp without time zone
);

CREATE TABLE public.appointment (
    id bigint NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    status text DEFAULT 'booked'::text NOT NULL,
    patient_name text NOT NULL,
    patient_key text NOT NULL,
    office_number text NOT NULL,
    doctor_name text,
    date_time timestamp without time zone NOT NULL,
    duration_minutes integer NOT NULL,
    end_time timestamp without time zone NOT NULL,
    override_reason text,
    CONSTRAINT appointment_doctor_name_check CHECK (((length(doctor_name) >= 1) AND (length(doctor_name) <= 200))),
    CONSTRAINT appointment_duration_minutes_check CHECK (((duration_minutes >= 1) AND (duration_minutes <= 1440))),
    CONSTRAINT appointment_ends CHECK (((end_time > date_time) AND (end_time <= (date_time + '2 days'::interval)))),
    CONSTRAINT appointment_office_number_check CHECK (((length(office_number) >= 1) AND (length(office_number) <= 50))),
    CONSTRAINT appointment_override_reason_check CHECK (((length(override_reason) >= 1) AND (length(override_reason) <= 500))),
    CONSTRAINT appointment_patient_name_check CHECK (((length(patient_name) >= 1) AND (length(patient_name) <= 200))),
    CONSTRAINT appointment_status_check CHECK ((status = ANY (ARRAY['booked'::text, 'arrived'::text, 'done'::text, 'no_show'::text, 'cancelled'::text]))),
    CONSTRAINT appointment_version_check CHECK ((version >= 1))
);

ALTER TABLE public.appointment ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.appointment_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.clinic (
    single boolean DEFAULT true NOT NULL,
    id text NOT NULL,
    CONSTRAINT clinic_single_check CHECK (single)
);

CREATE TABLE public.event (
    "position" bigint NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    CONSTRAINT event_body_check CHECK (((body)::json IS NOT NULL))
);

ALTER TABLE public.event ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.event_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.idempotency_key (
    key text NOT NULL,
    fingerprint text NOT NULL,
    appointment_id bigint NOT NULL,
    created boolean NOT NULL,
    stored_at timestamp with time zone NOT NULL
);

CREATE TABLE public.message (
    "position" bigint NOT NULL,
    queue text NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    deaths integer DEFAULT 0 NOT NULL,
    reason text,
    ready_at timestamp with time zone NOT NULL,
    lease text,
    CONSTRAINT message_deaths_check CHECK ((deaths >= 0)),
    CONSTRAINT message_queue_check CHECK ((queue = ANY (ARRAY['main'::text, 'dead_letter'::text, 'not_solved'::text])))
);

ALTER TABLE public.message ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.message_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.outbox (
    "position" bigint NOT NULL,
    relay_at timestamp with time zone NOT NULL,
    published_at timestamp with time zone,
    publications integer DEFAULT 0 NOT NULL
);

CREATE TABLE public.recorded (
    event_id text NOT NULL,
    type text NOT NULL,
    appointment_id bigint NOT NULL,
    version integer NOT NULL,
    status text NOT NULL,
    office_number text NOT NULL,
    doctor_name text,
    day date NOT NULL,
    hour_of_week integer NOT NULL,
    duration_minutes integer NOT NULL,
    lead_minutes integer NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT recorded_hour_of_week_check CHECK (((hour_of_week >= 0) AND (hour_of_week <= 167)))
);

CREATE TABLE public.yoyo_lock (
    locked integer DEFAULT 1 NOT NULL,
    ctime timestamp without time zone,
    pid integer NOT NULL
);

INSERT INTO public._yoyo_migration VALUES ('08451f301ed3545e90f03ea11dda8b3e75cac98e5cc552d0dce4376b51943628', '0001.clinic', '2026-11-29 14:14:38.152233');

INSERT INTO public._yoyo_version VALUES (2, '2026-11-29 14:14:37.931401');

INSERT INTO public.clinic VALUES (true, '0123456789abcdef0123456789abcdef');

SELECT pg_catalog.setval('public.appointment_id_seq', 1, false);

SELECT pg_catalog.setval('public.event_position_seq', 1, false);

SELECT pg_catalog.setval('public.message_position_seq', 1, false);

ALTER TABLE ONLY public._yoyo_log
    ADD CONSTRAINT _yoyo_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public._yoyo_migration
    ADD CONSTRAINT _yoyo_migration_pkey PRIMARY KEY (migration_hash);

ALTER TABLE ONLY public._yoyo_version
    ADD CONSTRAINT _yoyo_version_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.appointment
    ADD CONSTRAINT appointment_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.clinic
    ADD CONSTRAINT clinic_pkey PRIMARY KEY (single);

ALTER TABLE ONLY public.appointment
    ADD CONSTRAINT doctor_taken EXCLUDE USING gist (public.occupied(doctor_name, date_time, end_time) WITH &&) WHERE (((doctor_name IS NOT NULL) AND (status <> 'cancelled'::text) AND (override_reason IS NULL)));

ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_id_key UNIQUE (id);

ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY public.idempotency_key
    ADD CONSTRAINT idempotency_key_pkey PRIMARY KEY (key);

ALTER TABLE ONLY public.message
    ADD CONSTRAINT message_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY public.appointment
    ADD CONSTRAINT office_taken EXCLUDE USING gist (public.occupied(office_number, date_time, end_time) WITH &&) WHERE (((status <> 'cancelled'::text) AND (override_reason IS NULL)));

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY public.recorded
    ADD CONSTRAINT recorded_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY public.yoyo_lock
    ADD CONSTRAINT yoyo_lock_pkey PRIMARY KEY (locked);

CREATE INDEX appointment_doctor ON public.appointment USING btree (doctor_name, date_time, id) WHERE (doctor_name IS NOT NULL);

CREATE INDEX appointment_office ON public.appointment USING btree (office_number, date_time, id);

CREATE INDEX appointment_overnight ON public.appointment USING btree (date_time) WHERE (date(end_time) > date(date_time));

CREATE INDEX appointment_override_doctor ON public.appointment USING gist (public.occupied(doctor_name, date_time, end_time)) WHERE ((doctor_name IS NOT NULL) AND (override_reason IS NOT NULL) AND (status <> 'cancelled'::text));

CREATE INDEX appointment_override_office ON public.appointment USING gist (public.occupied(office_number, date_time, end_time)) WHERE ((override_reason IS NOT NULL) AND (status <> 'cancelled'::text));

CREATE INDEX appointment_patient ON public.appointment USING btree (patient_key, date_time, id);

CREATE INDEX appointment_status ON public.appointment USING btree (status, date_time, id);

CREATE INDEX appointment_time ON public.appointment USING btree (date_time, id);

CREATE INDEX event_subject ON public.event USING btree (subject, "position");

CREATE INDEX idempotency_key_stored_at ON public.idempotency_key USING btree (stored_at);

CREATE INDEX message_lease ON public.message USING btree (lease) WHERE (lease IS NOT NULL);

CREATE INDEX message_ready ON public.message USING btree (ready_at) WHERE (queue <> 'not_solved'::text);

CREATE INDEX outbox_due ON public.outbox USING btree (relay_at, "position");

CREATE INDEX recorded_appointment ON public.recorded USING btree (appointment_id, version);

CREATE INDEX recorded_day ON public.recorded USING btree (day, type);

CREATE TRIGGER appointment_inserted AFTER INSERT ON public.appointment REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_inserted_over_override();

CREATE TRIGGER appointment_updated BEFORE UPDATE ON public.appointment FOR EACH ROW WHEN (((new.status <> 'cancelled'::text) AND (new.override_reason IS NULL) AND ((old.status = 'cancelled'::text) OR (old.override_reason IS NOT NULL) OR ((((old.office_number IS DISTINCT FROM new.office_number) OR (old.doctor_name IS DISTINCT FROM new.doctor_name)) OR (old.date_time IS DISTINCT FROM new.date_time)) OR (old.end_time IS DISTINCT FROM new.end_time))))) EXECUTE FUNCTION public.refuse_over_override();

ALTER TABLE ONLY public.idempotency_key
    ADD CONSTRAINT idempotency_key_appointment_id_fkey FOREIGN KEY (appointment_id) REFERENCES public.appointment(id);
