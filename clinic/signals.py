"""Stop on a signal: the first drains, a second one ends at once."""

import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator

import anyio

from clinic.supervisor import Supervisor

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def stopped_by_signals(supervisor: Supervisor) -> AsyncIterator[None]:
    """Within the body, let SIGTERM or SIGINT drain the supervisor and a second one end it at once.

    Ending at once is safe because nothing relies on an orderly stop: a SIGKILL would do no harm.
    """

    async def heed() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            ready.set()
            async for number in signals:
                if supervisor.stopping:
                    log.warning("%s again: ending at once", number.name)
                    logging.shutdown()
                    os._exit(128 + number)
                log.info(
                    "%s: finishing the work in hand; a second signal ends at once", number.name
                )
                supervisor.stop()

    ready = anyio.Event()
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heed)
        await ready.wait()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below: a task group would wrap it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
