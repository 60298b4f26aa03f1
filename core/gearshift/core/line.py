"""Who waits for a bucket, in the order in which they came.

Rules: pure but for the event that wakes a waiter. Lines of different buckets agree on the order, since it is that of
arrival: two waiters never stand before each other. A waiter stands in the lines of the buckets that lack something for
it now, and in no others.
"""

from __future__ import annotations

from bisect import insort
from itertools import count
from typing import Protocol

import anyio

_ARRIVALS = count()


class Lined(Protocol):
    """What has a line."""

    line: Line | None


class Waiter:
    """One call that waits for leave."""

    __slots__ = ("arrival", "event", "lines", "wants")

    def __init__(self, wants: Wants) -> None:
        self.arrival = next(_ARRIVALS)
        self.wants = wants
        self.event = anyio.Event()
        self.lines: list[Lined] = []

    def stand(self, lacking: tuple[Lined, ...]) -> None:
        """Stand in the lines of what is lacking, at the place of one's arrival, and leave all others."""
        for lined in [each for each in self.lines if each not in lacking]:
            self._leave(lined)
        for lined in lacking:
            if lined not in self.lines:
                if lined.line is None:
                    lined.line = Line()
                insort(lined.line.waiters, self, key=_arrival)
                self.lines.append(lined)

    @property
    def is_first(self) -> bool:
        """Whether nobody stands before it in any of its lines."""
        return all(lined.line is not None and lined.line.waiters[0] is self for lined in self.lines)

    def leave(self) -> None:
        """Leave every line; who is first now is woken."""
        for lined in list(self.lines):
            self._leave(lined)

    def _leave(self, lined: Lined) -> None:
        self.lines.remove(lined)
        line = lined.line
        if line is not None:
            line.waiters.remove(self)
            if line.waiters:
                line.wake()
            else:
                lined.line = None


class Wants(Protocol):
    """What a waiter wants of a bucket's unit."""

    def of(self, unit: str) -> float:
        """Give the amount."""
        ...


class Line:
    """Those who wait for one bucket, the first to come first."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []

    def ahead(self, waiter: Waiter | None, unit: str) -> float:
        """Give what those before a waiter want; None comes last."""
        total = 0.0
        for each in self.waiters:
            if each is waiter:
                break
            total += each.wants.of(unit)
        return total

    def wake(self) -> None:
        """Wake who is first: something has changed."""
        first = self.waiters[0]
        first.event.set()

    def __len__(self) -> int:
        return len(self.waiters)

    def __repr__(self) -> str:
        return f"<Line of {len(self.waiters)}>"


def _arrival(waiter: Waiter) -> int:
    return waiter.arrival
