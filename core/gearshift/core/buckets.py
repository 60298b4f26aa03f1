"""Token buckets, daily budgets and places, in this process.

Rules: pure, time is passed in (seconds, monotonic). A token bucket refills steadily up to its capacity. What is settled after
a call may leave a debt (a level below 0), which later callers wait out. An amount above the capacity counts as the
capacity, so that it can be served at all.
"""

from __future__ import annotations

from typing import Protocol

_SECONDS_PER_DAY = 86_400.0


class Bucket(Protocol):
    """Something that can be reserved from and settled with."""

    unit: str

    def wait_for(self, amount: float, now: float) -> float:
        """Give the seconds until `amount` can be taken; 0 is now."""
        ...

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, which `wait_for` said can be taken."""
        ...

    def settle(self, reserved: float, used: float, now: float) -> None:
        """Put right what was reserved by what was used."""
        ...


class TokenBucket:
    """A limiter with a capacity and a refill rate."""

    __slots__ = ("_level", "_updated", "capacity", "refill_per_s", "unit")

    def __init__(self, unit: str, *, capacity: float, refill_per_s: float, now: float) -> None:
        self.unit = unit
        self.capacity = capacity
        self.refill_per_s = refill_per_s
        self._level = capacity
        self._updated = now

    def level(self, now: float) -> float:
        """Give what it holds; below 0 is a debt."""
        if now > self._updated:
            self._level = min(self.capacity, self._level + (now - self._updated) * self.refill_per_s)
            self._updated = now
        return self._level

    def wait_for(self, amount: float, now: float) -> float:
        """Give the seconds until `amount` can be taken; 0 is now."""
        lacking = min(amount, self.capacity) - self.level(now)
        # A billionth is rounding, not lack.
        return lacking / self.refill_per_s if lacking > self.capacity * 1e-9 else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take `amount` (at most the capacity)."""
        self.level(now)
        self._level -= min(amount, self.capacity)

    def settle(self, reserved: float, used: float, now: float) -> None:
        """Give back what was not used, or owe what was used beyond the reservation."""
        self.level(now)
        self._level = min(self.capacity, self._level + min(reserved, self.capacity) - used)

    def __repr__(self) -> str:
        return f"<TokenBucket {self.unit} {self._level:g}/{self.capacity:g} +{self.refill_per_s:g}/s>"


class DailyBudget:
    """A limit on spending, USD, that begins anew at midnight UTC.

    Never more than the capacity is given in one day: a call that is expected to cost more is never let through.

    Args:
        epoch_offset: what turns `now` into seconds since the epoch.

    """

    __slots__ = ("_day", "_left", "_offset", "capacity", "unit")

    refill_per_s = 0.0

    def __init__(self, *, capacity: float, epoch_offset: float, now: float) -> None:
        self.unit = "cost"
        self.capacity = capacity
        self._offset = epoch_offset
        self._left = capacity
        self._day = self._day_of(now)

    def level(self, now: float) -> float:
        """Give what is left of the day; below 0 is what was spent too much."""
        day = self._day_of(now)
        if day > self._day:
            self._day, self._left = day, self.capacity
        return self._left

    def wait_for(self, amount: float, now: float) -> float:
        """Give the seconds until `amount` may be spent; infinite when it never may."""
        left = self.level(now)
        # Nothing is spent from nothing, or what is expected to cost nothing would never be refused.
        if amount <= left * (1 + 1e-9) and left > 0:
            return 0.0
        return float("inf") if amount > self.capacity else (self._day + 1) * _SECONDS_PER_DAY - (now + self._offset)

    def take(self, amount: float, now: float) -> None:
        """Take `amount`."""
        self.level(now)
        self._left -= amount

    def settle(self, reserved: float, used: float, now: float) -> None:
        """Give back what was not used, or note what was used beyond the reservation."""
        self.level(now)
        self._left = min(self.capacity, self._left + reserved - used)

    def _day_of(self, now: float) -> int:
        return int((now + self._offset) // _SECONDS_PER_DAY)

    def __repr__(self) -> str:
        return f"<DailyBudget {self._left:g}/{self.capacity:g} USD>"


class Concurrency:
    """A limit on how much runs at once."""

    __slots__ = ("_running", "capacity", "unit")

    refill_per_s = 0.0

    def __init__(self, capacity: int) -> None:
        self.unit = "concurrency"
        self.capacity = float(capacity)
        self._running = 0.0

    def level(self, now: float) -> float:
        """Give how many more may run."""
        return self.capacity - self._running

    def wait_for(self, amount: float, now: float) -> float:
        """Give 0, or infinity when it is full: nobody knows when a call ends."""
        return 0.0 if self._running < self.capacity else float("inf")

    def take(self, amount: float, now: float) -> None:
        """Take one place."""
        self._running += 1

    def settle(self, reserved: float, used: float, now: float) -> None:
        """Give the place back."""
        self._running -= 1

    def __repr__(self) -> str:
        return f"<Concurrency {self._running:g}/{self.capacity:g}>"
