"""Whether an answer states two different results as its own.

Rules: only sentences that state a choice in so many words count ("the answer is (B)"); there must be two of them, with
nothing between that takes the first back: an answer to several questions has several results. A hard failure: whoever
reads such an answer by its beginning and by its end reads two answers.
"""

from __future__ import annotations

import re

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, failed

GATE = "contradiction"

_STATED = re.compile(
    r"\b(?:the|my) (?:(?:final|correct|right|best) )?(?:answer|choice|option) (?:is|must be|should be)(?: therefore)?:?\s*"
    r"(?:\*\*|\\boxed\{|\$)*\s*(?:option |choice )?(?:\((?P<a>[A-J])\)|(?P<b>[A-J])(?=[\s.):,*}]|\Z))(?!\s*(?:,|\)?\s*(?:or|and)\b))",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"\b(?:wait|actually|however|but|correct(?:ion|ed)|mistake|error|re-?(?:check|consider|evaluat|examin|calculat)\w*|apolog\w+|"
    r"sorry|instead|if|suppose|alternatively|not|let's|question|Q:|step by step|closest|none)\b",
    re.IGNORECASE,
)


class ContradictionCheck:
    """Judges free text by the results that it states."""

    name = GATE
    of_documents = False

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Give what is wrong with a complete answer, or None."""
        text = candidate.text
        if text.count("nswer") + text.count("hoice") + text.count("ption") < 2:
            return None
        stated = stated_choices(text)
        if len(stated) != 2 or stated[0][0] == stated[1][0]:
            return None
        between = text[stated[0][2] : stated[1][1]]
        if _TAKEN_BACK.search(between):
            return None
        detail = "two results are stated"
        if not candidate.restricted:
            detail = f"the answer is said to be {stated[0][0]} and then {stated[1][0]}"
        return failed(GATE, "two_results", detail)


def stated_choices(text: str) -> list[tuple[str, int, int]]:
    """Give the choices that a text states as its answer, with their places, in order."""
    if "nswer" not in text and "hoice" not in text and "ption" not in text:
        return []
    return [((found["a"] or found["b"]).upper(), *found.span()) for found in _STATED.finditer(text)]
