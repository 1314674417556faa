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
    select case when a.office_number = made.office_number then 'office_taken' else 'doctor_taken' end
    into taken
    from made join appointment a
        on tsrange(a.date_time, a.end_time) && tsrange(made.date_time, made.end_time)
        and (a.office_number = made.office_number or a.doctor_name = made.doctor_name) is true
    where made.override_reason is null and made.status <> 'cancelled'
        and a.override_reason is not null and a.status <> 'cancelled' and a.id <> made.id
    limit 1;
    if found then
        raise exclusion_violation using message = 'an override is in the way', constraint = taken;
    end if;
    return null;
end
$$;

CREATE FUNCTION public.refuse_over_override() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
declare
    taken text;
begin
    select case when a.office_number = new.office_number then 'office_taken' else 'doctor_taken' end
    into taken
    from appointment a
    where a.override_reason is not null and a.status <> 'cancelled' and a.id <> new.id
        and tsrange(a.date_time, a.end_time) && tsrange(new.date_time, new.end_time)
        and (a.office_number = new.office_number or a.doctor_name = new.doctor_name) is true
    limit 1;
    if found then
        raise exclusion_violation using message = 'an override is in the way', constraint = taken;
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
    CONSTRAINT appointment_check CHECK ((end_time = (date_time + ((duration_minutes)::double precision * '00:01:00'::interval)))),
    CONSTRAINT appointment_doctor_name_check CHECK (((length(doctor_name) >= 1) AND (length(doctor_name) <= 200))),
    CONSTRAINT appointment_duration_minutes_check CHECK (((duration_minutes >= 1) AND (duration_minutes <= 1440))),
    CONSTRAINT appointment_office_number_check CHECK (((length(office_number) >= 1) AND (length(office_number) <= 50))),
    CONSTRAINT appointment_override_reason_check CHECK (((length(override_reason) >= 1) AND (length(override_reason) <= 500))),
    CONSTRAINT appointment_patient_name_check CHECK (((length(patient_name) >= 1) AND (length(patient_name) <= 200))),
    CONSTRAINT appointment_status_check CHECK ((status = ANY (ARRAY['booked'::text, 'arrived'::text, 'done'::text, 'no_show'::text, 'cancelled'::text]))),
    CONSTRAINT appointment_version_check CHECK ((version >= 1))
);

ALTER TABLE public.appointment ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.appointment_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
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

INSERT INTO public._yoyo_migration VALUES ('e0a43e8d47e68c9f7394822176992a28bb288125877f2d6d76944dab6535b613', '0001.appointment', '2026-11-26 18:19:51.694926');
INSERT INTO public._yoyo_migration VALUES ('a29f34ea07b4b582f9ae03a73f7cf872f4b6d4b830be3a09579693bcaedb7329', '0002.event', '2026-11-26 18:19:51.757596');
INSERT INTO public._yoyo_migration VALUES ('194d9f6117fbe3749adcb32de2cf27d62c0e35f17537ce6fab321c91f744425f', '0003.message', '2026-11-26 18:19:51.81091');
INSERT INTO public._yoyo_migration VALUES ('52197f96d1d0d3e7409b902e8c2f7e9961ce464e09c03f2820e3f87da8701620', '0004.recorded', '2026-11-26 18:19:51.859885');
INSERT INTO public._yoyo_migration VALUES ('786430097194810328d7f83eb7ae062a406bab585b78407650b6417f64b76e80', '0005.idempotency_key', '2026-11-26 18:19:51.906654');
INSERT INTO public._yoyo_migration VALUES ('02e6940056fc52822edf0cf7f4172ad28306623692e77a9ac6027c69456b7374', '0006.last_before', '2026-11-26 18:19:51.928759');
INSERT INTO public._yoyo_migration VALUES ('3d278aebaa937564626c986ca521374936706f1761cb3db453112d51906be284', '0007.outbox', '2026-11-26 18:19:51.984699');
INSERT INTO public._yoyo_migration VALUES ('663411220e322aa0ed49d86143d1fd6201140f35a5f5ce5c1907d02895d8dda7', '0008.override_once', '2026-11-26 18:19:52.012281');
INSERT INTO public._yoyo_migration VALUES ('adda42fe55095d556cb5e904c39eb2349a76c6b2ce33a559c7e7a6f868a9c018', '0009.rectangles', '2026-11-26 18:19:52.048648');
INSERT INTO public._yoyo_migration VALUES ('ac249a683c1bb75ca4d542a76a416f2a664696f35b37a1dea2a458961fc84fa8', '0010.overrides_by_time', '2026-11-26 18:19:52.073158');

INSERT INTO public._yoyo_version VALUES (2, '2026-11-26 18:19:51.434704');

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

CREATE INDEX appointment_override ON public.appointment USING gist (tsrange(date_time, end_time)) WHERE ((override_reason IS NOT NULL) AND (status <> 'cancelled'::text));

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
