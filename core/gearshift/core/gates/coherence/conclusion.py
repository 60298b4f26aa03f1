"""Whether the final result is the one that the reasoning came to.

Rules: two kinds of answers have a result that can be read. 1. A number after a mark of the end (`####`, a boxed number,
"the answer is"): it must occur in the reasoning before it. 2. A choice whose text was asked about: the last number that the
reasoning computes is that of another choice, and not of the chosen one. Anything else passes.
"""

from __future__ import annotations

import re

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, doubted
from gearshift.core.gates.coherence.contradiction import stated_choices

GATE = "conclusion"
_LEAST_REASONING = 2
_CLOSE = 0.02
_NEAR = 160
"""Characters before the stated choice in which the last computed number must stand."""

_NUMBER = r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?"
_FINAL = re.compile(
    rf"(?:####\s*|\\boxed\{{\$?|[Tt]he (?:final )?answer is:?\s*\**)\\?\$?(?P<number>{_NUMBER})(?![\w/:^]|\.\d)",
    re.ASCII,
)
_COMPUTED = re.compile(rf"[=≈]\s*\\?\$?\s?(?P<number>{_NUMBER})(?![\w/^%]|\.\d|,\d|\s*(?:[-+*/×^(=]|x\b|\\))", re.ASCII)
_NUMBERS = re.compile(_NUMBER, re.ASCII)
_CHOICE = re.compile(
    rf"(?:^|\n)\s*\(?(?P<letter>[A-J])[.):]\s*\$?(?P<number>{_NUMBER})(?:\s+[A-Za-z ]{{1,20}})?\.?(?=\n|\Z)", re.ASCII
)


class ConclusionCheck:
    """Judges free text by its final result."""

    name = GATE
    of_documents = False

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Give what is wrong with a complete answer, or None."""
        text = candidate.text
        computed = _COMPUTED.findall(text) if "=" in text or "≈" in text else []
        if len(computed) < _LEAST_REASONING:
            return None
        finals = list(_FINAL.finditer(text))
        if finals:
            return self._judge_number(candidate, text[: finals[-1].start()], finals[-1]["number"], computed)
        stated = stated_choices(text)
        if stated and candidate.asked is not None and len({letter for letter, _, _ in stated}) == 1:
            return self._judge_choice(candidate, text[: stated[-1][1]], stated[-1][0])
        return None

    def _judge_number(self, candidate: Candidate, before: str, final: str, computed: list[str]) -> Verdict | None:
        """Look for the result in the reasoning: the last number that was computed, or any that was written."""
        value = _value(final)
        if any(abs(_value(number)) == abs(value) for number in _NUMBERS.findall(before)):
            return None
        last = _value(computed[-1])
        if last and "." in computed[-1] and abs(value / last - 1) < _CLOSE:
            return None  # rounded
        return doubted(GATE, "other_number", _told(candidate, computed[-1], final))

    def _judge_choice(self, candidate: Candidate, before: str, letter: str) -> Verdict | None:
        assert candidate.asked is not None
        choices = {each: _value(number) for each, number in _CHOICE.findall(candidate.asked.text)}
        computed = _COMPUTED.findall(before)
        if letter not in choices or not computed:
            return None
        last = _value(computed[-1])
        if before.rfind(computed[-1]) < len(before) - _NEAR:
            return None
        chosen = choices[letter]
        matching = [each for each, number in choices.items() if number == last]
        if matching and letter not in matching and abs(chosen - last) > _CLOSE * abs(last):
            return doubted(GATE, "other_choice", _told(candidate, matching[0], letter))
        return None


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _told(candidate: Candidate, reasoned: str, final: str) -> str:
    if candidate.restricted:
        return "the reasoning comes to another result than the answer"
    return f"the reasoning comes to {reasoned[:20]}, the answer is {final[:20]}"
