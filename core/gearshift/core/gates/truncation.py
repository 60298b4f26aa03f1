"""Whether the answer was cut short.

Rules: an answer that ended because it reached a length is a hard failure, unless it is free text and the caller set
that length.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, failed, passed
from gearshift.core.words import FinishReason

_PASSED = passed("truncation")


class TruncationGate:
    """Judges by the model's own stop reason."""

    name = "truncation"

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        if candidate.finish_reason is not FinishReason.LENGTH:
            return _PASSED
        if candidate.length_asked and not candidate.structured:
            return passed(self.name, "length_asked")
        return failed(self.name, "length", "the answer reached its length limit before its end")
