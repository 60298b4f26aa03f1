"""When to start a dead worker again.

Rules: pure; chance is passed in. Full jitter: the wait is drawn between 0 and a bound that doubles with each death, up to
`LONGEST_S`. A worker that served for `STEADY_S` has its earlier deaths forgotten, and is started again at once.
"""

from __future__ import annotations

from typing import Protocol

FIRST_S = 0.25
LONGEST_S = 10.0
STEADY_S = 20.0
GIVE_UP = 8
"""Starts in a row, of all workers, that failed before one served: the service cannot be kept."""


class Chance(Protocol):
    """Draws."""

    def uniform(self, a: float, b: float, /) -> float:
        """Draw between two numbers."""
        ...


class Backoff:
    """The deaths of one worker."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._deaths = 0

    def next_delay(self, served_s: float) -> float:
        """Note a death after so many seconds of service, 0 for none; give the seconds to wait."""
        if served_s >= STEADY_S:
            self._deaths = 0
        self._deaths += 1
        if self._deaths == 1 and served_s > 0:
            return 0.0
        return self._chance.uniform(0.0, min(LONGEST_S, FIRST_S * 2.0 ** min(self._deaths, 10)))
