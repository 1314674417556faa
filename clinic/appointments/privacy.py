"""A patient's rights: what the book holds of somebody, and to erase it.

A patient is known by nothing but what was written down: a name, in any of its spellings
(``patient_key``), and a phone. Erased is what is personal: name, phone, note, the reason of an
override (free text may hold a name), and the idempotency keys of the appointment. The appointment
stays, with its time, its status and what it occupies; it is a version more, with an event that says
so, since whoever keeps a copy has to erase that, too.
"""

import dataclasses
import datetime
import zoneinfo
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from clinic.access import audit
from clinic.appointments.appointment import ERASED, Appointment
from clinic.appointments.idempotency import delete_keys_of
from clinic.appointments.queries import SELECT, appointment_of, stored_key
from clinic.appointments.reasons import delete_reasons
from clinic.database import Connection, Database, Sql, as_wall_clock, utc_now
from clinic.events import EventType, tell
from clinic.messaging.outbox import Outbox
from clinic.registry.names import words_of

# Appointments of one transaction: bookings wait for it on SQLite, for some hundredths of a second.
STEP = 200
HAPPENED: EventType = "appointment.erased"

# Whether there is anything left to erase.
PERSONAL = (
    "(patient_key <> '' or patient_phone is not null or note is not null "
    f"or override_reason <> '{ERASED}')"
)

UPDATE_ERASED = Sql(
    sqlite="""
        update appointment
        set version = version + 1, patient_name = :erased, patient_key = '', patient_phone = null,
            phone_key = null, note = null,
            override_reason = iif(override_reason is null, null, :erased)
        where id in (select value from json_each(:ids))
    """,
    # What it occupies stays as it is: an override is one as long as it has a reason.
    postgresql="""
        update appointment
        set version = version + 1, patient_name = :erased, patient_key = '', patient_phone = null,
            phone_key = null, note = null,
            override_reason = case when override_reason is not null then cast(:erased as text) end
        where id in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        )
    """,
)
DELETE_WORDS = Sql(
    sqlite="""
        delete from patient_word
        where (word, appointment_id) in (
            select value->>'word', value->>'id' from json_each(:words)
        )
    """,
    postgresql="select 1",  # an index keeps them
)
AMONG = Sql(
    sqlite="appointment.id in (select value from json_each(:ids))",
    postgresql="""
        appointment.id in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        )
    """,
)
# Who changes one of them at this moment is waited for, and it is looked at again. On SQLite a
# transaction that writes is alone anyway.
HELD = Sql(sqlite="", postgresql="for update of appointment")


@dataclass(frozen=True)
class Person:
    """Whom a person means: by the whole name, the whole phone number, or both.

    ``name_key`` is a ``patient_key``, ``phone_key`` all digits from the last to the first. With
    ``or_without_phone`` appointments without any phone are meant as well, and without a
    ``phone_key`` these alone.
    """

    name_key: str | None = None
    phone_key: str | None = None
    or_without_phone: bool = False

    @property
    def where(self) -> str:
        """The condition on an appointment; an index serves it."""
        assert self.name_key or self.phone_key  # noqa: S101 - nobody means everybody
        name = "true" if self.name_key is None else "patient_key = :name_key"
        if self.phone_key is None:
            return f"{name} and phone_key is null" if self.or_without_phone else name
        if self.or_without_phone:
            return f"{name} and (phone_key = :phone_key or phone_key is null)"
        return f"{name} and phone_key = :phone_key"

    @property
    def values(self) -> dict[str, object]:
        """The parameters of the condition."""
        given = {"name_key": self.name_key, "phone_key": self.phone_key}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Spelling:
    """A name and a phone as they stand in the book, and on how many appointments, from when on."""

    patient_name: str
    patient_phone: str | None
    name_key: str
    phone_key: str | None
    appointments: int
    first: datetime.datetime
    last: datetime.datetime


def several(person: Person, found: Collection[Spelling]) -> tuple[int, int]:
    """Return how many names and how many phones somebody may have meant who named but one.

    0 where there is no doubt. Spellings that have one key are one name; an appointment without a
    phone goes with whatever phone the name has.
    """
    names = {one.name_key for one in found if one.name_key}
    phones = {one.phone_key for one in found if one.phone_key}
    doubt_names = person.name_key is None and len(names) > 1
    doubt_phones = person.phone_key is None and len(phones) > 1
    return len(names) if doubt_names else 0, len(phones) if doubt_phones else 0


