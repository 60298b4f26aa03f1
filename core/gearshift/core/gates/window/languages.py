"""Whether the answer leaves the language that was asked for.

Rules: a script is told by its letters' code points, a language within the Latin script by its function words; both must be
certain, and lawful by nothing in the prompt. The prompt is read once, and only when the answer's language is first told or
changes. Text in code blocks, in quotation marks and in quoted lines does not count.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.asked import Asked
from gearshift.core.gates.base import failed
from gearshift.core.gates.language.check import GATE, LEAST_LETTERS, MOSTLY, wrong_language
from gearshift.core.gates.language.scripts import mostly_ascii, scripts_of
from gearshift.core.gates.language.tally import LEAST_WORDS, Tally
from gearshift.core.gates.window.base import Window

_SUSPICIOUS = 4
LOOKBACK = 480
"""Characters in which a switch is found: 99 of 100 are found within these (docs/gates.md), a rare one later."""


class LanguageWatcher:
    """Watches the language of one answer.

    Args:
        asked: what the caller wrote.
    """

    lookback = LOOKBACK

    def __init__(self, asked: Asked | str) -> None:
        self._asked = Asked.of(asked) if isinstance(asked, str) else asked
        self._script_allowed = ""
        self._tally = Tally()
        self._home = ""

    def look(self, window: Window) -> Verdict | None:
        """Give a wrong language, or None."""
        text = window.text
        if not mostly_ascii(text) and (verdict := self._script(text)) is not None:
            return verdict
        tally = self._tally
        tally.add(text)
        home = self._home
        if tally.known < LEAST_WORDS or (home and tally.foreign(home) < _SUSPICIOUS):
            return None
        candidates = tally.candidates()
        if not candidates or home in candidates:
            return None
        prompt = self._asked.languages
        if prompt.allows(candidates[0]):
            if tally.is_in(candidates[0], ""):
                self._home = candidates[0]
            return None
        return wrong_language(tally, prompt)

    def _script(self, text: str) -> Verdict | None:
        shares = scripts_of(text)
        letters = sum(shares.values())
        if not letters:
            return None
        script = max(shares, key=lambda name: shares[name])
        if letters >= LEAST_LETTERS and shares[script] >= MOSTLY * letters:
            if self._script_allowed != script and not self._asked.languages.allows_script(script):
                return failed(GATE, "script", f"the answer is in {script} letters, which nothing asked for")
            self._script_allowed = script
        return None
