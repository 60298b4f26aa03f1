"""Cached values in Redis or Valkey, so that processes and hosts find each other's.

Rules: the same protocol as the store in memory; what goes first and when is decided in the server, in scripts, by its own
time. Bytes are bounded over all processes. A server that is away costs one call its timeout, then nothing is asked of it
for a while: nothing is found and nothing kept, and no call fails; a purge does, since what it left would be found again.
Purges are numbered in the server, with what each meant: who keeps something says the last number that it had heard of when
the call began, and is refused where a later purge meant it. A server that lost everything has lost its purges too: then all
that was begun before is refused. Hits, misses and evictions are this process's own; size and entries are as the server told
last.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from gearshift.core.cache.store import OVERHEAD_BYTES, CacheFilter, CacheInfo, CacheItem, Purged
from gearshift.core.errors import CacheStoreError
from gearshift.core.promptcache import CacheCounts
from gearshift.core.shared.cache_scripts import DROP, GET, LIST, MEAN, PUT, REMOVE, SINCE, TOUCH
from gearshift.core.shared.health import StoreAwayError

_FIRST_REST_S = 1.0
_LONGEST_REST_S = 30.0
_PAGE = 500
"""Entries that one script looks at, so that none holds the server up for long."""


class ScriptRunner(Protocol):
    """Runs scripts on the server."""

    async def run(self, calls: Sequence[tuple[str, Sequence[str], Sequence[object]]]) -> list[list[Any]]:
        """Give each script's reply.

        Raises:
            StoreAwayError: the server did not answer in time, or refused one of them.

        """
        ...


class RedisCacheStore:
    """Keeps values in a server that several processes share.

    Args:
        prefix: what keys begin with; processes that share have the same.
        name: of the cache.
        max_bytes: the most that it holds, over all processes; 0 keeps nothing.

    """

    def __init__(self, connection: ScriptRunner, prefix: str, name: str, max_bytes: int) -> None:
        # The braces keep all keys of a cache together where the server is a cluster.
        index = "{" + prefix + ":" + name + "}"
        self._keys = (f"{index}:i", f"{index}:b")
        self._purges = f"{index}:p"
        self._mark = 0
        self._connection = connection
        self._max_bytes = max_bytes
        self._entries = self._bytes = self._hits = self._misses = self._evictions = 0
        self._asks_again_at = 0.0
        self._rest_s = _FIRST_REST_S

    @property
    def mark(self) -> int:
        """The number of the last purge that the server has told of; 0 before it was asked."""
        return self._mark

    @property
    def is_away(self) -> bool:
        """Whether the server was away when it was asked last."""
        return self._asks_again_at > 0

    async def get(self, keys: Sequence[str], now: float) -> list[bytes | None]:
        """Give the value under each key."""
        reply = await self.run([(GET, (self._keys[0], self._purges), keys)])
        found: list[bytes | None] = [None] * len(keys)
        if reply:
            self._mark = int(reply[0][0])
            found = reply[0][1:]
        missed = found.count(None)
        self._misses += missed
        self._hits += len(found) - missed
        return found

    async def put(self, items: Sequence[CacheItem], now: float) -> int:
        """Keep values; what is larger than the whole store is not kept, nor what a purge meant since it was begun."""
        calls: list[tuple[str, Sequence[str], Sequence[object]]] = []
        for item in items:
            size = len(item.value) + OVERHEAD_BYTES
            if size <= self._max_bytes:
                kept = (item.key, item.value, item.tenant, item.task_id, item.generation)
                bounds = (max(1, int(item.ttl_s * 1000)), size, self._max_bytes)
                begun = "" if item.mark is None else item.mark
                calls.append((PUT, (*self._keys, self._purges), (*kept, *bounds, begun)))
        count = 0
        for entries, total, evicted, is_kept in await self.run(calls) if calls else ():
            self._entries, self._bytes = entries, total
            self._evictions += evicted
            count += is_kept
        return count

    async def entries(self, now: float) -> list[CacheInfo]:
        """Give what is kept, most used first; what was listed so far where the server is away."""
        return (await self._listed(now))[0]

    async def purge(self, chosen: CacheFilter, now: float) -> int:
        """Drop every chosen entry, whichever process kept it; give how many there were.

        Raises:
            CacheStoreError: the server is away, so that some may be found again when it is back.

        """
        return len(await self.purged(chosen, now))

    async def purged(self, chosen: CacheFilter, now: float) -> list[str]:
        """Drop every chosen entry; give their keys. Errors as `purge`."""
        is_heard = True
        if chosen.min_age_s <= 0:
            # First, so that nothing is written behind the list. What is only being made is of no age.
            is_heard = await self._mean([_scope(chosen.tenant, chosen.task_id, chosen.key)])
        listed, is_whole = await self._listed(now)
        infos = [info for info in listed if chosen.chooses(info.tenant, info.task_id, info.key, now - info.stored_at)]
        if chosen.min_age_s > 0:
            is_heard = await self._mean([_scope(info.tenant, info.task_id, info.key) for info in infos])
        keys = [info.key for info in infos]
        if not is_heard or not is_whole or await self._drop(keys) is None:
            raise CacheStoreError(
                "the shared cache could not be purged, since its store is away: purge again when it is back"
            )
        return keys

    async def remove(self, tenant: str, key: str) -> bool:
        """Drop a tenant's entry; tell whether it was there.

        Raises:
            CacheStoreError: the server is away.

        """
        reply = await self.run([(REMOVE, (*self._keys, self._purges), (key, tenant))])
        if not reply:
            raise CacheStoreError("it may still be in the shared cache, since its store is away: delete it again later")
        return bool(reply[0])

    async def purged_since(self, mark: int) -> Purged | None:
        """Give what was purged since a mark; None where the server is away."""
        reply = await self.run([(SINCE, (self._purges,), (mark,))])
        if not reply:
            return None
        number, first, *scopes = reply[0]
        told = (scope.decode().split("\0", 2) for scope in scopes)
        return Purged(
            mark=int(number),
            begins_at=int(first),
            scopes=tuple(CacheFilter(tenant=tenant, task_id=task, key=key) for tenant, task, key in told),
        )

    async def touch(self, keys: Sequence[str], ttl_s: float) -> list[bool] | None:
        """Let entries live anew; tell of each whether it is there, None where the server is away."""
        touched: list[bool] = []
        for begin in range(0, len(keys), _PAGE):
            ttl_ms = max(1, int(ttl_s * 1000))
            reply = await self.run([(TOUCH, self._keys, (ttl_ms, *keys[begin : begin + _PAGE]))])
            if not reply:
                return None
            touched += map(bool, reply[0])
        return touched

    def retire(self, current: Collection[str]) -> None:
        """Leave them where they are: other processes may not have been reloaded yet, and what nobody uses goes first."""

    def counts(self) -> CacheCounts:
        """Give its size and what it did."""
        return CacheCounts(self._entries, self._bytes, self._hits, self._misses, self._evictions)

    def entry(self, key: str) -> str:
        """Give the name under which an entry stands in the server."""
        return f"{self._keys[0]}:{key}"

    def count_hit(self) -> None:
        """Count an entry that was found otherwise than by `get`."""
        self._hits += 1

    async def _listed(self, now: float) -> tuple[list[CacheInfo], bool]:
        """Give what is kept, most used first, and whether it is all of it.

        The index is scanned, not read by rank: ranks move with each use, and an entry that is there all the time must not be
        missed.
        """
        listed: dict[str, CacheInfo] = {}  # a scan may give an entry twice
        gone: list[str] = []
        cursor = 0
        while reply := await self.run([(LIST, self._keys[:1], (cursor, _PAGE))]):
            cursor, rows = int(reply[0][0]), reply[0][1]
            for row in rows:
                key = row[0].decode()
                if len(row) == 1:
                    gone.append(key)
                    continue
                listed[key] = CacheInfo(
                    key=key,
                    tenant=row[1].decode(),
                    task_id=row[2].decode(),
                    generation=row[3].decode(),
                    size=row[6],
                    stored_at=now - row[4] / 1000,
                    expires_at=now + row[7] / 1000,
                    hits=row[5],
                )
            if cursor == 0:
                break
        await self._drop(gone)
        return sorted(listed.values(), key=lambda info: -info.hits), bool(reply)

    async def _mean(self, scopes: Sequence[str]) -> bool:
        """Have a purge numbered; tell whether the server did."""
        for begin in range(0, len(scopes), _PAGE):
            if not await self.run([(MEAN, (self._purges,), scopes[begin : begin + _PAGE])]):
                return False
        return True

    async def _drop(self, keys: Sequence[str]) -> int | None:
        """Drop entries; give how many there were, None where the server is away."""
        dropped = 0
        for begin in range(0, len(keys), _PAGE):
            reply = await self.run([(DROP, self._keys, keys[begin : begin + _PAGE])])
            if not reply:
                return None
            count, self._entries, self._bytes = reply[0]
            dropped += count
        return dropped

    async def run(self, calls: Sequence[tuple[str, Sequence[str], Sequence[object]]]) -> list[list[Any]]:
        """Give the replies; none where the server is away."""
        now = time.monotonic()
        if now < self._asks_again_at:
            return []
        if self._asks_again_at:
            self._asks_again_at = now + self._rest_s  # one call tries; the others go on without
        try:
            replies = await self._connection.run(calls)
        except StoreAwayError:
            self._asks_again_at = time.monotonic() + self._rest_s
            self._rest_s = min(_LONGEST_REST_S, self._rest_s * 2)
            return []
        self._asks_again_at, self._rest_s = 0.0, _FIRST_REST_S
        return replies


def _scope(tenant: str, task_id: str, key: str) -> str:
    """Give what a purge means as the scripts write it; what is empty means all."""
    return f"{tenant}\0{task_id}\0{key}"
