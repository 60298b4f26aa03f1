"""Whether the provider sends too slowly to finish.

Rules: silence is the idle timeout's; this is the slow drip, which no timeout between tokens sees. It is a fault of the
provider and not of the answer, so any other stage may take over.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import failed
from gearshift.core.gates.window.base import Window

GATE = "throughput"
_LEAST_S = 2.0


class ThroughputWatcher:
    """Watches the speed of one answer.

    Args:
        least_tokens_per_s: slower than this over two seconds is too slow; 0 is never.
    """

    lookback = 0

    def __init__(self, least_tokens_per_s: float) -> None:
        self._least = least_tokens_per_s
        self._tokens = 0
        self._elapsed_s = 0.0

    def look(self, window: Window) -> Verdict | None:
        """Give a stream that is too slow, or None."""
        self._tokens += window.tokens
        self._elapsed_s += window.elapsed_s
        if self._elapsed_s < _LEAST_S:
            return None
        speed = self._tokens / self._elapsed_s
        self._tokens, self._elapsed_s = 0, 0.0
        if speed >= self._least:
            return None
        return failed(GATE, "slow", f"{speed:.2f} tokens a second are fewer than {self._least:g}")
