"""Token buckets, budgets and places, in this process.

Rules: pure, time is passed in (seconds, monotonic). A token bucket refills steadily up to its capacity. What is settled after
a call may leave a debt (a level below 0), which later callers wait out. An amount above the capacity counts as the
capacity, so that it can be served at all. Who waits for a bucket stands in its line; what those ahead want is set aside
for them, so that small callers never starve a large one, and none waits for what nobody ahead of it needs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from gearshift.core.line import Line

SECONDS_PER_DAY = 86_400.0
NEVER = float("inf")


class Bucket(Protocol):
    """Something that can be reserved from and settled with."""

    unit: str
    line: Line | None
    """Who waits for it; None when nobody does."""
    stops: bool
    """Whether a running stream that has used up its reservation ends instead of reserving more."""

    @property
    def capacity(self) -> float:
        """The most that it holds."""
        ...

    @property
    def refill_per_s(self) -> float:
        """What flows in a second; 0 where nothing does."""
        ...

    def level(self, now: float) -> float:
        """Give what it holds; below 0 is a debt."""
        ...

    def wait_for(self, amount: float, now: float, ahead: float = 0.0) -> float:
        """Give the seconds until `amount` can be taken, with `ahead` set aside for others; 0 is now."""
        ...

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, which `wait_for` said can be taken."""
        ...

    def settle(self, reserved: float, used: float, now: float, at: float | None = None) -> None:
        """Put right what was reserved by what was used. `at`: when it was reserved; unset is `now`."""
        ...


