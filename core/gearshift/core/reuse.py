"""Whether the provider should be asked to keep a prompt's static prefix (design 9).

Rules: pure, time is passed in. Asking costs a write (1.25 x input for five minutes, 2 x for an hour) and pays once
the prefix is read again in time (0.1 x): five minutes pay from the first reuse, an hour from the second
(facts.md 5.1). So it is asked only when the reuse seen lately promises that.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from gearshift.core.catalogue import Feature, Model
from gearshift.core.provider import CacheHint

_FIVE_MINUTES = 300.0
_HOUR = 3600.0
_MOST_PREFIXES = 4096


class PrefixReuse:
    """When each static prefix was last sent to each model. Shared by all calls of a router."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._kept: OrderedDict[tuple[str, str], float] = OrderedDict()
        """Until when a provider keeps a prefix, as it was asked to; reading it keeps it for as long again."""

    def hint(self, model: Model, prompt_key: str, prefix_tokens: int, now: float) -> CacheHint:
        """Say what to ask for, and note that the prefix is sent now."""
        if not prompt_key or Feature.CACHE_CONTROL not in model.features:
            return CacheHint.NONE
        if prefix_tokens < max(1, model.cache_minimum_tokens):
            return CacheHint.NONE
        key = (model.id, prompt_key)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = deque(maxlen=3)
            if len(self._seen) > _MOST_PREFIXES:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(key)
        within_hour = sum(1 for at in seen if now - at < _HOUR)
        recent = bool(seen) and now - seen[-1] < _FIVE_MINUTES
        seen.append(now)
        if recent:
            self._keep(key, now + _FIVE_MINUTES)
            return CacheHint.FIVE_MINUTES
        if within_hour >= 2:
            self._keep(key, now + _HOUR)
            return CacheHint.ONE_HOUR
        return CacheHint.NONE

    def warm_tokens(self, model: Model, prompt_key: str, characters: int, now: float) -> int:
        """Give how many tokens of a prefix of so many characters its provider still keeps: all or none."""
        until = self._kept.get((model.id, prompt_key))
        return 0 if until is None or now >= until else int(characters / model.characters_per_token)

    def _keep(self, key: tuple[str, str], until: float) -> None:
        self._kept[key] = max(until, self._kept.get(key, 0.0))
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST_PREFIXES:
            self._kept.popitem(last=False)
