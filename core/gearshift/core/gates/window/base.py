"""What is watched while an answer is being written, window by window.

Rules: a watcher is synchronous, keeps what it needs itself and costs amortised constant time a token; it gives a hard
verdict as soon as one is certain. `lookback` says how far behind the end of a window a fault may lie that only a later
window shows: text nearer to the end than that is not clean yet, and is not committed (streams.md 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from gearshift.core.answer import Verdict
from gearshift.core.provider import TokenLogprob

TAIL = 2048
"""Characters of the text's end that a window shows."""


class Window(Struct, frozen=True, kw_only=True):
    """One window of an attempt's text.

    Args:
        tail: the text's end, at most TAIL characters, the window's own text last.
        size: characters of the window's own text.
        end: characters of the attempt's text up to the window's end.
        tokens: tokens in the window.
        logprobs: of the window's tokens, where the wire has them.
        waited_s: seconds spent waiting for the provider while the window came.
        timed_tokens: tokens that came in that time; the first read of an attempt is not timed.
    """

    tail: str
    size: int
    end: int
    tokens: int
    logprobs: Sequence[TokenLogprob]
    waited_s: float
    timed_tokens: int

    @property
    def text(self) -> str:
        """The window's own text, as far as the tail shows it."""
        return self.tail[-self.size :] if self.size else ""


class Watcher(Protocol):
    """Watches one attempt."""

    lookback: int
    """Characters; see the module's rules."""

    def look(self, window: Window) -> Verdict | None:
        """Give a hard failure that is certain now, or None."""
        ...
