"""Where to put the threshold of a cascade, and whether to have one at all.

Rules: pure. A case is one request with what every stage of a chain would have made of it: how right (0 to 1), how dear, how
sure. A cascade accepts the first answer whose confidence reaches the threshold, else the last one, and pays for all it
asked. Beside it stand, for the same cases: every stage alone, a coin between weakest and strongest, and an oracle that
asks nobody in vain. A cascade that is dearer than the cheapest single stage of the same quality is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

MOST_POINTS: Final = 400
SAME: Final = 1e-9


class Try(Struct, frozen=True, kw_only=True):
    """One stage's answer.

    Args:
        right: 0 to 1.
        cost: in any unit, the same for all.
        confidence: 0 to 1; None was not measured and is never accepted before the last stage.

    """

    right: float
    cost: float
    confidence: float | None = None


class Case(Struct, frozen=True, kw_only=True):
    """One request; tries in the order of the stages, the strongest last."""

    tries: tuple[Try, ...]


class Point(Struct, frozen=True, kw_only=True):
    """A way to answer all cases.

    Args:
        cost / quality: the mean of a case; `error` is the standard error of the quality less `target` times the strongest's.
        escalated: share of the cases that went beyond the first stage.
        threshold: of a cascade.

    """

    name: str
    cost: float
    quality: float
    escalated: float = 0.0
    threshold: float | None = None
    error: float = 0.0


class Tuning(Struct, frozen=True, kw_only=True):
    """What came out.

    Args:
        curve: the cascade at every threshold, from the cheapest on.
        cascade: the cheapest point that reaches the target; None when there is none.
        chosen: what to do: the cascade, or a single stage that is not dearer.
        beside: always-weak, always-strong, best fixed, random and oracle (both at the target).
        refused: why the cascade was not chosen; empty when it was.

    """

    target: float
    cases: int
    curve: tuple[Point, ...]
    cascade: Point | None
    chosen: Point
    beside: tuple[Point, ...]
    refused: str
    fixed_stage: int | None
    """The stage that answers alone, where one was chosen."""


def tune(cases: Sequence[Case], target: float, caution: float = 1.0) -> Tuning:
    """Find the cheapest way to `target` (a share, such as 0.98) of the strongest stage's quality.

    Args:
        cases: not empty, all with the same number of tries.
        caution: standard errors by which a cascade must clear the target.

    Raises:
        ValueError: there are no cases, or they differ in their stages.

    """
    if not cases or len({len(case.tries) for case in cases}) != 1 or not cases[0].tries:
        raise ValueError("cases must have the same stages, at least one")
    stages = range(len(cases[0].tries))
    alone = [_alone(cases, stage) for stage in stages]
    strong = alone[-1]
    wanted = target * strong.quality
    fixed = min((point for point in alone if point.quality >= wanted - SAME), key=lambda point: point.cost)
    curve = tuple(at_threshold(cases, each, target) for each in _thresholds(cases))
    reaching = [point for point in curve if point.quality - caution * point.error >= wanted - SAME]
    cascade = min(reaching, key=lambda point: point.cost, default=None)
    refused = ""
    if len(stages) == 1:
        refused = "there is one stage alone"
    elif cascade is None:
        refused = f"no threshold reaches {target:.0%} of the strongest stage's quality with certainty"
    elif cascade.cost >= fixed.cost * (1 - SAME):
        share = f"{cascade.cost / fixed.cost:.0%} of" if fixed.cost else "more than"
        refused = f"it would cost {share} {fixed.name} alone, which reaches the target too"
    chosen = fixed if refused or cascade is None else cascade
    weak = alone[0]
    beside = (
        weak.__class__(name="always weak", cost=weak.cost, quality=weak.quality),
        strong.__class__(name="always strong", cost=strong.cost, quality=strong.quality, escalated=1.0),
        Point(name=f"best fixed ({fixed.name})", cost=fixed.cost, quality=fixed.quality),
        _random(weak, strong, wanted),
        oracle(cases, wanted),
    )
    return Tuning(
        target=target,
        cases=len(cases),
        curve=curve,
        cascade=cascade,
        chosen=chosen,
        beside=beside,
        refused=refused,
        fixed_stage=alone.index(fixed) if chosen is fixed else None,
    )


def at_threshold(cases: Sequence[Case], threshold: float, target: float = 1.0) -> Point:
    """Run the cascade."""
    cost = quality = escalated = square = mean = 0.0
    for case in cases:
        for number, each in enumerate(case.tries):
            cost += each.cost
            if number == len(case.tries) - 1 or (each.confidence is not None and each.confidence >= threshold):
                quality += each.right
                escalated += number > 0
                over = each.right - target * case.tries[-1].right
                mean += over
                square += over * over
                break
    count = len(cases)
    variance = max(0.0, square / count - (mean / count) ** 2)
    return Point(
        name="cascade",
        cost=cost / count,
        quality=quality / count,
        escalated=escalated / count,
        threshold=threshold,
        error=math.sqrt(variance / count),
    )


def oracle(cases: Sequence[Case], wanted: float) -> Point:
    """Ask one stage for each case, the cheapest that is right, as far as the quality is wanted."""
    cost = quality = 0.0
    gains: list[tuple[float, float]] = []
    for case in cases:
        least = min(case.tries, key=lambda each: each.cost)
        cost += least.cost
        quality += least.right
        # From the cheapest, the steps that buy rightness at the best price.
        better = [each for each in case.tries if each.right > least.right]
        if better:
            step = max(better, key=lambda each: (each.right - least.right) / max(each.cost - least.cost, 1e-18))
            gains.append((step.right - least.right, step.cost - least.cost))
    count = len(cases)
    used = 0
    for gain, price in sorted(gains, key=lambda each: each[1] / each[0]):
        if quality / count >= wanted:
            break
        quality += gain
        cost += price
        used += 1
    return Point(name="oracle", cost=cost / count, quality=quality / count, escalated=used / count)


def pays(cost: float, accepted: float, rest: float) -> bool:
    """Tell whether a try that costs `cost` and is accepted with a probability saves more of `rest`, the cost of what follows."""
    return cost < accepted * rest


def area(points: Iterable[tuple[float, float]], weak: float, strong: float) -> float:
    """Give the mean share of the quality gap that is recovered (APGR) over the shares of strong calls.

    Args:
        points: (share of strong calls, quality).
        weak / strong: their qualities.

    """
    found = sorted({0.0: weak, 1.0: strong, **dict(points)}.items())
    gap = strong - weak
    return sum((right[0] - left[0]) * ((left[1] + right[1]) / 2 - weak) / gap for left, right in pairwise(found))


def _alone(cases: Sequence[Case], stage: int) -> Point:
    count = len(cases)
    return Point(
        name=f"stage {stage + 1}",
        cost=sum(case.tries[stage].cost for case in cases) / count,
        quality=sum(case.tries[stage].right for case in cases) / count,
    )


def _random(weak: Point, strong: Point, wanted: float) -> Point:
    gap = strong.quality - weak.quality
    share = 0.0 if wanted <= weak.quality or gap <= 0 else min(1.0, (wanted - weak.quality) / gap)
    return Point(
        name="random",
        cost=weak.cost + share * (strong.cost - weak.cost),
        quality=weak.quality + share * gap,
        escalated=share,
    )


def _thresholds(cases: Sequence[Case]) -> list[float]:
    values = sorted(
        {round(each.confidence, 4) for case in cases for each in case.tries[:-1] if each.confidence is not None}
    )
    step = max(1, len(values) // MOST_POINTS)
    # Above all of them nothing is accepted but the last stage's.
    return [0.0, *values[::step], 1.0001]
