"""``clinic restore``: restore a backup into an empty database."""

import argparse
from pathlib import Path

import anyio

from clinic import parts
from clinic.access.audit import Change, write
from clinic.acting import CLI, Act, act_as
from clinic.cli.command import Command
from clinic.cli.output import say, tell
from clinic.cli.run import LOOP
from clinic.database import (
    SKIPPED,
    BackupFailed,
    DatabaseUnavailable,
    migrate,
    open_database,
    restore,
)
from clinic.logs import set_up_logging
from clinic.parts import Parts
from clinic.settings import LogLevel, Settings, read_settings
from clinic.supervisor import Misconfigured

EPILOG = f"""\
Stop all processes of the clinic first, and start them when this has ended.

What to know afterwards:
  What was done after the backup is lost: bookings, changes, erasures of patients (erase them
  again), and tokens: those made since do not count, and those revoked since count again (revoke
  them again). Nothing is counted twice: each event that was open at the backup is published again
  and recorded once. Messages in RabbitMQ about what the backup does not have end in not solved,
  with a reason: they say which office was booked when, and so what has to be booked again.
  Numbers go on {SKIPPED:,} further, so that no calendar, link or reader of events takes a new
  appointment for one that was lost.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to restore."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("file", type=Path, metavar="FILE", help="what `backup` has written")


def execute(parsed: argparse.Namespace) -> int:
    """Restore a backup."""
    settings = read_settings({})
    parts.check(settings)
    level = max(settings.log_level, LogLevel.WARNING, key=list(LogLevel).index)
    set_up_logging(level, settings.log_format)
    try:
        restore(settings.database_url, parsed.file)
    except BackupFailed as error:
        tell(f"Nothing was restored: {error}.")
        return 1
    migrate(settings.database_url)
    try:
        anyio.run(_go_on, settings, backend_options=LOOP)
    except DatabaseUnavailable as error:
        raise Misconfigured(
            f"it is restored, but open events are published again only later: {error}"
        ) from None
    say(f"The database is as it was in {parsed.file}. `restore --help` says what to know now.")
    return 0


async def _go_on(settings: Settings) -> None:
    """Have all open events published again, and write down that it was restored."""
    act_as(Act(CLI))
    async with open_database(settings.database_url) as database:
        outbox = Parts(settings, database).outbox
        async with database.transaction() as connection:
            await outbox.publish_again(connection)
            await write(connection, Change("backup.restored"))


COMMAND = Command(
    "restore",
    "restore a backup into an empty database",
    "Restore what `backup` has written into the database that the settings name, which must have "
    "nothing in it, and bring its schema up to date.",
    add_arguments,
    execute,
)
