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


class Operating(NamedTuple):
    """A threshold that was fixed on other data, and what it came to here; shares of always asking the strong model."""

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
    pairs: Sequence[Pair], confidence: np.ndarray, target: float, *, router: bool, caution: float
) -> Operating:
    """Fix the threshold of every fold on the other ones; a refused cascade is its best fixed model."""
    folds: dict[int, list[int]] = defaultdict(list)
    for at, pair in enumerate(pairs):
        folds[fold_of(pair.group)].append(at)
    cases = as_cascade(pairs, confidence)
    strong_cost = float(np.mean([pair.strong_usd for pair in pairs]))
    strong_quality = float(np.mean([pair.strong for pair in pairs]))
    cost = quality = 0.0
    refused = 0
    for inside in folds.values():
        held = set(inside)
        outside = [at for at in range(len(pairs)) if at not in held]
        there, here = _view(cases, outside, router=router), _view(cases, inside, router=router)
        point, was_refused = applied(there, here, target, caution)
        refused += was_refused
        cost += point.cost * len(inside) / len(pairs)
        quality += point.quality * len(inside) / len(pairs)
    found = tune(cases, target, 0.0)
    weak, _, fixed, coin, best = found.beside
    curve = min(
        (cost_of(each, cases, router=router) for each in found.curve if each.quality >= target * strong_quality),
        default=math.nan,
    )
    return Operating(
        cost / strong_cost,
        quality / strong_quality,
        fixed.cost / strong_cost,
        coin.cost / strong_cost,
        best.cost / strong_cost,
        weak.cost / strong_cost,
        weak.quality / strong_quality,
        curve / strong_cost,
        f"refused in {refused} of {len(folds)} folds" if refused else "",
    )


def applied(there: list[Case], here: list[Case], target: float, caution: float) -> tuple[Point, bool]:
    """Tune there and run it here; a router's cases come in with the weak price already in its place."""
    tuning: Tuning = tune(there, target, caution)
    if tuning.fixed_stage is not None:
        stage = tuning.fixed_stage
        return (
            Point(
                name="fixed",
                cost=float(np.mean([case.tries[stage].cost for case in here])),
                quality=float(np.mean([case.tries[stage].right for case in here])),
            ),
            True,
        )
    return at_threshold(here, tuning.chosen.threshold or 0.0, target), False


def cost_of(point: Point, cases: Sequence[Case], *, router: bool) -> float:
    if not router:
        return point.cost
    # A router never asks the weak model in vain.
    threshold = point.threshold or 0.0
    return sum(
        case.tries[0].cost if (case.tries[0].confidence or 0.0) >= threshold else case.tries[1].cost for case in cases
    ) / len(cases)


def _view(cases: Sequence[Case], places: Sequence[int], *, router: bool) -> list[Case]:
    if not router:
        return [cases[at] for at in places]
    # A router pays for one stage: the strong one's price is less by what the cascade would have paid before.
    found: list[Case] = []
    for at in places:
        weak, strong = cases[at].tries
        cheaper = Try(right=strong.right, cost=strong.cost - weak.cost, confidence=strong.confidence)
        found.append(Case(tries=(weak, cheaper)))
    return found


__all__ = [
    "Operating",
    "Routing",
    "as_cascade",
    "auroc",
    "calibrated",
    "calibration_error",
    "noise_of",
    "operating",
    "oracle",
    "routing",
]
