"""The parts of the clinic for a command, whether a clinic runs on the same database or not."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from clinic import parts
from clinic.acting import CLI, Act, act_as
from clinic.cli.output import complain
from clinic.database import (
    DatabaseUnavailable,
    OutcomeUnknown,
    migrate,
    open_database,
    read_database_url,
)
from clinic.database.opening import SQLiteFile
from clinic.logs import set_up_logging
from clinic.parts import Parts
from clinic.settings import Settings, read_settings
from clinic.web.refusals import Refusal

# Only what a person has to know: the command's result is printed.
LOG_LEVEL = "warning"


def with_parts(command: Callable[[Parts], Awaitable[int]], *, may_be_new: bool = False) -> int:
    """Run a command with the parts of the clinic, and return its exit status.

    The database is brought up to date first, as by every start. Events that the command writes are
    published by a clinic that runs, or by the next one that starts. In a folder without a database
    file it does nothing, unless the clinic ``may_be_new``: that is more likely the wrong folder.
    """
    settings = read_settings({})
    parts.check(settings)
    set_up_logging(LOG_LEVEL, settings.log_format)
    place = read_database_url(settings.database_url)
    if isinstance(place, SQLiteFile) and not place.path.exists() and not may_be_new:
        complain(
            f"there is no {place.path} here: go to the folder of the clinic, or name its database "
            "in DATABASE_URL; a new clinic has one once it has started, or after `migrate`"
        )
        return 2
    migrate(settings.database_url)

    async def run() -> int:
        act_as(Act(CLI))
        async with opened(settings) as found:
            return await command(found)

    try:
        return anyio.run(run)
    except Refusal as error:
        complain(str(error))
    except OutcomeUnknown as error:
        complain(f"{error}. It may have been done: look, and do it again if it was not.")
    except DatabaseUnavailable as error:
        complain(f"{error}. Nothing was done: try again.")
    except KeyboardInterrupt:
        complain("interrupted. What it was doing may have been done: look before you go on.")
    return 1


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Parts]:
    """Open the database, and yield the parts that stand on it."""
    async with open_database(settings.database_url) as database:
        found = Parts(settings, database)
        # No relay works here: whatever one works elsewhere takes the events up at once.
        found.outbox.relaying = False
        yield found
