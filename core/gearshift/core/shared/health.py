"""Whether the shared store is there: a breaker of its own.

Rules: pure, time is passed in (seconds, monotonic). One failure, or three slow answers one after the other, and it counts as
away; slow ones that overlap are one, since a pause of this process makes all of them slow. Away, only the keeper asks;
it is back after two quick answers.
"""

from __future__ import annotations

from enum import Enum

_SLOW_ANSWERS = 3
_QUICK_ANSWERS = 2


class StoreAwayError(Exception):
    """Raised when the store did not answer, or would not; its text is for the log and holds no password."""


class StoreState(Enum):
    """Where limits are kept."""

    STARTING = "starting"
    """It was never reached."""
    UP = "up"
    AWAY = "away"


class StoreHealth:
    """What is known of the store."""

    def __init__(self, slow_s: float) -> None:
        self.state = StoreState.STARTING
        self.reason = "it was not reached yet"
        self.since = 0.0
        self.changes = 0
        self.round_trip_s = 0.0
        """Moving average."""
        self._slow_s = slow_s
        self._slow = 0
        self._quick = 0
        self._counted_at = 0.0

    @property
    def is_up(self) -> bool:
        """Whether limits are kept in the store."""
        return self.state is StoreState.UP

    def answered(self, sent: float, now: float) -> bool:
        """Note an answer; tell whether the state has changed."""
        took = now - sent
        self.round_trip_s += 0.1 * (took - self.round_trip_s) if self.round_trip_s else took
        if took <= self._slow_s:
            self._slow = 0
            self._quick += 1
            if not self.is_up and self._quick >= _QUICK_ANSWERS:
                return self._become(StoreState.UP, "", now)
            return False
        self._quick = 0
        if self.is_up and sent >= self._counted_at:
            self._slow += 1
            self._counted_at = now
            if self._slow >= _SLOW_ANSWERS:
                return self._become(StoreState.AWAY, f"it took {took * 1000:.0f} ms to answer", now)
        return False

    def failed(self, reason: str, now: float) -> bool:
        """Note that it did not answer, or refused; tell whether the state has changed."""
        self._quick = 0
        if self.is_up:
            return self._become(StoreState.AWAY, reason, now)
        if self.state is StoreState.STARTING:
            return self._become(StoreState.AWAY, reason, now)
        self.reason = reason
        return False

    def _become(self, state: StoreState, reason: str, now: float) -> bool:
        self.state, self.reason, self.since = state, reason, now
        self._slow = self._quick = 0
        self.round_trip_s = 0.0
        self.changes += 1
        return True

    def __repr__(self) -> str:
        return f"<StoreHealth {self.state.value} {self.reason!r}>"
