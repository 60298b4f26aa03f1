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
_ITEM = re.compile(r"\s*(?:[-*+•]|\(?\d{1,2}[.)]|[A-Za-z][.)])\s+")
_NO_PROSE = ("|", "#", ">", "    ", "\t", "$$", "\\")
_SENTENCE_END = re.compile(
    r"(?<!\b[A-Za-z])(?<!\.[A-Za-z])(?<!\b(?:Dr|Mr|Ms|St|vs|no|No|eq|Eq|cf|al))(?<!\b(?:Mrs|Fig|etc|viz))[.!?][)\"'”’*]{0,2} +(?=[A-Z(\"“*$])"
)
"""Where a sentence ends and another begins; abbreviations are none."""
_WORD = re.compile(r"[A-Za-z]{2,}")
_LEAST_SENTENCES = 2
_LEAST_WORDS = 3
_PARAGRAPH = 1_200
"""Characters at the end of the last line in which its sentences are counted."""


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
        if _stops_within_sentence(text.rstrip().rpartition("\n")[2]):
            return doubted(GATE, "stopped_sentence", "the answer stops within a sentence")
        return None


def _open_fence(text: str) -> bool:
    return sum([line.lstrip().startswith("```") for line in text.split("\n")]) % 2 == 1 and text.count("```") % 2 == 1


def _stops_within_sentence(line: str) -> bool:
    """Tell whether a paragraph of whole sentences ends in the middle of one; a line that has none may be a title, a name or verse."""
    if not line[-1:].isalpha() or line.startswith(_NO_PROSE):
        return False
    line = line[-_PARAGRAPH:]
    item = _ITEM.match(line)
    ends = [found.end() for found in _SENTENCE_END.finditer(line, item.end() if item is not None else 0)]
    return len(ends) >= _LEAST_SENTENCES and len(_WORD.findall(line, ends[-1])) >= _LEAST_WORDS


def _open_bracket(line: str) -> bool:
    return line.count("(") > line.count(")") or line.count("[") > line.count("]")
