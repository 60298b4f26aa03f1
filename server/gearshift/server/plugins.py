"""Own gates and observers from installed packages.

Rules: entry points in `gearshift.gates` and `gearshift.observers`, each a callable without arguments; one that cannot be
loaded stops the start, since a gate that is silently missing would accept what it should refuse.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from gearshift.core.errors import ConfigError
from gearshift.core.gates import Gate
from gearshift.core.observer import Observer


def own_gates() -> tuple[Gate, ...]:
    """Make the installed gates."""
    return tuple(cast(Gate, made) for made in _made("gearshift.gates"))


def own_observers() -> tuple[Observer, ...]:
    """Make the installed observers."""
    return tuple(cast(Observer, made) for made in _made("gearshift.observers"))


def _made(group: str) -> list[object]:
    made: list[object] = []
    for point in entry_points(group=group):
        try:
            made.append(point.load()())
        except Exception as error:
            raise ConfigError([f"the entry point {point.name} of {group} cannot be loaded: {error}"]) from error
    return made
