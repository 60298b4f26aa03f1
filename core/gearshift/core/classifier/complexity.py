"""How capable a model a question calls for.

Rules: pure. Three kinds of public data say how hard a question was: for five models on exams, for nine models on assorted
benchmarks, and by the number of steps in a solution of a word problem. What makes a question hard differs between
them, so each has its own levels, and they are mixed by how much the text reads like each kind. The fourth kind is
everything else: classification, extraction and writing, whose complexity no data tells. A text counts as hard only as far
as it does not read like that.
"""

from __future__ import annotations

from collections.abc import Iterable

from gearshift.core.classifier.features import Feature
from gearshift.core.classifier.linear import LinearModel, softmax
from gearshift.core.classifier.weights import Weights

KINDS = ("exam", "assorted", "steps")
"""The kinds of question that have labels."""
LEVELS = ("low", "medium", "high")
OUTPUTS = (*KINDS, *(f"{kind} {level}" for kind in KINDS for level in LEVELS[1:]))
"""Each kind against everything else, then each kind's levels against its low one."""


class ComplexityModel:
    """Tells the level of a text. Immutable: tasks and threads may share one."""

    def __init__(self, weights: Weights) -> None:
        self._model = LinearModel(weights)
        self._threshold = weights.thresholds[0]

    def levels(self, features: Iterable[Feature]) -> tuple[float, list[float]]:
        """Give the probability, 0 to 1, that the text is a question of a known kind, and then that of each level."""
        scores = self._model.scores(features)
        *kinds, other = softmax([*scores[: len(KINDS)], 0.0])
        known = sum(kinds)
        low = medium = high = 0.0
        place = len(KINDS)
        for kind in kinds:
            share = kind / known
            easy, middle, hard = softmax([0.0, scores[place], scores[place + 1]])
            low += share * easy
            medium += share * middle
            high += share * hard
            place += 2
        return 1.0 - other, [low, medium, high]

    def sure_high(self, features: Iterable[Feature]) -> float:
        """Give the probability, 0 to 1, that the text calls for high; 0 when that is not sure enough."""
        known, levels = self.levels(features)
        probability = known * levels[-1]
        return probability if probability >= self._threshold else 0.0
