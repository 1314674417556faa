"""What others do, as it happens: server-sent events, of which each has a position of the log.

A screen is told which appointments have changed, never of whom they are: it asks for what it shows
of them. One poll of the log serves all screens of a process, and without a screen there is none.
Its ids are positions up to which nothing is still to come, so that a screen that slept goes on from
the last one that it has (``Last-Event-ID``) and misses nothing.
"""

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator, Callable, Iterable

from clinic.database import Database, utc_now
from clinic.events import read
from clinic.messaging.following import BATCH, Follower, Logged, select_news
from clinic.messaging.message import Message, Unreadable
from clinic.supervisor import Lifecycle, Unavailable

POLL_SECONDS = 0.5
# How often a screen hears from us when nothing happens: one that does not says that it is old.
BEAT_SECONDS = 10.0
# Of the 900 requests that a process has in hand; the others are left to those who book.
MOST_SCREENS = 400
# News that a screen may leave untaken, of half a second each, before it has to begin anew.
MOST_UNTAKEN = 60
# When a browser asks again after the stream has ended.
RETRY = "retry: 2000\n\n"
# Tells a screen that too much has happened to say what: it loads all that it shows.
ALL = "null"

MINUTE = datetime.timedelta(minutes=1)


class TooManyScreens(Unavailable):
    """As many screens are open as the process can serve."""


class Feed:
    """The news of a database for the screens of a process."""

    def __init__(self, database: Database, clock: Callable[[], datetime.datetime]) -> None:
        self._database = database
        self._clock = clock
        self._follower = Follower(database)
        self._screens: set[asyncio.Queue[str | None]] = set()
        self._watched = asyncio.Event()
        self._following = asyncio.Event()
        self._stopped = False

    async def run(self, lifecycle: Lifecycle) -> None:
        """Look what is new while anybody watches, until asked to stop; then end all streams."""
        self._stopped = False
        try:
            with lifecycle.until_stop():
                while True:
                    await self._watched.wait()
                    await self._look()
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            self._stopped = True
            self._end()

    async def position(self) -> int:
        """Return the position from which a page that is read now has to hear.

        Raises:
            DatabaseUnavailable: the database cannot do it now.
        """
        if self._following.is_set():
            return self._follower.safe
        follower = Follower(self._database)
        await follower.begin()
        return follower.safe

    async def screen(self, after: int | None) -> AsyncIterator[str]:
        """Yield the news for one screen, from a position on.

        Raises:
            TooManyScreens: there are too many already.
            DatabaseUnavailable: the database cannot do it now.
        """
        queue: asyncio.Queue[str | None] = asyncio.Queue(MOST_UNTAKEN)
        if len(self._screens) >= MOST_SCREENS:
            raise TooManyScreens("as many screens are open as can be")
        self._screens.add(queue)
        self._watched.set()
        try:
            yield RETRY + self._beat()
            if self._stopped:
                return
            # First follow, then read what was before: nothing falls in between. What lies there
            # already says that it has begun, or that it is over.
            if queue.empty():
                await self._following.wait()
            if after is not None:
                yield await self._since(after)
            while (piece := await self._next(queue)) is not None:
                yield piece
        except Unavailable:
            return  # the browser asks again
        finally:
            self._screens.discard(queue)
            if not self._screens:
                self._watched.clear()
                self._following.clear()

    async def _since(self, after: int) -> str:
        # Not after the read: what becomes visible in between is still to come.
        safe = self._follower.safe
        found = await select_news(self._database, after)
        return told(safe, found if len(found) < BATCH else None)

    async def _next(self, queue: asyncio.Queue[str | None]) -> str | None:
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                return await queue.get()
        except TimeoutError:
            return self._beat()

    def _beat(self) -> str:
        return f"event: beat\ndata: {self._clock():%H:%M}\n\n"

    async def _look(self) -> None:
        """Tell all screens what is new; if that cannot be known now, end their streams."""
        try:
            if not self._following.is_set():
                await self._follower.begin()
                self._following.set()
            found = await self._follower.news()
        except Unavailable:
            self._end()
            return
        if found:
            text = told(self._follower.safe, found)
            for queue in list(self._screens):
                self._put(queue, text)

    def _end(self) -> None:
        for queue in list(self._screens):
            self._put(queue, None)
        # Also those that wait for a beginning.
        self._following.set()
        self._following.clear()

    def _put(self, queue: asyncio.Queue[str | None], piece: str | None) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            queue.put_nowait(piece)
            return
        # It takes nothing: it has to begin anew, from the last position that it got.
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)
        self._screens.discard(queue)


def told(safe: int, found: Iterable[Logged] | None) -> str:
    """Return server-sent news: each appointment once, with its days, office and doctor now."""
    changes: dict[int, list[object]] = {}
    for one in found or ():
        with contextlib.suppress(Unreadable):
            facts = read(Message(id="", type=one.type, subject="", body=one.body)).data
            ends = facts.date_time + facts.duration_minutes * MINUTE
            changes[facts.appointment_id] = [
                facts.appointment_id,
                facts.date_time.date().isoformat(),
                ends.date().isoformat(),
                facts.office_id or 0,
                facts.doctor_id or 0,
            ]
    text = ALL if found is None else json.dumps([*changes.values()], separators=(",", ":"))
    return f"id: {safe}\ndata: {text}\n\n"


def clock(zone: datetime.tzinfo) -> Callable[[], datetime.datetime]:
    """Return what tells the time in a zone."""
    return lambda: utc_now().astimezone(zone)
