"""Cascades that cannot pay, whatever is measured of their answers.

Rule: pure. A try saves at most what the stage behind it costs that a poor answer goes to, and only if every answer is
accepted: where one of higher capability costs no more, it saves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Chain, Stage

_MEASURES = (Usage(input_tokens=1_000_000), Usage(output_tokens=1_000_000))


def cannot_pay(stages: Sequence[tuple[Stage, Decimal | None]]) -> dict[int, str]:
    """Say which stages can save nothing, by position.

    Args:
        stages: in the order in which they are tried, each with what a try costs, USD; None is unknown.

    """
    told: dict[int, str] = {}
    for place, (stage, cost) in enumerate(stages):
        for later, rest in stages[place + 1 :]:
            # Where a try costs nothing, other things than money were meant by the order.
            if not cost or rest is None or later.ref.capability <= stage.ref.capability or rest > cost:
                continue
            told[stage.ref.position] = f"cannot pay: {later.ref.model} behind it is more capable and costs no more"
            break
    return told


def hopeless_stages(chain: Chain, at: datetime) -> dict[int, str]:
    """Say which stages of a chain can save nothing in any call: what is behind them may serve whatever they may, for no more.

    Args:
        at: prices of that time.

    """
    told: dict[int, str] = {}
    for place, stage in enumerate(chain.stages):
        if stage.model.dimensions or stage.model.self_hosted or stage.model.prices is None:
            continue
        rivals = [each for each in chain.stages[place + 1 :] if _may_stand_in(each, stage)]
        for rival in rivals:
            found = [
                cannot_pay(((stage, _cost(stage, each, at)), (rival, _cost(rival, each, at)))) for each in _MEASURES
            ]
            if all(found):
                told |= found[0]
                break
    return told


def _may_stand_in(stage: Stage, other: Stage) -> bool:
    return (
        stage.provider.clearance >= other.provider.clearance
        and stage.model.features >= other.model.features
        and (not stage.model.context_tokens or stage.model.context_tokens >= other.model.context_tokens)
        and not stage.model.self_hosted
    )


def _cost(stage: Stage, usage: Usage, at: datetime) -> Decimal | None:
    return None if stage.model.prices is None else stage.model.prices.cost(usage, at)
