"""Cached values in Redis or Valkey, so that processes and hosts find each other's.

Rules: the same protocol as the store in memory; what goes first and when is decided in the server, in scripts, by its own
time. Bytes are bounded over all processes. A server that is away costs one call its timeout, then nothing is asked of it
for a while: nothing is found and nothing kept, and no call fails; a purge does, since what it left would be found again. Hits, misses and evictions are this process's own; size
and entries are as the server told last.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from gearshift.core.cache.store import OVERHEAD_BYTES, CacheFilter, CacheInfo, CacheItem
from gearshift.core.errors import CacheStoreError
from gearshift.core.promptcache import CacheCounts
from gearshift.core.shared.health import StoreAwayError

_FIRST_REST_S = 1.0
_LONGEST_REST_S = 30.0
_PAGE = 500
"""Entries that one script looks at, so that none holds the server up for long."""

# Keys: the index (a sorted set: entry, time of last use), and the sizes (a hash: entry, bytes; `*` is their sum). An entry is a
# hash of its own beside the index: value, tenant, task, generation, time stored, hits, size.
_GET = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = {}
for i = 1, #ARGV do
  local entry = KEYS[1] .. ':' .. ARGV[i]
  local value = redis.call('HGET', entry, 'v')
  if value then
    redis.call('HINCRBY', entry, 'h', 1)
    redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i])
  end
  found[i] = value
end
return found
"""
_PUT = """
local index, sizes = KEYS[1], KEYS[2]
local key, ttl, size, most = ARGV[1], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local entry = index .. ':' .. key
redis.call('DEL', entry)
redis.call('HSET', entry, 'v', ARGV[2], 't', ARGV[3], 'k', ARGV[4], 'g', ARGV[5], 's', now, 'h', 0, 'z', size)
redis.call('PEXPIRE', entry, ttl)
redis.call('ZADD', index, now, key)
local total = redis.call('HINCRBY', sizes, '*', size - (tonumber(redis.call('HGET', sizes, key)) or 0))
redis.call('HSET', sizes, key, size)
local evicted = 0
while total > most do
  local least = redis.call('ZPOPMIN', index)[1]
  if not least then break end
  redis.call('DEL', index .. ':' .. least)
  total = redis.call('HINCRBY', sizes, '*', -(tonumber(redis.call('HGET', sizes, least)) or 0))
  redis.call('HDEL', sizes, least)
  evicted = evicted + 1
end
for _, kept in ipairs({index, sizes}) do
  if redis.call('PTTL', kept) < ttl then redis.call('PEXPIRE', kept, ttl) end
end
return {redis.call('ZCARD', index), total, evicted}
"""
_LIST = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local listed = {}
local scanned = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
for i = 1, #scanned[2], 2 do
  local key = scanned[2][i]
  local entry = KEYS[1] .. ':' .. key
  local v = redis.call('HMGET', entry, 't', 'k', 'g', 's', 'h', 'z')
  if v[1] then
    listed[#listed + 1] =
      {key, v[1], v[2], v[3], now - tonumber(v[4]), tonumber(v[5]), tonumber(v[6]), redis.call('PTTL', entry)}
  else
    listed[#listed + 1] = {key}
  end
end
return {scanned[1], listed}
"""
_DROP = """
local dropped = 0
for i = 1, #ARGV do
  dropped = dropped + redis.call('DEL', KEYS[1] .. ':' .. ARGV[i])
  redis.call('ZREM', KEYS[1], ARGV[i])
  local size = tonumber(redis.call('HGET', KEYS[2], ARGV[i]))
  if size then
    redis.call('HINCRBY', KEYS[2], '*', -size)
    redis.call('HDEL', KEYS[2], ARGV[i])
  end
end
return {dropped, redis.call('ZCARD', KEYS[1]), tonumber(redis.call('HGET', KEYS[2], '*')) or 0}
"""


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
        self._connection = connection
        self._max_bytes = max_bytes
        self._entries = self._bytes = self._hits = self._misses = self._evictions = 0
        self._asks_again_at = 0.0
        self._rest_s = _FIRST_REST_S

    async def get(self, keys: Sequence[str], now: float) -> list[bytes | None]:
        """Give the value under each key."""
        reply = await self.run([(_GET, self._keys[:1], keys)])
        found: list[bytes | None] = reply[0] if reply else [None] * len(keys)
        missed = found.count(None)
        self._misses += missed
        self._hits += len(found) - missed
        return found

    async def put(self, items: Sequence[CacheItem], now: float) -> None:
        """Keep values; what is larger than the whole store is not kept."""
        calls: list[tuple[str, Sequence[str], Sequence[object]]] = []
        for item in items:
            size = len(item.value) + OVERHEAD_BYTES
            if size <= self._max_bytes:
                kept = (item.key, item.value, item.tenant, item.task_id, item.generation)
                calls.append((_PUT, self._keys, (*kept, max(1, int(item.ttl_s * 1000)), size, self._max_bytes)))
        for entries, total, evicted in await self.run(calls) if calls else ():
            self._entries, self._bytes = entries, total
            self._evictions += evicted

    async def entries(self, now: float) -> list[CacheInfo]:
        """Give what is kept, most used first; what was listed so far where the server is away."""
        return (await self._listed(now))[0]

    async def purge(self, chosen: CacheFilter, now: float) -> int:
        """Drop every chosen entry, whichever process kept it; give how many there were.

        Raises:
            CacheStoreError: the server is away, so that some may be found again when it is back.

        """
        listed, is_whole = await self._listed(now)
        keys = [
            info.key for info in listed if chosen.chooses(info.tenant, info.task_id, info.key, now - info.stored_at)
        ]
        dropped = await self._drop(keys)
        if not is_whole or dropped is None:
            raise CacheStoreError(
                "the shared cache could not be purged, since its store is away: purge again when it is back"
            )
        return dropped

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
        while reply := await self.run([(_LIST, self._keys[:1], (cursor, _PAGE))]):
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

    async def _drop(self, keys: Sequence[str]) -> int | None:
        """Drop entries; give how many there were, None where the server is away."""
        dropped = 0
        for begin in range(0, len(keys), _PAGE):
            reply = await self.run([(_DROP, self._keys, keys[begin : begin + _PAGE])])
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
