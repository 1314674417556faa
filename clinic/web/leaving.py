"""Cancel the work for a client that has left."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]

# What nginx logs of a client that has closed the connection; there is nobody to send it to.
CLIENT_LEFT = 499


def ends_with_client(handler: Handler) -> Handler:
    """Return a handler that is cancelled as soon as its client has left; for expensive reads.

    It is for requests without a body, because it throws a body away. It cancels by a scope, so that
    the handler's shields protect its clean-up; they would not if its task were cancelled.
    """

    async def handle(request: Request) -> Response:
        with anyio.CancelScope() as answering:
            leaving = asyncio.create_task(_cancel_when_left(request, answering))
            try:
                return await handler(request)
            finally:
                leaving.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.gather(leaving, return_exceptions=True)
        return Response(status_code=CLIENT_LEFT)

    return handle


async def _cancel_when_left(request: Request, answering: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    answering.cancel()
