"""How likely an answer is right, from the answer and what was asked alone.

Rules: plain Python, no model call, no I/O after loading; the same texts always get the same score. A score is a log-odds
*before* calibration: it ranks answers, and `calibration.py` makes a probability of it for one model. Two heads share the
features: one for questions with lettered choices, one for all else; docs/quality.md says what they were trained on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any, Final, Self

from gearshift.core.confidence.features import NAMES, PROMPT_READ, evidence

FORMAT: Final = 1
UNIT: Final = 0.001
"""What a whole number in the file is worth, but for the trees' thresholds."""
_TOKEN = re.compile(r"[a-z]{2,}|\d+|[^\sa-z\d]")
_OPTIONS: Final = NAMES.index("options")
_PACKAGE: Final = "gearshift.core.confidence"
_FILE: Final = "weights.json"
_FAR = 4.0
"""Standard deviations beyond which a feature counts no more."""

Node = tuple[int, float, Any, Any]
"""A feature, a threshold, and what follows at or below it, and above it: another node, or what is added."""


class Words:
    """A linear model over words, each counted once, their weights scaled to a length of 1."""

    def __init__(self, weights: Mapping[str, tuple[float, float]]) -> None:
        self._weights = weights

    def score(self, words: frozenset[str]) -> float:
        """Give the weighted sum; words that it does not know count only in the length."""
        known = self._weights
        total = length = 0.0
        for word in words:
            found = known.get(word)
            if found is not None:
                total += found[0]
                length += found[1]
        return total / math.sqrt(length) if length else 0.0


class Head:
    """Trees, and a line through the same features."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._trees = [_node(each) for each in document["trees"]]
        self._means = [float(each) for each in document["means"]]
        self._scales = [1 / float(each) for each in document["deviations"]]
        self._line = [float(each) * UNIT for each in document["line"]]
        self._share = float(document["line_share"])
        self._bias = float(document["bias"])

    def score(self, values: tuple[float, ...]) -> float:
        """Give the log-odds."""
        line = 0.0
        for value, mean, scale, weight in zip(values, self._means, self._scales, self._line, strict=True):
            if weight:
                line += max(-_FAR, min(_FAR, (value - mean) * scale)) * weight
        grown = 0.0
        for tree in self._trees:
            node: Any = tree
            while node.__class__ is tuple:
                feature, threshold, low, high = node
                node = low if values[feature] <= threshold else high
            grown += node
        return self._bias + line * self._share + grown * (1 - self._share)


class AnswerModel:
    """Scores answers. Immutable: tasks and threads may share one."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        if document.get("format") != FORMAT or tuple(document["names"]) != NAMES:
            raise ValueError("the weights are of another version than the code")
        self._prompt_words = _words(document["prompt_words"])
        self._choice, self._other = Head(document["heads"]["choice"]), Head(document["heads"]["other"])
        self.calibrations: Mapping[str, tuple[float, float]] = {
            name: (float(slope), float(offset)) for name, (slope, offset) in document["calibrations"].items()
        }
        """What was measured of single models: slope and offset; `""` is any other model."""
        self.trained_on: str = document["trained_on"]
        """SHA-256 of what it was trained on."""

    @classmethod
    def load(cls) -> Self:
        """Read the weights that come with the package.

        Raises:
            FileNotFoundError: the package was installed without them.
        """
        return cls(json.loads((resources.files(_PACKAGE) / _FILE).read_text("utf-8")))

    def score(self, prompt: str, answer: str) -> float:
        """Give the log-odds that the answer is right, before calibration."""
        values = (*evidence(prompt, answer), self._prompt_words.score(prompt_tokens(prompt)))
        return (self._choice if values[_OPTIONS] else self._other).score(values)


@cache
def shipped() -> AnswerModel:
    """Give the model of the package, read once."""
    return AnswerModel.load()


def prompt_tokens(prompt: str) -> frozenset[str]:
    """Give the words, numbers and marks at the end of a prompt, and pairs of neighbours."""
    tokens = _TOKEN.findall(prompt[-PROMPT_READ:].lower())
    return frozenset(tokens).union(map(" ".join, pairwise(tokens)))


def _words(document: Mapping[str, Any]) -> Words:
    return Words({word: (weight * UNIT, scale * UNIT) for word, (weight, scale) in document.items()})


def _node(document: Any) -> Node | float:
    if document.__class__ is not list:
        return float(document) * UNIT
    feature, threshold, low, high = document
    return int(feature), float(threshold), _node(low), _node(high)
