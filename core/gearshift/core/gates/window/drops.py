"""Whether the model has lost its thread: a drop of its tokens' log-probabilities.

Rules: a window's mean against the mean of the windows before it. Ordinary text of a sampled model stays above -2.5
nats a token; noise stays below -4. Both bounds are set wide, so that a rare name or a list of numbers is no drop; the
drop is not calibrated here.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import failed
from gearshift.core.gates.window.base import Window

_LEAST_TOKENS = 16
_NOISE = -4.0
_DROP = 2.0


class DropWatcher:
    """Watches the log-probabilities of one answer."""

    lookback = 0

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    def look(self, window: Window) -> Verdict | None:
        """Give a drop, or None."""
        tokens = window.logprobs
        if len(tokens) < _LEAST_TOKENS:
            return None
        total = sum([token.logprob for token in tokens])
        mean = total / len(tokens)
        before = self._sum / self._count if self._count else 0.0
        if mean < _NOISE and mean < before - _DROP:
            return failed("drop", "logprob_drop", f"the mean log-probability fell from {before:.2f} to {mean:.2f}")
        self._sum += total
        self._count += len(tokens)
        return None
