"""The time of one machine, shared out afterwards among what is known to have run on it.

Rules: pure; what ran comes in the order of its begin, and is given back when it has ended, with the seconds that it bears: while
n ran, each bears 1/n of every second (machine.py). Together they bear the time in which at least one ran. Memory is that of
what runs at the same time.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Generic, TypeVar

from gearshift.core.machines.machine import Machine

T = TypeVar("T")


class SharedTime(Generic[T]):
    """One machine's time."""

    def __init__(self) -> None:
        self._machine = Machine("", "", 0.0)
        self._origin: float | None = None
        """Times are counted from the first begin: seconds since the epoch would leave a float little for fractions."""
        self._running: list[tuple[float, int, float, T]] = []
        self._begun = 0

    def begin(self, started_at: float, length_s: float, item: T) -> list[tuple[T, float]]:
        """Add what ran, seconds of any clock, not before what was added last; give what had ended by then."""
        if self._origin is None:
            self._origin = started_at
        ended = self.pass_to(started_at)
        at = started_at - self._origin
        self._begun += 1
        heappush(self._running, (at + max(0.0, length_s), self._begun, self._machine.begin(at), item))
        return ended

    def pass_to(self, moment: float) -> list[tuple[T, float]]:
        """Give what has ended by a moment, with the seconds that it bears."""
        ended: list[tuple[T, float]] = []
        until = moment - (self._origin or 0.0)
        while self._running and self._running[0][0] <= until:
            at, _, mark, item = heappop(self._running)
            ended.append((item, self._machine.end(mark, at)))
        return ended
