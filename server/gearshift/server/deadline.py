"""The caller's deadline.

Rules: the one timer of a request. It does what `anyio.fail_after` does for the one task that a handler is, without the
bookkeeping of a scope, which costs more than all of a request's protobuf; the core is told the time, since it cannot ask
a scope for it.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Deadline:
    """A context manager whose block is cancelled, and ends with TimeoutError, when it takes longer.

    Args:
        seconds: how long it may take; None is as long as it likes.
    """

    __slots__ = ("_cancelled_before", "_is_over", "_loop", "_task", "_timer", "at")

    def __init__(self, seconds: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.at = None if seconds is None else self._loop.time() + seconds
        """When it is over, seconds, monotonic (the loop's clock); None for never."""
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled_before = 0
        self._is_over = False

    def __enter__(self) -> Self:
        if self.at is not None:
            self._task = asyncio.current_task(self._loop)
            assert self._task is not None
            self._cancelled_before = self._task.cancelling()
            self._timer = self._loop.call_at(self.at, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_over or self._task is None:
            return
        is_ours = self._task.uncancel() <= self._cancelled_before  # nobody else has cancelled the task
        if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def _expire(self) -> None:
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
