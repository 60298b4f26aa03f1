"""Take the JSON out of what a model wrote around it.

Rules: a pure function that never changes the JSON itself. Where it is not clear
which part is meant (two fenced blocks, two objects), the text is returned as it
is, so that the strict reader refuses it.
"""

import re
from typing import Final

# Each of these takes linear time: no two repeats beside each other match the same character.
FENCE_LINE: Final = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})[ \t]*(?:([\w+-]+)[ \t]*)?\r?$", re.MULTILINE)
_INLINE_FENCE: Final = re.compile(r"\A```(?:[A-Za-z0-9+-]*[ \t\r\n])?(.*)```\Z", re.DOTALL)
_STRUCTURE: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def strip_fence(text: str) -> str:
    """Return text without one surrounding Markdown code fence or surrounding prose."""
    bare = text.removeprefix("\ufeff").strip()
    fences = list(FENCE_LINE.finditer(bare))
    if len(fences) == 2 and not fences[1][2] and fences[0][1] == fences[1][1]:
        return bare[fences[0].end() : fences[1].start()].strip()
    if fences:
        return bare
    if (inline := _INLINE_FENCE.match(bare)) is not None and "```" not in inline[1]:
        return inline[1].strip()
    return _without_prose(bare)


def _without_prose(text: str) -> str:
    opening = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if opening < 0 or text[0] == '"':
        return text
    depth = 0
    for token in _STRUCTURE.finditer(text, opening):
        mark = token[0]
        if mark in ("{", "["):
            depth += 1
        elif mark in ("}", "]"):
            depth -= 1
            if depth == 0:
                rest = text[token.end() :]
                return text if "{" in rest or "[" in rest else text[opening : token.end()]
    return text
