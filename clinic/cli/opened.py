"""Have a command work on the clinic's database, whether the clinic runs or not."""

from collections.abc import Awaitable, Callable

import anyio

from clinic import parts
from clinic.acting import CLI, Act, act_as
from clinic.cli.run import LOOP
from clinic.database import DatabaseUnavailable, migrate, open_database
from clinic.logs import set_up_logging
from clinic.parts import Parts
from clinic.settings import LogLevel, read_settings
from clinic.supervisor import Misconfigured

Work = Callable[[Parts], Awaitable[int]]


def with_parts(work: Work) -> int:
    """Bring the database up to date, as every start does, then work on it; return the exit status.

    Raises:
        Misconfigured: a person has to correct something first, or the database is away.
    """
    settings = read_settings({})
    parts.check(settings)
    # What a command has to say it prints; only what goes wrong is logged.
    set_up_logging(max(settings.log_level, LogLevel.WARNING, key=list(LogLevel).index))
    migrate(settings.database_url)

    async def opened() -> int:
        act_as(Act(CLI))
        async with open_database(settings.database_url) as database:
            made = Parts(settings, database)
            # A command has no relay: what it tells is left to those of the clinic's processes.
            made.outbox.relaying = False
            return await work(made)

    try:
        return anyio.run(opened, backend_options=LOOP)
    except DatabaseUnavailable as error:
        raise Misconfigured(f"the database cannot do this now: {error}. Try again") from None
