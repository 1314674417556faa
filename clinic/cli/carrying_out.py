"""Carry out an operation for a person who waits for it."""

import contextlib
import signal
import sys
from dataclasses import dataclass

import anyio

from clinic.cli.output import tell
from clinic.operating.operations import Operation, Status
from clinic.parts import Parts
from clinic.supervisor import Unavailable

PROGRESS_SECONDS = 0.5
# How often to look whether another process has gone on with it.
LOOK_SECONDS = 0.2


@dataclass
class CarryingOut:
    """One operation, carried out here or in the process that holds the lease.

    SIGINT and SIGTERM stop it between two chunks.
    """

    parts: Parts
    operation_id: int
    _stopped: bool = False
    _trouble: str = ""

    async def run(self) -> Operation:
        """Return the operation when it is done or stopped; waits while anything is away."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_at_a_signal)
            if sys.stderr.isatty():
                tasks.start_soon(self._show_progress)
            ended = await self._end()
            tasks.cancel_scope.cancel()
        if sys.stderr.isatty():
            sys.stderr.write("\r")
        return ended

    async def _end(self) -> Operation:
        while True:
            ended = await self._go_on()
            if ended is not None:
                return ended
            await anyio.sleep(LOOK_SECONDS)

    async def _go_on(self) -> Operation | None:
        """Go on with it, and return it once it has ended."""
        try:
            if self._stopped:
                await self.parts.operations.bring_to(self.operation_id, Status.STOPPED)
            await self.parts.worker.work(lambda: self._stopped)
            found = await self.parts.operations.show_operation(self.operation_id)
        except Unavailable as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                tell(f"Waiting: {error}")
            return None
        return None if found.status is Status.RUNNING else found

    async def _stop_at_a_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self._stopped = True

    async def _show_progress(self) -> None:
        while True:
            await anyio.sleep(PROGRESS_SECONDS)
            with contextlib.suppress(Unavailable):
                found = await self.parts.operations.show_operation(self.operation_id)
                sys.stderr.write(f"\r{found.dealt_with:,} of {found.messages:,} ")
                sys.stderr.flush()
