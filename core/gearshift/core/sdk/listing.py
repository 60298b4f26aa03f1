"""A model as its provider describes it.

Rules: values only; what a provider does not tell is empty, 0 or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderModel:
    """One model that a provider has.

    Args:
        id: the name that goes on the wire.
        name: for people.
        lifecycle: `active`, `deprecated` or `retired`.
        retires_at: when it is to go; the date may have passed while it is still `deprecated`.
        context_tokens: longest input.
        features: what it can do, in the words of `catalogue.Feature` where they fit, in order of name.
        size_bytes: on disk.
        details: what else is known, by name.
    """

    id: str
    name: str = ""
    lifecycle: str = ""
    retires_at: datetime | None = None
    context_tokens: int = 0
    max_output_tokens: int = 0
    features: tuple[str, ...] = ()
    size_bytes: int = 0
    details: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """How far a download is: what is being done, to which layer, bytes done of bytes in all (0 is unknown)."""

    status: str
    digest: str = ""
    completed: int = 0
    total: int = 0


OnProgress = Callable[[PullProgress], None]
"""Called for each report; it must not block."""
