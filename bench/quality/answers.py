"""The lines on answers that are read: how sure one can be of them, and what cascades cost that rest on it.

Rules: rows that the shipped weights were fitted to are scored by models that never saw their question, when all rows are
such; else they are left out, and the others are judged by what ships: weights, calibrations and thresholds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.quality import data as recorded
from bench.quality.data import fold_of
from bench.quality.fitted import fitted
from bench.quality.measures import (
    Decision,
    Operating,
    as_cascade,
    auroc,
    calibrated,
    calibration_error,
    decide,
    noise_of,
    operating,
    routing,
)
from bench.quality.rows import TooFewRowsError
from bench.quality.table import Row, not_measured
from gearshift.core.confidence import shipped
from gearshift.core.confidence.calibration import sigmoid

TARGET: Final = 0.98
CAUTIONS: Final = (0.0, 0.5)  # standard errors to clear the target by; `gearshift tune` takes 1 unless told otherwise
FLASH, PRO, SMALL, LARGE, MIXTRAL = (
    "gemini-1.5-flash",
    "gemini-1.5-pro",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "mixtral-8x7b",
)
FOLDS_HOW = "5 folds by question"
SHIPPED_HOW = "what ships, nothing fitted here"


class Named(NamedTuple):
    """A pair of models, with what is aimed at."""

    name: str
    weak: str
    strong: str
    aim: str
    baseline: str


CASCADES: Final = (
    Named("GSM8K", MIXTRAL, "gpt-4", "≤ 0.68", "0.847"),
    Named(f"MMLU-Pro {FLASH} → {PRO}", FLASH, PRO, "≤ 0.32", "0.411"),
    Named(f"MMLU-Pro {SMALL} → {PRO}", SMALL, PRO, "≤ 1.01", "1.102"),
    Named(f"MMLU-Pro {SMALL} → {LARGE}", SMALL, LARGE, "≤ 1.01", "1.268"),
)


class Judged(NamedTuple):
    """Recorded answers with what is made of them."""

    rows: list[recorded.Answer]
    scores: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    is_own: bool
    left_out: int
    unjudged: str = ""
    """Why there are no rows, where there were some."""

    @property
    def how(self) -> str:
        if self.is_own:
            return FOLDS_HOW
        return f"{SHIPPED_HOW}; {self.left_out} known answers left out" if self.left_out else SHIPPED_HOW

    def of(self, model: str) -> np.ndarray:
        """Tell which answers are the model's."""
        return np.array([row.model == model for row in self.rows], dtype=bool)


def judged(data: Path, kept: Path | None = None, *, is_own: bool | None = None) -> Judged:
    """Score and calibrate all recorded answers.

    Args:
        data: the folder.
        kept: cross-validated scores that `bench.quality.train` wrote for these data.
        is_own: whether the weights were fitted to them; None looks it up.

    """
    answers = list(recorded.answers(data))
    known = np.ones(len(answers), bool) if is_own else fitted().known(row.prompt for row in answers)
    is_own = bool(len(known)) and bool(known.all())
    if is_own:
        try:
            scores = np.array(json.loads(kept.read_text())) if kept is not None else own_scores(data)
        except TooFewRowsError as error:
            return Judged([], np.zeros(0), np.zeros(0), np.zeros(0), False, len(answers), f"{error}")
    else:
        answers = [row for row, is_known in zip(answers, known, strict=True) if not is_known]
        scores = np.array([shipped().score(row.prompt, row.text) for row in answers])
    right = np.array([row.right for row in answers], dtype=float)
    confidence = np.zeros(len(answers))
    lines = shipped().calibrations
    for name in {row.model for row in answers}:
        places = np.array([at for at, row in enumerate(answers) if row.model == name])
        if is_own:
            groups = [answers[at].group for at in places]
            confidence[places] = calibrated(scores[places], right[places], groups, lines[""])
        else:
            slope, offset = lines.get(name) or lines[""]
            confidence[places] = [sigmoid(slope * each + offset) for each in scores[places]]
    return Judged(answers, scores, confidence, right, is_own, 0 if is_own else int(known.sum()))


def own_scores(data: Path) -> np.ndarray:
    """Score the answers that were trained on, by cross-validation.

    Raises:
        TooFewRowsError: there are too few of them for that.

    """
    from bench.quality import train

    return train.cross_validated(train.prepared(data))


def lines(data: Path, kept: Path | None = None) -> Iterator[Row]:
    """Measure."""
    found = judged(data, kept)
    for name, title, aim, base, error_base in (
        (FLASH, "flash on MMLU-Pro", "≥ 0.80", "0.738", "0.043"),
        (MIXTRAL, "Mixtral on GSM8K", "≥ 0.82", "0.730", "-"),
    ):
        yield from confidence_lines(found, name, title, (aim, base, error_base))
    dearest: list[float] = []
    for pair in CASCADES:
        known = pairs_of(data, pair, found)
        what = f"cost at ≥ 98 %, {pair.name}, cascade"
        if known is None:
            yield not_measured(what, pair.aim, pair.baseline, found.unjudged or "no recorded answers, or too few")
            continue
        pairs, confidence = known
        if pair.weak == MIXTRAL:
            yield apgr_line("APGR on GSM8K, cascade", "≥ 0.78", "0.695", -confidence, both(pairs), found.how)
        ways = both_ways(pairs, confidence, pair.name, router=False, is_own=found.is_own)
        dearest += [each.cost / min(1.0, each.fixed) for each in ways]
        yield cost_line(what, pair.aim, pair.baseline, ways, is_own=found.is_own)
    if dearest:
        told = f"{max(dearest):.3f}"
        yield Row("never dearer than the best fixed choice, cascades", "≤ 1.01", "1.27", told, "the dearest of these")
    yield latency([row for row in found.rows if 1_800 < len(row.text) < 2_200][:1_000])