class TokenBucket:
    """A limiter with a capacity and a refill rate."""

    __slots__ = ("_level", "_updated", "capacity", "line", "refill_per_s", "stops", "unit")

    def __init__(
        self, unit: str, *, capacity: float, refill_per_s: float, now: float, level: float | None = None
    ) -> None:
        self.unit = unit
        self.capacity = capacity
        self.refill_per_s = refill_per_s
        self.line: Line | None = None
        self.stops = False
        self._level = capacity if level is None else min(level, capacity)
        self._updated = now

    def level(self, now: float) -> float:
        """Give what it holds; below 0 is a debt."""
        if now > self._updated:
            self._level = min(self.capacity, self._level + (now - self._updated) * self.refill_per_s)
            self._updated = now
        return self._level

    def wait_for(self, amount: float, now: float, ahead: float = 0.0) -> float:
        """Give the seconds until `amount` can be taken, with `ahead` set aside for others; 0 is now."""
        lacking = min(amount, self.capacity) + ahead - self.level(now)
        # A billionth is rounding, not lack.
        return lacking / self.refill_per_s if lacking > self.capacity * 1e-9 else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take `amount` (at most the capacity)."""
        self.level(now)
        self._level -= min(amount, self.capacity)

    def settle(self, reserved: float, used: float, now: float, at: float | None = None) -> None:
        """Give back what was not used, or owe what was used beyond the reservation."""
        self.level(now)
        self._level = min(self.capacity, self._level + min(reserved, self.capacity) - used)

    def renew(self, by: Bucket, now: float) -> None:
        """Take over a new limit; what was taken stays taken."""
        taken = self.capacity - self.level(now)
        self.capacity, self.refill_per_s, self.stops = by.capacity, by.refill_per_s, by.stops
        self._level = by.level(now) - taken

    def __repr__(self) -> str:
        return f"<TokenBucket {self.unit} {self._level:g}/{self.capacity:g} +{self.refill_per_s:g}/s>"


class Budget:
    """A limit on spending, USD, that begins anew with each UTC day or calendar month.

    Never more than the capacity is given in one period: a call that is expected to cost more is never let through. What a
    call cost counts in the period in which it was reserved.

    Args:
        period: `day` or `month`.
        epoch_offset: what turns `now` into seconds since the epoch.

    """

    __slots__ = ("_begins", "_ends", "_left", "_offset", "_parts", "capacity", "line", "period", "stops", "unit")

    refill_per_s = 0.0

    def __init__(self, *, capacity: float, epoch_offset: float, now: float, period: str = "day") -> None:
        self.unit = "cost"
        self.period = period
        self.capacity = capacity
        self.line: Line | None = None
        self.stops = False
        self._offset = epoch_offset
        self._left = capacity
        self._parts = 1
        self._begins, self._ends = period_of(period, now + epoch_offset)

    def level(self, now: float) -> float:
        """Give what is left of the period; below 0 is what was spent too much."""
        if now + self._offset >= self._ends:
            self._left = self.capacity
            self._begins, self._ends = period_of(self.period, now + self._offset)
        return self._left

    def wait_for(self, amount: float, now: float, ahead: float = 0.0) -> float:
        """Give the seconds until `amount` may be spent; infinite when it never may."""
        left = self.level(now)
        # Nothing is spent from nothing, or what is expected to cost nothing would never be refused.
        if amount + ahead <= left + self.capacity * 1e-12 and left > 0:
            return 0.0
        return NEVER if amount > self.capacity else self._ends - (now + self._offset)

    def take(self, amount: float, now: float) -> None:
        """Take `amount`."""
        self.level(now)
        self._left -= amount

    def settle(self, reserved: float, used: float, now: float, at: float | None = None) -> None:
        """Give back what was not used, or note what was used beyond the reservation."""
        self.level(now)
        if at is None or at + self._offset >= self._begins:
            self._left = min(self.capacity, self._left + reserved - used)

    def renew(self, by: Bucket, now: float) -> None:
        """Take over a new limit; what was spent stays spent."""
        taken = self.capacity - self.level(now)
        self.capacity, self.stops = by.capacity, by.stops
        self._left = by.level(now) - taken

    def set_clock(self, epoch_offset: float) -> None:
        """Follow a clock that was set, or that went on while the machine slept. Money is never given twice for going back."""
        self._offset = epoch_offset

    def divide(self, processes: int) -> None:
        """Keep one process's part of it; what `seed` counts is then everybody's."""
        self.capacity /= processes
        self._left /= processes
        self._parts *= processes

    def follow(self, left: float, now: float) -> None:
        """Begin with what another process had left of this part, which has counted everything before."""
        self.level(now)
        self._left = min(self.capacity, left)
        self._parts = 0

    def ends_in(self, now: float) -> float:
        """Give the seconds until the period ends."""
        self.level(now)
        return self._ends - (now + self._offset)

    def seed(self, spent: float, now: float) -> None:
        """Count what was spent in this period before the process began, from the ledger, USD."""
        self.level(now)
        if self._parts:
            self._left -= spent / self._parts

    def __repr__(self) -> str:
        return f"<Budget {self._left:g}/{self.capacity:g} USD a {self.period}>"


class Concurrency:
    """A limit on how much runs at once."""

    __slots__ = ("_running", "capacity", "line", "stops", "unit")

    refill_per_s = 0.0

    def __init__(self, capacity: int) -> None:
        self.unit = "concurrency"
        self.capacity = float(capacity)
        self.line: Line | None = None
        self.stops = False
        self._running = 0.0

    def level(self, now: float) -> float:
        """Give how many more may run."""
        return self.capacity - self._running

    def wait_for(self, amount: float, now: float, ahead: float = 0.0) -> float:
        """Give 0, or infinity when it is full: nobody knows when a call ends."""
        return 0.0 if self._running + ahead < self.capacity else NEVER

    def take(self, amount: float, now: float) -> None:
        """Take one place."""
        self._running += 1

    def settle(self, reserved: float, used: float, now: float, at: float | None = None) -> None:
        """Give the place back."""
        self._running -= 1

    def renew(self, by: Bucket, now: float) -> None:
        """Take over a new limit; what runs goes on, also where that is more."""
        self.capacity, self.stops = by.capacity, by.stops

    def __repr__(self) -> str:
        return f"<Concurrency {self._running:g}/{self.capacity:g}>"


def period_of(period: str, epoch: float) -> tuple[float, float]:
    """Give when the UTC `day` or `month` that holds a time begins and ends, seconds since the epoch."""
    if period == "day":
        begins = epoch // SECONDS_PER_DAY * SECONDS_PER_DAY
        return begins, begins + SECONDS_PER_DAY
    first = datetime.fromtimestamp(epoch, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first.timestamp(), following.timestamp()
