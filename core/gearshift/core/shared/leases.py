"""Leases of calls in Redis or Valkey: over all processes and hosts, one makes a call that several ask for.

Rules: one script decides, by the server's keys alone: the answer, else the lease, else it is taken. A held lease is renewed
by one task for all of them, which also tells what became of those that were given back; nothing runs while none is held.
"""

from __future__ import annotations

import secrets
import time

import anyio

from gearshift.core.cache.leases import Aside, Claim, Standing
from gearshift.core.shared.caches import RedisCacheStore

LEASE_S = 3.0
"""How long a lease outlives its process."""
RENEW_S = 1.0
HEARD_S = 2.0
"""How long what became of a call can be heard of by those who waited; above the longest wait between two looks."""

# Keys: the answer's entry, the lease. A lease is `L` and its token; when the call has ended without an answer, `E`, the token,
# and what became of it, for those who waited for that token alone.
_CLAIM = """
local value = redis.call('HGET', KEYS[1], 'v')
if value then
  redis.call('HINCRBY', KEYS[1], 'h', 1)
  return {'kept', '', value}
end
local held = redis.call('GET', KEYS[2])
if held and string.sub(held, 1, 1) == 'L' then
  return {'theirs', string.sub(held, 2), ''}
end
if held and #ARGV[2] > 0 and string.sub(held, 2, 1 + #ARGV[2]) == ARGV[2] then
  return {'ended', ARGV[2], string.sub(held, 2 + #ARGV[2])}
end
redis.call('SET', KEYS[2], 'L' .. ARGV[1], 'PX', ARGV[3])
return {'mine', ARGV[1], ''}
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == 'L' .. ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= 'L' .. ARGV[1] then return 0 end
if ARGV[2] == 'free' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], 'E' .. ARGV[1] .. ARGV[3], 'PX', ARGV[4])
end
return 1
"""
_LONGEST_TOLD = 8192

Call = tuple[str, tuple[str, ...], tuple[object, ...]]


class RedisLeases:
    """Leases beside the answers of a store."""

    def __init__(self, store: RedisCacheStore) -> None:
        self._store = store
        self._held: dict[str, bytes] = {}
        self._given_back: list[Call] = []
        self._news: anyio.Event | None = None
        self._is_kept = False

    async def claim(self, key: str, waited_for: bytes, aside: Aside) -> Claim:
        """Take the lease, unless the answer is kept or another process has it; `Leases.claim`."""
        token = secrets.token_hex(8).encode()
        lease = self._lease(key)
        reply = await self._store.run(
            [(_CLAIM, (self._store.entry(key), lease), (token, waited_for, int(LEASE_S * 1000)))]
        )
        if not reply:
            return Claim(standing=Standing.ALONE)
        how, holder, value = reply[0]
        if how == b"kept":
            self._store.count_hit()
            return Claim(standing=Standing.KEPT, value=value)
        if how == b"theirs":
            return Claim(standing=Standing.THEIRS, token=holder)
        if how == b"ended":
            return Claim(standing=Standing.FAILED if value else Standing.ALONE, token=holder, value=value)
        self._held[key] = token
        if not self._is_kept:
            self._is_kept = True
            aside(self._keep)
        return Claim(standing=Standing.MINE, token=token)

    def release(self, key: str, token: bytes, failure: bytes | None) -> None:
        """Give a held lease back; `Leases.release`."""
        if self._held.get(key) == token:
            del self._held[key]
        told = b"" if failure is None else failure[:_LONGEST_TOLD]
        how = "free" if failure is None else "ended"
        self._given_back.append((_RELEASE, (self._lease(key),), (token, how, told, int(HEARD_S * 1000))))
        if self._news is not None:
            self._news.set()

    async def _keep(self) -> None:
        """Renew what is held, and tell of what was given back, as long as there is any."""
        try:
            renewed_at = time.monotonic()
            while self._held or self._given_back:
                calls, self._given_back = self._given_back, []
                if time.monotonic() >= renewed_at + RENEW_S:
                    renewed_at = time.monotonic()
                    calls += [
                        (_RENEW, (self._lease(key),), (token, int(LEASE_S * 1000))) for key, token in self._held.items()
                    ]
                if calls:
                    await self._store.run(calls)
                if self._given_back:
                    continue
                self._news = anyio.Event()
                with anyio.move_on_after(RENEW_S):
                    await self._news.wait()
                self._news = None
        finally:
            self._is_kept = False

    def __repr__(self) -> str:
        return f"<RedisLeases {len(self._held)} held>"

    def _lease(self, key: str) -> str:
        return f"{self._store.entry(key)}:l"
