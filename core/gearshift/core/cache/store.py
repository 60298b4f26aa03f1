"""Where cached values are kept: in this process, or wherever else keeps to the same protocol.

Rules: a store knows keys and bytes, not what they mean; what may be looked up under a key is decided by who makes the key.
It is bounded by bytes; what was not used for longest goes first, what a changed configuration has left behind before that.
A store never fails a call: where it cannot answer, nothing is found. Time is passed in, seconds, monotonic.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from gearshift.core.cache.leases import Leases
from gearshift.core.promptcache import CacheCounts

OVERHEAD_BYTES = 256
"""What an entry takes beside its value: keys, names, times (measured roughly, on CPython 3.11)."""
Purges = tuple[int, int]
"""What was purged until a moment: how often here, and the store's mark."""


class CacheItem(Struct, frozen=True, kw_only=True):
    """A value to be kept.

    Args:
        key: unlike any other key, whatever cache and tenant it is of.
        generation: what it depends on in the configuration: entries of other generations can no longer be found.
        ttl_s: how long it is kept, seconds.
        mark: the store's when what is kept was begun: where it was purged since, it is not kept. None keeps it anyway.

    """

    key: str
    tenant: str
    task_id: str
    generation: str
    value: bytes
    ttl_s: float
    mark: int | None = None


class CacheInfo(Struct, kw_only=True):
    """What is known of an entry, without its content; times are seconds, monotonic."""

    key: str
    tenant: str
    task_id: str
    generation: str
    size: int
    stored_at: float
    expires_at: float
    hits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFilter:
    """Which entries are meant; what is empty means all."""

    tenant: str = ""
    task_id: str = ""
    key: str = ""
    min_age_s: float = 0.0

    def chooses(self, tenant: str, task_id: str, key: str, age_s: float) -> bool:
        """Tell whether an entry is meant."""
        return (
            self.tenant in ("", tenant)
            and self.task_id in ("", task_id)
            and self.key in ("", key)
            and age_s >= self.min_age_s
        )


class CacheStore(Protocol):
    """Keeps values under keys. Tasks of one loop may share it."""

    @property
    def mark(self) -> int:
        """The last purge that this process has heard of, as of the last `get`; 0 where it makes all of them itself."""
        ...

    async def get(self, keys: Sequence[str], now: float) -> list[bytes | None]:
        """Give the value under each key, None where there is none; counts hits and misses."""
        ...

    async def put(self, items: Sequence[CacheItem], now: float) -> int:
        """Keep values; one that stands under the same key is replaced. Give how many are kept."""
        ...

    async def entries(self, now: float) -> list[CacheInfo]:
        """Give what is kept, most used first."""
        ...

    async def purge(self, chosen: CacheFilter, now: float) -> int:
        """Drop every chosen entry; give how many there were."""
        ...

    def retire(self, current: Collection[str]) -> None:
        """Let entries of other generations than the current ones go before any other."""
        ...

    def counts(self) -> CacheCounts:
        """Give its size and what it did."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What was purged, wherever, since a mark.

    Args:
        mark: of now.
        begins_at: the store's first mark; above the one that was asked by where it has lost all since.
        scopes: what was meant; a purge by age tells each key.

    """

    mark: int
    begins_at: int
    scopes: tuple[CacheFilter, ...]


class PromptStore(CacheStore, Protocol):
    """A store that several processes share, and of which each holds copies."""

    @property
    def is_away(self) -> bool:
        """Whether it could not be asked the last time."""
        ...

    async def purged(self, chosen: CacheFilter, now: float) -> list[str]:
        """Drop every chosen entry; give their keys.

        Raises:
            CacheStoreError: it is away.

        """
        ...

    async def remove(self, tenant: str, key: str) -> bool:
        """Drop a tenant's entry; tell whether it was there. Errors as `purged`."""
        ...

    async def purged_since(self, mark: int) -> Purged | None:
        """Give what was purged since; None where it is away."""
        ...

    async def touch(self, keys: Sequence[str], ttl_s: float) -> list[bool] | None:
        """Let entries live for their time anew; tell of each whether it is there, None where the store is away."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStores:
    """Where each cache keeps its values."""

    answers: CacheStore
    vectors: CacheStore
    prompts: PromptStore | None = None
    leases: Leases | None = None
    """Of the calls whose answers are kept, where several processes share them."""


class MemoryStore:
    """Keeps values in this process.

    Args:
        max_bytes: the most that it holds; 0 keeps nothing.

    """

    mark = 0

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[CacheInfo, bytes]] = OrderedDict()
        self._bytes = 0
        self._hits = 0
        self._misses = 0
        self._evictions = 0

    async def get(self, keys: Sequence[str], now: float) -> list[bytes | None]:
        """Give the value under each key."""
        return [self._get(key, now) for key in keys]

    async def put(self, items: Sequence[CacheItem], now: float) -> int:
        """Keep values; what is larger than the whole store is not kept."""
        count = 0
        for item in items:
            size = len(item.value) + OVERHEAD_BYTES
            if size > self._max_bytes:
                continue
            count += 1
            if item.key in self._entries:
                self._drop(item.key)
            info = CacheInfo(
                key=item.key,
                tenant=item.tenant,
                task_id=item.task_id,
                generation=item.generation,
                size=size,
                stored_at=now,
                expires_at=now + item.ttl_s,
            )
            self._entries[item.key] = info, item.value
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))
                self._evictions += 1
        return count

    async def entries(self, now: float) -> list[CacheInfo]:
        """Give what is kept, most used first."""
        for key in [key for key, (info, _) in self._entries.items() if now >= info.expires_at]:
            self._drop(key)
            self._evictions += 1
        return sorted((info for info, _ in self._entries.values()), key=lambda info: -info.hits)

    async def purge(self, chosen: CacheFilter, now: float) -> int:
        """Drop every chosen entry; give how many there were."""
        keys = [
            info.key
            for info, _ in self._entries.values()
            if chosen.chooses(info.tenant, info.task_id, info.key, now - info.stored_at)
        ]
        for key in keys:
            self._drop(key)
        return len(keys)

    def retire(self, current: Collection[str]) -> None:
        """Put entries of other generations where they are dropped first."""
        for key in [key for key, (info, _) in reversed(self._entries.items()) if info.generation not in current]:
            self._entries.move_to_end(key, last=False)

    def counts(self) -> CacheCounts:
        """Give its size and what it did."""
        return CacheCounts(len(self._entries), self._bytes, self._hits, self._misses, self._evictions)

    def _get(self, key: str, now: float) -> bytes | None:
        entry = self._entries.get(key)
        if entry is not None and now >= entry[0].expires_at:
            self._drop(key)
            self._evictions += 1
            entry = None
        if entry is None:
            self._misses += 1
            return None
        entry[0].hits += 1
        self._hits += 1
        self._entries.move_to_end(key)
        return entry[1]

    def _drop(self, key: str) -> None:
        info, _ = self._entries.pop(key)
        self._bytes -= info.size
