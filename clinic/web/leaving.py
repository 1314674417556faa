"""Work for a client that has left is work for nobody."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]

# What nginx logs of a client that has closed the connection; there is nobody to send it to.
CLIENT_LEFT = 499


def ends_with_client(handler: Handler) -> Handler:
    """Return a handler that is cancelled as soon as its client has left; for expensive reads.

    It is for requests without a body: what arrives of one is thrown away.
    """

    async def handle(request: Request) -> Response:
        answering = asyncio.ensure_future(handler(request))
        leaving = asyncio.ensure_future(_disconnect(request))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else Response(status_code=CLIENT_LEFT)
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    return handle


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
