"""Limits that several processes share, as one process sees them.

Rules: no I/O; the store (store.py) sends what stands in `owed`, `gone` and `leases`. While the store is there its scripts
decide, and what is known here is the last that they told. While it is away a bucket keeps this process's share by itself: of a
rate, `1 / processes` of it, beginning with that share of the last level; of places, their number divided; of money, only
what this process holds ahead, for as long as that is valid. What was used meanwhile is owed to the store when it is back.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import count

from gearshift.core.buckets import NEVER, SECONDS_PER_DAY, TokenBucket, period_of
from gearshift.core.line import Line

MOST_UNITS = 2**53 - 1
"""Whole numbers are exact up to here in Lua."""
_MICRO = 1_000_000
_NANO = 1_000_000_000
_RETRY_S = 1.0
"""What a call is told to wait that only the store's return can help."""


class SharedBucket:
    """What shared limits have in common.

    Args:
        key: where the store keeps it.
        when_away: `local`, `closed` or `open`.

    """

    kind = ""
    scale = _MICRO

    def __init__(self, unit: str, key: str, *, capacity: float, refill_per_s: float, when_away: str) -> None:
        self.unit = unit
        self.key = key
        self.capacity = capacity
        self.refill_per_s = refill_per_s
        self.when_away = when_away
        self.line: Line | None = None
        self.stops = False
        self.is_away = True
        self.owed = 0
        """What the store must still hear, whole units: above 0 to give back, below 0 to take."""
        self.seen_at: float | None = None
        """When the store last told the level; None when it never did."""
        self._seen = capacity

    @property
    def capacity_units(self) -> int:
        """The capacity in the store's units."""
        return min(MOST_UNITS, round(self.capacity * self.scale))

    @property
    def rate_units(self) -> int:
        """The refill a minute in the store's units."""
        return max(1, min(MOST_UNITS, round(self.refill_per_s * 60 * self.scale)))

    @property
    def books(self) -> str:
        """Where it is kept now: `shared`, or `share` while the store is away."""
        return "share" if self.is_away else "shared"

    def resize(self, capacity: float, refill_per_s: float, when_away: str, now: float) -> None:
        """Put new limits in force; levels stay."""
        self.capacity, self.refill_per_s, self.when_away = capacity, refill_per_s, when_away

    def units(self, amount: float) -> int:
        """Give an amount in the store's units, rounded up."""
        return min(MOST_UNITS, math.ceil(round(amount * self.scale, 3)))

    def argument(self) -> object:
        """Give what the reserving script wants to know besides: a new lease's name, or what is held ahead."""
        return ""

    def told(self, units: int, now: float) -> None:
        """Note what the store says that is left."""
        self._seen, self.seen_at = units / self.scale, now

    def granted(self, amount: float, argument: object) -> None:
        """Note that the store has reserved an amount for this process."""

    def level(self, now: float) -> float:
        """Give what is left, as far as it is known here."""
        since = 0.0 if self.seen_at is None else max(0.0, now - self.seen_at)
        return min(self.capacity, self._seen + since * self.refill_per_s)

    def wait_for(self, amount: float, now: float, ahead: float = 0.0) -> float:
        """Give the seconds until `amount` can be taken; 0 is now."""
        if self.is_away:
            if self.when_away == "local":
                return self._wait_locally(amount, now, ahead)
            return 0.0 if self.when_away == "open" else _RETRY_S
        lacking = min(amount, self.capacity) + ahead - self.level(now)
        if lacking <= 0:
            return 0.0
        return lacking / self.refill_per_s if self.refill_per_s else NEVER

    def take(self, amount: float, now: float) -> None:
        """Take `amount` of this process's share."""
        raise NotImplementedError

    def settle(self, reserved: float, used: float, now: float, at: float | None = None) -> None:
        """Put right what was reserved by what was used."""
        raise NotImplementedError

    def went_away(self, now: float, processes: int) -> None:
        """Keep this process's share from now on."""
        self.is_away = True

    def reckon(self, now: float) -> None:
        """Owe the store what was used meanwhile; this process's share still decides."""

    def came_back(self, now: float) -> None:
        """Let the store decide from now on; owe it what was used since the reckoning."""
        self.is_away = False

    def is_owing(self) -> bool:
        """Tell whether the store must hear something."""
        return self.owed != 0

    def _wait_locally(self, amount: float, now: float, ahead: float) -> float:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key} {self._seen:g}/{self.capacity:g} {self.books}>"


