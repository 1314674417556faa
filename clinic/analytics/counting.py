"""Have what was recorded counted: by a service soon after, and by whoever asks before that."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from clinic.analytics.counts import count_batches, hold_counts, select_uncounted
from clinic.analytics.hours import Kind, OpenHours, first_of_month, last_of_month
from clinic.analytics.hours_queries import (
    forget_hours,
    insert_open_spans,
    select_counted_hours,
    select_unknown_days,
    select_unknown_months,
    update_known_days,
    update_minutes_in_hours,
    update_month,
)
from clinic.analytics.queries import Days, select_merged
from clinic.database import Connection, Database, Row, again_if_lost, as_day
from clinic.registry.queries import select_rules, select_version
from clinic.registry.timetable import Hours
from clinic.supervisor import Lifecycle

# What was recorded is counted when nothing more has been recorded for this long: consumers that
# work off a backlog are left alone, and an event that is counted among many costs less. Who asks
# for the numbers before that counts it at once.
PAUSE_SECONDS = 0.5
# ... or when so many batches wait that who asks would have to wait long, too.
MOST_WAITING = 40
# Days of an office or a doctor whose hours are found in one transaction.
MOST_DAYS = 500


@dataclass
class Counting:
    """Counts what was recorded; ``usual`` are the clinic's hours on days for which it has none."""

    database: Database
    usual: Hours
    _hours: OpenHours | None = None

    async def run(self, lifecycle: Lifecycle) -> None:
        """Count what was recorded until asked to stop; a service.

        Raises:
            DatabaseUnavailable: nothing can be counted now.
        """
        seen = 0
        while not lifecycle.stopping:
            first, last = await select_uncounted(self.database) or (0, 0)
            counted = 0
            if last and (last == seen or last - first >= MOST_WAITING):
                counted = await self.count(wait=False)
            if counted:
                await self.find_hours(Days())
            lifecycle.up()
            seen = last
            if not counted:
                with lifecycle.until_stop():
                    await anyio.sleep(PAUSE_SECONDS)

    async def catch_up(self, days: Days) -> None:
        """Count all that is recorded by now, by the hours that the registry has now for a range.

        Raises:
            DatabaseUnavailable: that cannot be done now.
        """
        asked = await select_uncounted(self.database)
        left = asked
        # What is recorded meanwhile is not waited for: there may be no end to it.
        while asked and left and left[0] <= asked[1]:
            await self.count(wait=True)
            left = await select_uncounted(self.database)
        await self.find_hours(days)

    async def count(self, *, wait: bool) -> int:
        """Count some batches and return how many events they had; 0 if another one counts."""

        async def transact() -> int:
            async with self.database.transaction() as connection:
                if not await hold_counts(connection, wait=wait):
                    return 0
                return await count_batches(connection)

        return await again_if_lost(transact)

    async def find_hours(self, days: Days) -> None:
        """Find the hours of each day in use whose hours are not known or no longer right.

        A month is found as a whole.
        """
        months = Days(first_of_month(days.first), last_of_month(days.last))
        while not await again_if_lost(partial(self._find_some, months)):
            pass

    async def _find_some(self, days: Days) -> bool:
        """Find some of them; return whether none were missing."""
        hours = await self._known_hours()
        async with self.database.snapshot() as connection:
            if not await self._missing(connection, hours, days):
                return True
        async with self.database.transaction() as connection:
            await hold_counts(connection)
            # One month in a transaction: there may be many, and on SQLite nobody books meanwhile.
            for month, fingerprint in (await self._outdated(connection, hours, days))[:1]:
                await forget_hours(connection, month, fingerprint)
            unknown = await select_unknown_days(connection, days, MOST_DAYS)
            if unknown:
                found = await anyio.to_thread.run_sync(found_hours, hours, unknown)
                await insert_open_spans(connection, found.spans)
                await update_known_days(connection, found.days)
                # A day may be known in part already: found again, its minutes are the same.
                which = Days(as_day(unknown[0]["day"]), as_day(unknown[-1]["day"]))
                await update_minutes_in_hours(connection, which)
            for month in await select_unknown_months(connection, days):
                await update_month(connection, month)
        return False

    async def _missing(self, connection: Connection, hours: OpenHours, days: Days) -> bool:
        """Tell whether any hours have yet to be found."""
        return bool(
            await self._outdated(connection, hours, days)
            or await select_unknown_days(connection, days, 1)
            or await select_unknown_months(connection, days)
        )

    async def _outdated(
        self, connection: Connection, hours: OpenHours, days: Days
    ) -> list[tuple[datetime.date, str]]:
        """Return the months whose hours the registry may have changed, and what they are now."""
        counted = await select_counted_hours(connection, days)
        now = await hours.fingerprints(counted)
        return [(month, now[month]) for month in counted if counted[month] != now[month]]

    async def _known_hours(self) -> OpenHours:
        """Return the hours that the registry has now."""
        if self._hours is None or await select_version(self.database) != self._hours.version:
            version, weeks, exceptions, _ = await select_rules(self.database)
            merged_into = await select_merged(self.database)
            self._hours = OpenHours(version, weeks, exceptions, merged_into, self.usual)
        return self._hours


@dataclass
class Found:
    """The hours of offices and doctors on some days, as rows."""

    spans: list[dict[str, object]]
    days: list[dict[str, object]]


def found_hours(hours: OpenHours, unknown: Sequence[Row]) -> Found:
    """Return the hours of those who are in use on some days.

    In a thread: where many hours and closures are set it takes longer than others may wait.
    """
    found = Found([], [])
    for row in unknown:
        kind: Kind = row["kind"]
        named = {"day": row["day"], "kind": kind, "place": row["place"]}
        spans = hours.on(kind, row["place"], as_day(row["day"]))
        found.spans += [{**named, "opens": opens, "closes": closes} for opens, closes in spans]
        minutes_open = sum(closes - opens for opens, closes in spans)
        found.days.append({**named, "minutes_open": minutes_open})
    return found
