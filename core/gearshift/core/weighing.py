"""The stages of a chain by what they cost and save: which are tried, in which order, and what that rests on (design 5.3).

Rules: pure; what was measured is in experience.py, the choice itself in adaptive.py. Only for chains whose order is
adaptive, or which refuse losses: those keep their order, and lose the stages that cost more than they save.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from gearshift.core.adaptive import Choice, Prospect, beside, choose
from gearshift.core.answer import SkippedStage
from gearshift.core.cascade import outpriced
from gearshift.core.experience import Experience
from gearshift.core.resolve import Resolved

if TYPE_CHECKING:
    from gearshift.core.plan import Forecast, PlannedStage


class Weighed(Struct, frozen=True, kw_only=True):
    """What is known of one stage.

    Args:
        accepted / failed: probabilities, of an answer that there is, and that there is none.
        answers: how many answers that rests on, decayed; 0 is the prior alone.
        seconds: how long a try takes; None when never measured.
        cost_with / cost_without: expected of an accepted answer, USD, with the stage and without it; None where it may
            not be left out, or a price is unknown.

    """

    accepted: float
    failed: float
    answers: float
    seconds: float | None
    cost_with: float | None = None
    cost_without: float | None = None


class Weighing(Struct, frozen=True, kw_only=True):
    """How a weighed order came about.

    Args:
        stages: by position in the chain.
        cost / written_cost: expected of an accepted answer in the order that was chosen and in the written one, USD; None
            when a price is unknown.
        probe_share: how often the written order is taken all the same, so that figures stay fresh.
        reason: a sentence.

    """

    stages: Mapping[int, Weighed]
    cost: float | None
    written_cost: float | None
    probe_share: float
    reason: str


def adapted(
    kept: list[PlannedStage],
    skipped: list[SkippedStage],
    resolved: Resolved,
    experience: Experience,
    forecast: Forecast,
    chance: float,
    *,
    explains: bool,
) -> tuple[list[PlannedStage], Weighing | None]:
    """Order stages by the expected cost of an accepted answer, leaving out those whose try costs more than it saves."""
    chain, at = resolved.chain, forecast.at
    # 1. At these prices they can save nothing, which nothing that is measured would change.
    if chain.refuses_losses:
        kept = _payable(kept, skipped, at)
    weights, moment, kind = chain.weights, at.timestamp(), resolved.resolution.type
    odds = [experience.odds((chain.name, each.stage.provider.name, each.stage.model.id), kind, moment) for each in kept]
    costs_of = _costs(kept, forecast)
    # 2. What stands before and at a stage of unknown price cannot be compared and stays.
    fixed = 1 + max((index for index, cost in enumerate(costs_of) if cost is None), default=-1)
    prospects = [
        Prospect(
            cost=(1 - one.failed) * float(cost or 0)
            + (one.seconds or 0.0) * float(weights.second_usd)
            + one.failed * float(weights.failure_usd),
            accepted=(1 - one.failed) * one.accepted,
            failed=one.failed,
            capability=each.stage.ref.capability,
            # Where the order is as written none has neighbours to change places with.
            place=each.stage.provider.clearance if chain.adaptive else place,
        )
        for place, (each, one, cost) in enumerate(zip(kept[fixed:], odds[fixed:], costs_of[fixed:], strict=True))
    ]
    choice = choose(prospects) if prospects else None
    weighing = None
    if explains:
        weighed: dict[int, Weighed] = {}
        for index, (each, one) in enumerate(zip(kept, odds, strict=True)):
            costs = beside(prospects, choice, index - fixed) if choice is not None and index >= fixed else None
            weighed[each.stage.ref.position] = Weighed(
                accepted=one.accepted,
                failed=one.failed,
                answers=one.answers,
                seconds=one.seconds,
                cost_with=costs[0] if costs is not None else None,
                cost_without=costs[1] if costs is not None else None,
            )
        weighing = Weighing(
            stages=weighed,
            cost=choice.cost if choice is not None and not fixed else None,
            written_cost=choice.written if choice is not None and not fixed else None,
            probe_share=weights.probe_share,
            reason=_why(kept, fixed, choice, adaptive=chain.adaptive),
        )
    # 3. Now and then all are tried as written, so that what is known of them stays true.
    if choice is None or chance < weights.probe_share:
        return kept, weighing
    # 4. The cheapest order.
    if choice.order == tuple(range(len(prospects))):
        return kept, weighing
    for index in range(len(prospects)):
        if index not in choice.order and (costs := beside(prospects, choice, index)) is not None:
            one = odds[fixed + index]
            skipped.append(
                SkippedStage(
                    stage=kept[fixed + index].stage.ref,
                    reason="does_not_pay",
                    detail=f"accepted {one.accepted:.0%} of the time ({one.answers:.0f} answers): an accepted answer "
                    f"costs {costs[0]:.6g} USD with it, {costs[1]:.6g} without",
                )
            )
    return [*kept[:fixed], *(kept[fixed + index] for index in choice.order)], weighing


def _costs(kept: Sequence[PlannedStage], forecast: Forecast) -> list[Decimal | None]:
    """Give what a try of each is expected to cost, USD; where nobody has seen how much a model writes, it is no more than the others do.

    Else one that is new would be weighed with a guess against what is known of the others, and hardly ever be tried.
    """
    seen = [forecast.has_seen(each.stage) for each in kept]
    if all(seen) or not any(seen):
        return [each.expected_cost for each in kept]
    usual = max(each.output_tokens for each, is_seen in zip(kept, seen, strict=True) if is_seen)
    return [
        each.expected_cost if is_seen else forecast.cost(each.stage, each.input_tokens, min(usual, each.output_tokens))
        for each, is_seen in zip(kept, seen, strict=True)
    ]


def _payable(kept: list[PlannedStage], skipped: list[SkippedStage], at: datetime) -> list[PlannedStage]:
    """Leave out what can save nothing."""
    told = outpriced([each.stage for each in kept], at)
    skipped += [
        SkippedStage(stage=each.stage.ref, reason="does_not_pay", detail=told[each.stage.ref.position])
        for each in kept
        if each.stage.ref.position in told
    ]
    return [each for each in kept if each.stage.ref.position not in told]


def _why(kept: Sequence[PlannedStage], fixed: int, choice: Choice | None, *, adaptive: bool) -> str:
    """Say why the order is what it is."""
    if choice is None or (fixed and len(choice.order) == 1):
        return f"the price of {kept[fixed - 1].stage.model.id} is unknown, so the written order stays"
    if choice.order == tuple(range(len(kept) - fixed)):
        if adaptive:
            return "no other order is expected to be cheaper than the written one"
        return "none of the stages that are tried costs more than it saves"
    return f"an accepted answer is expected to cost {choice.cost:.6g} USD, in the written order {choice.written:.6g}"
