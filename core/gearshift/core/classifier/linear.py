"""A linear model over the features of a text.

Rules: pure, plain Python. An output's score is the sum of its weights over the length of the feature vector, plus its
bias, so that a long prompt counts no more than a short one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from math import exp, sqrt

from gearshift.core.classifier.features import Feature
from gearshift.core.classifier.weights import FIELD_BITS, HALF, UNIT, Weights, pack

_FIELD = (1 << FIELD_BITS) - 1


class LinearModel:
    """Scores texts. Immutable: tasks and threads may share one."""

    def __init__(self, weights: Weights) -> None:
        self._packed = weights.features
        self._bias = [bias * UNIT / weights.temperature for bias in weights.bias]
        # Sums are in UNIT, over the root of a sum in UNIT.
        self._scale = UNIT / sqrt(UNIT) / weights.temperature
        self._shifts = [FIELD_BITS * place for place in range(len(weights.outputs))]
        self._squares_shift = FIELD_BITS * len(weights.outputs)
        self._halves = pack([HALF] * (len(weights.outputs) + 1))

    def scores(self, features: Iterable[Feature]) -> list[float]:
        """Give the score of each output, divided by the temperature; features that it does not know count nothing."""
        total = sum(map(self._packed.get, features, repeat(0))) + self._halves
        squares = (total >> self._squares_shift) - HALF
        scale = self._scale / sqrt(squares) if squares > 0 else 0.0
        return [
            ((total >> shift & _FIELD) - HALF) * scale + bias
            for shift, bias in zip(self._shifts, self._bias, strict=True)
        ]


def softmax(scores: Sequence[float]) -> list[float]:
    """Turn scores into probabilities that sum to 1."""
    highest = max(scores)
    powers = [exp(score - highest) for score in scores]
    norm = sum(powers)
    return [power / norm for power in powers]
