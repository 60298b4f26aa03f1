"""The numbers of a linear model, and the file that keeps them.

Rules: all numbers are whole multiples of UNIT, so that the file comes out the same wherever it is trained. A feature's
numbers (its weight for each output, then the square of its scale) are one integer with a field of FIELD_BITS for each,
so that one built-in sum() adds them all.

The file is text, so that a change shows in a diff. Its first line is a JSON object with the settings; each further line
is one feature: its name, a tab, and its integer in base 32. A feature of two tokens has a space between them; a
line break is written as "↵".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from gearshift.core.classifier.features import Feature

UNIT = 0.01
"""What 1 is worth in weights, biases and squared scales."""
FIELD_BITS = 24
"""Room for the sum over the densest text that HEAD and TAIL allow."""
HALF = 1 << (FIELD_BITS - 1)
"""Added to each field of a sum, so that no field is negative."""

_FORMAT = 3
_LINE_BREAK = "↵"
_BASE = 32
_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_FIELD = (1 << FIELD_BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One trained linear model."""

    outputs: tuple[str, ...]
    """The names of what it scores, in the order of all weights."""
    bias: tuple[int, ...]
    """What each output has before a feature is seen, in UNIT."""
    features: Mapping[Feature, int]
    """Per feature: its packed numbers."""
    temperature: float
    """What the scores are divided by before they become probabilities; above 0. From cross-validation."""
    thresholds: tuple[float, ...]
    """Per answer that the model can give: the probability from which it is given, 0 to 1. From cross-validation."""


def pack(row: Sequence[int]) -> int:
    """Put the numbers of a feature into one integer."""
    return sum(number << FIELD_BITS * place for place, number in enumerate(row))


def unpack(packed: int, count: int) -> tuple[int, ...]:
    """Give the numbers of a feature, or the sums of several."""
    packed += pack([HALF] * count)
    return tuple((packed >> FIELD_BITS * place & _FIELD) - HALF for place in range(count))


def format_weights(weights: Weights) -> str:
    """Give the text of the file."""
    settings = {
        "format": _FORMAT,
        "outputs": weights.outputs,
        "bias": weights.bias,
        "temperature": weights.temperature,
        "thresholds": weights.thresholds,
    }
    lines = sorted(f"{_name(feature)}\t{_digits_of(packed)}" for feature, packed in weights.features.items())
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
    features: dict[Feature, int] = {}
    for line in lines:
        name, packed = line.split("\t")
        if _LINE_BREAK in name:
            name = name.replace(_LINE_BREAK, "\n")
        first_token, _, second_token = name.partition(" ")
        features[(first_token, second_token) if second_token else name] = int(packed, _BASE)
    return Weights(
        outputs=tuple(cast("list[str]", settings["outputs"])),
        bias=tuple(cast("list[int]", settings["bias"])),
        features=features,
        temperature=cast("float", settings["temperature"]),
        thresholds=tuple(cast("list[float]", settings["thresholds"])),
    )


def _digits_of(number: int) -> str:
    sign, rest, digits = "-" if number < 0 else "", abs(number), [""]
    while rest or len(digits) == 1:
        rest, digit = divmod(rest, _BASE)
        digits.append(_DIGITS[digit])
    return sign + "".join(reversed(digits))


def _name(feature: Feature) -> str:
    text = feature if isinstance(feature, str) else " ".join(feature)
    return text.replace("\n", _LINE_BREAK)
