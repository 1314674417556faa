"""A network that fails on demand."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from tests.servers.guardian import STOP_SECONDS
from tests.servers.ports import LOOPBACK, free_port

Mode = Literal["pass", "latency", "black_hole", "down", "reset_peer", "slicer", "limit_data"]
Direction = Literal["to_server", "to_client"]
DEFAULT_AMOUNTS: Mapping[Mode, float] = {"latency": 0.1, "slicer": 3, "limit_data": 1024}
READ_BYTES = 65_536


@dataclass(eq=False, frozen=True)
class Policy:
    """What happens to data in one direction; each switch makes a new one."""

    mode: Mode = "pass"
    amount: float = 0.0


@dataclass(eq=False)
class Link:
    """One client's connection; `lossy` once bytes of it are lost, and it can not be healed."""

    ends: list[asyncio.StreamWriter]
    lossy: bool = False

    def close(self) -> None:
        for end in self.ends:
            end.close()

    def abort(self) -> None:
        for end in self.ends:
            end.transport.abort()

    def reset(self) -> None:
        for end in self.ends:
            # Linger 0 turns the close into a RST; without, the peer would read an orderly end.
            with contextlib.suppress(OSError):
                end.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        self.abort()


class FaultyProxy:
    """A TCP proxy in a thread of its own, in front of a port of `host`, that fails on demand.

    Its own `port` on 127.0.0.1 stays the same as long as it lives.
    """

    def __init__(self, server_port: int, host: str = LOOPBACK) -> None:
        self._server = (host, server_port)
        self._policies: dict[Direction, Policy] = {"to_server": Policy(), "to_client": Policy()}
        self._links: set[Link] = set()
        self._listener: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._switched = asyncio.Event()
        self.mode("pass")
        return self

    def __exit__(self, *_: object) -> None:
        self.mode("down")
        asyncio.run_coroutine_threadsafe(self._end_tasks(), self._loop).result(STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._links)

    def mode(
        self,
        mode: Mode,
        amount: float | None = None,
        direction: Direction | Literal["both"] = "both",
    ) -> None:
        """Switch the mode, for connections to come and those that are open; may be called anywhere.

        pass: forward. latency: each piece of data waits `amount` seconds (0.1). black_hole: accept,
        and swallow all data and ends; the connections that lost something are reset at the next
        switch. down: refuse, and close what is open. reset_peer: the same by accept and RST.
        slicer: forward in pieces of `amount` bytes (3). limit_data: close a connection after
        `amount` bytes (1024) more in one direction. With a `direction`, the other one passes;
        down and reset_peer know no direction.
        """
        policy = Policy(mode, DEFAULT_AMOUNTS.get(mode, 0.0) if amount is None else amount)
        switch = self._switch(policy, direction)
        asyncio.run_coroutine_threadsafe(switch, self._loop).result(STOP_SECONDS)

    async def _switch(self, policy: Policy, direction: Direction | Literal["both"]) -> None:
        one_way = direction != "both" and policy.mode not in ("down", "reset_peer")
        for way in self._policies:
            self._policies[way] = Policy() if one_way and way != direction else policy
        for link in self._links:
            if link.lossy or policy.mode == "reset_peer":
                link.reset()
            elif policy.mode == "down":
                link.abort()
        self._switched.set()
        self._switched = asyncio.Event()
        if policy.mode == "down" and self._listener:
            self._listener.close()
            self._listener = None
        elif policy.mode != "down" and not self._listener:
            await self._listen()

    async def _listen(self) -> None:
        for last in (False, False, True):
            port = self.port or free_port()
            try:
                self._listener = await asyncio.start_server(self._serve, LOOPBACK, port)
            except OSError:
                if last or self.port:
                    raise
            else:
                self.port = port
                return

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link([writer])
        self._links.add(link)
        try:
            modes = {policy.mode for policy in self._policies.values()}
            if modes == {"black_hole"}:
                link.lossy = True
                await self._pump(reader, writer, "to_server", link)
            elif modes & {"down", "reset_peer"}:
                link.reset()
            else:
                server_reader, server_writer = await asyncio.open_connection(*self._server)
                link.ends.append(server_writer)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, server_writer, "to_server", link))
                    pumps.create_task(self._pump(server_reader, writer, "to_client", link))
        except* OSError:  # the server is down, or one end was reset: so is the other
            link.reset()
        finally:
            self._links.discard(link)
            link.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Direction,
        link: Link,
    ) -> None:
        seen, left = self._policies[way], int(self._policies[way].amount)
        while True:
            data = await self._read(reader, way)
            policy = await self._delay(way)
            if policy is not seen:
                seen, left = policy, int(policy.amount)
            if policy.mode == "black_hole":
                link.lossy = True
                if not data:
                    await self._switched.wait()
                    return
                continue
            if not data:
                writer.write_eof()
                return
            await write(data[:left] if policy.mode == "limit_data" else data, writer, policy)
            left -= len(data)
            if policy.mode == "limit_data" and left <= 0:
                link.close()
                return

    async def _read(self, reader: asyncio.StreamReader, way: Direction) -> bytes:
        """Return data, or b"" at the end; in a black hole, nobody hears of a reset."""
        try:
            return await reader.read(READ_BYTES)
        except ConnectionError:
            if self._policies[way].mode != "black_hole":
                raise
            return b""

    async def _delay(self, way: Direction) -> Policy:
        """Wait as long as the latency says, less if the mode is switched; return the policy."""
        while (policy := self._policies[way]).mode == "latency":
            try:
                await asyncio.wait_for(self._switched.wait(), policy.amount)
            except TimeoutError:
                break
        return policy

    async def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:  # asyncio complains of connections that are cancelled; most are about to end
            await asyncio.wait(tasks, timeout=1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def write(data: bytes, writer: asyncio.StreamWriter, policy: Policy) -> None:
    """Write data in one piece, or in slices if the policy says so."""
    size = max(1, int(policy.amount)) if policy.mode == "slicer" else len(data)
    for start in range(0, len(data), size or 1):
        writer.write(data[start : start + size])
        await writer.drain()
        await asyncio.sleep(0)