def narrowed(person: Person, found: Collection[Spelling]) -> Person:
    """Return who was found and nobody else, where there is no doubt.

    Somebody else who is booked with the same phone, or by the same name, before the erasure ends
    is not meant.
    """
    names = {one.name_key for one in found}
    phones = {one.phone_key for one in found}
    known = phones - {None}
    return Person(
        names.pop() if len(names) == 1 and "" not in names else person.name_key,
        known.pop() if len(known) == 1 else person.phone_key,
        or_without_phone=None in phones,
    )


async def select_spellings(database: Database, person: Person) -> list[Spelling]:
    """Return how a patient's name and phone are written in the book, the most common first."""
    rows = await database.look(
        f"""
        select patient_name, patient_phone, patient_key as name_key, phone_key,
            count(*) as appointments, min(date_time) as first, max(date_time) as last
        from appointment where {person.where}
        group by patient_name, patient_phone, patient_key, phone_key
        order by appointments desc, patient_name, patient_phone
        """,  # noqa: S608 - our own words only
        person.values,
    )
    found = []
    for row in rows:
        times = {name: as_wall_clock(row[name]) for name in ("first", "last")}
        found.append(Spelling(**{**row, **times}))
    return found


async def select_of_person(
    database: Database, person: Person, after: int, limit: int
) -> list[Appointment]:
    """Return a patient's appointments after an id, in the order of ids."""
    rows = await database.look(
        f"{SELECT} where {person.where} and appointment.id > :after "
        "order by appointment.id limit :limit",
        person.values | {"after": after, "limit": limit},
    )
    return [appointment_of(row) for row in rows]


async def erase_some(
    database: Database, outbox: Outbox, zone: zoneinfo.ZoneInfo, person: Person, limit: int = STEP
) -> int:
    """Erase a patient from some appointments, in one transaction; return from how many.

    0 says that none is left. What is committed stays done, so an erasure that ended in the middle
    is finished by another one.

    Raises:
        LostRace: somebody changed one of them at this moment.
        DatabaseUnavailable: the database cannot do it now.
    """
    async with database.transaction() as connection:
        (held,) = HELD.on(connection.dialect)
        rows = await connection.fetch_all(
            f"{SELECT} where {person.where} order by appointment.id limit :limit {held}",
            person.values | {"limit": limit},
        )
        await erase(connection, outbox, zone, [appointment_of(row) for row in rows])
        if rows:
            detail = {"appointments": len(rows)}
            await audit.write(connection, audit.Change("patient.erased", None, detail))
    return len(rows)


async def select_personal(connection: Connection, ids: Sequence[int]) -> list[Appointment]:
    """Return those appointments that hold anything of a patient; nobody else changes them now."""
    (among,), (held,) = AMONG.on(connection.dialect), HELD.on(connection.dialect)
    rows = await connection.fetch_all(
        f"{SELECT} where {among} and {PERSONAL} order by appointment.id {held}", {"ids": list(ids)}
    )
    return [appointment_of(row) for row in rows]


async def erase(
    connection: Connection,
    outbox: Outbox,
    zone: zoneinfo.ZoneInfo,
    appointments: Sequence[Appointment],
) -> None:
    """Erase the patients of appointments that are held until the transaction ends."""
    if not appointments:
        return
    ids = [one.id for one in appointments]
    words = [
        {"id": one.id, "word": word}
        for one in appointments
        for word in words_of(stored_key(one.patient_name))
    ]
    await delete_keys_of(connection, ids)
    await delete_reasons(connection, ids)
    await connection.execute(DELETE_WORDS, {"words": words})
    await connection.execute(UPDATE_ERASED, {"ids": ids, "erased": ERASED})
    now = utc_now()
    events = [tell(HAPPENED, erased(one).facts(zone.key), now) for one in appointments]
    await outbox.append(connection, [event.message() for event in events])


def erased(appointment: Appointment) -> Appointment:
    """Return an appointment as it is once its patient is erased."""
    return dataclasses.replace(
        appointment,
        version=appointment.version + 1,
        patient_name=ERASED,
        patient_phone=None,
        note=None,
        override_reason=None if appointment.override_reason is None else ERASED,
    )
