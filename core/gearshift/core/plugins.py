"""Own gates and observers from installed packages.

Rules: entry points in `gearshift.gates` and `gearshift.observers`, each a callable without arguments; one that cannot be
loaded, or is not what it should be, stops the start, since a gate that is silently missing would accept what it should
refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeGuard, TypeVar

from gearshift.core.errors import ConfigError
from gearshift.core.gates import Gate
from gearshift.core.observer import Observer

T = TypeVar("T")


def own_gates() -> tuple[Gate, ...]:
    """Make the installed gates."""
    return _made("gearshift.gates", _is_gate, "gate: it lacks `name` or `judge`")


def own_observers() -> tuple[Observer, ...]:
    """Make the installed observers."""
    return _made("gearshift.observers", _is_observer, "gearshift.core.observer.Observer")


def _made(group: str, is_one: Callable[[object], TypeGuard[T]], what: str) -> tuple[T, ...]:
    made: list[T] = []
    for point in entry_points(group=group):
        try:
            own: object = point.load()()
        except Exception as error:
            raise ConfigError([f"the entry point {point.name} of {group} cannot be loaded: {error}"]) from error
        if not is_one(own):
            raise ConfigError(
                [f"the entry point {point.name} of {group} gives a {type(own).__name__}, which is no {what}"]
            )
        made.append(own)
    return tuple(made)


def _is_gate(own: object) -> TypeGuard[Gate]:
    return isinstance(getattr(own, "name", None), str) and callable(getattr(own, "judge", None))


def _is_observer(own: object) -> TypeGuard[Observer]:
    return isinstance(own, Observer)
