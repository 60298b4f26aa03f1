"""Whether the model refused.

Rules: the provider's own stop reason is believed; otherwise the beginning of a short answer is looked at, since a long
answer that begins with an apology has usually answered, and sentences that break an answer off. Structured answers are
judged by their form instead.
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

_MARKS = ("n't", "n’t", "cannot", "unable", "not able", "will not", "decline", " request ")
"""Every beginning that the pattern knows holds one of these, in lower case."""
_PASSED = passed("refusal")

_NOT = r"(?:can(?:no|['’])t|cannot|won['’]t|will not|am (?:unable|not able) to|['’]m (?:unable|not able) to|must not)"
_GO_ON = r"(?:continue|go on|proceed|complete|finish|help|assist|comply|fulfill|provide|generate|write)"
_THIS = r"(?:with\s+)?(?:this|that|your|the)\s+(?:request|answer|response|task|content|conversation|topic|prompt|text)"
_BROKEN_OFF = re.compile(
    # With an apology anywhere, without one only where a sentence begins.
    rf"(?:\b(?:(?:I['’]m|I am)\s+(?:very\s+)?sorry|Sorry|Apologies|Unfortunately)\W{{0,3}}(?:but\s+)?|(?:^|[.!?…\n])\W*)"
    rf"\bI\s*{_NOT}\s+{_GO_ON}\b.{{0,40}}?\b{_THIS}",
    re.IGNORECASE | re.DOTALL,
)
_NEGATIONS = ("n't", "n’t", "cannot", "unable", "not able", "will not", "must not")
_QUOTES = str.maketrans({"“": '"', "”": '"', "«": '"', "»": '"'})

LONGEST_BREAK = 200
"""Characters in which a sentence that breaks off is seen whole."""


class RefusalGate:
    """Judges free text by its beginning."""

    name = "refusal"

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        if candidate.finish_reason is FinishReason.CONTENT_FILTER:
            return failed(self.name, "content_filter", "the provider stopped the answer for its content")
        if candidate.structured:
            return None
        if len(candidate.text) <= _SHORT and _declines(candidate.text[:_LOOKED_AT]):
            return failed(self.name, "refusal", "the model declined to answer")
        if breaks_off(candidate.text):
            return failed(self.name, "broken_off", "the model broke its answer off to refuse")
        return _PASSED


def _declines(beginning: str) -> bool:
    lowered = beginning.lower()
    # A pattern costs more than these looks, which nearly all answers end at.
    for mark in _MARKS:
        if mark in lowered:
            return _REFUSAL.match(beginning) is not None
    return False


def breaks_off(text: str) -> bool:
    """Tell whether a sentence says of this very request that the writer will not go on, outside quotation marks."""
    for negation in _NEGATIONS:
        if negation in text:
            break
    else:
        return False
    return any(text[: found.start()].translate(_QUOTES).count('"') % 2 == 0 for found in _BROKEN_OFF.finditer(text))
