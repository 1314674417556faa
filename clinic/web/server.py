"""HTTP as a service: uvicorn accepts, ticks and drains; ``serving`` speaks HTTP."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import uvicorn
from starlette.types import ASGIApp

from clinic.supervisor import Lifecycle
from clinic.web.serving.connection import Connection
from clinic.web.serving.crowd import Crowd
from clinic.web.serving.limits import RESERVED_DESCRIPTORS, Limits, allow_descriptors
from clinic.web.serving.listening import (
    CannotListen,
    address_of,
    has_descriptor,
    listen,
    somebody_waits,
)
from clinic.web.serving.tally import Happened

__all__ = ["CannotListen", "HttpServer", "Limits", "address_of", "listen"]

log = logging.getLogger(__name__)

# How often to look for clients that keep us waiting for too long.
LOOK_SECONDS = 0.1
# Connections closed at each look to make room for clients that wait to be accepted: 2,000 a second.
MOST_AT_ONCE = 200


@dataclass(frozen=True)
class HttpServer:
    """The service that answers HTTP requests on a socket that listens already."""

    app: ASGIApp
    listener: socket.socket
    grace_seconds: float
    limits: Limits = field(default_factory=Limits)
    root_path: str = ""
    """What the path begins with for clients behind a proxy, such as ``/clinic``."""

    async def run(self, lifecycle: Lifecycle) -> None:
        """Serve until asked to stop, then answer the requests in hand; a service."""
        config = uvicorn.Config(
            self.app,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,  # it would log query strings, and so patients' names
            proxy_headers=False,  # nobody here asks who the client is
            server_header=False,
            # uvicorn cancels the requests that are left, a moment before the supervisor would.
            timeout_graceful_shutdown=max(1, int(self.grace_seconds) - 1),
        )
        server = _Server(self, config, lifecycle)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.look)
                # uvicorn closes the socket it is given, and a restart needs it again.
                await server.serve(sockets=[self.listener.dup()])
                tasks.cancel_scope.cancel()
        finally:
            server.abort()


def _affordable(limits: Limits) -> Limits:
    """Return the limits for the descriptors that the system allows; say so if they are fewer."""
    allowed = allow_descriptors(limits.connections + RESERVED_DESCRIPTORS)
    affordable = limits.within(allowed)
    if affordable.connections < limits.connections:
        log.warning(
            "At most %d connections, %d requests at a time: the system allows this process %d open "
            "files (ulimit -n, LimitNOFILE).",
            affordable.connections,
            affordable.requests,
            allowed,
        )
    return affordable


class _Server(uvicorn.Server):
    """uvicorn as one service among others: it stops when told, and leaves the signals alone.

    It listens while there is room for another connection. While there is none, clients wait in the
    system's queue: nobody is accepted only to be refused.
    """

    def __init__(
        self,
        service: HttpServer,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._listener = service.listener
        self._root_path = service.root_path
        limits = _affordable(service.limits)
        self._crowd = Crowd(limits, self.server_state, self._close_door)
        self._open = False
        # uvicorn documents that any factory of protocols will do; its type hint asks for a class.
        config.http = cast("Any", self._connection)

    def _connection(self, **_given: Any) -> Connection:
        return Connection(self._crowd, self.config.loaded_app, self._root_path)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self._open = True
        if self._lifecycle.stopping:
            self._close_door()
        self._lifecycle.up()

    def _close_door(self) -> None:
        self._open = False
        for server in self.servers:
            server.close()

    async def look(self) -> None:
        """Look at the clients that keep us waiting, and at those who wait to be accepted."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._crowd.look()
            if self.started and not self._lifecycle.stopping:
                with contextlib.suppress(OSError):  # no descriptor after all: at the next look
                    await self._look_at_door()

    async def _look_at_door(self) -> None:
        """Open the door if there is a place, and make one if there is none and somebody waits."""
        if not has_descriptor(self._listener):
            self._crowd.tally.count(Happened.NO_DESCRIPTORS)
            self._close_door()
            self._crowd.make_room(MOST_AT_ONCE)
        elif not self._open:
            if self._crowd.full and somebody_waits(self._listener):
                self._crowd.make_room(MOST_AT_ONCE)
                await asyncio.sleep(0)  # they leave in the loop's next turn
            if not self._crowd.full:
                await self.startup([self._listener.dup()])

    def abort(self) -> None:
        """Close all that is open still: an event loop must not end with an open connection."""
        for member in self._crowd.members:
            member.abort()

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to stop."""
        return self._lifecycle.stopping or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in hand."""
        self._close_door()
        if self._lifecycle.stopping:
            for other in sockets or []:
                other.close()
            await self._let_in_the_last()
        await self._crowd.last_call()
        await super().shutdown(sockets)
        await self._crowd.disperse()

    async def _let_in_the_last(self) -> None:
        """Accept the clients that the system has connected already.

        When the socket is closed the system resets them, and the requests that they sent are lost.
        """
        room = self._crowd.limits.connections - len(self._crowd.members)
        waiting: list[socket.socket] = []
        self._listener.setblocking(False)
        with contextlib.suppress(OSError):  # nobody waits any more, or no descriptor is left
            while len(waiting) < room:
                waiting.append(self._listener.accept()[0])
        self._listener.close()
        for one in waiting:
            one.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, one)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the supervisor."""
        yield
