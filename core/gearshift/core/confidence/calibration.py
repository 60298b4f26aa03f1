"""From a score to a probability: 0.85 means that 85 of 100 such answers are right.

Rules: pure; no clock. What is kept for each model and task type is a line through the log-odds (Platt scaling),

    logit(c) = slope x score + offset

fitted to outcomes by the most probable line under a normal prior around the level above: the task type's line around the
model's, the model's around what was measured of it before (or of models at large). So with no outcomes the prior holds, with
few it moves little, and with hundreds it is what the outcomes say; `Sureness.outcomes` tells how many there were. Log-probabilities and
agreement have a prior of their own: that their score is right as it stands; a model's own word another, which was measured.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

Line = tuple[float, float]
"""Slope and offset."""

AS_IT_STANDS: Final[Line] = (1.0, 0.0)
SLOPE_DEVIATION: Final = 0.3
"""How far the slope of a model, or of one of its task types, is believed to lie from the level above."""
OFFSET_DEVIATION: Final = 1.0
"""The same of the offset: models differ more in how often they are right than in what tells."""
_LEAST_SLOPE = 0.05
_STEPS = 25
_FARTHEST = 12.0

ANSWER: Final = "answer"
LOGPROBS: Final = "logprobs"
AGREEMENT: Final = "agreement"
STATED: Final = "self_assessment"
"""The model's own word, where nothing else tells."""
ANSWER_AND_STATED: Final = "answer_and_self_assessment"

STATED_PRIOR: Final[Line] = (0.74, -0.09)
"""What a stated log-odds is worth before outcomes say more: 90 sure is right 82 times of 100, 99 sure 96 times. Fitted to what eleven
models said of 41,327 answers (`bench/quality/stated.py`, docs/quality.md)."""
STATED_SLOPE: Final = 0.3
"""What it is worth beside what the answer itself shows. Chosen: no recording has both, and both tell much the same."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one answer.

    Args:
        model: as the configuration calls it.
        task_type: its word.
        measure: what the score came from: `answer`, `logprobs`, `agreement`, `self_assessment` or `answer_and_self_assessment`.
        score: log-odds before calibration.
        right: whether the caller accepted it as it was.

    """

    model: str
    task_type: str
    measure: str
    score: float
    right: bool


class Sureness(Struct, frozen=True, kw_only=True):
    """A calibrated confidence.

    Args:
        confidence: 0 to 1.
        measure: what it came from.
        score: the log-odds before calibration.
        outcomes: how many outcomes of this model and task type it rests on.

    """

    confidence: float
    measure: str
    score: float
    outcomes: int


class Calibration:
    """The lines of all models. Tasks of one event loop may share it; learning replaces all lines at once.

    Args:
        priors: what was measured before, by model; `""` is any other.

    """

    def __init__(self, priors: Mapping[str, Line]) -> None:
        self._priors = priors
        self._lines: Mapping[tuple[str, str, str], tuple[Line, int]] = {}

    def sureness(self, model: str, task_type: str, measure: str, score: float) -> Sureness:
        """Calibrate one score."""
        (slope, offset), count = self.line(model, task_type, measure)
        return Sureness(confidence=sigmoid(slope * score + offset), measure=measure, score=score, outcomes=count)

    def line(self, model: str, task_type: str, measure: str) -> tuple[Line, int]:
        """Give the line in force, and how many outcomes of this model and task type it rests on."""
        lines = self._lines
        found = lines.get((model, task_type, measure)) or lines.get((model, "", measure))
        return found if found is not None else (self._prior(model, measure), 0)

    def learn(self, outcomes: Iterable[Outcome]) -> int:
        """Fit all lines anew, and give how many outcomes there were."""
        by_model: dict[tuple[str, str], dict[str, list[tuple[float, bool]]]] = defaultdict(lambda: defaultdict(list))
        count = 0
        for each in outcomes:
            if math.isfinite(each.score):
                by_model[each.model, each.measure][each.task_type].append((_bounded(each.score), each.right))
                count += 1
        lines: dict[tuple[str, str, str], tuple[Line, int]] = {}
        for (model, measure), kinds in by_model.items():
            line = fitted([pair for pairs in kinds.values() for pair in pairs], self._prior(model, measure))
            lines[model, "", measure] = line, 0
            for kind, pairs in kinds.items():
                # With one type alone the same outcomes must not count twice.
                lines[model, kind, measure] = (fitted(pairs, line) if len(kinds) > 1 else line), len(pairs)
        self._lines = lines
        return count

    def _prior(self, model: str, measure: str) -> Line:
        if measure in (LOGPROBS, AGREEMENT, ANSWER_AND_STATED):
            return AS_IT_STANDS
        if measure == STATED:
            return STATED_PRIOR
        return self._priors.get(model) or self._priors.get("", AS_IT_STANDS)


def fitted(pairs: Iterable[tuple[float, bool]], prior: Line) -> Line:
    """Give the most probable line under the prior, by Newton's method on a strictly convex loss."""
    kept = list(pairs)
    slope, offset = prior
    by_slope, by_offset = SLOPE_DEVIATION**-2, OFFSET_DEVIATION**-2
    for _ in range(_STEPS):
        along, level = by_slope * (slope - prior[0]), by_offset * (offset - prior[1])
        along_2, cross, level_2 = by_slope, 0.0, by_offset
        for score, right in kept:
            chance = sigmoid(slope * score + offset)
            over, weight = chance - right, chance * (1 - chance)
            along += over * score
            level += over
            along_2 += weight * score * score
            cross += weight * score
            level_2 += weight
        determinant = along_2 * level_2 - cross * cross
        step_slope = (level_2 * along - cross * level) / determinant
        step_offset = (along_2 * level - cross * along) / determinant
        # Half a step at most of one: far from the solution the quadratic promises too much.
        least = min(1.0, 2.0 / (abs(step_slope) + abs(step_offset) + 1e-12))
        slope, offset = slope - least * step_slope, offset - least * step_offset
        if abs(step_slope) + abs(step_offset) < 1e-6:
            break
    return max(_LEAST_SLOPE, slope), offset


def log_odds(share: float) -> float:
    """Give the log-odds of a probability, within bounds."""
    if share <= 0.0:
        return -_FARTHEST
    return _FARTHEST if share >= 1.0 else _bounded(math.log(share / (1 - share)))


def sigmoid(score: float) -> float:
    """Give the probability of log-odds."""
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, score))))


def _bounded(score: float) -> float:
    return max(-_FARTHEST, min(_FARTHEST, score))
