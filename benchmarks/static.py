"""A bare responder, to check the load generator: python -m benchmarks.static PORT.

It reads no request, and answers each piece that arrives with the same bytes: nothing written in
Python answers faster, so a generator that keeps up with it is no bottleneck for the rest.
"""

import asyncio
import sys
from typing import cast

import uvloop

BODY = b'{"id":1}'
ANSWER = b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
READY = ANSWER.replace(b"201 Created", b"200 OK")


class Responder(asyncio.Protocol):
    """Answers whatever is sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER if data.startswith(b"POST") else READY)


async def serve(port: int) -> None:
    """Answer until killed."""
    server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
