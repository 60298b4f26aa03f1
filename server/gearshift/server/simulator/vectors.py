"""Vectors of texts.

Rules: the same text has the same vector, texts with the same words have near ones, and none is zero; of length 1.
"""

from __future__ import annotations

import math
import re

from gearshift.server.simulator.draws import Draws

MOST_DIMENSIONS = 4096
_WORD = re.compile(r"\w+")


def vector_of(text: str, dimensions: int) -> list[float]:
    """Give a text's vector: the sum of its words', scaled to length 1."""
    words = _WORD.findall(text.lower()) or [text]
    sums = [0.0] * dimensions
    for word in words[:1000]:
        draws = Draws("vector", word)
        for at in range(dimensions):
            sums[at] += draws.share(at) - 0.5
    length = math.sqrt(sum(value * value for value in sums)) or 1.0
    return [round(value / length, 8) for value in sums]
