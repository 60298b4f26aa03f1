"""How capable a model a question calls for.

Rules: pure. Three sources of public data say how hard a question was: for five models on exams, for nine models on assorted
benchmarks, and by the number of steps in a solution of a word problem. What makes a question hard differs between
them, so each has its own levels. The assorted benchmarks are of several kinds, which share what their words say of the level and
differ in how hard they are on the whole. All are mixed by how much the text reads like each kind. The last kind is
everything else: classification, extraction and writing, whose complexity no data tells. A text counts as hard only as far
as it does not read like that.
"""

from __future__ import annotations

from collections.abc import Iterable

from gearshift.core.classifier.features import Feature
from gearshift.core.classifier.linear import LinearModel, softmax
from gearshift.core.classifier.weights import UNIT, Weights, unpack

SOURCES = ("exam", "steps", "assorted")
"""Where the labels come from."""
ASSORTED = ("everyday", "facts", "trivia", "code", "math")
"""The kinds of question of the last source."""
KINDS = ("exam", "steps", *ASSORTED)
"""The kinds of question that have labels."""
LEVELS = ("low", "medium", "high")
OUTPUTS = (*KINDS, *(f"{source} {level}" for source in SOURCES for level in LEVELS[1:]))
"""Each kind against everything else, then each source's levels against its low one."""


def offset_name(kind: str) -> str:
    """Give the name under which the weights keep how hard a kind is on the whole: a row that no text has."""
    return f"@{kind}"


class ComplexityModel:
    """Tells the level of a text. Immutable: tasks and threads may share one."""

    def __init__(self, weights: Weights) -> None:
        self._model = LinearModel(weights)
        self._threshold = weights.thresholds[0]
        rows = [unpack(weights.features.get(offset_name(kind), 0), len(OUTPUTS) + 1) for kind in ASSORTED]
        self._offsets = [(row[-3] * UNIT, row[-2] * UNIT) for row in rows]

    def levels(self, features: Iterable[Feature]) -> tuple[float, list[float]]:
        """Give the probability, 0 to 1, that the text is a question of a known kind, and then that of each level."""
        scores = self._model.scores(features)
        exam, steps, *assorted, other = softmax([*scores[: len(KINDS)], 0.0])
        *alone, medium_2, high_2 = scores[len(KINDS) :]
        mixed = [(exam, softmax([0.0, alone[0], alone[1]])), (steps, softmax([0.0, alone[2], alone[3]]))]
        mixed += [
            (kind, softmax([0.0, medium_2 + offset[0], high_2 + offset[1]]))
            for kind, offset in zip(assorted, self._offsets, strict=True)
        ]
        known = 1.0 - other
        share = 1.0 / known if known > 0.0 else 0.0
        return known, [share * sum([kind * levels[place] for kind, levels in mixed]) for place in range(len(LEVELS))]

    def sure_high(self, features: Iterable[Feature]) -> float:
        """Give the probability, 0 to 1, that the text calls for high; 0 when that is not sure enough."""
        known, levels = self.levels(features)
        probability = known * levels[-1]
        return probability if probability >= self._threshold else 0.0
