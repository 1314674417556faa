"""Bring the database up to date before anyone works on it; then check that it stays the same."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio

from clinic.database.connection import Database
from clinic.database.engine import (
    DatabaseUnavailable,
    Dialect,
    NotLetIn,
    SchemaUnfit,
    StatementRefused,
)
from clinic.database.migration import (
    SELECT_APPLIED,
    CannotMigrate,
    NotMigratedYet,
    check_server,
    is_up_to_date,
    migrate,
)
from clinic.database.opening import PostgreSQLServer, read_database_url
from clinic.supervisor import Lifecycle

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# How often to check that the files still are those that were opened; each write checks it, too.
LOOK_SECONDS = 1.0

SELECT_SERVER = """
    select cast(current_setting('server_version_num') as int) as version,
        current_setting('server_encoding') as encoding,
        to_regclass('_yoyo_migration') is not null as migrated
"""


@dataclass(frozen=True)
class Upkeep:
    """The service that lets others work on the database once its schema is up to date.

    Until then they are told that the database is unavailable. ``announce`` is called when it is.
    """

    database: Database
    url: str
    announce: Callable[[], Awaitable[object]]

    def __post_init__(self) -> None:
        self.database.shut("the database is being brought up to date")

    async def run(self, lifecycle: Lifecycle) -> None:
        """Bring the schema up to date, then watch the files until asked to stop; a service.

        Raises:
            DatabaseUnavailable: the database is away, or another process migrates it.
            CannotMigrate: a person has to correct something first.
            DatabaseLost: the files were deleted or replaced.
        """
        with lifecycle.until_stop():
            await self._bring_up_to_date()
            self.database.reopen()
            await self.announce()
            lifecycle.up()
        while not lifecycle.stopping:
            self.database.check()
            with lifecycle.until_stop():
                await anyio.sleep(LOOK_SECONDS)

    async def _bring_up_to_date(self) -> None:
        try:
            if not await self._is_up_to_date():
                # Interrupted, it does no harm: each migration is one transaction.
                for name in await in_thread(partial(migrate, self.url, wait=False)):
                    log.info("migrated: %s", name)
        except NotMigratedYet as error:
            raise DatabaseUnavailable(str(error)) from None
        except NotLetIn as error:
            raise CannotMigrate(str(error)) from None

    async def _is_up_to_date(self) -> bool:
        """Ask a server, with the deadlines of every statement; a file needs none."""
        place = read_database_url(self.url)
        if not isinstance(place, PostgreSQLServer):
            return False
        database = self.database.bypass()
        try:
            (server,) = await database.look(SELECT_SERVER)
            check_server(place.name, server["version"], server["encoding"])
            if not server["migrated"]:
                return False
            applied = await database.look(SELECT_APPLIED)
        except (StatementRefused, SchemaUnfit) as error:
            raise CannotMigrate(
                f"{place.name} does not say which migrations it has: {error}. The user must be "
                "the owner of the tables, or have rights on all of them"
            ) from None
        return is_up_to_date(
            place.name, Dialect.POSTGRESQL, [row["migration_id"] for row in applied]
        )


async def in_thread(work: Callable[[], Result]) -> Result:
    """Do blocking work in a thread of its own, which the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return  # nobody waits for it any more
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the other thread raises it
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True, name="migration").start()
    return await future
