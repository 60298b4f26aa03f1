"""Patterns, matched in linear time by RE2.

Rules: the one file that imports re2. Compiling and matching take work that is
known beforehand or measured, so that no pattern holds up whoever uses it.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import re2  # type: ignore[import-untyped]

from gearshift.core.schema.ecma import PatternError, Translation, quoted_pattern

_ENGINE: Final[Any] = re2  # it has no type stubs
# RE2 holds at most this for the program and the states it caches, for each pattern. What does not fit into the first is
# tried with the second: a long run of `\p{L}` needs it.
_MEMORY_BYTES: Final = (1 << 20, 8 << 20)
_SMALL: Final = 64  # units of work that are taken without measuring
_UNIT_NS: Final = 400  # what one unit of work takes


class Budget(Protocol):
    """What a match takes its work from: the steps that are left, and the error when none are."""

    left: int

    def exhausted(self) -> Exception:
        """Return the error to raise when `left` has fallen below zero."""
        ...


class Pattern:
    """One compiled expression; tasks and threads may share it."""

    __slots__ = ("_search", "_size", "cost", "source")

    def __init__(self, source: str) -> None:
        """Compile source.

        Raises:
            PatternError: source is not valid, too large, or not linear.

        """
        translation = Translation(source)
        compiled = _compiled(source, translation.run())
        self.source = source
        self._search: Callable[[bytes], object] = compiled.search
        self._size: int = compiled.programsize
        self.cost = 20 + len(source) + translation.repeats + (self._size >> 4)
        """What compiling took: 1 is about 15 microseconds at worst."""

    def matches(self, text: str, budget: Budget) -> bool:
        """Say whether the pattern occurs anywhere in text; takes its work from the budget."""
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            return False
        budget.left -= 2 + (len(encoded) >> 8)
        # At worst RE2 walks its whole program for each byte, at about 6 ns a step: 128 of them are one unit of work.
        worst = len(encoded) * self._size >> 7
        if worst <= _SMALL:
            budget.left -= worst
            if budget.left < 0:
                raise budget.exhausted()
            return self._search(encoded) is not None
        # Most take far less, and nothing tells beforehand: what could be too much is not begun, the rest is measured.
        if worst > budget.left:
            raise budget.exhausted()
        started = time.thread_time_ns()
        found = self._search(encoded) is not None
        budget.left -= min(worst, (time.thread_time_ns() - started) // _UNIT_NS)
        return found

    def __repr__(self) -> str:
        return f"Pattern({self.source!r})"


def _compiled(source: str, expression: str) -> Any:
    options = _ENGINE.Options()
    options.log_errors = False
    options.never_capture = True
    reason = ""
    for memory in _MEMORY_BYTES:
        options.max_mem = memory
        try:
            return _ENGINE.compile(expression, options)
        except _ENGINE.error as error:
            reason = " ".join(_text(part) for part in error.args)
        if "too large" not in reason:
            break
    raise PatternError(f"the pattern {quoted_pattern(source)} is refused: {_plain(reason)}")


def _text(part: Any) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)


def _plain(reason: str) -> str:
    if "too large" in reason or "repetition size" in reason:
        return "it is too large once its counts are written out"
    return reason[:80] or "not a regular expression"
