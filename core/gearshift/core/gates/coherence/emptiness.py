"""Whether an answer says nothing: an opening, a promise, a placeholder, and then no more.

Rules: only short free text; all of it must be such talk. "Sure." may be the answer to a question that wants yes or no,
so a bare assent is none.
"""

from __future__ import annotations

import re

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, doubted

GATE = "emptiness"
_LONGEST = 320

_OPENING = (
    r"(?:(?:certainly|sure(?: thing)?|of course|absolutely|great question|good question|okay|ok|understood|happy to help|"
    r"no problem|thank you for (?:your|the) (?:question|request)|i(?:'d| would) be (?:happy|glad) to (?:help|assist)[^.!:\n]{0,60}|"
    r"i understand|let me think(?: about (?:this|that|it))?|let's think (?:about (?:this|it) )?step by step|"
    r"i(?:'ll| will) (?:help|do|start|get started|work|look|answer|explain)[^.!:\n]{0,80})[.!,: …]*)"
)
_PROMISE = (
    r"(?:(?:here(?:'s| is| are)|below (?:is|are)|the following (?:is|are)|this is)\b[^.!?\n]{0,120}(?::|\.\.\.|…)\s*|"
    r"(?:the (?:final )?answer is|answer|final answer|response|output|result|solution|summary|translation)\s*:\s*)"
)
_PLACEHOLDER = (
    r"(?:\[(?:your|the|insert|answer|text|response|name)\b[^\]\n]{0,60}\]|\.\.\.|…|<[a-z_ ]{1,30}>|\\boxed\{\s*(?:\.\.\.)?\s*\}|"
    r"(?:todo|tbd|lorem ipsum)\b\.?)"
)
_EMPTY = re.compile(
    rf"\s*(?:{_OPENING}\s*)*(?:{_PROMISE}\s*)(?:{_PLACEHOLDER}\s*)*\Z|\s*(?:{_OPENING}\s*)*(?:{_PROMISE}\s*)?{_PLACEHOLDER}\s*\Z|"
    rf"\s*(?:{_OPENING}\s*){{2,}}\Z|\s*(?:let's think|i(?:'d| would) be|thank you for|great question|good question|happy to|i(?:'ll| will) )"
    rf"[^.!:\n]{{0,100}}[.!: …]*\Z|[\s\W_]*\Z",
    re.IGNORECASE,
)


class EmptinessCheck:
    """Judges short free text."""

    name = GATE
    of_documents = False

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Give what is wrong with a complete answer, or None."""
        text = candidate.text
        if len(text) > _LONGEST or not _EMPTY.match(text.replace("’", "'")):
            return None
        return doubted(GATE, "empty_talk", "the answer announces something and then says nothing")
