"""What a part of the bench found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from msgspec import Struct, field

Say = Callable[[str], None]
"""Tells whoever waits how it goes."""


class Line(Struct, frozen=True, kw_only=True):
    """One promise and its measurement.

    Args:
        what: what was measured.
        cells: figures by their heading, as text.
        most: the bound, as text; empty has none.
        met: whether it holds; None where nothing is promised.
    """

    what: str
    cells: dict[str, str]
    most: str = ""
    met: bool | None = None


class Part(Struct, frozen=True, kw_only=True):
    """One part: a table and what must be said about it."""

    name: str
    title: str
    lines: list[Line]
    notes: list[str] = field(default_factory=list[str])


def percentile(values: Sequence[float], share: float) -> float:
    """Give the least value that a share of the values does not exceed; NaN without values."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, max(0, math.ceil(len(values) * share) - 1))]


def spread(values: Sequence[float], digits: int = 1) -> dict[str, str]:
    """Give p50, p99 and the greatest."""
    found = {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "most": max(values, default=math.nan)}
    return {name: f"{value:.{digits}f}" for name, value in found.items()}
