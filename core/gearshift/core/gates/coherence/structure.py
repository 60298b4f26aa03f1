"""Whether what the answer opened is closed: code blocks, brackets, lists and sentences.

Rules: a code block is counted from the beginning; all else is seen at the end, since an answer that was cut off is open
there, and a bracket left open further up is a slip of the pen. Free text only: a document has its schema.
"""

from __future__ import annotations

import re

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, doubted

GATE = "structure"
_READ = 400
_LAST_WORD = 24
"""Characters at the end that hold the last word."""
_MARK = 8
"""Characters that a line with nothing but an item's mark has at most."""
_LEAST = 60
"""Shorter answers are no text that could be broken off: a title, a name, a label with a colon."""

_STOPPED_LIST = re.compile(r"\n\s*(?:[-*+•]|\(?\d{1,2}[.)]|[a-z][.)])\s*\Z")
_OPEN_END = re.compile(
    r"(?:[,;(\[]|\b(?:the|a|an|of|and|or|but|to|with|which|because|therefore,?|is|are|was|by|from|as|than|if))\s*\Z"
)
_ENDED = re.compile(r"[.!?…:)\]}\"'”’`*$|>。！？\d]\s*\Z")


class StructureCheck:
    """Judges free text by its code fences and its end."""

    name = GATE
    of_documents = False

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Give what is wrong with a complete answer, or None."""
        text = candidate.text
        if "```" in text and _open_fence(text):
            return doubted(GATE, "open_fence", "a code block was opened and not closed")
        if len(text) < _LEAST:
            return None
        end = text[-_READ:]
        is_short = len(end) - end.rstrip().rfind("\n") <= _MARK
        if is_short and _STOPPED_LIST.search(end):
            return doubted(GATE, "stopped_list", "the answer stops at an item of a list that has no text")
        if end.endswith((".", ".\n", "!", "?", "\n```")):
            return None
        if _OPEN_END.search(end, max(0, len(end) - _LAST_WORD)):
            return doubted(GATE, "stopped_sentence", "the answer stops within a sentence")
        if not _ENDED.search(end, max(0, len(end) - _LAST_WORD)) and _open_bracket(end.rpartition("\n")[2]):
            return doubted(GATE, "open_bracket", "the answer stops within brackets")
        return None


def _open_fence(text: str) -> bool:
    return sum([line.lstrip().startswith("```") for line in text.split("\n")]) % 2 == 1 and text.count("```") % 2 == 1


def _open_bracket(line: str) -> bool:
    return line.count("(") > line.count(")") or line.count("[") > line.count("]")
