"""Vectors, kept by text: a batch asks upstream only for what is not there.

Rules: a vector is kept exactly as it came (8 bytes a number); texts stand in keys only as a part of a hash. A purge also
reaches what is being made while it runs.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from decimal import Decimal

from gearshift.core.blueprint import Stage
from gearshift.core.cache.keys import embedding_keys
from gearshift.core.cache.store import CacheFilter, CacheItem, CacheStore, Purges
from gearshift.core.plan import Caps
from gearshift.core.request import EmbedRequest
from gearshift.core.resolve import Resolved

Vector = tuple[float, ...]


class VectorCache:
    """The embedding cache. Shared by all calls of a router.

    Args:
        ttl_s: how long a vector is kept, seconds.
        is_on: whether anything is kept at all.

    """

    def __init__(self, store: CacheStore, ttl_s: float, *, is_on: bool = True) -> None:
        self.store = store
        self.saved_usd = 0.0
        """What the texts that were found would have cost, where that is known."""
        self.merged = 0
        """Calls that shared an upstream call with others."""
        self._ttl_s = ttl_s
        self._is_on = is_on
        self._purges = 0

    @property
    def purges(self) -> Purges:
        """What was purged until now; as in the response cache."""
        return self._purges, self.store.mark

    def keys(self, request: EmbedRequest, resolved: Resolved, caps: Caps, stage: Stage) -> list[str] | None:
        """Give the key of each text's vector by a stage's model; None when nothing is to be kept."""
        return embedding_keys(request, resolved, caps, stage) if self._is_on else None

    async def find(self, keys: Sequence[str], now: float) -> list[Vector | None]:
        """Give the vector under each key, None where there is none."""
        return [None if value is None else _unpacked(value) for value in await self.store.get(keys, now)]

    async def keep(
        self, keys: Sequence[str], vectors: Sequence[Vector], resolved: Resolved, purges: Purges, now: float
    ) -> None:
        """Keep vectors, unless something was purged since they were asked for."""
        if purges[0] != self._purges:
            return
        resolution = resolved.resolution
        await self.store.put(
            [
                CacheItem(
                    key=key,
                    tenant=resolution.tenant,
                    task_id=resolution.task_id,
                    generation=resolved.chain.revision,
                    value=array("d", vector).tobytes(),
                    ttl_s=self._ttl_s,
                    mark=purges[1],
                )
                for key, vector in zip(keys, vectors, strict=True)
            ],
            now,
        )

    async def purge(self, chosen: CacheFilter, now: float) -> int:
        """Drop what is chosen; give how many entries there were."""
        self._purges += 1
        return await self.store.purge(chosen, now)

    def count_saved(self, saved_usd: Decimal | None) -> None:
        """Count what found texts saved."""
        if saved_usd is not None:
            self.saved_usd += float(saved_usd)


def _unpacked(value: bytes) -> Vector:
    numbers = array("d")
    numbers.frombytes(value)
    return tuple(numbers)
