"""Expensive reads: a few places of their own, so that bookings keep the rest of the machine."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from clinic.supervisor import Unavailable

Result = TypeVar("Result")

# A client that comes when this many reads wait is asked to come again.
MOST_WAITING = 64
# ... and so is one that has waited this long: its own deadline may not be far.
WAIT_SECONDS = 20.0
# ... and a place rests after each read while others wait, at most this long.
LONGEST_REST_SECONDS = 2.0


class Crowded(Unavailable):
    """More wait for the database than it can serve in good time."""


@dataclass
class ExpensiveReads:
    """Places for reads that keep the database busy; reads that ask for the same share one.

    A read serves everyone who asked before it began; those who ask later may have to see what has
    changed since. ``rest`` is how long a place stays empty after a read while others wait, as a
    multiple of the time that the read took: with 1.0 a crowd of any size keeps each place busy half
    of the time.
    """

    places: int
    rest: float = 0.0
    _free: asyncio.Semaphore = field(init=False)
    _waiting: dict[Hashable, asyncio.Future[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.places)

    async def read(
        self,
        asked: Hashable,
        read: Callable[[], Awaitable[Result]],
        *,
        wait_seconds: float | None = WAIT_SECONDS,
    ) -> Result:
        """Return what ``read`` returns for what is ``asked``, once there is a place for it.

        Without ``wait_seconds`` it waits as long as it takes: an answer that has begun cannot be
        taken back.

        Raises:
            Crowded: there was no place in good time, or too many wait for one.
        """
        while (shared := self._waiting.get(asked)) is not None:
            try:
                result: Result = await asyncio.shield(shared)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # It was the task that was to read: this one takes over, or another does.
            else:
                return result
        if len(self._waiting) >= MOST_WAITING and wait_seconds is not None:
            raise Crowded("too many expensive reads wait for the database")
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[asked] = answer
        try:
            await self._place(wait_seconds)
            del self._waiting[asked]
            answer.set_result(await self._timed(read))
        except Exception as error:
            answer.set_exception(error)
            answer.exception()  # nobody else may have waited for it
            raise
        finally:
            if self._waiting.get(asked) is answer:
                del self._waiting[asked]
            answer.cancel()
        return answer.result()

    async def _place(self, wait_seconds: float | None) -> None:
        try:
            async with asyncio.timeout(wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Crowded(
                f"no place for an expensive read became free in {wait_seconds:g} s"
            ) from None

    async def _timed(self, read: Callable[[], Awaitable[Result]]) -> Result:
        began = time.monotonic()
        try:
            return await read()
        finally:
            rest_seconds = min(self.rest * (time.monotonic() - began), LONGEST_REST_SECONDS)
            if self._waiting and rest_seconds:
                asyncio.get_running_loop().call_later(rest_seconds, self._free.release)
            else:
                self._free.release()
