"""Answers that are sent piece by piece."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
from starlette.responses import Response, StreamingResponse
from starlette.types import Send


async def stream(pieces: AsyncIterator[str], media_type: str) -> Response:
    """Return an answer that is sent piece by piece; at least one piece is needed.

    The first piece is there before the answer begins, so that a database that is away can still be
    answered with a status.
    """
    return _Stream(await anext(pieces), pieces, media_type)


class _Stream(StreamingResponse):
    """A response that closes the generator it reads from, however it ends itself.

    Starlette leaves an unfinished generator to the garbage collector. Its work then goes on for a
    client that has left; and when the event loop stops, nested generators are closed all at once,
    which they report as errors.
    """

    def __init__(self, first: str, rest: AsyncIterator[str], media_type: str) -> None:
        self._rest = rest
        super().__init__(self._all(first), media_type=media_type, headers={"Vary": "Accept"})

    async def _all(self, first: str) -> AsyncIterator[str]:
        yield first
        async for piece in self._rest:
            yield piece

    async def stream_response(self, send: Send) -> None:
        """Send all pieces."""
        try:
            await super().stream_response(send)
        finally:
            # Otherwise the first await in their clean-up would be cancelled, too.
            with anyio.CancelScope(shield=True):
                await _close(self.body_iterator)
                await _close(self._rest)


async def _close(iterator: Any) -> None:
    if hasattr(iterator, "aclose"):
        await iterator.aclose()
