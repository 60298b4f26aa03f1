"""One vector for a text of any length.

Rules: arithmetic only. The server embeds at most `batch_tokens` at once; a longer text is cut into windows, and its
vector is the mean of theirs, weighted by length: what the mean over all tokens would be if no window saw another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def windows(tokens: Sequence[int], size: int) -> list[list[int]]:
    """Cut token ids into windows of at most `size`, each beginning with the first token (the one that opens a text)."""
    opening, rest = list(tokens[:1]), tokens[1:]
    step = size - len(opening)
    return [opening + list(rest[start : start + step]) for start in range(0, len(rest), step)] or [opening]


def pooled(vectors: Sequence[Sequence[float]], lengths: Sequence[int]) -> tuple[float, ...]:
    """Give the mean of the windows' vectors, weighted by their lengths in tokens, made unit length."""
    total = sum(lengths)
    summed = [
        sum(value * length for value, length in zip(column, lengths, strict=True)) / total
        for column in zip(*vectors, strict=True)
    ]
    norm = math.sqrt(sum(value * value for value in summed))
    return tuple(value / norm for value in summed) if norm else tuple(summed)
