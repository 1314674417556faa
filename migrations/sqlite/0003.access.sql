-- Who may come in. Of a token only its digest is kept. It is never deleted, so that the audit can be
-- read; a name can be used again once its token is revoked.
create table if not exists token (
    digest text primary key check (length(digest) = 64),
    name text not null check (length(name) between 1 and 63),
    -- Words with blanks between them (clinic/web/callers.py).
    permissions text not null check (length(permissions) > 0),
    -- The one calendar feed that it is good for.
    feed text,
    expires_at text,
    made_at text not null,
    made_by text not null,
    revoked_at text,
    last_used_at text
);
create unique index if not exists token_name on token (name) where revoked_at is null;

-- Who did what, never altered; no patient stands in it. What was done to an appointment stands in its
-- events, with who did it.
create table if not exists audit (
    position integer primary key autoincrement,
    at text not null,
    actor text not null,
    request_id text,
    action text not null,
    subject text,
    detail text not null check (json_valid(detail))
);
create index if not exists audit_actor on audit (actor, position);
create index if not exists audit_subject on audit (subject, position) where subject is not null;
create index if not exists audit_at on audit (at);

-- With what the cookies of people who have signed in are signed, in all processes alike. One row.
create table if not exists session_key (
    single integer primary key check (single = 1),
    key text not null check (length(key) = 64)
);
insert into session_key (single, key) values (1, lower(hex(randomblob(32))))
on conflict do nothing;