class SharedTokenBucket(SharedBucket):
    """A rate that processes share."""

    kind = "t"

    def __init__(
        self, unit: str, key: str, *, capacity: float, refill_per_s: float, when_away: str, now: float, processes: int
    ) -> None:
        super().__init__(unit, key, capacity=capacity, refill_per_s=refill_per_s, when_away=when_away)
        self._spent = 0.0
        self._local = self._share(now, processes)

    def resize(self, capacity: float, refill_per_s: float, when_away: str, now: float) -> None:
        """Put new limits in force; levels stay."""
        factor = capacity / self.capacity
        super().resize(capacity, refill_per_s, when_away, now)
        level = self._local.level(now)
        self._local.refill_per_s *= factor if self._local.refill_per_s else 1.0
        self._local = TokenBucket(
            self.unit,
            capacity=max(1.0, self._local.capacity * factor),
            refill_per_s=self._local.refill_per_s,
            now=now,
            level=level,
        )

    def level(self, now: float) -> float:
        """Give what is left: of the share while the store is away."""
        return self._local.level(now) if self.is_away else super().level(now)

    def take(self, amount: float, now: float) -> None:
        """Take `amount` of this process's share."""
        amount = min(amount, self.capacity)
        self._local.settle(0.0, amount, now)
        self._spent += amount

    def settle(self, reserved: float, used: float, now: float, at: float | None = None) -> None:
        """Give back what was not used, or owe what was used beyond the reservation."""
        change = min(reserved, self.capacity) - used
        if self.is_away:
            self._local.settle(change, 0.0, now)
            self._spent -= change
        else:
            self.owed += round(change * self.scale)

    def went_away(self, now: float, processes: int) -> None:
        """Keep this process's share from now on, which begins with its part of what was left."""
        if not self.is_away:
            self._local = self._share(now, processes)
            self._spent = 0.0
        super().went_away(now, processes)

    def reckon(self, now: float) -> None:
        """Owe what was used of the share, but no more than the share lacks: the store refilled only to its brim."""
        lacks = self._local.capacity - self._local.level(now)
        self.owed -= round(min(self._spent, lacks) * self.scale)
        self._spent = 0.0

    def came_back(self, now: float) -> None:
        """Let the store decide from now on; owe it what was used since the reckoning."""
        if self.is_away:
            self.owed -= round(self._spent * self.scale)
            self._spent = 0.0
        super().came_back(now)

    def _share(self, now: float, processes: int) -> TokenBucket:
        part = 1 / max(1, processes)
        known = SharedBucket.level(self, now) if self.seen_at is not None else self.capacity
        return TokenBucket(
            self.unit,
            capacity=max(1.0, self.capacity * part),
            refill_per_s=self.refill_per_s * part,
            now=now,
            level=known * part,
        )

    def _wait_locally(self, amount: float, now: float, ahead: float) -> float:
        return self._local.wait_for(amount, now, ahead)


