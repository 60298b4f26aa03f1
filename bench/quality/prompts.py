"""The lines on routers that read the prompt alone: two models on MMLU, and nine models.

Rules: as for answers; rows that the kept routers were fitted to are cross-validated when all are such, else left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.quality import data as recorded
from bench.quality.answers import CAUTIONS, FOLDS_HOW, SHIPPED_HOW, TARGET, apgr_line, both_ways, cost_line
from bench.quality.fitted import fitted
from bench.quality.measures import Decision, as_cascade, decide
from bench.quality.routers import Router, cross_validated
from bench.quality.rows import LEAST_OWN, NoRowsError, TooFewRowsError
from bench.quality.table import Row, not_measured

MMLU: Final = "MMLU"
WEIGHTS: Final = np.linspace(0, 1.5, 301)


class Scored(NamedTuple):
    """Questions with what was expected of each model, and what each scored."""

    rows: list[recorded.Asked]
    expected: np.ndarray
    scores: np.ndarray
    is_own: bool
    how: str


def scored(rows: list[recorded.Asked], router: Router | None) -> Scored:
    """Score by the router, or by folds where it knows all the rows or is None.

    Raises:
        TooFewRowsError: by folds, and there are too few rows for that.

    """
    known = np.ones(len(rows), bool) if router is None else fitted().known(row.prompt for row in rows)
    is_own, left_out = bool(known.all()), 0
    if not is_own:
        rows, left_out = [row for row, each in zip(rows, known, strict=True) if not each], int(known.sum())
    scores = np.array([row.scores for row in rows])
    prompts = [row.prompt for row in rows]
    if is_own and len(rows) < LEAST_OWN:
        raise TooFewRowsError("prompts", len(rows))
    if is_own or router is None:
        expected = cross_validated(prompts, [row.group for row in rows], scores, [row.kind for row in rows])
        return Scored(rows, expected, scores, True, FOLDS_HOW)
    how = f"{SHIPPED_HOW}; {left_out} known prompts left out" if left_out else SHIPPED_HOW
    return Scored(rows, router.scores(prompts), scores, False, how)


def lines(data: Path) -> Iterator[Row]:
    """Measure."""
    asked = recorded.mmlu_asked(data)
    try:
        if not asked:
            raise NoRowsError(recorded.MMLU)
        yield from mmlu_lines(scored(asked, fitted().mmlu))
    except (NoRowsError, TooFewRowsError) as error:
        yield not_measured("APGR on MMLU, router", "≥ 0.70", "0.662", f"{error}")
    prices, models = recorded.nine_prices(data), fitted().nine_models
    asked = recorded.nine_asked(data, models) if set(prices) >= set(models) else []
    what = "nine models, price at ≥ 100 % of the best"
    try:
        if not any(any(each.scores) for each in asked):
            raise NoRowsError(f"{recorded.MANY} with prices of all models beside it")
        told, how = nine_told(scored(asked, fitted().nine), np.array([prices[each] for each in models]))
        yield Row(what, "≤ 0.20", "0.34", told, how)
    except (NoRowsError, TooFewRowsError) as error:
        yield not_measured(what, "≤ 0.20", "0.34", f"{error}")


def mmlu_lines(found: Scored) -> Iterator[Row]:
    weak, strong = found.scores.T
    need = found.expected[:, 1] - found.expected[:, 0]
    yield apgr_line("APGR on MMLU, router", "≥ 0.70", "0.662", need, (weak, strong), found.how)
    if not strong.any():
        yield not_measured("cost at ≥ 98 %, MMLU, router", "≤ 0.62", "0.714", "the strong model is never right here")
        return
    ways = both_ways(mmlu_pairs(found), -need, MMLU, router=True, is_own=found.is_own)
    yield cost_line("cost at ≥ 98 %, MMLU, router", "≤ 0.62", "0.714", ways, is_own=found.is_own)


def mmlu_pairs(found: Scored) -> list[recorded.Pair]:
    return [
        recorded.Pair(
            row.group, row.prompt, "", row.scores[0] > 0, row.scores[1] > 0, recorded.WEAK_USD, recorded.STRONG_USD
        )
        for row in found.rows
    ]


def mmlu_decisions(found: Scored) -> list[Decision]:
    """Decide on all rows."""
    need = found.expected[:, 1] - found.expected[:, 0]
    cases = as_cascade(mmlu_pairs(found), -need)
    return [decide(cases, TARGET, caution, router=True) for caution in CAUTIONS]


def nine_told(found: Scored, prices: np.ndarray) -> tuple[str, str]:
    """Say what it costs to be as good as the best model."""
    best = int(found.scores.mean(axis=0).argmax())
    fold = np.array([recorded.fold_of(row.group) for row in found.rows])
    chosen = np.zeros(len(found.rows), int)
    if found.is_own:
        for each in sorted(set(fold)):
            outside = fold != each
            weight = nine_weight(found.expected[outside], found.scores[outside], prices)
            chosen[~outside] = choice(found.expected[~outside], prices, weight)
    else:
        chosen = choice(found.expected, prices, fitted().nine_weight)
    cost, quality = reached(chosen, found.scores, prices, best)
    curve = [reached(choice(found.expected, prices, each), found.scores, prices, best) for each in WEIGHTS]
    beside: list[str] = []
    for wanted in (1.0, 1.06):
        enough = min((each for each in curve if each[1] >= wanted), default=None)
        beside.append(f"{wanted:.0%}: {'never' if enough is None else f'{enough[0]:.3f}'}")
    missed = "" if quality >= 1 else " (**misses 100 %**)"
    where = "the other folds" if found.is_own else "the training part"
    told = f"{cost:.3f} at {quality:.1%}{missed}; best of the curve for {', '.join(beside)}"
    return told, f"{found.how}; what a price counts for is from {where}"


def nine_weight(expected: np.ndarray, scores: np.ndarray, prices: np.ndarray) -> float:
    """Find what a price must count for, so that the best model's quality is reached at the least price."""
    best = int(scores.mean(axis=0).argmax())
    found = [(*reached(choice(expected, prices, each), scores, prices, best), float(each)) for each in WEIGHTS]
    return min((each for each in found if each[1] >= 1), default=(0.0, 0.0, 0.0))[2]


def choice(expected: np.ndarray, prices: np.ndarray, weight: float) -> np.ndarray:
    """Choose the model whose expected score, less what its price counts for, is highest."""
    return np.asarray((expected - weight * prices).argmax(axis=1))


def reached(chosen: np.ndarray, scores: np.ndarray, prices: np.ndarray, best: int) -> tuple[float, float]:
    """Give price and quality, each as a share of the best model's."""
    quality = scores[np.arange(len(scores)), chosen].mean() / scores[:, best].mean()
    return float(prices[chosen].mean() / prices[best]), float(quality)


def fit(rows: Sequence[recorded.Asked]) -> Router:
    """Fit a router to all rows."""
    return Router.fit([row.prompt for row in rows], np.array([row.scores for row in rows]), [row.kind for row in rows])
