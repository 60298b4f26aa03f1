"""Whether the model fell into a loop.

Rules: only the tail is looked at, so the work is bounded. A loop is one unit of at most 256 characters that ends the
text many times over and holds letters or digits (tables and rules repeat lawfully); a unit without letters must repeat
for longer, since a matrix of zeros is lawful too.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, failed, passed

TAIL_LOOKED_AT = 1024
"""Characters at a text's end that a loop is looked for in."""
_LONGEST_UNIT = 256
_LEAST_REPEATS = 4
_LEAST_LENGTH = 96
_LEAST_LENGTH_OF_DIGITS = 768
_REPEATED = 72
"""What the shortest loop repeats: the least of max(_LEAST_LENGTH, _LEAST_REPEATS x period) - period, at period 24."""

_PASSED = passed("repetition")


class RepetitionGate:
    """Judges free text and JSON by their tail."""

    name = "repetition"

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        if candidate.labels:
            return None
        return self.judge_window(candidate.text) or _PASSED

    def judge_window(self, text: str) -> Verdict | None:
        """Give a loop that the text ends in, or None."""
        repeats = loop_at_end(text)
        if repeats == 0:
            return None
        return failed(self.name, "loop", f"the text ends in the same words {repeats} times over")


def loop_at_end(text: str) -> int:
    """Give how often the text's last unit is repeated at its end, or 0 when that is no loop.

    Whatever its period, a loop has the text's last _REPEATED characters once more one period earlier: one search is
    all that a text without a loop costs.
    """
    tail = text[-TAIL_LOOKED_AT:]
    if len(tail) < _LEAST_LENGTH:
        return 0
    ending, end, failed_period = tail[-_REPEATED:], len(tail), 0
    while (start := tail.rfind(ending, 0, end - 1)) >= 0:
        end = start + _REPEATED
        period = len(tail) - end
        if period > _LONGEST_UNIT:
            break
        if failed_period and period % failed_period == 0:
            continue  # it reaches back no further and has the same characters
        covered = _covered(tail, period)
        if covered >= max(_LEAST_LENGTH, _LEAST_REPEATS * period):
            unit = tail[-period:]
            if any(map(str.isalpha, unit)) or (covered >= _LEAST_LENGTH_OF_DIGITS and any(map(str.isalnum, unit))):
                return covered // period
        failed_period = failed_period or period
    return 0


def _covered(tail: str, period: int) -> int:
    """Give the length of the longest ending that repeats itself every `period` characters."""
    low, high = 0, len(tail) - period
    while low < high:  # an ending repeats itself only where every shorter one does
        middle = (low + high + 1) // 2
        if tail.endswith(tail[-middle:], 0, len(tail) - period):
            low = middle
        else:
            high = middle - 1
    return low + period
