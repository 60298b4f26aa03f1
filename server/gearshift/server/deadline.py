"""The callers' deadlines.

Rules: a deadline does what `anyio.fail_after` does for the one task that a handler is, without the bookkeeping of a scope,
which costs more than all of a request's protobuf; the core is told the time, since it cannot ask a scope for it. All calls
share one timer. It stands at a time when none of them is over yet and is only ever brought forward, so that a call that is
answered in time arms and cancels none: callers mostly leave half a minute, and then it goes off twice a minute.
"""

from __future__ import annotations

import asyncio
from math import inf
from types import TracebackType
from typing import Self

_EARLY_S = 0.001
"""Loops count time in milliseconds, so that a timer may go off so much too early."""


class Deadlines:
    """The deadlines of one event loop's calls; made and used on that loop."""

    __slots__ = ("_armed", "_loop", "_running", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = inf

    def within(self, seconds: float | None) -> Deadline:
        """Give a context manager whose block is cancelled, and ends with TimeoutError, when it takes longer.

        Args:
            seconds: how long it may take; None is as long as it likes.
        """
        return Deadline(self, None if seconds is None else self._loop.time() + seconds)

    def add(self, deadline: Deadline, at: float) -> None:
        """Watch a deadline."""
        self._running.add(deadline)
        if at < self._armed:
            self._arm(at)

    def remove(self, deadline: Deadline) -> None:
        """Watch it no more; the timer stays where it is, and looks what is left when it goes off."""
        self._running.discard(deadline)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        """End what is over, and look again when the next one is."""
        self._timer = None
        self._armed = inf
        now, first = self._loop.time() + _EARLY_S, inf
        for deadline in tuple(self._running):
            at = deadline.at
            if at is None or at <= now:
                self._running.discard(deadline)
                deadline.expire()
            elif at < first:
                first = at
        if first < inf:
            self._arm(first)


class Deadline:
    """One call's deadline, a context manager for the task that answers it.

    Args:
        kept: where it is watched.
        at: when it is over, seconds, monotonic (the loop's clock); None for never.
    """

    __slots__ = ("_cancelled_before", "_is_over", "_kept", "_task", "at")

    def __init__(self, kept: Deadlines, at: float | None) -> None:
        self._kept = kept
        self.at = at
        self._task: asyncio.Task[object] | None = None
        self._cancelled_before = 0
        self._is_over = False

    def __enter__(self) -> Self:
        if self.at is not None:
            task = self._task = asyncio.current_task()
            assert task is not None
            self._cancelled_before = task.cancelling()
            self._kept.add(self, self.at)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is None:
            return
        if not self._is_over:
            self._kept.remove(self)
            return
        is_ours = self._task.uncancel() <= self._cancelled_before  # nobody else has cancelled the task
        if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def expire(self) -> None:
        """End the block."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
