"""The live trail: attempts as they end, for those who watch.

Rules: a watcher that is too slow misses attempts, and is told how many; it never slows a call down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from gearshift.core.answer import AttemptRecord
from gearshift.core.observer import CallContext, Observer

TRAIL_BUFFER = 256


@dataclass(frozen=True, slots=True)
class Seen:
    """An attempt that ended; `missed` counts those that this watcher was too slow for since the last one."""

    context: CallContext
    attempt: AttemptRecord
    ended_at: float
    missed: int


class _Watcher:
    def __init__(self, send: MemoryObjectSendStream[Seen]) -> None:
        self.send = send
        self.missed = 0


class Trail(Observer):
    """Gives every attempt to everybody who watches."""

    def __init__(self) -> None:
        self._watchers: list[_Watcher] = []
        self._taps: list[Callable[[Seen], None]] = []
        self._closing: list[Callable[[], None]] = []

    def attempt_ended(self, context: CallContext, attempt: AttemptRecord) -> None:
        """Pass an attempt on."""
        for watcher in self._watchers:
            try:
                watcher.send.send_nowait(Seen(context, attempt, time.time(), watcher.missed))
                watcher.missed = 0
            except anyio.WouldBlock:
                watcher.missed += 1
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                continue
        for tap in self._taps:
            tap(Seen(context, attempt, time.time(), 0))

    def tap(self, told: Callable[[Seen], None]) -> None:
        """Have every attempt told, at once; cheap and without waiting."""
        self._taps.append(told)

    def untap(self, told: Callable[[Seen], None]) -> None:
        """Have it told no longer."""
        self._taps.remove(told)

    def when_closed(self, told: Callable[[], None]) -> None:
        """Have it told that the service stops."""
        self._closing.append(told)

    @contextmanager
    def watch(self) -> Generator[MemoryObjectReceiveStream[Seen]]:
        """Watch until the block is left."""
        send, receive = anyio.create_memory_object_stream[Seen](TRAIL_BUFFER)
        watcher = _Watcher(send)
        self._watchers.append(watcher)
        try:
            with receive:
                yield receive
        finally:
            self._watchers.remove(watcher)
            send.close()

    def close(self) -> None:
        """End every watch: the service stops."""
        for watcher in self._watchers:
            watcher.send.close()
        for told in self._closing:
            told()
