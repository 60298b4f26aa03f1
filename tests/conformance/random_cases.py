"""Random streams, so that two clients that agree on what was thought of agree on the rest too.

Rules: draws use nothing but `Random.random`, which gives the same numbers on every Python; a draw is mostly a step that the
contract allows, now and then one that it may not. What is expected is what the plain reducer finds.
"""

from __future__ import annotations

import random
from typing import Any, Final, TypeVar

from tests.conformance.error_cases import exhausted
from tests.conformance.format import BrokenRuleError, Json, Reducer, case
from tests.conformance.rule_cases import (
    LIGHT,
    attempt,
    checkpoint,
    completed,
    delta,
    fragment,
    retract,
    started,
    switch,
    thought,
)

COUNT: Final = 120
_MOST_EVENTS: Final = 24
_PIECES: Final = ["", " ", "a", " gear", "e\u0301", "\U0001f600", "\u2028", "\u05d0", "x" * 40, "\n", "\\", '"']
Item = TypeVar("Item")


class _Draws:
    """A stream that is drawn event by event."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._reducer = Reducer()
        self._number = 0
        self._attempts = 0
        self.is_over = False

    def below(self, most: int) -> int:
        """Draw a number from 0, below most."""
        return int(self._chance.random() * most)

    def happens(self, share: float) -> bool:
        """Draw whether."""
        return self._chance.random() < share

    def one_of(self, items: list[Item]) -> Item:
        """Draw one."""
        return items[self.below(len(items))]

    def first(self) -> Json:
        """Open the stream."""
        made = started(checkpoints="WINDOWS", plan=[])
        self._reducer.apply(made)
        return made

    def event(self) -> Json:
        """Draw an event, and note where it leads."""
        made = self._any() if self.happens(0.03) else self._allowed()
        try:
            self._reducer.apply(made)
        except BrokenRuleError:
            self.is_over = True
        return made

    def last(self) -> Json:
        """Close the stream; seldom with the digest of something else."""
        calls = tuple(call for call in self._reducer.snapshot()["toolCalls"] if self.happens(0.9))
        text = self._reducer.snapshot()["text"] + ("" if self.happens(0.95) else "!")
        outcome = self.one_of(["ACCEPTED", "ACCEPTED", "ACCEPTED", "NOT_ACCEPTED", "FAILED"])
        return completed(text, calls=calls, outcome=outcome)

    def _allowed(self) -> Json:
        live: list[int] = self._reducer.snapshot()["live"]
        above = [number for number in live if number > self._reducer.checkpoint]
        match self.below(12):
            case 0:
                return self._attempt()
            case 1 if above:
                return checkpoint(self.one_of(above))
            case 2:
                after = [number for number in live if number >= self._reducer.checkpoint]
                return retract(self.one_of(after if self._reducer.checkpoint else [0, *after]))
            case 3:
                return switch()
            case 4:
                return {}
            case _:
                self._number += 1 + (self.below(5) if self.happens(0.2) else 0)
                return delta(self._number, *(self._part() for _ in range(self.below(4))))

    def _any(self) -> Json:
        number = self.below(self._number + 4)
        return self.one_of(
            [
                delta(number, "?"),
                checkpoint(number),
                retract(number),
                started(plan=[]),
                attempt(self.below(4)),
                completed("?"),
            ]
        )

    def _attempt(self) -> Json:
        self._attempts += 1 + self.below(2)
        return attempt(self._attempts, LIGHT, "RETRY")

    def _part(self) -> Any:
        piece = self.one_of(_PIECES)
        match self.below(6):
            case 0:
                return thought(piece)
            case 1:
                index = self.below(3)
                return fragment(
                    index, piece, call_id=f"call_{index}", name="" if self.happens(0.2) else f"tool_{index}"
                )
            case _:
                return piece


def random_cases() -> list[Json]:
    """Give them, the same ones each time."""
    return [_drawn(number) for number in range(COUNT)]


def _drawn(number: int) -> Json:
    draws = _Draws(number)
    messages: list[list[Json]] = [[draws.first()]]
    for _ in range(draws.below(_MOST_EVENTS)):
        if draws.happens(0.5):
            messages.append([])
        messages[-1].append(draws.event())
    if not draws.is_over and draws.happens(0.9):
        messages.append([draws.last()])
        if draws.happens(0.05):
            messages.append([draws.event()])
    refused = exhausted() if draws.happens(0.2) else None
    return case(
        f"random {number}",
        "Drawn, mostly by the rules.",
        messages,
        status=refused["status"] if refused else None,
        error={"kind": "status"} | refused["expected"] if refused else None,
        drawn=True,
    )
