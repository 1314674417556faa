"""The ``Idempotency-Key`` header: whoever sends the same request again gets the same answer.

See https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/. Only what was done
is kept: a refusal did nothing, and is judged anew when it is sent again.
"""

import datetime
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from clinic.database import Connection, Database, LostRace, Sql
from clinic.web.refusals import Refusal

# The draft asks to say how long: a client that retries for longer than this needs a person.
KEPT = datetime.timedelta(days=7)
# Old keys that are deleted with each batch that brings new ones.
MOST_DELETED = 1000

LONGEST_KEY = 255

# A string of RFC 8941, as the draft has it, or the same without quotes, as many clients send it.
FORM = re.compile(
    rf'"([\x20\x21\x23-\x5b\x5d-\x7e]{{1,{LONGEST_KEY}}})"'
    rf"|([\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]{{1,{LONGEST_KEY}}})"
)

INSERT_KEYS = Sql(
    sqlite="""
        insert into idempotency_key (key, fingerprint, appointment_id, created, stored_at)
        select
            value->>'key', value->>'fingerprint', value->>'appointment_id', value->>'created', :now
        from json_each(:keys)
        where true
        on conflict do nothing
        returning key
    """,
    postgresql="""
        insert into idempotency_key (key, fingerprint, appointment_id, created, stored_at)
        select key, fingerprint, appointment_id, created, cast(:now as timestamptz)
        from json_to_recordset(cast(:keys as json))
            as used (key text, fingerprint text, appointment_id bigint, created boolean)
        on conflict do nothing
        returning key
    """,
)

SELECT_KEYS = Sql(
    sqlite="""
        select key, fingerprint, appointment_id, created from idempotency_key
        where key in (select value from json_each(:keys))
    """,
    postgresql="""
        select key, fingerprint, appointment_id, created from idempotency_key
        where key in (select value from json_array_elements_text(cast(:keys as json)))
    """,
)

_OLD_KEYS = (
    "select key from idempotency_key where stored_at < :before order by stored_at limit :limit"
)
DELETE_OLD_KEYS = Sql(
    sqlite=f"delete from idempotency_key where key in ({_OLD_KEYS})",  # noqa: S608 - no input
    postgresql=f"delete from idempotency_key where key = any (array({_OLD_KEYS}))",  # noqa: S608
)


DELETE_KEYS_OF = Sql(
    sqlite="""
        delete from idempotency_key where appointment_id in (select value from json_each(:ids))
    """,
    postgresql="""
        delete from idempotency_key
        where appointment_id in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        )
    """,
)

# On SQLite a transaction that writes is alone anyway.
HOLD_NAMED = Sql(
    sqlite="""
        select id from appointment
        where id in (select value from json_each(:ids)) and patient_key <> ''
    """,
    postgresql="""
        select id from appointment
        where id in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        ) and patient_key <> ''
        order by id for share
    """,
)


class BadKey(Refusal):
    """The header Idempotency-Key holds none."""

    status = HTTPStatus.BAD_REQUEST
    slug = "bad-key"
    title = "Not an Idempotency-Key"
    explanation = (
        f"This is no Idempotency-Key: one has 1 to {LONGEST_KEY} visible characters, in quotes or "
        "without."
    )
    detail = 'The Idempotency-Key must be a string such as "8e03978e-40d5-43e8-bc93-6894a57f9324".'


class KeyReused(Refusal):
    """The key came before, with another booking."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "key-reused"
    title = "The Idempotency-Key was used before"
    explanation = (
        "The Idempotency-Key came before, with another booking. Take a new key for a new booking."
    )
    detail = "This Idempotency-Key was used for another booking; take a new key for a new booking."


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's key, and the fingerprint of what it sent with it."""

    key: str
    fingerprint: str

    @classmethod
    def read(cls, header: str | None, sent: Mapping[str, object]) -> Self | None:
        """Return the key in a header, or None if there is no such header.

        Raises:
            BadKey: it is none.
        """
        if header is None:
            return None
        found = FORM.fullmatch(header)
        if found is None:
            raise BadKey
        canonical = json.dumps(sent, sort_keys=True, ensure_ascii=False).encode()
        return cls(found[1] or found[2], hashlib.sha256(canonical).hexdigest())


@dataclass(frozen=True, slots=True)
class Kept:
    """A key that was used, and what was answered."""

    key: str
    fingerprint: str
    appointment_id: int
    created: bool


async def select_keys(target: Connection | Database, keys: Sequence[str]) -> list[Kept]:
    """Return those keys that were used."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(SELECT_KEYS, {"keys": list(keys)})
    return [
        Kept(row["key"], row["fingerprint"], row["appointment_id"], bool(row["created"]))
        for row in rows
    ]


async def insert_keys(
    connection: Connection, keys: Sequence[Mapping[str, object]], now: datetime.datetime
) -> None:
    """Keep keys, each with its fingerprint and what was answered.

    Raises:
        LostRace: another process has used one of them at this very moment.
    """
    rows = [dict(key) for key in keys]
    stored = await connection.fetch_all(INSERT_KEYS, {"keys": rows, "now": now})
    if len(stored) < len(keys):
        raise LostRace("another process has used the same Idempotency-Key")


async def hold_named(connection: Connection, ids: Sequence[int]) -> None:
    """Have whoever wants to erase the patients of appointments wait until the transaction ends.

    A key that is kept for an appointment that stands in the book already would else outlive the
    patient.

    Raises:
        LostRace: one of them has been erased since it was found.
    """
    wanted = sorted(set(ids))
    if wanted and len(await connection.fetch_all(HOLD_NAMED, {"ids": wanted})) < len(wanted):
        raise LostRace("the patient of the appointment was erased at this moment")


async def delete_keys_of(connection: Connection, ids: Sequence[int]) -> None:
    """Forget the keys of appointments, and the fingerprints of what was sent with them.

    A key may be made of a name, and whoever guesses what was sent can check it by the fingerprint.
    """
    await connection.execute(DELETE_KEYS_OF, {"ids": list(ids)})


async def delete_old_keys(connection: Connection, now: datetime.datetime) -> None:
    """Forget keys that were kept for long enough."""
    await connection.execute(DELETE_OLD_KEYS, {"before": now - KEPT, "limit": MOST_DELETED})