class SharedBudget(SharedBucket):
    """Money that processes share: USD in a UTC day or month.

    Args:
        epoch_offset: what turns `now` into seconds since the epoch, as the store counts them once it has told.

    """

    scale = _NANO

    def __init__(self, key: str, *, capacity: float, period: str, when_away: str, epoch_offset: float) -> None:
        super().__init__("cost", key, capacity=capacity, refill_per_s=0.0, when_away=when_away)
        self.kind = "d" if period == "day" else "m"
        self.period = period
        self.epoch_offset = epoch_offset
        self.is_counted = False
        """Whether the store has been told what was spent before anybody shared it, as far as it has said."""
        self.owed_by_period: dict[int, int] = {}
        self._ahead = 0.0
        self._valid_until = -NEVER
        self._spent = 0.0

    @property
    def holders_key(self) -> str:
        """Where the store keeps who holds how much ahead."""
        return f"{self.key}:held"

    def argument(self) -> object:
        """Give what this process holds ahead: it is its own to spend."""
        return max(0, math.floor(self._ahead * self.scale))

    def holds(self, units: int, valid_until: float) -> None:
        """Note what this process holds ahead now."""
        self._ahead, self._valid_until = units / self.scale, valid_until

    def level(self, now: float) -> float:
        """Give what is left: of what is held ahead while the store is away."""
        if self.is_away:
            return self._ahead if now < self._valid_until else min(0.0, self._ahead)
        return self._seen

    def wait_for(self, amount: float, now: float, ahead: float = 0.0) -> float:
        """Give the seconds until `amount` may be spent; 0 is now."""
        if self.is_away:
            left = self.level(now)
            return 0.0 if self.when_away != "closed" and left > 0 and amount + ahead <= left else _RETRY_S
        if amount + ahead <= self._seen and self._seen > 0:
            return 0.0
        if amount > self.capacity:
            return NEVER
        epoch = now + self.epoch_offset
        return period_of(self.period, epoch)[1] - epoch

    def take(self, amount: float, now: float) -> None:
        """Take `amount` of what is held ahead."""
        self._ahead -= amount
        self._spent += amount

    def settle(self, reserved: float, used: float, now: float, at: float | None = None) -> None:
        """Give back what was not used, or note what was used beyond the reservation."""
        if self.is_away:
            self._ahead += reserved - used
            self._spent += used - reserved
        else:
            self._owe(self.units(reserved) - self.units(used), self.number(now if at is None else at))

    def reckon(self, now: float) -> None:
        """Owe what was spent meanwhile, to the period that it is now."""
        self._owe(-self.units(self._spent), self.number(now))
        self._spent = 0.0

    def came_back(self, now: float) -> None:
        """Let the store decide from now on; owe it what was spent since the reckoning."""
        if self.is_away:
            self.reckon(now)
        super().came_back(now)

    def is_owing(self) -> bool:
        """Tell whether the store must hear something."""
        return bool(self.owed_by_period)

    def number(self, at: float) -> int:
        """Give the number of the period that holds a time, as the store counts them."""
        if self.kind == "d":
            return int((at + self.epoch_offset) // SECONDS_PER_DAY)
        when = datetime.fromtimestamp(at + self.epoch_offset, UTC)
        return when.year * 12 + when.month - 1

    def _owe(self, units: int, period: int) -> None:
        if units:
            self.owed_by_period[period] = self.owed_by_period.get(period, 0) + units

    def _wait_locally(self, amount: float, now: float, ahead: float) -> float:
        return self.wait_for(amount, now, ahead)


class SharedPlaces(SharedBucket):
    """Places that processes share: each is a lease, which runs out unless it is kept."""

    kind = "c"
    scale = 1

    def __init__(self, key: str, *, capacity: float, when_away: str, process: str, processes: int) -> None:
        super().__init__("concurrency", key, capacity=capacity, refill_per_s=0.0, when_away=when_away)
        self.leases: list[str] = []
        """Places in use, by name."""
        self.gone: list[str] = []
        """Places to be given back."""
        self._process = process
        self._processes = processes
        self._names = count(1)
        self._unknown: list[str] = []
        """Places in use of which the store does not know."""

    def argument(self) -> object:
        """Give a new place's name."""
        return f"{self._process}:{next(self._names)}"

    def granted(self, amount: float, argument: object) -> None:
        """Note a place."""
        self.leases.append(str(argument))

    def level(self, now: float) -> float:
        """Give how many more may run: of this process's share while the store is away."""
        if self.is_away:
            return self._allowed() - len(self.leases) - len(self._unknown)
        return self._seen

    def take(self, amount: float, now: float) -> None:
        """Take a place of this process's share."""
        self._unknown.append(str(self.argument()))

    def settle(self, reserved: float, used: float, now: float, at: float | None = None) -> None:
        """Give a place back; one is as good as another."""
        if self._unknown:
            self._unknown.pop()
        elif self.leases:
            self.gone.append(self.leases.pop())

    def went_away(self, now: float, processes: int) -> None:
        """Keep this process's share from now on."""
        self._processes = processes
        super().went_away(now, processes)

    def reckon(self, now: float) -> None:
        """Tell the store of the places that were taken meanwhile."""
        self.leases += self._unknown
        self._unknown = []

    def came_back(self, now: float) -> None:
        """Let the store decide from now on; tell it of the places that were taken since the reckoning."""
        if self.is_away:
            self.reckon(now)
        super().came_back(now)

    def is_owing(self) -> bool:
        """Tell whether the store must hear something."""
        return bool(self.gone)

    def _allowed(self) -> float:
        return max(1.0, self.capacity // max(1, self._processes))

    def _wait_locally(self, amount: float, now: float, ahead: float) -> float:
        return 0.0 if self.level(now) - ahead >= 1 else NEVER
