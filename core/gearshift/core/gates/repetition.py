"""Whether the model fell into a loop.

Rules: only the tail is looked at, so the work is bounded. A loop is one unit of at most 256 characters that ends the
text many times over and holds letters or digits (tables and rules repeat lawfully); a unit without letters must repeat
for longer, since a matrix of zeros is lawful too.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, failed, passed

_TAIL = 1024
_LONGEST_UNIT = 256
_LEAST_REPEATS = 4
_LEAST_LENGTH = 96
_LEAST_LENGTH_OF_DIGITS = 768


class RepetitionGate:
    """Judges free text and JSON by their tail."""

    name = "repetition"

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        if candidate.labels:
            return None
        return self.judge_window(candidate.text) or passed(self.name)

    def judge_window(self, text: str) -> Verdict | None:
        """Give a loop that the text ends in, or None."""
        repeats = loop_at_end(text)
        if repeats == 0:
            return None
        return failed(self.name, "loop", f"the text ends in the same words {repeats} times over")


def loop_at_end(text: str) -> int:
    """Give how often the text's last unit is repeated at its end, or 0 when that is no loop.

    The Z-function of the reversed tail tells for each period how far it reaches back: linear in the tail.
    """
    tail = text[-_TAIL:][::-1]
    length = len(tail)
    if length < _LEAST_LENGTH:
        return 0
    reach = [0] * length
    left = right = 0
    for index in range(1, length):
        matched = min(right - index, reach[index - left]) if index < right else 0
        while index + matched < length and tail[matched] == tail[index + matched]:
            matched += 1
        reach[index] = matched
        if index + matched > right:
            left, right = index, index + matched
    for period in range(1, min(_LONGEST_UNIT, length // _LEAST_REPEATS) + 1):
        covered = reach[period] + period
        if covered < max(_LEAST_LENGTH, _LEAST_REPEATS * period):
            continue
        unit = tail[:period]
        if any(map(str.isalpha, unit)) or (covered >= _LEAST_LENGTH_OF_DIGITS and any(map(str.isalnum, unit))):
            return covered // period
    return 0
