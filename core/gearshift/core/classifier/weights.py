"""The numbers of the task classifier, and the file that keeps them.

The file is text, so that a change can be read in a diff. Its first line is a JSON object with the settings; each
further line is one feature: its name, its weight for each class, and its squared scale, separated by tabs. A feature
of two tokens has a space between them; a line break is written as "↵". All weights are whole numbers of UNIT, so that
the file comes out the same wherever it is trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from gearshift.core.classifier.features import Feature

UNIT = 0.01
"""What a weight of 1 in the file is worth; the same for the squared scale."""

_FORMAT = 1
_LINE_BREAK = "↵"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One trained classifier."""

    classes: tuple[str, ...]
    """The words of the task types, in the order of all weights."""
    bias: tuple[int, ...]
    """What each class has before a feature is seen, in UNIT."""
    features: Mapping[Feature, tuple[int, ...]]
    """Per feature: a weight for each class, in UNIT, then the square of its scale, in UNIT, above 0."""
    temperature: float
    """What the scores are divided by before they become probabilities; above 0. From cross-validation."""
    thresholds: tuple[float, ...]
    """Per class: the probability from which it is given as an answer, 0 to 1. From cross-validation."""


def format_weights(weights: Weights) -> str:
    """Give the text of the file."""
    settings = {
        "format": _FORMAT,
        "classes": weights.classes,
        "bias": weights.bias,
        "temperature": weights.temperature,
        "thresholds": weights.thresholds,
    }
    lines = sorted("\t".join((_name(feature), *map(str, row))) for feature, row in weights.features.items())
    return "\n".join((json.dumps(settings), *lines, ""))


def parse_weights(text: str) -> Weights:
    """Read the text of the file.

    Raises:
        ValueError: the text is of another format, or a line is malformed.
    """
    first, *lines = text.removesuffix("\n").split("\n")
    settings = cast("dict[str, object]", json.loads(first))
    if settings.get("format") != _FORMAT:
        raise ValueError(f"the classifier's weights are not of format {_FORMAT}; train them anew")
    features: dict[Feature, tuple[int, ...]] = {}
    for line in lines:
        name, *row = line.split("\t")
        features[_feature(name)] = tuple(map(int, row))
    return Weights(
        classes=tuple(cast("list[str]", settings["classes"])),
        bias=tuple(cast("list[int]", settings["bias"])),
        features=features,
        temperature=cast("float", settings["temperature"]),
        thresholds=tuple(cast("list[float]", settings["thresholds"])),
    )


def _name(feature: Feature) -> str:
    text = feature if isinstance(feature, str) else " ".join(feature)
    return text.replace("\n", _LINE_BREAK)


def _feature(name: str) -> Feature:
    if _LINE_BREAK in name:
        name = name.replace(_LINE_BREAK, "\n")
    if " " not in name:
        return name
    first, second = name.split(" ")
    return first, second
