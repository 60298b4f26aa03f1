"""Accepted answers, kept for equal calls of the same task and tenant.

Rules: only what was complete and accepted is kept, as final text and never as a log of events (streams.md 19); a purge
also reaches what is being made while it runs. What an entry holds is the answer and what it cost; who asks brings the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec
from msgspec import Struct

from gearshift.core.answer import Answer, Completion, Cost, StageRef, Usage, Verdict
from gearshift.core.cache.keys import generation_of
from gearshift.core.cache.store import CacheFilter, CacheItem, CacheStore, Purges
from gearshift.core.call import PreparedCall
from gearshift.core.request import ProviderState, ToolCall
from gearshift.core.words import FinishReason, Outcome

_ZERO = Decimal(0)
_WHOLE = (FinishReason.STOP, FinishReason.TOOL_CALLS, None)


class _Kept(Struct, frozen=True, array_like=True):
    """An entry's content."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    served_by: StageRef | None
    finish_reason: FinishReason | None
    confidence: float | None
    verdicts: tuple[Verdict, ...]
    usage: Usage
    cost: Cost
    digest: str
    provider_state: ProviderState | None
    notes: tuple[str, ...]
    label_probabilities: Mapping[str, float]


class AnswerCache:
    """The response cache. Shared by all calls of a router."""

    def __init__(self, store: CacheStore) -> None:
        self.store = store
        self.joined = 0
        """Calls that joined an equal one which was running."""
        self.saved_usd = 0.0
        """What hits and joins would have cost, where that is known."""
        self._purges = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(_Kept)

    @property
    def purges(self) -> Purges:
        """What was purged until now: what is begun now and meant by a later purge, here or elsewhere, is not kept.

        Read it after `find` and before what is kept is asked for.
        """
        return self._purges, self.store.mark

    async def find(self, key: str, call: PreparedCall, now: float) -> Answer | None:
        """Give the answer to an equal call, as this call's own: nothing was spent, and what that saved."""
        value = (await self.store.get((key,), now))[0]
        return None if value is None else self.answer_of(value, call, now)

    def answer_of(self, value: bytes, call: PreparedCall, now: float) -> Answer | None:
        """Give a kept answer as a call's own, from its bytes; None where another version wrote them."""
        try:
            kept = self._decoder.decode(value)
        except msgspec.MsgspecError:  # of another version, in a store that is shared
            return None
        completion = Completion(
            outcome=Outcome.ACCEPTED,
            served_by=kept.served_by,
            finish_reason=kept.finish_reason,
            confidence=kept.confidence,
            verdicts=kept.verdicts,
            skipped=call.plan.skipped,
            usage_served=kept.usage,
            cost=unspent(kept.cost),
            digest=kept.digest,
            provider_state=kept.provider_state,
            notes=tuple(dict.fromkeys((*call.notes, *kept.notes))),
            total_ms=(now - call.began) * 1000,
            cached=True,
            prompt_key=call.prompt_key,
            label_probabilities=kept.label_probabilities,
        )
        self.count_saved(completion.cost)
        return Answer(
            request_id=call.request.request_id,
            text=kept.text,
            tool_calls=kept.tool_calls,
            reasoning="",
            resolution=call.resolved.resolution,
            completion=completion,
        )

    async def keep(
        self, key: str, call: PreparedCall, answer: Answer, ttl_s: float, purges: Purges, now: float
    ) -> bool:
        """Keep an answer, if it is whole and accepted and nothing was purged since its call began; tell whether it is."""
        done = answer.completion
        if done.outcome is not Outcome.ACCEPTED or done.finish_reason not in _WHOLE or purges[0] != self._purges:
            return False
        kept = _Kept(
            answer.text,
            answer.tool_calls,
            done.served_by,
            done.finish_reason,
            done.confidence,
            done.verdicts,
            done.usage_served,
            done.cost,
            done.digest,
            done.provider_state,
            done.notes,
            done.label_probabilities,
        )
        resolved = call.resolved
        item = CacheItem(
            key=key,
            tenant=resolved.resolution.tenant,
            task_id=resolved.resolution.task_id,
            generation=generation_of(resolved.definition_hash, resolved.chain.revision),
            value=self._encoder.encode(kept),
            ttl_s=ttl_s,
            mark=purges[1],
        )
        return await self.store.put((item,), now) == 1

    async def purge(self, chosen: CacheFilter, now: float) -> int:
        """Drop what is chosen; give how many entries there were."""
        self._purges += 1
        return await self.store.purge(chosen, now)

    def count_saved(self, cost: Cost) -> None:
        """Count what a call saved."""
        if cost.saved_usd is not None:
            self.saved_usd += float(cost.saved_usd)


def unspent(cost: Cost) -> Cost:
    """Give the cost of a call that cost nothing, since another one had already paid this."""
    return Cost(
        total_usd=_ZERO,
        served_usd=_ZERO,
        strongest_usd=cost.strongest_usd,
        strongest_model=cost.strongest_model,
        saved_usd=cost.total_usd,
    )
