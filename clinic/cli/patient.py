"""``clinic patient``: what the book holds of a patient, and to erase it."""

import argparse
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from clinic.access.audit import Change, write
from clinic.appointments.desk import Desk
from clinic.appointments.privacy import Person, Spelling, narrowed, several
from clinic.appointments.queries import phone_key
from clinic.cli.command import Command
from clinic.cli.opened import with_parts
from clinic.cli.output import agreed, say, say_json, table, tell
from clinic.database import in_thread, wall_clock_text, wipe
from clinic.parts import Parts
from clinic.registry.names import Name, Phone, patient_key
from clinic.supervisor import Misconfigured

# Fewer digits are no phone number: they would be many people's.
LEAST_DIGITS = 5
NAME: TypeAdapter[str] = TypeAdapter(Name)
PHONE: TypeAdapter[str] = TypeAdapter(Phone)
TABLES = ("appointment", "idempotency_key")
HEAD = ("NAME", "PHONE", "APPOINTMENTS", "FROM", "TO")
APPOINTMENTS = ("ID", "TIME", "STATUS", "OFFICE", "DOCTOR", "NAME", "PHONE", "NOTE", "REASON")

EPILOG = """\
Who is meant: a NAME is the whole name, however it is written (case, ё or е, kinds of hyphens); a
PHONE is the whole number, with whatever blanks and signs. `-` reads it from standard input, so that
it stands in no list of processes and in no shell's history.

If several people may be meant, nothing is done until you say who:
  --name NAME        of those who share the phone
  --phone PHONE      of those who share the name
  --without-phone    of those who share the name, whoever has no phone in the book
  --all              all of them

Erasing removes name, phone, note, the reason of an override, and the idempotency keys. The
appointments stay, with times and statuses, and so do all counts. Notes of other patients are not
searched for the name. Backups keep what they have: erase again after a restore.
"""


class Unclear(Exception):
    """Nobody is meant, or it is not clear who; the message says what to do."""


@dataclass(frozen=True)
class Asked:
    """Whom the arguments mean, and how their name and phone stand in the book."""

    person: Person
    found: Sequence[Spelling]

    @property
    def appointments(self) -> int:
        """On how many appointments they stand."""
        return sum(one.appointments for one in self.found)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done for a patient."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    named = parser.add_subparsers(metavar="export|erase", required=True)
    export = named.add_parser("export", help="print all that the book holds of a patient")
    export.add_argument("--json", action="store_true", help="as JSON, with all events")
    export.set_defaults(do=export_patient)
    erase = named.add_parser("erase", help="erase a patient; appointments and counts stay")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    erase.add_argument(
        "--compact",
        action="store_true",
        help="SQLite: write the file anew whatever its size, so that no trace is left in its "
        "unused parts; nobody books meanwhile",
    )
    erase.set_defaults(do=erase_patient)
    for one in (export, erase):
        one.add_argument("who", metavar="NAME|PHONE", help="the whole name or number; - reads it")
        one.add_argument("--name", help="of those who share the phone")
        one.add_argument("--phone", help="of those who share the name")
        one.add_argument("--without-phone", action="store_true", help="who has none in the book")
        one.add_argument("--all", action="store_true", help="all who may be meant")


def execute(parsed: argparse.Namespace) -> int:
    """Do what was asked for."""
    person = person_of(parsed)

    async def work(parts: Parts) -> int:
        try:
            asked = await _find(parts.desk, person, everyone=parsed.all)
        except Unclear as error:
            tell(str(error))
            return 1
        do: Callable[[Parts, Asked, argparse.Namespace], Awaitable[int]] = parsed.do
        return await do(parts, asked, parsed)

    return with_parts(work)


def person_of(parsed: argparse.Namespace) -> Person:
    """Return whom the arguments mean.

    Raises:
        Misconfigured: they mean nobody, or two at once.
    """
    who = sys.stdin.readline().rstrip("\n") if parsed.who == "-" else parsed.who
    name, phone = parsed.name, parsed.phone
    if is_phone(who):
        if phone is not None or parsed.without_phone:
            raise Misconfigured("the phone is given twice: say --name NAME beside it")
        phone = who
    else:
        if name is not None:
            raise Misconfigured("the name is given twice: say --phone PHONE beside it")
        name = who
    if phone is not None and parsed.without_phone:
        raise Misconfigured("say --phone PHONE or --without-phone, not both")
    return Person(
        None if name is None else _name_key(name),
        None if phone is None else _phone_key(phone),
        or_without_phone=parsed.without_phone,
    )


