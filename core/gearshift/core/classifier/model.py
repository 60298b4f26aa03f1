"""Which type of task a prompt asks for, and how complex it is, when nobody said so.

Rules: plain Python, no model call, no I/O after loading; the same text always gets the same answer. The classifier gives
no type when it is unsure, and none for a text in a language that it was not trained on; docs/classifier.md tells how
well that works. Complexity is only ever raised, and only when that is likely right.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Self

from gearshift.core.classifier.complexity import LEVELS, ComplexityModel
from gearshift.core.classifier.features import features_of, steps_of, tokens_of
from gearshift.core.classifier.linear import LinearModel, softmax
from gearshift.core.classifier.weights import Weights, parse_weights

_PACKAGE = "gearshift.core.classifier"
_TYPE_FILE = "type.tsv"
_COMPLEXITY_FILE = "complexity.tsv"

# A text reads as English when at least this share of the words at one of its ends is known from training, and so many different
# ones that it is more than a word: no prompt of training has fewer.
_END = 24  # tokens
_MIN_KNOWN_SHARE = 0.5
_MIN_KNOWN_WORDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """What the classifier makes of a text."""

    task_type: str | None
    """The word of the task type; None when the classifier is unsure."""
    confidence: float
    """The probability, 0 to 1, that the most probable type is right, given or not; 0 when the text is not readable, or no more than a word."""
    complexity: str | None
    """The word of the complexity, if the text calls for a higher one than usual; None leaves it as it is."""
    complexity_confidence: float
    """The probability, 0 to 1, that this complexity is right; 0 when there is none."""
    probabilities: tuple[tuple[str, float], ...]
    """Every type's word with its probability, the most probable first; empty when there is nothing to go by."""


_UNREADABLE = Guess(task_type=None, confidence=0.0, complexity=None, complexity_confidence=0.0, probabilities=())


class TaskClassifier:
    """Guesses the type and the complexity of a task from its text. Immutable: tasks and threads may share one."""

    def __init__(self, types: Weights, complexity: Weights) -> None:
        self._classes = types.outputs
        self._thresholds = dict(zip(types.outputs, types.thresholds, strict=True))
        self._types = LinearModel(types)
        self._complexity = ComplexityModel(complexity)
        self._known = frozenset(feature for feature in types.features if isinstance(feature, str) and feature.isalpha())

    @classmethod
    def load(cls) -> Self:
        """Read the classifier that comes with the package, in some 20 ms; keep it.

        Raises:
            FileNotFoundError: the package was installed without its weights.
        """
        types, complexity = (
            parse_weights((resources.files(_PACKAGE) / name).read_text("utf-8"))
            for name in (_TYPE_FILE, _COMPLEXITY_FILE)
        )
        return cls(types, complexity)

    def guess(self, text: str) -> Guess:
        """Tell which task type text asks for; takes tens of microseconds, and no longer for a longer text."""
        tokens = tokens_of(text)
        if not (self._is_readable(tokens[:_END]) or self._is_readable(tokens[-_END:])):
            return _UNREADABLE
        features = features_of(tokens)
        probabilities = sorted(
            zip(self._classes, softmax(self._types.scores(features)), strict=True), key=_probability, reverse=True
        )
        word, confidence = probabilities[0]
        features.update(steps_of(tokens))
        high = self._complexity.sure_high(features)
        return Guess(
            task_type=word if confidence >= self._thresholds[word] else None,
            confidence=confidence,
            complexity=LEVELS[-1] if high else None,
            complexity_confidence=high,
            probabilities=tuple(probabilities),
        )

    def complexity_of(self, text: str) -> tuple[tuple[str, float], ...]:
        """Give each level's word with its probability, lowest level first, as if text were a question with an answer.

        Means nothing for other texts; `guess` keeps to what it is sure of.
        """
        tokens = tokens_of(text)
        features = features_of(tokens)
        features.update(steps_of(tokens))
        return tuple(zip(LEVELS, self._complexity.levels(features)[1], strict=True))

    def _is_readable(self, tokens: list[str]) -> bool:
        words = [token for token in tokens if token.isalpha()]
        known = list(filter(self._known.__contains__, words))
        return len(known) >= _MIN_KNOWN_SHARE * len(words) and len(set(known)) >= _MIN_KNOWN_WORDS


def _probability(pair: tuple[str, float]) -> float:
    return pair[1]
