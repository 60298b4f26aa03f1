"""A call that is sent upstream while its caller is still being told of it.

Rules: only for what follows a first attempt, where the caller waits for a reader to take the news of a switch: the next
stage's time to its first token begins at once. One task for each such attempt, in the router's own group; it waits for the
first read and no longer, and owns the provider's generator until somebody takes it over. Left alone, it closes that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio

from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Chunk
from gearshift.core.words import FailureKind


class Ahead:
    """The answer of a call that has been sent.

    Args:
        source: the adapter's generator, which nothing was read from yet.
    """

    __slots__ = ("_came", "_error", "_first", "_has_ended", "_is_taken", "_scope", "_source", "_taken")

    def __init__(self, source: AsyncGenerator[Chunk]) -> None:
        self._source = source
        self._scope = anyio.CancelScope()
        self._came, self._taken = anyio.Event(), anyio.Event()
        self._is_taken = self._has_ended = False
        self._first: Chunk | None = None
        self._error: Exception | None = None

    async def run(self) -> None:
        """Wait for the first read, then for being taken over; never raises what the provider's failure is."""
        try:
            with self._scope:
                try:
                    self._first = await anext(self._source, None)
                    self._has_ended = self._first is None
                except Exception as error:  # noqa: BLE001 - raised where the call is read
                    self._error = error
                self._came.set()
                await self._taken.wait()
        finally:
            self._came.set()
            if not self._is_taken:
                await self._source.aclose()  # adapters clean up without waiting

    def abandon(self) -> None:
        """Close the upstream, unless it was taken over; synchronous, and twice is fine."""
        if not self._is_taken:
            self._scope.cancel()

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """Take over: give what the adapter gives, once.

        Raises:
            ProviderFailure: as the adapter.
        """
        await self._came.wait()
        self._is_taken = True
        self._taken.set()
        source, first = self._source, self._first
        try:
            if self._error is not None:
                raise self._error
            if first is None:
                if not self._has_ended:
                    raise ProviderFailure(FailureKind.CONNECTION, "the service stops")
                return
            yield first
            async for chunk in source:
                yield chunk
        finally:
            await source.aclose()
