"""What is wrong with a configuration, and where.

Rules: problems are collected, not raised one by one, so that one look at the file mends it; each says its place and
what to do, and none quotes a key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gearshift.core.errors import ConfigError

Place = tuple[str | int, ...]
"""Where a value stands: names of fields, and numbers from 0 in lists."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_MOST_LISTED = 14
MOST_PROBLEMS = 100
"""After so many the rest is not looked for: the file is something else altogether."""


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the file, line and column from 1."""

    line: int
    column: int


NOWHERE = Mark(0, 0)
"""The mark of what did not come from a file."""


class Report:
    """Collects problems and warnings; `source` is the file's name, `positions` tells where each place is in it."""

    def __init__(self, source: str = "", positions: Mapping[Place, Mark] | None = None) -> None:
        self._source = source
        self._positions: Mapping[Place, Mark] = positions or {}
        self._problems: list[tuple[Mark | None, str]] = []
        self._warnings: list[tuple[Mark | None, str]] = []

    def error(self, place: Place, message: str, mark: Mark | None = None) -> None:
        """Note what is wrong at a place; `mark` when it is better known than by the place.

        Raises:
            ConfigError: there are too many problems to go on.
        """
        self._note(self._problems, place, message, mark)
        if len(self._problems) >= MOST_PROBLEMS:
            told = _in_order(self._problems)
            raise ConfigError([*told, f"{self._source or 'the configuration'}: there may be more; these come first"])

    def warn(self, place: Place, message: str, mark: Mark | None = None) -> None:
        """Note what an operator should know about a place; of very many only the first are kept."""
        if len(self._warnings) < MOST_PROBLEMS:
            self._note(self._warnings, place, message, mark)

    @property
    def count(self) -> int:
        """How many problems there are."""
        return len(self._problems)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings, in the order of the file."""
        return _in_order(self._warnings)

    def raise_problems(self) -> None:
        """Do nothing when all is well.

        Raises:
            ConfigError: holds every problem, in the order of the file.
        """
        if self._problems:
            raise ConfigError(_in_order(self._problems))

    def _note(self, notes: list[tuple[Mark | None, str]], place: Place, message: str, mark: Mark | None) -> None:
        mark = mark or self._mark_of(place)
        where = [self._source] if self._source else []
        if mark is not None and mark != NOWHERE:
            where += [str(mark.line), str(mark.column)]
        parts = [":".join(where), path_of(place), message]
        text = ": ".join(part for part in parts if part)
        if (mark, text) not in notes:
            notes.append((mark, text))

    def _mark_of(self, place: Place) -> Mark | None:
        """Give the nearest known place: a value that the file leaves out is shown where it would stand."""
        for length in range(len(place), 0, -1):
            if mark := self._positions.get(place[:length]):
                return mark
        return None


def path_of(place: Place) -> str:
    """Write a place, such as `chains.classify.stages[0].model`."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{shortened(part)[1:-1]}"]'
    return text


def suggestion(name: str, names: Iterable[str]) -> str:
    """End a sentence about an unknown name: with the nearest valid one, or with all when they are few."""
    known = sorted({each for each in names if each})
    by_case = {each.lower(): each for each in reversed(known)}
    if near := difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.6):
        return f"; did you mean `{by_case[near[0]]}`?"
    if not known:
        return ""
    if len(known) <= _MOST_LISTED:
        return f"; known: {', '.join(f'`{each}`' for each in known)}"
    return ""


def shortened(text: str, most: int = 60) -> str:
    """Quote what stands in the file, on one line and not at length."""
    line = " ".join(text.split())
    return f"`{line if len(line) <= most else line[: most - 1] + '…'}`"


def _in_order(notes: list[tuple[Mark | None, str]]) -> tuple[str, ...]:
    return tuple(text for _, text in sorted(notes, key=lambda note: note[0] or NOWHERE))
