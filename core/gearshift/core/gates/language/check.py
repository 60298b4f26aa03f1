"""Whether a whole answer is in the wrong language.

Rules: its beginning and its end are read, which is where an answer that is wrong from the start, or that has drifted
away, shows it; so the time is bounded for any answer. Labels and JSON are left alone: their words are the source's. A
language that cannot be told for certain passes.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.asked import Asked
from gearshift.core.gates.base import Candidate, failed
from gearshift.core.gates.language.prompt import Prompt
from gearshift.core.gates.language.scripts import mostly_ascii, scripts_of
from gearshift.core.gates.language.tally import QUOTES, Tally

GATE = "language"
_READ = 320
"""Characters at either end."""
LEAST_LETTERS = 24
MOSTLY = 0.6
_COMMON = (" the ", " of ", " and ", " is ", " that ", " are ", " with ", " this ", " which ", "The ")
_ENOUGH = 2
_LAST = 200
"""Characters at a part's end that alone say that it is English."""


class LanguageCheck:
    """Judges free text by its beginning and its end."""

    name = GATE
    of_documents = False

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Give a wrong language, or None."""
        asked = candidate.asked
        if asked is None or candidate.output is not None:
            return None
        text = candidate.text
        if len(text) <= _READ:
            return self._judge_part(text, asked, quoted=False)
        start = len(text) - _READ
        start = text.find(" ", start) + 1 or start
        if (
            text.isascii()
            and _is_english(text[_READ - _LAST : _READ])
            and _is_english(text[max(start, len(text) - _LAST) :])
            and asked.is_english
        ):
            return None  # English at both ends, as nearly all answers are: no word needs to be counted
        verdict = self._judge_part(text[:_READ], asked, quoted=False)
        if verdict is not None or "```" in text:
            return verdict  # what is code and what is not cannot be told from the end alone
        return self._judge_part(text[start:], asked, quoted=_is_quoted(text, start))

    def _judge_part(self, part: str, asked: Asked, *, quoted: bool) -> Verdict | None:
        is_plain = mostly_ascii(part)
        if is_plain and _is_english(part[-_LAST:]) and asked.is_english:
            return None
        prompt = asked.languages
        if not is_plain and (verdict := wrong_script(part, prompt)) is not None:
            return verdict
        tally = Tally(quoted=quoted)
        tally.add(part)
        tally.finish()
        return wrong_language(tally, prompt)


def _is_quoted(text: str, place: int) -> bool:
    """Tell whether a place is within quotation marks or a quoted line."""
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return line.startswith(">") or sum(map(line.count, QUOTES)) % 2 == 1


def _is_english(part: str) -> bool:
    found = 0
    for word in _COMMON:
        if word in part:
            found += 1
            if found == _ENOUGH:
                return True
    return False


def wrong_script(text: str, prompt: Prompt) -> Verdict | None:
    """Give the verdict on a text whose letters are mostly of a script that was not asked for, or None."""
    shares = scripts_of(text)
    letters = sum(shares.values())
    if letters < LEAST_LETTERS:
        return None
    script = max(shares, key=lambda name: shares[name])
    if shares[script] < MOSTLY * letters or prompt.allows_script(script):
        return None
    return failed(GATE, "script", f"the answer is in {script} letters, which the prompt neither uses nor asks for")


def wrong_language(tally: Tally, prompt: Prompt) -> Verdict | None:
    """Give the verdict on a text whose last words are certainly in a language that was not asked for, or None."""
    candidates = tally.candidates()
    if not candidates or not tally.is_in(candidates[0], "") or (candidates[0] == "english" and prompt.is_english):
        return None
    main = prompt.main
    if not main or main in candidates or not tally.is_in(candidates[0], main):
        return None
    if any(map(prompt.allows, candidates)):
        return None
    return failed(GATE, "language", f"the answer is in {candidates[0]}, the prompt in {main}")
