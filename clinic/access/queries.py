"""The tables of tokens and of the audit: one function, one statement."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import from_json, to_json

from clinic.access.token import Token, read_permissions
from clinic.database import Connection, Database, Row, Sql

INSERT = """
    insert into token (name, digest, permissions, feed, expires_at, made_at, made_by)
    values (:name, :digest, :permissions, :feed, :expires_at, :made_at, :made_by)
    on conflict do nothing
    returning digest
"""

SELECT_TOKENS = """
    select name, digest, permissions, feed, expires_at, made_at, made_by, revoked_at, last_used_at
    from token order by made_at, name
"""

SELECT_KNOWN = """
    select key as session_key, name, digest, permissions, feed, expires_at, made_at, made_by,
        revoked_at, last_used_at
    from session_key left join token on true
"""

UPDATE_REVOKED = """
    update token set revoked_at = :now where name = :name and revoked_at is null
    returning digest
"""

UPDATE_USED = """
    update token set last_used_at = :now
    where digest = :digest and (last_used_at is null or last_used_at < :now)
"""

INSERT_AUDIT = """
    insert into audit (at, actor, request_id, action, subject, detail)
    values (:at, :actor, :request_id, :action, :subject, :detail)
"""

SELECT_AUDIT = Sql(
    sqlite="""
        select position, at, actor, request_id, action, subject, detail from audit
        where position < :before
            and (:actor is null or actor = :actor)
            and (:action is null or action = :action)
            and (:subject is null or subject = :subject)
            and (:since is null or at >= :since)
            and (:until is null or at < :until)
        order by position desc limit :limit
    """,
    postgresql="""
        select position, at, actor, request_id, action, subject, detail from audit
        where position < :before
            and (cast(:actor as text) is null or actor = :actor)
            and (cast(:action as text) is null or action = :action)
            and (cast(:subject as text) is null or subject = :subject)
            and (cast(:since as timestamptz) is null or at >= :since)
            and (cast(:until as timestamptz) is null or at < :until)
        order by position desc limit :limit
    """,
)


@dataclass(frozen=True)
class Deed:
    """Something that was done: when, by whom, by which request; what, and to what.

    ``detail`` has no patient in it.
    """

    at: datetime.datetime
    actor: str
    request_id: str | None
    action: str
    subject: str | None
    detail: Mapping[str, object]
    position: int = 0


@dataclass(frozen=True)
class Asked:
    """Which deeds are asked for; None matches all. ``before`` is a position, ``until`` excluded."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None


async def insert_token(connection: Connection, token: Token) -> bool:
    """Insert a token; return False if another one that is not revoked has its name."""
    values = {
        "name": token.name,
        "digest": token.digest,
        "permissions": " ".join(sorted(token.permissions)),
        "feed": token.feed,
        "expires_at": token.expires_at,
        "made_at": token.made_at,
        "made_by": token.made_by,
    }
    return bool(await connection.fetch_all(INSERT, values))


async def select_tokens(database: Database) -> list[Token]:
    """Return all tokens, also those that do not count any more, the oldest first."""
    return [_token(row) for row in await database.look(SELECT_TOKENS)]


async def select_known(database: Database) -> tuple[str, list[Token]]:
    """Return the key of sessions, and all tokens."""
    rows = await database.look(SELECT_KNOWN)
    return rows[0]["session_key"], [_token(row) for row in rows if row["digest"] is not None]


def _token(row: Row) -> Token:
    return Token(
        name=row["name"],
        digest=row["digest"],
        permissions=read_permissions(row["permissions"].split()),
        feed=row["feed"],
        expires_at=_moment(row["expires_at"]),
        made_at=_moment(row["made_at"]),
        made_by=row["made_by"],
        revoked_at=_moment(row["revoked_at"]),
        last_used_at=_moment(row["last_used_at"]),
    )


async def update_revoked(connection: Connection, name: str, now: datetime.datetime) -> bool:
    """Revoke the token of a name; return False if there is none that could be revoked."""
    return bool(await connection.fetch_all(UPDATE_REVOKED, {"name": name, "now": now}))


async def update_used(database: Database, digest: str, now: datetime.datetime) -> None:
    """Write down when a token was used last."""
    await database.at_once(UPDATE_USED, {"digest": digest, "now": now})


async def insert_deed(connection: Connection, deed: Deed) -> None:
    """Write a deed into the audit, in the transaction in which it is done."""
    await connection.execute(INSERT_AUDIT, _audit_values(deed))


async def insert_deed_at_once(database: Database, deed: Deed) -> None:
    """Write a deed into the audit that is no change, and so has no transaction."""
    await database.at_once(INSERT_AUDIT, _audit_values(deed))


def _audit_values(deed: Deed) -> dict[str, object]:
    return {
        "at": deed.at,
        "actor": deed.actor,
        "request_id": deed.request_id,
        "action": deed.action,
        "subject": deed.subject,
        "detail": to_json(deed.detail).decode(),
    }


async def select_deeds(database: Database, asked: Asked, before: int, limit: int) -> Sequence[Deed]:
    """Return the newest deeds that are asked for, from before a position on, the newest first."""
    rows = await database.look(
        SELECT_AUDIT,
        {
            "before": before,
            "limit": limit,
            "actor": asked.actor,
            "action": asked.action,
            "subject": asked.subject,
            "since": asked.since,
            "until": asked.until,
        },
    )
    return [
        Deed(
            at=_certain(row["at"]),
            actor=row["actor"],
            request_id=row["request_id"],
            action=row["action"],
            subject=row["subject"],
            detail=from_json(row["detail"]),
            position=row["position"],
        )
        for row in rows
    ]


def _certain(value: object) -> datetime.datetime:
    moment = _moment(value)
    assert moment is not None  # noqa: S101 - the column is not null
    return moment


def _moment(value: object) -> datetime.datetime | None:
    """Return a moment as aware UTC; SQLite keeps it as text."""
    if isinstance(value, str):
        return datetime.datetime.fromisoformat(value)
    return value if isinstance(value, datetime.datetime) else None
