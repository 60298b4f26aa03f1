"""The figures: how well scores rank and how well confidence is calibrated, and what routers and cascades cost."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.quality.data import FOLDS, Pair, fold_of
from gearshift.core.confidence.calibration import Line, fitted, sigmoid
from gearshift.core.confidence.tuning import Case, Point, Try, Tuning, at_threshold, oracle, tune

BINS = 10


def auroc(scores: np.ndarray, right: np.ndarray) -> float:
    """Give the chance that a right answer scores above a wrong one; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = right > 0.5
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(right) - count)))


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Give the mean gap between confidence and share of right answers, over bins of equal width."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(
        sum(
            abs(confidence[places == each].mean() - right[places == each].mean()) * (places == each).mean()
            for each in set(places)
        )
    )


def noise_of(confidence: np.ndarray, rounds: int = 200) -> float:
    """Give the calibration error that perfect confidence would show on so many answers, by drawing them."""
    chance = np.random.RandomState(0)
    return float(
        np.mean(
            [
                calibration_error(confidence, (chance.rand(len(confidence)) < confidence).astype(float))
                for _ in range(rounds)
            ]
        )
    )


def calibrated(scores: np.ndarray, right: np.ndarray, groups: Sequence[str], prior: Line) -> np.ndarray:
    """Calibrate every fold by the other ones, with the service's own fit."""
    fold, found = np.array([fold_of(group) for group in groups]), np.zeros(len(scores))
    for number in range(FOLDS):
        outside = fold != number
        slope, offset = fitted(zip(scores[outside].tolist(), (right[outside] > 0.5).tolist(), strict=True), prior)
        found[~outside] = [sigmoid(slope * each + offset) for each in scores[~outside]]
    return found


class Routing(NamedTuple):
    """APGR, and the shares of strong calls (in %) that recover half and four fifths of the gap."""

    apgr: float
    cpt50: float
    cpt80: float


def routing(need: np.ndarray, weak: np.ndarray, strong: np.ndarray) -> Routing:
    """Send those that need it most to the strong model first."""
    order = np.argsort(-need, kind="stable")
    quality = (weak.sum() + np.r_[0, np.cumsum((strong - weak)[order])]) / len(order)
    share, gained = np.arange(len(order) + 1) / len(order), (quality - quality[0]) / (quality[-1] - quality[0])
    points = [float(share[np.argmax(gained >= each)]) * 100 for each in (0.5, 0.8)]
    return Routing(float(np.trapezoid(gained, share)), *points)


class Decision(NamedTuple):
    """What was decided on recorded outcomes: a threshold, or one stage alone where a cascade does not pay."""

    threshold: float | None
    stage: int | None


class Operating(NamedTuple):
    """A decision that was made on other data, and what it came to here; shares of always asking the strong model."""

    cost: float
    quality: float
    fixed: float
    random: float
    oracle: float
    weak_cost: float
    weak_quality: float
    curve: float
    chosen: str


def as_cascade(pairs: Sequence[Pair], confidence: np.ndarray) -> list[Case]:
    return [
        Case(
            tries=(
                Try(right=float(pair.weak), cost=pair.weak_usd, confidence=float(each)),
                Try(right=float(pair.strong), cost=pair.strong_usd),
            )
        )
        for pair, each in zip(pairs, confidence, strict=True)
    ]


def operating(
    pairs: Sequence[Pair],
    confidence: np.ndarray,
    target: float,
    *,
    router: bool,
    caution: float,
    decided: Decision | None = None,
) -> Operating:
    """Apply what was decided; without it decide for every fold on the other ones."""
    cases = as_cascade(pairs, confidence)
    strong_cost = float(np.mean([pair.strong_usd for pair in pairs]))
    strong_quality = float(np.mean([pair.strong for pair in pairs]))
    folds: dict[int, list[int]] = defaultdict(list)
    for at, pair in enumerate(pairs):
        folds[fold_of(pair.group) if decided is None else 0].append(at)
    cost = quality = 0.0
    refused = 0
    for inside in folds.values():
        decision = decided
        if decision is None:
            held = set(inside)
            outside = [at for at in range(len(pairs)) if at not in held]
            decision = decide([cases[at] for at in outside], target, caution, router=router)
        point = applied(decision, [cases[at] for at in inside], target, router=router)
        refused += decision.stage is not None
        cost += point.cost * len(inside) / len(pairs)
        quality += point.quality * len(inside) / len(pairs)
    found = tune(cases, target, 0.0)
    weak, _, fixed, coin, best = found.beside
    curve = min(
        (cost_of(each, cases, router=router) for each in found.curve if each.quality >= target * strong_quality),
        default=math.nan,
    )
    chosen = ""
    if refused:
        chosen = "refused" if decided is not None else f"refused in {refused} of {len(folds)} folds"
    return Operating(
        cost / strong_cost,
        quality / strong_quality,
        fixed.cost / strong_cost,
        coin.cost / strong_cost,
        best.cost / strong_cost,
        weak.cost / strong_cost,
        weak.quality / strong_quality,
        curve / strong_cost,
        chosen,
    )


def decide(cases: Sequence[Case], target: float, caution: float, *, router: bool) -> Decision:
    """Tune on recorded outcomes."""
    tuning: Tuning = tune(view(cases, router=router), target, caution)
    if tuning.fixed_stage is not None:
        return Decision(None, tuning.fixed_stage)
    return Decision(tuning.chosen.threshold or 0.0, None)


def applied(decision: Decision, cases: Sequence[Case], target: float, *, router: bool) -> Point:
    """Run what was decided."""
    if decision.stage is None:
        return at_threshold(view(cases, router=router), decision.threshold or 0.0, target)
    tries = [case.tries[decision.stage] for case in cases]
    return Point(
        name="fixed",
        cost=float(np.mean([each.cost for each in tries])),
        quality=float(np.mean([each.right for each in tries])),
    )


def cost_of(point: Point, cases: Sequence[Case], *, router: bool) -> float:
    if not router:
        return point.cost
    # A router never asks the weak model in vain.
    threshold = point.threshold or 0.0
    return sum(
        case.tries[0].cost if (case.tries[0].confidence or 0.0) >= threshold else case.tries[1].cost for case in cases
    ) / len(cases)


def view(cases: Sequence[Case], *, router: bool) -> list[Case]:
    """Give the cases as they cost a cascade, or a router, which never asks the weak model in vain."""
    if not router:
        return list(cases)
    found: list[Case] = []
    for case in cases:
        weak, strong = case.tries
        # The strong one's price is less by what the cascade would have paid before.
        cheaper = Try(right=strong.right, cost=strong.cost - weak.cost, confidence=strong.confidence)
        found.append(Case(tries=(weak, cheaper)))
    return found


__all__ = [
    "Decision",
    "Operating",
    "Routing",
    "applied",
    "as_cascade",
    "auroc",
    "calibrated",
    "calibration_error",
    "decide",
    "noise_of",
    "operating",
    "oracle",
    "routing",
    "view",
]
