"""Which type of task a prompt asks for, when nobody said so.

Rules: plain Python, no model call, no I/O after loading; the same text always gets the same answer. A linear model over
the features of the text: each class's score is the sum of its weights over the length of the feature vector, so that a
long prompt counts no more than a short one. The classifier gives no type when it is unsure, and none for a text in a
language that it was not trained on; docs/classifier.md tells how well that works.

Complexity is never raised: `classify` and `extract`, the only types below the highest default, have no data from which
it could be learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from itertools import repeat
from math import exp, sqrt
from typing import Self

from gearshift.core.classifier.features import Feature, features_of, tokens_of
from gearshift.core.classifier.weights import UNIT, Weights, parse_weights

_PACKAGE = "gearshift.core.classifier"
_FILE = "weights.tsv"

# A feature's numbers are kept as one integer, a field for each, so that one built-in sum() adds them all.
_FIELD_BITS = 32
_FIELD = (1 << _FIELD_BITS) - 1
_HALF = 1 << (_FIELD_BITS - 1)

# A text reads as English when at least this share of the words at one of its ends is known from training.
_END = 24  # tokens
_MIN_KNOWN_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """What the classifier makes of a text."""

    task_type: str | None
    """The word of the task type; None when the classifier is unsure."""
    confidence: float
    """The probability, 0 to 1, that the most probable type is right, given or not; 0 when the text is not readable."""
    complexity: str | None
    """The word of the complexity, if the text calls for a higher one than usual; None leaves it as it is."""
    complexity_confidence: float
    """The probability, 0 to 1, that this complexity is right; 0 when there is none."""
    probabilities: tuple[tuple[str, float], ...]
    """Every type's word with its probability, the most probable first; empty when the text is not readable."""


_UNREADABLE = Guess(task_type=None, confidence=0.0, complexity=None, complexity_confidence=0.0, probabilities=())


class TaskClassifier:
    """Guesses the type of a task from its text. Immutable: tasks and threads may share one."""

    def __init__(self, weights: Weights) -> None:
        self._classes = weights.classes
        self._thresholds = dict(zip(weights.classes, weights.thresholds, strict=True))
        self._bias = [bias * UNIT / weights.temperature for bias in weights.bias]
        # Scores are sums in UNIT, over the root of a sum in UNIT.
        self._scale = UNIT / sqrt(UNIT) / weights.temperature
        self._packed: dict[Feature, int] = {feature: _pack(row) for feature, row in weights.features.items()}
        self._shifts = [_FIELD_BITS * place for place in range(len(weights.classes))]
        self._squares_shift = _FIELD_BITS * len(weights.classes)
        self._halves = _pack([_HALF] * (len(weights.classes) + 1))
        self._known = frozenset(
            feature for feature in weights.features if isinstance(feature, str) and feature.isalpha()
        )

    @classmethod
    def load(cls) -> Self:
        """Read the classifier that comes with the package, in some 10 ms; keep it.

        Raises:
            FileNotFoundError: the package was installed without its weights.
        """
        return cls(parse_weights((resources.files(_PACKAGE) / _FILE).read_text("utf-8")))

    def guess(self, text: str) -> Guess:
        """Tell which task type text asks for; takes tens of microseconds, and no longer for a longer text."""
        tokens = tokens_of(text)
        if not (self._is_readable(tokens[:_END]) or self._is_readable(tokens[-_END:])):
            return _UNREADABLE
        total = sum(map(self._packed.get, features_of(tokens), repeat(0))) + self._halves
        squares = (total >> self._squares_shift) - _HALF
        scale = self._scale / sqrt(squares) if squares else 0.0
        scores = [
            ((total >> shift & _FIELD) - _HALF) * scale + bias
            for shift, bias in zip(self._shifts, self._bias, strict=True)
        ]
        highest = max(scores)
        powers = [exp(score - highest) for score in scores]
        norm = sum(powers)
        probabilities = sorted(
            [(word, power / norm) for word, power in zip(self._classes, powers, strict=True)],
            key=_probability,
            reverse=True,
        )
        word, confidence = probabilities[0]
        return Guess(
            task_type=word if confidence >= self._thresholds[word] else None,
            confidence=confidence,
            complexity=None,
            complexity_confidence=0.0,
            probabilities=tuple(probabilities),
        )

    def _is_readable(self, tokens: list[str]) -> bool:
        words = [token for token in tokens if token.isalpha()]
        return bool(words) and sum(map(self._known.__contains__, words)) >= _MIN_KNOWN_SHARE * len(words)


def _pack(row: list[int] | tuple[int, ...]) -> int:
    return sum(number << _FIELD_BITS * place for place, number in enumerate(row))


def _probability(pair: tuple[str, float]) -> float:
    return pair[1]
