"""Cascades that cannot pay, whatever is measured of their answers, and those that do not, by what is.

Rules: pure. A try saves what the stage behind it costs that a poor answer goes to, as often as its answer is accepted; where
one of higher capability costs no more, it saves nothing. What has few outcomes is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from msgspec import Struct

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Chain, Stage
from gearshift.core.confidence.tuning import pays

LEAST: Final = 50
"""Outcomes from which on a stage is judged."""
LEAST_AFTER: Final = 10
"""The same of the stage behind it, which fewer calls reach."""
_MEASURES = (Usage(input_tokens=1_000_000), Usage(output_tokens=1_000_000))


class Record(Struct, frozen=True, kw_only=True):
    """What became of a stage's tries.

    Args:
        cost: of a try, USD; None is unknown.
        accepted: answers that passed.
        tried: those, poor answers and failures.

    """

    cost: float | None
    accepted: int
    tried: int

    def loses(self, behind: Record) -> str:
        """Say why a try costs more than it saves of what stands behind; empty where it pays, or where nobody knows."""
        if self.tried < LEAST or behind.tried < LEAST_AFTER or not behind.accepted:
            return ""
        if self.cost is None or behind.cost is None:
            return ""
        share, rest = self.accepted / self.tried, behind.cost * behind.tried / behind.accepted
        if pays(self.cost, share, rest):
            return ""
        return (
            f"a try costs {self.cost:.2g} USD, {share:.0%} of its answers are accepted, and each saves {rest:.2g} USD"
        )


def does_not_pay(stages: Sequence[tuple[Stage, Record]], at: datetime) -> dict[int, str]:
    """Say which stages of those that may serve a call can save nothing, or have cost more than they saved, by position.

    Args:
        stages: in the order in which they are tried.
        at: prices of that time.

    """
    told = outpriced([stage for stage, _ in stages], at)
    for (stage, here), (after, behind) in pairwise(stages):
        position = stage.ref.position
        if position not in told and after.ref.capability > stage.ref.capability and (why := here.loses(behind)):
            told[position] = f"does not pay: {why} by {after.ref.model}"
    return told


def outpriced(stages: Sequence[Stage], at: datetime) -> dict[int, str]:
    """Say which stages can save nothing, by position: one behind them is more capable and costs no more for input and for output.

    Estimates of a call's tokens are no part of it: they differ from model to model by what was seen of each.
    """
    told: dict[int, str] = {}
    for place, stage in enumerate(stages):
        for later in stages[place + 1 :]:
            if later.ref.capability > stage.ref.capability and _costs_no_more(later, stage, at):
                told[stage.ref.position] = f"cannot pay: {later.ref.model} behind it is more capable and costs no more"
                break
    return told


def hopeless_stages(chain: Chain, at: datetime) -> dict[int, str]:
    """Say which stages of a chain can save nothing in any call: what outprices them may serve whatever they may."""
    told: dict[int, str] = {}
    for place, stage in enumerate(chain.stages):
        if not stage.model.dimensions:
            rivals = [each for each in chain.stages[place + 1 :] if _may_stand_in(each, stage)]
            told |= {
                position: why
                for position, why in outpriced([stage, *rivals], at).items()
                if position == stage.ref.position
            }
    return told


def _may_stand_in(stage: Stage, other: Stage) -> bool:
    return (
        stage.provider.clearance >= other.provider.clearance
        and stage.model.features >= other.model.features
        and (not stage.model.context_tokens or stage.model.context_tokens >= other.model.context_tokens)
    )


def _costs_no_more(stage: Stage, other: Stage, at: datetime) -> bool:
    prices, theirs = stage.model.prices, other.model.prices
    if prices is None or theirs is None or stage.model.self_hosted or other.model.self_hosted:
        return False
    for usage in _MEASURES:
        cost, rest = theirs.cost(usage, at), prices.cost(usage, at)
        # Where a try costs nothing, other things than money were meant by the order.
        if not cost or rest is None or rest > cost:
            return False
    return True
