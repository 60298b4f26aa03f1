"""Whether the model refused.

Rules: the provider's own stop reason is believed; otherwise only the beginning of a short answer is looked at, since a
long answer that begins with an apology has usually answered. Structured answers are judged by their form instead.
"""

from __future__ import annotations

import re

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, failed, passed
from gearshift.core.words import FinishReason

_LOOKED_AT = 240
_SHORT = 600
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am)\s+(?:very\s+|really\s+|truly\s+|so\s+)?(?:sorry|afraid)\b.{0,60}?\b"
    r"(?:can(?:no|['’])t|cannot|unable|not able|won['’]t)\b"
    r"|(?:sorry|apologies|unfortunately)\W.{0,60}?\b(?:i|we)\s*(?:can(?:no|['’])t|cannot|am unable|['’]m unable|won['’]t)\b"
    r"|i\s+(?:can(?:no|['’])t|cannot|won['’]t|am unable to|am not able to|must decline to|will not)\s+"
    r"(?:help|assist|provide|comply|answer|do|create|generate|write|fulfill|support|engage|continue|discuss|share)\b"
    r"|as an ai(?: language)?(?: model| assistant)?\b.{0,80}?\b(?:can(?:no|['’])t|cannot|unable|not able|don['’]t)\b"
    r"|(?:this|that|your) request (?:goes against|violates)\b)",
    re.IGNORECASE | re.DOTALL,
)

_PASSED = passed("refusal")


class RefusalGate:
    """Judges free text by its beginning."""

    name = "refusal"

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        if candidate.finish_reason is FinishReason.CONTENT_FILTER:
            return failed(self.name, "content_filter", "the provider stopped the answer for its content")
        if candidate.structured:
            return None
        if len(candidate.text) <= _SHORT and _REFUSAL.match(candidate.text[:_LOOKED_AT]):
            return failed(self.name, "refusal", "the model declined to answer")
        return _PASSED
