"""Limits of which this process keeps a part, because several share them and none can be asked.

Rules: rates and places are divided by the number of processes that serve now; money by the number that was configured, so
that what a dead process had spent is never spent again. A place cannot be divided: each process has at least one. A
process that follows a dead one begins with what that one's limits had left.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec import Struct

from gearshift.core.admission import Admission, AnyBucket
from gearshift.core.buckets import Budget, Concurrency, TokenBucket
from gearshift.core.config.model import LimitsConfig


class BookEntry(Struct, array_like=True):
    """What one bucket had left.

    Args:
        level: in the bucket's unit.
        at: when, seconds since the epoch.
        ends: of a budget, when its period ends, seconds since the epoch; 0 otherwise.

    """

    kind: str
    name: str
    unit: str
    period: str
    level: float
    at: float
    ends: float


class ShareBooks(Struct):
    """What a process's limits had left."""

    entries: list[BookEntry] = []


class ShareAdmission(Admission):
    """The limits of one of several processes.

    Args:
        number: which of them this is, from 0.
        size: how many were configured, from 1.
        alive: how many serve now.
        books: of the process that this one follows.

    """

    def __init__(self, number: int, size: int, alive: int, books: ShareBooks | None = None) -> None:
        super().__init__()
        self._number = number
        self._size = max(1, size)
        self._alive = max(1, min(alive, size))
        entries = books.entries if books is not None else []
        self._books = {(each.kind, each.name, each.unit, each.period): each for each in entries}

    @property
    def alive(self) -> int:
        """How many processes share the rates and places now."""
        return self._alive

    def resize(self, alive: int, now: float) -> None:
        """Divide rates and places by another number; what is held is kept, up to the new capacity."""
        alive = max(1, min(alive, self._size))
        if alive == self._alive:
            return
        for *_, buckets in self._kept():
            for bucket in buckets:
                if isinstance(bucket, TokenBucket):
                    bucket.level(now)
                    bucket.capacity *= self._alive / alive
                    bucket.refill_per_s *= self._alive / alive
                    bucket.settle(0.0, 0.0, now)
        self._alive = alive
        for _, _, limits, buckets in self._kept():
            for bucket in buckets:
                if isinstance(bucket, Concurrency):
                    bucket.capacity = float(self._places(limits.concurrency or 1))
                if bucket.line is not None:
                    bucket.line.wake()

    def books(self, now: float) -> ShareBooks:
        """Give what the limits have left, for who follows this process."""
        at = time.time()
        found: list[BookEntry] = []
        for kind, name, _, buckets in self._kept():
            for bucket in buckets:
                if isinstance(bucket, Budget):
                    level = bucket.level(now)
                    found.append(BookEntry(kind, name, bucket.unit, bucket.period, level, at, at + bucket.ends_in(now)))
                elif isinstance(bucket, TokenBucket):
                    found.append(BookEntry(kind, name, bucket.unit, "", bucket.level(now), at, 0.0))
        return ShareBooks(found)

    def _buckets(self, kind: str, name: str, limits: LimitsConfig, now: float) -> Sequence[AnyBucket]:
        made = super()._buckets(kind, name, limits, now)
        for bucket in made:
            match bucket:
                case Concurrency():
                    bucket.capacity = float(self._places(limits.concurrency or 1))
                case TokenBucket():
                    bucket.capacity /= self._alive
                    bucket.refill_per_s /= self._alive
                    bucket.settle(0.0, 0.0, now)
                case Budget():
                    bucket.divide(self._size)
                case _:
                    continue
            period = bucket.period if isinstance(bucket, Budget) else ""
            left = self._books.pop((kind, name, bucket.unit, period), None)
            if left is not None:
                _go_on(bucket, left, now)
        return made

    def _kept(self) -> list[tuple[str, str, LimitsConfig, Sequence[AnyBucket]]]:
        """Give all buckets, with whose they are: `account`, `tenant` or `task`, and its name."""
        found = [("account", each.name, each.spec.limits, each.buckets) for each in self._guards.values()]
        return found + [(kind, name, limits, made) for (kind, name), (limits, made) in self._shared.items()]

    def _places(self, concurrency: int) -> int:
        share, rest = divmod(concurrency, self._alive)
        return max(1, share + (self._number % self._alive < rest))


def _go_on(bucket: AnyBucket, left: BookEntry, now: float) -> None:
    """Have a fresh bucket begin where its predecessor stopped."""
    at = time.time()
    if isinstance(bucket, Budget):
        if at < left.ends:
            bucket.follow(left.level, now)
    elif isinstance(bucket, TokenBucket):
        level = left.level + max(0.0, at - left.at) * bucket.refill_per_s
        bucket.settle(0.0, max(0.0, bucket.level(now) - level), now)