def is_phone(text: str) -> bool:
    """Tell whether a text is a phone number: digits, and no letters."""
    digits = sum(one.isdecimal() for one in text)
    return digits >= LEAST_DIGITS and not any(one.isalpha() for one in text)


def _name_key(name: str) -> str:
    try:
        tidy = NAME.validate_python(name)
    except ValueError:
        raise Misconfigured("this is no name: write the whole name, as in the book") from None
    return patient_key(tidy)


def _phone_key(phone: str) -> str:
    try:
        key = phone_key(PHONE.validate_python(phone))
    except ValueError:
        key = None
    if key is None or len(key) < LEAST_DIGITS:
        raise Misconfigured(
            f"this is no phone number: write all of its {LEAST_DIGITS} or more digits"
        )
    return key


async def _find(desk: Desk, person: Person, *, everyone: bool) -> Asked:
    """Return who is meant.

    Raises:
        Unclear: nobody, or several may be.
    """
    found = await desk.spellings(person)
    if not found:
        raise Unclear("Nobody in the book has this whole name or number; nothing was done.")
    names, phones = several(person, found)
    if everyone:
        return Asked(person, found)
    if not (names or phones):
        return Asked(narrowed(person, found), found)
    if names:
        text = f"{names} different names have this phone. Say whose it is with --name NAME"
    else:
        text = (
            f"This name stands with {phones} different phones, and may be that of several people. "
            "Say which with --phone PHONE, or --without-phone"
        )
    raise Unclear(f"{_table(found)}\n{text}, or take all with --all; nothing was done.")


def _table(found: Sequence[Spelling]) -> str:
    rows = [
        (one.patient_name, one.patient_phone, one.appointments, one.first.date(), one.last.date())
        for one in found
    ]
    return table(HEAD, rows)


async def export_patient(parts: Parts, asked: Asked, parsed: argparse.Namespace) -> int:
    """Print all that the book holds of a patient."""
    # Before anything is read: what cannot be written down must not be read.
    async with parts.database.transaction() as connection:
        detail = {"appointments": asked.appointments}
        await write(connection, Change("patient.exported", None, detail))
    found = [one async for one in parts.desk.all_of(asked.person)]
    if parsed.json:
        records = [
            one.record() | {"events": list(map(json.loads, await parts.desk.history(one.id)))}
            for one in found
        ]
        say_json({"appointments": records})
        return 0
    rows = [
        (
            *(one.id, wall_clock_text(one.date_time), one.status, one.office_number),
            *(one.doctor_name, one.patient_name, one.patient_phone, one.note),
            one.override_reason,
        )
        for one in found
    ]
    say(table(APPOINTMENTS, rows))
    return 0


async def erase_patient(parts: Parts, asked: Asked, parsed: argparse.Namespace) -> int:
    """Show what would be erased, ask, and erase it."""
    tell(_table(asked.found))
    count = asked.appointments
    first, last = min(one.first for one in asked.found), max(one.last for one in asked.found)
    tell(f"{count} {_noun(count)}, from {first.date()} to {last.date()}.")
    if not agreed("Erase name, phone, notes and reasons from them for good?", yes=parsed.yes):
        return 1
    erased = await parts.desk.erase(asked.person)
    url = parts.settings.database_url
    clean = await in_thread(lambda: wipe(url, TABLES, compact=parsed.compact or None))
    say(f"Erased from {erased} {_noun(erased)}.")
    if not clean:
        tell(_what_is_left(url))
    return 0


def _noun(count: int) -> str:
    return "appointment" if count == 1 else "appointments"


def _what_is_left(url: str) -> str:
    if url.startswith("sqlite"):
        return (
            "Traces may be left in unused parts of the database's file or in the log beside it: "
            "with --compact there are none, and now `sqlite3 FILE vacuum` removes them."
        )
    return (
        "PostgreSQL overwrites the old rows in its files by and by; its archives and your backups "
        "keep what they have."
    )


COMMAND = Command(
    "patient",
    "export all that the book holds of a patient, or erase it",
    "Export all that the book holds of a patient, or erase it. It works while the clinic runs and "
    "while it does not. What was done stands in the audit, without the name.",
    add_arguments,
    execute,
)
