"""Versions of the clinic with a bug, each of which a campaign has to find."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.process.clinic import ROOT


@dataclass(frozen=True)
class Patch:
    """A text of the source that is replaced by another one, wherever it stands in a file."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A bug, in a world, and the faults that bring it to light, if it takes any."""

    name: str
    world: str
    patches: tuple[Patch, ...]
    found_as: frozenset[str]
    """The kinds of violations of which one at least must be found."""
    only: tuple[str, ...]
    faults: int = 4
    bookings: int = 1000


class PatchFitsNot(Exception):
    """The source has changed: a mutant's patch finds no text to replace, and has to be mended."""


def plant(mutant: Mutant, folder: Path) -> Path:
    """Make a copy of the source that has the bug, and return it.

    Raises:
        PatchFitsNot: it would be no mutant.
    """
    source = folder / "source"
    source.mkdir()
    shutil.copy(ROOT / "clinic.py", source)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("clinic", "migrations"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for patch in mutant.patches:
        path = source / patch.file
        text = path.read_text()
        if patch.old not in text:
            raise PatchFitsNot(f"{mutant.name}: {patch.file} has no {patch.old!r}")
        path.write_text(text.replace(patch.old, patch.new))
    return source


MUTANTS = [
    Mutant(
        "the consumer drops one event in 256",
        "embedded",
        (
            Patch(
                "clinic/analytics/recording.py",
                "    if events:\n        await insert_recorded",
                "    events = [one for one in events if int(one.event_id[-2:], 16)]\n"
                "    if events:\n        await insert_recorded",
            ),
        ),
        frozenset({"not recorded"}),
        only=("a consumer is killed",),
        faults=1,
        bookings=3000,
    ),
    Mutant(
        "nothing keeps appointments from overlapping",
        "embedded",
        (
            Patch(
                "clinic/appointments/queries.py",
                "            override_reason is not null or (\n",
                "            true or (\n",
            ),
            Patch(
                "migrations/sqlite/0002.clinic.sql",
                "before insert on appointment\nwhen ",
                "before insert on appointment\nwhen false and ",
            ),
        ),
        frozenset({"overlaps"}),
        only=("a consumer is killed",),
        faults=1,
    ),
    Mutant(
        "the schema lets appointments of two processes overlap",
        "postgresql+rabbitmq",
        (
            Patch(
                "migrations/postgresql/0002.clinic.sql",
                "override_reason is null)",
                "override_reason is null and false)",
            ),
        ),
        frozenset({"overlaps"}),
        only=("a consumer is killed",),
        faults=1,
    ),
    Mutant(
        "the outbox forgets one event in eight",
        "embedded",
        (
            Patch(
                "clinic/appointments/queries.py",
                'on event.id = value->>\'event_id\'\n        """,',
                "on event.id = value->>'event_id'\n        where event.position % 8 <> 0\n"
                '        """,',
            ),
        ),
        frozenset({"not recorded"}),
        only=("all processes are killed", "the messages are deleted"),
        faults=8,
    ),
    Mutant(
        "an event that is delivered twice is recorded twice",
        "postgresql+rabbitmq",
        (
            Patch(
                "migrations/postgresql/0002.clinic.sql",
                "event_id text primary key",
                "event_id text not null",
            ),
            Patch("clinic/analytics/queries.py", "on conflict (event_id) do nothing", ""),
        ),
        frozenset({"recorded twice"}),
        only=("RabbitMQ closes all connections", "a consumer is killed"),
        faults=8,
        bookings=4000,
    ),
    Mutant(
        "a booking is confirmed although the database failed",
        "postgresql+rabbitmq",
        (
            Patch(
                "clinic/appointments/writer.py",
                "outcomes = dict.fromkeys(requests, error)",
                "outcomes = {one: Confirmation(one.appointment.id, created=True) "
                "for one in requests}",
            ),
        ),
        frozenset({"lost"}),
        only=("PostgreSQL is killed", "PostgreSQL can only be read"),
        faults=2,
        bookings=500,
    ),
    Mutant(
        "a booking is confirmed before it is written",
        "embedded",
        (
            Patch(
                "clinic/appointments/writer.py",
                "            try:\n                await self._write(batch)\n",
                "            for one in batch:\n"
                "                number = one.request.appointment.id\n"
                "                one.resolve(Confirmation(number, created=True))\n"
                "            try:\n                await self._write(batch)\n",
            ),
        ),
        frozenset({"lost"}),
        only=("all processes are killed",),
        faults=1,
        bookings=500,
    ),
    Mutant(
        "the outbox is done with an event as soon as the broker has it",
        "postgresql+rabbitmq",
        (
            Patch(
                "clinic/messaging/relay.py",
                "        await self._release()\n\n    async def _mark_in_passing",
                "        await self._release()\n"
                "        async with self.outbox.database.transaction() as connection:\n"
                "            await self.outbox.close(connection, list(stored))\n\n"
                "    async def _mark_in_passing",
            ),
        ),
        frozenset({"not recorded"}),
        only=("the dead letter queue is purged", "the main queue is deleted"),
        faults=4,
        bookings=2000,
    ),
    Mutant(
        "what the broker has lost is not published again",
        "postgresql+rabbitmq",
        (
            Patch(
                "clinic/messaging/outbox.py",
                "return self.again_after * (",
                "return datetime.timedelta(days=1) * (",
            ),
        ),
        frozenset({"never quiet"}),
        only=("the dead letter queue is purged", "the main queue is deleted"),
        bookings=2000,
    ),
]
