"""Static system prompts, kept by the hash of tenant, task definition and text.

Rules: only texts longer than the configured minimum are kept; variables are never part of them; an entry lives for its
time to live since its last use and the whole is bounded by bytes. Time is passed in (seconds, monotonic). A task whose
prompts keep differing only in values is told to use variables and no longer kept, unless it says `static`.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gearshift.core.config.model import CachingConfig

USE_VARIABLES = (
    "this task's system prompts differ only in values (numbers, addresses, ids, dates): put {{name}} in their places and "
    "send the values as variables, or say static: true; until then they are not cached"
)
_SHAPES_PER_TASK = 64
_SHAPED = 65_536
_SAME_SHAPE = 3
"""So many different prompts of one shape mean that values were written into the text."""

_VALUES = re.compile(
    r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.]+"  # an address; begun only where a word begins, or long words cost their square
    r"|https?://\S+"
    r"|\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"
    r"|\b[0-9a-fA-F]{12,}\b"
    r"|\d[\d.,:/-]*"
)


@dataclass(slots=True)
class PromptEntry:
    """A kept prompt and what is known of it."""

    key: str
    tenant: str
    task_id: str
    definition_hash: str
    text: str
    size: int
    stored_at: float
    used_at: float
    hits: int = 0


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """What a cache holds and did since the start."""

    entries: int
    bytes: int
    hits: int
    misses: int
    evictions: int


class PromptCache:
    """Static prompts of all tenants. Shared by all calls of a router; look-ups never cross a tenant."""

    def __init__(self, config: CachingConfig) -> None:
        self._minimum = config.min_prompt_length
        self.ttl_s = config.ttl_minutes * 60
        self._max_bytes = config.max_bytes
        self._entries: OrderedDict[str, PromptEntry] = OrderedDict()
        self._by_text: dict[tuple[str, str, str], str] = {}
        self._shapes: OrderedDict[tuple[str, str], OrderedDict[bytes, set[str]]] = OrderedDict()
        self.told: Callable[[PromptEntry], None] | None = None
        """Told of each prompt that is newly kept, where others are to know it."""
        self._bytes = 0
        self._hits = 0
        self._misses = 0
        self._evictions = 0

    def keep(
        self, tenant: str, task_id: str, definition_hash: str, text: str, *, static: bool, now: float
    ) -> tuple[str, str]:
        """Keep a prompt, or use the one kept. Give its key (empty when it is not kept) and a note (empty for none)."""
        if len(text) <= self._minimum:
            return "", ""
        key = self._by_text.get((tenant, definition_hash, text))
        if key is not None:
            entry = self._live(key, now)
            if entry is not None:
                self._use(entry, now)
                return key, ""
        self._misses += 1
        key = prompt_key(tenant, definition_hash, text)
        if not static and self._differs_only_in_values(tenant, task_id, text, key):
            return "", USE_VARIABLES
        entry = self._add(key, tenant, task_id, definition_hash, text, now)
        if entry is None:
            return "", ""
        if self.told is not None:
            self.told(entry)
        return key, ""

    def adopt(self, tenant: str, task_id: str, definition_hash: str, text: str, now: float) -> bool:
        """Keep a prompt that is known elsewhere, and has passed for static there; tell whether it is kept."""
        key = prompt_key(tenant, definition_hash, text)
        return key in self._entries or self._add(key, tenant, task_id, definition_hash, text, now) is not None

    def get(self, tenant: str, key: str, now: float) -> str | None:
        """Give the text under a key, or None when this tenant has none."""
        entry = self._live(key, now)
        if entry is None or entry.tenant != tenant:
            self._misses += 1
            return None
        self._use(entry, now)
        return entry.text

    def entry(self, tenant: str, key: str, now: float) -> PromptEntry | None:
        """Give what this tenant keeps under a key, without counting a hit or a miss."""
        entry = self._live(key, now)
        return entry if entry is not None and entry.tenant == tenant else None

    def known(self, tenant: str, definition_hash: str, text: str, now: float) -> str:
        """Give the key of a prompt, empty where it is not kept, without counting a hit or a miss."""
        key = self._by_text.get((tenant, definition_hash, text), "")
        return key if key and self._live(key, now) is not None else ""

    def kept(self, key: str) -> PromptEntry | None:
        """Give what is kept under a key, whoever's it is: for those who keep copies."""
        return self._entries.get(key)

    def keys_used_since(self, then: float) -> list[str]:
        """Give the keys of what was used since a time."""
        return [key for key, entry in self._entries.items() if entry.used_at >= then]

    def delete(self, tenant: str, key: str) -> bool:
        """Forget a prompt; answer whether it was there."""
        entry = self._entries.get(key)
        if entry is None or entry.tenant != tenant:
            return False
        self._drop(key)
        return True

    def entries(self, now: float) -> list[PromptEntry]:
        """Give what is kept, most used first."""
        for key in [key for key, entry in self._entries.items() if now - entry.used_at >= self.ttl_s]:
            self._drop(key)
            self._evictions += 1
        return sorted(self._entries.values(), key=lambda entry: -entry.hits)

    def purge(self, chosen: Callable[[PromptEntry], bool]) -> int:
        """Forget every chosen entry; give how many there were."""
        return len(self.purged(chosen))

    def purged(self, chosen: Callable[[PromptEntry], bool]) -> list[str]:
        """Forget every chosen entry; give their keys."""
        keys = [key for key, entry in self._entries.items() if chosen(entry)]
        for key in keys:
            self._drop(key)
        return keys

    def counts(self) -> CacheCounts:
        """Give its size and what it did."""
        return CacheCounts(len(self._entries), self._bytes, self._hits, self._misses, self._evictions)

    def _add(
        self, key: str, tenant: str, task_id: str, definition_hash: str, text: str, now: float
    ) -> PromptEntry | None:
        """Keep a prompt that is not there; None where it is larger than all that may be kept."""
        size = len(text.encode()) + 256
        if size > self._max_bytes:
            return None
        entry = self._entries[key] = PromptEntry(
            key=key,
            tenant=tenant,
            task_id=task_id,
            definition_hash=definition_hash,
            text=text,
            size=size,
            stored_at=now,
            used_at=now,
        )
        self._by_text[tenant, definition_hash, text] = key
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self._evictions += 1
        return entry

    def _live(self, key: str, now: float) -> PromptEntry | None:
        entry = self._entries.get(key)
        if entry is not None and now - entry.used_at >= self.ttl_s:
            self._drop(key)
            self._evictions += 1
            return None
        return entry

    def _use(self, entry: PromptEntry, now: float) -> None:
        entry.hits += 1
        entry.used_at = now
        self._hits += 1
        self._entries.move_to_end(entry.key)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key)
        self._bytes -= entry.size
        del self._by_text[entry.tenant, entry.definition_hash, entry.text]

    def _differs_only_in_values(self, tenant: str, task_id: str, text: str, key: str) -> bool:
        """Tell whether a task keeps sending the same prompt with other values in it."""
        shapes = self._shapes.setdefault((tenant, task_id), OrderedDict())
        self._shapes.move_to_end((tenant, task_id))
        if len(self._shapes) > 1024:
            self._shapes.popitem(last=False)
        # Values are looked for at the beginning only, which bounds the work; the rest must be the same.
        shaped = _VALUES.sub("#", text[:_SHAPED]) + text[_SHAPED:]
        shape = hashlib.blake2b(shaped.encode(), digest_size=16).digest()
        seen = shapes.setdefault(shape, set())
        shapes.move_to_end(shape)
        if len(shapes) > _SHAPES_PER_TASK:
            shapes.popitem(last=False)
        if len(seen) <= _SAME_SHAPE:
            seen.add(key)
        if len(seen) <= _SAME_SHAPE:
            return False
        for other in seen & self._entries.keys():
            self._drop(other)
        return True


def prompt_key(tenant: str, definition_hash: str, text: str) -> str:
    """Give the key of a prompt: 32 hex digits that no other tenant or task definition shares."""
    digest = hashlib.sha256()
    for piece in (tenant, definition_hash, text):
        data = piece.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:32]
