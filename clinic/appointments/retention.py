"""Retention: patients are erased from appointments that were long ago; a service.

Once a day all that is older than a number of days is gone through, a piece a transaction. Any
number of processes may do so at once; how many were erased is counted in the database, so that the
audit has one entry a day, whichever process is killed meanwhile.
"""

import datetime
import logging
import time
import zoneinfo
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio

from clinic.access import audit
from clinic.appointments.idempotency import delete_old_keys
from clinic.appointments.privacy import STEP, erase, select_personal
from clinic.database import Database, Sql, again_if_lost, as_wall_clock, utc_now
from clinic.messaging.outbox import Outbox
from clinic.supervisor import Lifecycle

log = logging.getLogger(__name__)

# How often to look whether a new day has begun, or another process has ended in the middle of it.
LOOK_SECONDS = 60.0
# A step is followed by a rest of as long as it took, and this at least: others want to write, too.
LEAST_REST_SECONDS = 0.02

# Who works at it holds the row; who finds it held leaves it to them.
CLAIM_DAY = Sql(
    sqlite="select gone_through_on, erased from retention",
    postgresql="select gone_through_on, erased from retention for update skip locked",
)
SELECT_DAY = "select gone_through_on from retention"
UPDATE_DAY = "update retention set gone_through_on = :day, erased = :erased"
SELECT_OLD = """
    select id, date_time from appointment
    where date_time < :before and (date_time, id) > (:after_time, :after_id)
    order by date_time, id limit :limit
"""

Place = tuple[datetime.datetime, int]
"""A time and an id: how far appointments have been gone through."""
START: Place = (datetime.datetime(1, 1, 1), 0)  # noqa: DTZ001 - wall-clock time


@dataclass
class Retention:
    """The service that erases patients from appointments older than ``days``.

    ``wipe`` has the database give up the copies that it keeps of what was erased.
    """

    database: Database
    outbox: Outbox
    zone: zoneinfo.ZoneInfo
    days: int
    wipe: Callable[[], Awaitable[object]]

    async def run(self, lifecycle: Lifecycle) -> None:
        """Go through what is old, once a day, until asked to stop; a service.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        while not lifecycle.stopping:
            lifecycle.up()
            await self.go_through(lifecycle)
            with lifecycle.until_stop():
                await anyio.sleep(LOOK_SECONDS)

    async def go_through(self, lifecycle: Lifecycle) -> None:
        """Go through all that is old, unless that was done today.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        today = utc_now().astimezone(self.zone).date()
        (row,) = await self.database.look(SELECT_DAY)
        if row["gone_through_on"] == today.isoformat():
            return
        place: Place | None = START
        while place is not None and not lifecycle.stopping:
            began = time.monotonic()
            place = await again_if_lost(partial(self.step, today, place))
            if place is not None:
                with lifecycle.until_stop():
                    await anyio.sleep(max(LEAST_REST_SECONDS, time.monotonic() - began))
        if place is None:
            await self.wipe()

    async def step(self, today: datetime.date, place: Place, limit: int = STEP) -> Place | None:
        """Erase what is personal in the next old appointments; return how far that is.

        None says that nothing is left to do today, or that another process does it.
        """
        before = datetime.datetime.combine(
            today - datetime.timedelta(days=self.days), datetime.time()
        )
        async with self.database.transaction() as connection:
            claimed = await connection.fetch_all(CLAIM_DAY)
            if not claimed or claimed[0]["gone_through_on"] == today.isoformat():
                return None
            await delete_old_keys(connection, utc_now())
            rows = await connection.fetch_all(
                SELECT_OLD,
                {"before": before, "after_time": place[0], "after_id": place[1], "limit": limit},
            )
            found = await select_personal(connection, [row["id"] for row in rows])
            await erase(connection, self.outbox, self.zone, found)
            total = claimed[0]["erased"] + len(found)
            if len(rows) == limit:
                day = claimed[0]["gone_through_on"]
                await connection.execute(UPDATE_DAY, {"day": day, "erased": total})
                return as_wall_clock(rows[-1]["date_time"]), rows[-1]["id"]
            await connection.execute(UPDATE_DAY, {"day": today.isoformat(), "erased": 0})
            if total:
                detail = {"appointments": total, "older_than_days": self.days}
                await audit.write(connection, audit.Change("patient.expired", None, detail))
                log.info(
                    "Patients were erased from %d appointments older than %d days.",
                    total,
                    self.days,
                )
        return None
