"""All caches of a router, for those who run it: what they hold, what they did, and how they are emptied.

Rules: content is never shown. Names are those of the contract: prompt, response, embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gearshift.core.cache.answers import AnswerCache
from gearshift.core.cache.prompts import SharedPrompts
from gearshift.core.cache.store import CacheFilter
from gearshift.core.cache.vectors import VectorCache
from gearshift.core.promptcache import CacheCounts, PromptCache

CACHES = ("prompt", "response", "embedding")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One entry of one cache; `age_s` since it was stored, `expires_in_s` until it is forgotten, seconds."""

    cache: str
    key: str
    tenant: str
    task_id: str
    size: int
    hits: int
    age_s: float
    expires_in_s: float


class Caches:
    """The caches of a router, together."""

    def __init__(
        self, prompts: PromptCache, answers: AnswerCache, vectors: VectorCache, shared: SharedPrompts | None = None
    ) -> None:
        self._prompts = prompts
        self._shared = shared
        self._answers = answers
        self._vectors = vectors

    async def entries(self, cache: str, chosen: CacheFilter, now: float) -> list[CacheEntry]:
        """Give the chosen entries of a cache, or of all where it is empty; most used first."""
        found: list[CacheEntry] = []
        if cache in ("", "prompt"):
            found += await self._prompt_entries(now)
        for name, kept in (("response", self._answers), ("embedding", self._vectors)):
            if cache in ("", name):
                found += [
                    CacheEntry(
                        cache=name,
                        key=each.key,
                        tenant=each.tenant,
                        task_id=each.task_id,
                        size=each.size,
                        hits=each.hits,
                        age_s=now - each.stored_at,
                        expires_in_s=max(0.0, each.expires_at - now),
                    )
                    for each in await kept.store.entries(now)
                ]
        found = [each for each in found if chosen.chooses(each.tenant, each.task_id, each.key, each.age_s)]
        return sorted(found, key=lambda each: -each.hits)

    async def purge(self, cache: str, chosen: CacheFilter, now: float) -> int:
        """Drop the chosen entries of a cache, or of all where it is empty; give how many there were."""
        dropped = 0
        if cache in ("", "prompt"):
            own = self._prompts.purged(
                lambda entry: chosen.chooses(entry.tenant, entry.task_id, entry.key, now - entry.stored_at)
            )
            dropped += len(own) if self._shared is None else len({*own, *await self._shared.purge(chosen, now)})
        if cache in ("", "response"):
            dropped += await self._answers.purge(chosen, now)
        if cache in ("", "embedding"):
            dropped += await self._vectors.purge(chosen, now)
        return dropped

    async def _prompt_entries(self, now: float) -> list[CacheEntry]:
        """Give the prompts; of those that processes share, the hits are this one's."""
        entries = {
            each.key: CacheEntry(
                cache="prompt",
                key=each.key,
                tenant=each.tenant,
                task_id=each.task_id,
                size=each.size,
                hits=each.hits,
                age_s=now - each.stored_at,
                expires_in_s=max(0.0, self._prompts.ttl_s - (now - each.used_at)),
            )
            for each in self._prompts.entries(now)
        }
        for info in await self._shared.entries(now) if self._shared is not None else ():
            own = entries.get(info.key)
            entries[info.key] = CacheEntry(
                cache="prompt",
                key=info.key,
                tenant=info.tenant,
                task_id=info.task_id,
                size=info.size,
                hits=own.hits if own is not None else 0,
                age_s=max(now - info.stored_at, own.age_s if own is not None else 0.0),
                expires_in_s=max(0.0, info.expires_at - now, own.expires_in_s if own is not None else 0.0),
            )
        return list(entries.values())

    def counts(self) -> Mapping[str, CacheCounts]:
        """Give each cache's size and what it did, by its name."""
        return {
            "prompt": self._prompts.counts(),
            "response": self._answers.store.counts(),
            "embedding": self._vectors.store.counts(),
        }

    def saved_usd(self) -> Mapping[str, float]:
        """Give what each cache has saved since the start, USD, where it is known."""
        return {"response": self._answers.saved_usd, "embedding": self._vectors.saved_usd}

    def shared(self) -> Mapping[str, int]:
        """Give the calls that joined another one that was running, since the start."""
        return {"response": self._answers.joined, "embedding": self._vectors.merged}
