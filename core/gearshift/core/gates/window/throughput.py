"""Whether the provider sends too slowly to finish.

Rules: silence is the idle timeout's (`gates.stall_ms`); this is the slow drip, which no timeout between tokens sees. Only
the time spent waiting for the provider counts: not that to the first token, not that in which the caller did not read. One
slow window is a pause; a stream is slow when several in a row are. It is a fault of the provider and not of the answer,
so any other stage may take over.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import failed
from gearshift.core.gates.window.base import Window

GATE = "throughput"
_IN_A_ROW = 3


class ThroughputWatcher:
    """Watches the speed of one answer.

    Args:
        least_tokens_per_s: slower than this is too slow; 0 is never.
        after_s: how long it must have been so, seconds, in windows that were each too slow.
    """

    lookback = 0

    def __init__(self, least_tokens_per_s: float, after_s: float = 2.0) -> None:
        self._least = least_tokens_per_s
        self._after_s = after_s
        self._windows = 0
        self._tokens = 0
        self._waited_s = 0.0

    def look(self, window: Window) -> Verdict | None:
        """Give a stream that is too slow, or None."""
        if not window.waited_s or window.timed_tokens >= self._least * window.waited_s:
            self._windows, self._tokens, self._waited_s = 0, 0, 0.0
            return None
        self._windows += 1
        self._tokens += window.timed_tokens
        self._waited_s += window.waited_s
        if self._windows < _IN_A_ROW or self._waited_s < self._after_s:
            return None
        speed = self._tokens / self._waited_s
        return failed(GATE, "slow", f"{speed:.2f} tokens a second are fewer than {self._least:g}")
