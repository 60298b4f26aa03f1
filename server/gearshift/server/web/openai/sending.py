"""A call's server-sent events on their way.

Rules: the status goes out with the first event, so that whatever fails before is an HTTP error, which clients know how to try
again. While nothing is to be said for long, a comment is (`: `): clients pass over it, and what lies between takes the stream
for alive. From then on a failure is an event, too. A stream that failed is cut off, so that nobody takes it for whole.
https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio
from aiohttp import web

from gearshift.server.web.connection import keep_little_unsent

_COMMENT: Final = b": still at work\n\n"
_END_S: Final = 1.0
"""How long the last event may wait for a client that does not read."""
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


class EventSender:
    """Sends one call's events.

    Args:
        headers: of the response, should it begin before the answer has ended.
    """

    __slots__ = ("_headers", "_loop", "_request", "_response", "_sent_at")

    def __init__(self, request: web.Request, headers: Mapping[str, str]) -> None:
        self._request = request
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._response: web.StreamResponse | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the client has been told a status."""
        return self._response is not None

    async def send(self, events: bytes) -> None:
        """Send events; waits while too much is unread.

        Raises:
            ConnectionError: the client has gone.
        """
        response = self._response or await self._begin(self._headers)
        await response.write(events)
        self._sent_at = self._loop.time()

    async def end(self, events: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send the last events.

        Args:
            headers: of the response, if nothing was sent yet.

        Raises:
            ConnectionError: the client has gone.
        """
        response = self._response or await self._begin(headers)
        await response.write(events)
        return response

    async def cut_off(self, event: bytes) -> web.StreamResponse:
        """Tell what became of a stream that had begun, and end it so that nobody takes it for whole."""
        assert self._response is not None
        transport = self._request.transport
        with anyio.move_on_after(_END_S) as waiting:
            try:
                await self._response.write(event)
            except ConnectionError:
                raise asyncio.CancelledError from None
        if transport is not None:
            # Closing sends what is written already, but not the mark that ends a body.
            (transport.abort if waiting.cancelled_caught else transport.close)()
        return self._response

    @asynccontextmanager
    async def kept_alive(self, silence_s: float) -> AsyncGenerator[None]:
        """Send a comment whenever nothing else was sent for `silence_s`, while the block runs; 0 sends none."""
        if not silence_s:
            yield
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._comment, silence_s)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    async def _comment(self, silence_s: float) -> None:
        while True:
            left = self._sent_at + silence_s - self._loop.time()
            if left > 0:
                await anyio.sleep(left)
                continue
            try:
                await self.send(_COMMENT)
            except ConnectionError:
                return  # its handler is being cancelled

    async def _begin(self, headers: Mapping[str, str]) -> web.StreamResponse:
        """Begin the response; gives no other task a turn, so that of two that begin it one does."""
        response = web.StreamResponse(headers={**_HEADERS, **headers})
        keep_little_unsent(self._request)
        await response.prepare(self._request)
        self._response = response
        return response