def confidence_lines(found: Judged, name: str, title: str, aims: tuple[str, str, str]) -> Iterator[Row]:
    what = f"answer confidence, AUROC, {title}"
    here = found.of(name)
    right = found.right[here] if here.any() else np.zeros(0)
    if not here.any() or right.min() == right.max():
        why = found.unjudged or "no recorded answers, or all of them right, or all wrong"
        yield not_measured(what, aims[0], aims[1], why)
        return
    yield Row(what, aims[0], aims[1], f"{auroc(found.scores[here], right):.3f} of {here.sum():,}", found.how)
    confidence = found.confidence[here]
    told = (
        f"{calibration_error(confidence, right):.3f} (perfect confidence would show {noise_of(confidence):.3f} "
        f"on {here.sum():,})"
    )
    how = f"{found.how}; {'Platt on the other folds; ' if found.is_own else ''}10 bins"
    yield Row(f"its calibration error, {title}", "≤ 0.02", aims[2], told, how)


def pairs_of(data: Path, pair: Named, found: Judged) -> tuple[list[recorded.Pair], np.ndarray] | None:
    """Give the pairs whose weak answer was judged, and how sure it is."""
    is_gsm8k = pair.weak == MIXTRAL
    pairs = recorded.gsm8k_pairs(data) if is_gsm8k else recorded.mmlu_pro_pairs(data, pair.weak, pair.strong)
    sure = {
        (row.prompt, row.text): float(each)
        for row, each in zip(found.rows, found.confidence, strict=True)
        if row.model == pair.weak
    }
    pairs = [each for each in pairs if (each.prompt, each.answer) in sure]
    # By folds there must be two of them; and shares of a strong model that is never right mean nothing.
    if not any(each.strong for each in pairs) or (found.is_own and len({fold_of(each.group) for each in pairs}) < 2):
        return None
    return pairs, np.array([sure[each.prompt, each.answer] for each in pairs])


def decisions(data: Path, found: Judged) -> dict[str, list[Decision]]:
    """Decide for every pair on all that was judged."""
    made: dict[str, list[Decision]] = {}
    for pair in CASCADES:
        known = pairs_of(data, pair, found)
        if known is not None:
            cases = as_cascade(*known)
            made[pair.name] = [decide(cases, TARGET, caution, router=False) for caution in CAUTIONS]
    return made


def both(pairs: Sequence[recorded.Pair]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(each.weak) for each in pairs]), np.array([float(each.strong) for each in pairs])


def both_ways(
    pairs: list[recorded.Pair], confidence: np.ndarray, name: str, *, router: bool, is_own: bool
) -> list[Operating]:
    """Apply what was decided with each caution: on the other folds, or what is kept in the repository."""
    decided: Sequence[Decision | None] = [None] * len(CAUTIONS) if is_own else fitted().decisions[name]
    return [
        operating(pairs, confidence, TARGET, router=router, caution=caution, decided=each)
        for caution, each in zip(CAUTIONS, decided, strict=True)
    ]


def apgr_line(what: str, aim: str, base: str, need: np.ndarray, scores: tuple[np.ndarray, np.ndarray], how: str) -> Row:
    weak, strong = scores
    if weak.mean() >= strong.mean():
        return not_measured(what, aim, base, "the strong model is not better here: there is no gap to recover")
    found = routing(need, weak, strong)
    told = f"{found.apgr:.3f}, CPT50 {found.cpt50:.1f} %, CPT80 {found.cpt80:.1f} %"
    return Row(what, aim, base, told, how)


def cost_line(what: str, aim: str, base: str, ways: list[Operating], *, is_own: bool) -> Row:
    told: list[str] = []
    for caution, found in zip(CAUTIONS, ways, strict=True):
        missed = "" if found.quality >= TARGET else " (**misses 98 %**)"
        name = f"; with {caution:g} standard errors of caution " if caution else ""
        told.append(
            f"{name}{found.cost:.3f} at {found.quality:.1%}{missed}" + (f", {found.chosen}" if found.chosen else "")
        )
    found = ways[0]
    beside = (
        f"always weak {found.weak_cost:.3f} at {found.weak_quality:.1%}, best fixed {found.fixed:.3f}, "
        f"random {found.random:.3f}, oracle {found.oracle:.3f}"
    )
    where = "the other folds" if is_own else "the training part"
    return Row(what, aim, base, "".join(told), f"threshold from {where}; best of its curve {found.curve:.3f}; {beside}")


def latency(answers: list[recorded.Answer]) -> Row:
    what, aim = "answer confidence, time on 2 KiB", "≤ 1 ms p99"
    if not answers:
        return not_measured(what, aim, "-", "no answers of that length")
    model, taken = shipped(), []
    for row in answers:
        began = time.thread_time()
        model.score(row.prompt, row.text)
        taken.append((time.thread_time() - began) * 1e6)
    p50, p99 = np.percentile(taken, [50, 99])
    return Row(what, aim, "-", f"p50 {p50:.0f} µs, p99 {p99:.0f} µs", "CPU time, pure Python")
