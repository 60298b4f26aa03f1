"""A model's own word on how sure it is: how it is asked for, and how it is read and taken out of the answer.

Rules: pure, in time linear in the text. The word is one last line, `[[sure: 87]]`. Whatever of it a model has written, well or
badly formed, in its place or not, is taken out; it counts only in the right form at the end. It is asked for where nobody
reads the answer before it was taken out: never with JSON, tools or streams that are released as they come, never where
log-probabilities tell or the form of the answer is enforced, and never where the prompt speaks of such a mark itself.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from gearshift.core.catalogue import Feature
from gearshift.core.request import JsonOutput, LabelOutput, Message, Output, Request, Text, ToolResult

ASK: Final = (
    "When your answer is complete, whatever form it was asked for in, write one more line of its own and nothing after it: "
    "[[sure: N]] - with, in place of N, a whole number from 0 to 100: how many of 100 answers like this one would be right."
)
LINE_TOKENS: Final = 16
"""What the line takes at most; a limit on the output is raised by so much."""
NOT_SAID: Final = -1.0
"""Stands for the word of a model that was asked and did not say, or not in the right form."""
RELEASED: Final = "the stream is released before its end"
"""The last reason to be given: whole answers to the same call are assessed."""
_MOST_PASSES: Final = 8
_OPENING: Final = "[[sure"

_SAID = re.compile(r"\[\[\s{0,4}sure\s{0,4}:\s{0,4}(\d{1,3})\s{0,4}%?\s{0,4}\]\]", re.IGNORECASE)
_AROUND = '*_`." \t\r\n'
_MARK = re.compile(
    r"[*_`]{0,3}(?:"
    # In double brackets: anything up to the closing ones; where they lack, what could be a number.
    r"\[\[\s{0,4}sure\b(?:[^\]\n]{0,60}\]{1,2}|[ \t:=]{0,6}\d{0,3}\s{0,2}%?)"
    # In single ones: only with a number.
    r"|\[\s{0,4}sure\s{0,4}[:=]\s{0,4}\d{1,3}\s{0,4}%?\s{0,4}\]"
    # In none: a last line of its own.
    r"|(?<![^\n])[ \t>-]{0,4}sure\s{0,4}[:=]\s{0,4}\d{1,3}\s{0,4}%?\s{0,4}[*_`.]{0,3}\Z"
    # Cut off as it began.
    r"|\[\[(?:s|su|sur)?\Z)[*_`]{0,3}",
    re.IGNORECASE,
)


class Assessed(Struct, frozen=True, kw_only=True):
    """An answer without the mark.

    Args:
        text: what the caller is to have.
        stated: 0 to 1, or NOT_SAID.
        is_marked: something of a mark was there.

    """

    text: str
    stated: float
    is_marked: bool


def assessed(text: str) -> Assessed:
    """Take the mark out of what a model wrote."""
    whole, stated, done = _without(text)
    if not done:
        return Assessed(text=text, stated=NOT_SAID, is_marked=False)
    for _ in range(_MOST_PASSES):  # behind a mark that is taken out another may show
        whole, _, done = _without(whole)
        if not done:
            break
    return Assessed(text=whole, stated=stated, is_marked=True)


def _without(text: str) -> tuple[str, float, bool]:
    """Give the text without the marks that are seen at once, what the last of them says, and whether there was one."""
    ended = text.rstrip()
    kept: list[str] = []
    stated, done = NOT_SAID, 0
    for match in _MARK.finditer(ended):
        _keep(kept, ended[done : match.start()].rstrip(" \t"))
        done = match.end()
        said = _SAID.fullmatch(match[0].strip(_AROUND))
        is_last = not ended[done:].strip(_AROUND)
        stated = int(said[1]) / 100 if said is not None and is_last and int(said[1]) <= 100 else NOT_SAID
    if not done:
        return text, NOT_SAID, False
    rest = ended[done:]
    _keep(kept, rest)
    whole = "".join(kept)
    return (whole if rest.strip() else whole.rstrip()), stated, True


def _keep(kept: list[str], piece: str) -> None:
    """Add a piece; what stood on both sides of a mark stays apart, so that it makes no other."""
    if not piece:
        return
    if kept and not kept[-1][-1].isspace() and not piece[0].isspace():
        kept.append(" ")
    kept.append(piece)


def why_not_asked(request: Request, output: Output | None, prompt: str, *, held: bool) -> str:
    """Give why a call's model is not asked how sure it is, in a few words; empty when it is.

    Args:
        output: what the answer must be.
        prompt: the system prompt.
        held: nobody sees anything of an answer before its end gate.

    """
    if isinstance(output, JsonOutput):
        return "a document is asked for"
    if request.tools:
        return "there are tools"
    if request.parameters.stop:
        return "a stop sequence could cut the line off"
    if _OPENING in prompt or any(_speaks_of_it(message) for message in request.messages):
        return "the prompt speaks of such marks itself"
    return "" if held else RELEASED


def is_told_otherwise(output: Output | None, features: frozenset[Feature]) -> bool:
    """Tell whether a model's label is scored, or held to its form, so that it has nothing to add in words."""
    return isinstance(output, LabelOutput) and bool(features & {Feature.LABELS, Feature.LOGPROBS, Feature.JSON_SCHEMA})


def _speaks_of_it(message: Message) -> bool:
    return any(
        _OPENING in (part.text if isinstance(part, Text) else part.content)
        for part in message.parts
        if isinstance(part, Text | ToolResult)
    )
