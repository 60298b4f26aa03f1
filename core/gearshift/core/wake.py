"""Waking an adapter that waits for its provider, so that the engine can act although nothing comes.

Rules: one timer a stream, armed only while text is held back; nothing is cancelled by it. It wakes the adapter's waiting
read, the adapter gives an empty chunk and reads on. An adapter that does not say how it is woken is never woken: then the
engine acts at its next chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wake:
    """One attempt's alarm. The engine sets it, the adapter says what it does."""

    __slots__ = ("_ring", "_timer")

    def __init__(self) -> None:
        self._ring: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether it will ring."""
        return self._timer is not None

    def by(self, ring: Callable[[], None]) -> None:
        """Say how the adapter is woken: what makes its waiting read return, so that it gives an empty chunk.

        Args:
            ring: synchronous; called from the event loop, at any time until the stream is closed.
        """
        self._ring = ring

    def after(self, seconds: float) -> None:
        """Ring once, so many seconds from now, unless it is set already; nothing when the adapter cannot be woken."""
        if self._timer is None and self._ring is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._go)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go(self) -> None:
        self._timer = None
        if self._ring is not None:
            self._ring()
