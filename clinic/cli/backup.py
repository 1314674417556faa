"""``clinic backup``: write a backup while the clinic runs."""

import argparse
from pathlib import Path

import anyio

from clinic import parts
from clinic.access.audit import Audit
from clinic.acting import CLI, Act, act_as
from clinic.cli.command import Command
from clinic.cli.output import agreed, say, say_json, tell
from clinic.cli.run import LOOP
from clinic.database import (
    BackupFailed,
    DatabaseUnavailable,
    SchemaUnfit,
    back_up,
    open_database,
)
from clinic.logs import set_up_logging
from clinic.settings import LogLevel, read_settings
from clinic.supervisor import Misconfigured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where to write it."""
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write it")
    parser.add_argument("--yes", action="store_true", help="replace FILE if it exists")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def execute(parsed: argparse.Namespace) -> int:
    """Write a backup."""
    settings = read_settings({})
    parts.check(settings)
    level = max(settings.log_level, LogLevel.WARNING, key=list(LogLevel).index)
    set_up_logging(level, settings.log_format)
    url, file = settings.database_url, parsed.file
    replaces = file.is_file()
    if replaces and not agreed(f"Replace {file}, which exists?", yes=parsed.yes):
        return 1
    try:
        size = back_up(url, file, replace=replaces, before=lambda: _write_down(url))
    except BackupFailed as error:
        tell(f"There is no backup: {error}.")
        return 1
    if parsed.json:
        say_json({"file": str(file), "bytes": size})
    else:
        say(f"{file} has the whole database, in {size:,} bytes. Keep it as safe as the database.")
    return 0


def _write_down(url: str) -> None:
    """Write into the audit that all patients are read, before they are.

    The schema is left as it is: a backup is made before a newer version brings it up to date. An
    older one has no audit.
    """

    async def write() -> None:
        act_as(Act(CLI))
        async with open_database(url) as database:
            try:
                await Audit(database).read("backup.made", {})
            except SchemaUnfit:
                return
            except DatabaseUnavailable as error:
                raise Misconfigured(f"the database cannot do this now: {error}") from None

    anyio.run(write, backend_options=LOOP)


COMMAND = Command(
    "backup",
    "write a backup while the clinic runs",
    "Write the whole database into FILE, as it is at one moment, while the clinic goes on. Only "
    "its owner can read FILE, and it has its name once it is whole. PostgreSQL needs pg_dump. "
    "Messages in RabbitMQ are not in it, and need not be: the events that they carry are.",
    add_arguments,
    execute,
)
