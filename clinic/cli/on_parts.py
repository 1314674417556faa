"""Run a command's work on the parts of the house, whether a process runs beside it or not."""

import sys
from collections.abc import Awaitable, Callable

import anyio

from clinic import parts
from clinic.database import migrate, open_database, read_database_url
from clinic.database.opening import SQLiteFile
from clinic.logs import set_up_logging
from clinic.parts import Parts
from clinic.settings import LogLevel, read_settings
from clinic.supervisor import Unavailable
from clinic.web.refusals import Refusal

Work = Callable[[Parts], Awaitable[int]]

DONE, FAILED = 0, 1


def say(text: str) -> None:
    """Tell the person who runs the command."""
    print(text, file=sys.stderr)  # noqa: T201 - for a person, not for the log


def run_on_parts(work: Work) -> int:
    """Do a command's work on a database that is up to date, and return the exit status.

    Raises:
        Misconfigured: a person has to correct something first.
    """
    settings = read_settings({})
    parts.check(settings)
    # The command says what it does by itself.
    quiet = settings.log_level is LogLevel.INFO
    set_up_logging(LogLevel.WARNING if quiet else settings.log_level)
    place = read_database_url(settings.database_url)
    if isinstance(place, SQLiteFile) and not place.path.exists():
        say(f"clinic: there is no database {place.path} here: run it in the clinic's folder")
        return FAILED
    migrate(settings.database_url)

    async def run() -> int:
        async with open_database(settings.database_url) as database:
            return await work(Parts(settings, database))

    try:
        return anyio.run(run)
    except Unavailable as error:
        say(f"clinic: not now: {error}")
    except Refusal as refusal:
        say(f"clinic: {refusal}")
    return FAILED
