"""Whether the model refused, or gave no answer.

Rules: the provider's own stop reason is believed. Of free text three things are looked at: the beginning of a short answer, since a
long answer that begins with an apology has usually answered; sentences that break an answer off; and, at the end, the word
that no answer can be given, where none is given. Where the prompt asks for such a word ("if it does not say, answer that you
do not know"), it is an answer. Structured answers are judged by their form instead.
"""

from __future__ import annotations

import re

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, failed, passed
from gearshift.core.gates.coherence.contradiction import stated_choices
from gearshift.core.words import FinishReason

_LOOKED_AT = 240
_SHORT = 600
_REFUSAL = re.compile(
    r"\W*(?:no,?\s+)?(?:(?:i['’]?m|i am)\s+(?:very\s+|really\s+|truly\s+|so\s+)?(?:sorry|afraid)\b.{0,60}?\b"
    r"(?:can(?:no|['’])t|cannot|unable|not able|won['’]t)\b"
    r"|(?:sorry|apologies|unfortunately)\W.{0,60}?\b(?:i|we)\s*(?:can(?:no|['’])t|cannot|am unable|['’]m unable|won['’]t)\b"
    r"|i\s+(?:can(?:no|['’])t|cannot|won['’]t|am unable to|am not able to|must decline to|will not)\s+"
    r"(?:help|assist|provide|comply|answer|do (?:this|that)|create|generate|write|fulfill|support|engage|continue|discuss|share)\b"
    r"|i['’]d rather not (?:discuss|answer|say|talk about|comment|help)\b|i would rather not (?:discuss|answer|talk about|comment)\b"
    r"|(?:i['’]m|i am) not (?:comfortable|at ease) (?:answering|discussing|providing|sharing|writing|helping)\b"
    r"|(?:that|this)(?: is|['’]s) not something (?:that )?i (?:can|am able to|will|want to) (?:help|assist|do|answer|discuss|provide|write|share|support)\b"
    r"|it would(?: not|n['’]t)? be (?:in)?appropriate for me to\b|my (?:guidelines|policies|programming) (?:prevent|forbid|do(?: not|n['’]t) allow)\b"
    r"|as an? (?:ai|(?:large )?language model)(?: language)?(?: model| assistant)?\b.{0,80}?\b(?:can(?:no|['’])t|cannot|unable|not able|don['’]t)\b"
    r"|(?:this|that|your) request (?:goes against|violates)\b)",
    re.IGNORECASE | re.DOTALL,
)

_MARKS = (
    "n't", "n’t", "cannot", "unable", "not able", "will not", "decline", " request ", "rather not", "not comfortable", "not at ease",
    "not something", "not allow", "prevent", "forbid", "appropriate",
)  # fmt: skip
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

_END = 500
"""Characters at the end in which an answer says that it is none."""
_NONE = re.compile(
    r"\b(?:I|we)\s*(?:can(?:no|['’])t|can ?not|(?:am|are) (?:unable|not able) to)\s+(?:\w+ly\s+)?"
    r"(?:answer\s+(?:this|that|the|it|your|(?:the )?question)\b"
    r"|(?:provide|give|offer|determine|select|choose|calculate|find)\s[^.!?\n]{0,48}?\b(?:answer|solution|response|choice)\b)"
    r"|\bno answer (?:that )?I can (?:give|provide)\b"
    # A result that is none.
    r"|(?:\banswer is|\banswer:|\\boxed\{)[\s:*({\"']{0,6}(?:(?:it )?can(?:no|['’])t be |cannot be |unable to |incomplete |insufficient |indeterminate"
    r"|impossible to |not enough |no answer\b|there is (?:not enough|insufficient|no (?:answer|information))|I (?:cannot|can['’]t))",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"\b(?:but|that said|nevertheless|nonetheless|still|instead|likely|probably|estimate|approximately|closest|best guess|"
    r"here (?:is|are)|I can (?:help|offer|give|tell|share|suggest|explain)|I(?:['’]d| would) (?:recommend|suggest))\b",
    re.IGNORECASE,
)
_RESULT = re.compile(
    r"(?:####\s*|\\boxed\{+\s*|\banswer is:?\s*\**)(?!I\b|no\b|not\b|it\b|there\b|can|unable|incomplete|insufficient|indeterminate|impossible)"
    r"[\w$\\\"'-]",
    re.IGNORECASE,
)
_INVITED = re.compile(
    r"\b(?:can(?:not|['’]t) be (?:determined|answered|inferred|known)|(?:not enough|insufficient|no) information|unanswerable|no answer\b|"
    r"if (?:you|it|the|there|this|that|no|none)\b[^.\n]{0,80}\b(?:not|cannot|no|n['’]t|unsure|none)\b|don['’]t know|do not know|"
    r"(?:decline|refuse|refusal|apologi[sz]e)\b)",
    re.IGNORECASE,
)
"""Prompts that allow for no answer, or ask for a refusal to be written."""


class RefusalGate:
    """Judges free text by its beginning and its end."""

    name = "refusal"

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        if candidate.finish_reason is FinishReason.CONTENT_FILTER:
            return failed(self.name, "content_filter", "the provider stopped the answer for its content")
        if candidate.structured:
            return None
        text = candidate.text
        if len(text) <= _SHORT and _declines(text[:_LOOKED_AT]) and not _is_invited(candidate):
            return failed(self.name, "refusal", "the model declined to answer")
        if not _negates(text):
            return _PASSED
        if breaks_off(text):
            return failed(self.name, "broken_off", "the model broke its answer off to refuse")
        if gives_none(text) and not _is_invited(candidate):
            return failed(self.name, "no_answer", "the model says that it can give no answer")
        return _PASSED


def _declines(beginning: str) -> bool:
    lowered = beginning.lower()
    # A pattern costs more than these looks, which nearly all answers end at.
    for mark in _MARKS:
        if mark in lowered:
            return _REFUSAL.match(beginning) is not None
    return False


def _negates(text: str) -> bool:
    for negation in _NEGATIONS:
        if negation in text:
            return True
    return (
        "o answer" in text or "ot enough" in text or "nsufficient" in text or "ncomplete" in text or "annot be " in text
    )


def breaks_off(text: str) -> bool:
    """Tell whether a sentence says of this very request that the writer will not go on, outside quotation marks."""
    for negation in _NEGATIONS:
        if negation in text:
            break
    else:
        return False
    return any(_is_outside_quotes(text, found.start()) for found in _BROKEN_OFF.finditer(text))


def gives_none(text: str) -> bool:
    """Tell whether the end of an answer says that there is none, nothing is said instead, and no result is stated."""
    end = text[-_END:]
    found = _NONE.search(end)
    if found is None or _GOES_ON.search(end, found.end()) or stated_choices(text) or _RESULT.search(text):
        return False
    return _is_outside_quotes(text, len(text) - len(end) + found.start())


def _is_outside_quotes(text: str, place: int) -> bool:
    return text[:place].translate(_QUOTES).count('"') % 2 == 0


def _is_invited(candidate: Candidate) -> bool:
    return candidate.asked is not None and _INVITED.search(candidate.asked.text) is not None
