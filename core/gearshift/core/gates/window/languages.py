"""Whether the answer changes its script.

Rules: a script is told by its letters' code points, which is certain; languages of one script are not told apart here.
A switch is a whole window in a script that the answer had not used, after windows that were nearly all in another, and
that the prompt does not use either: a translation or a quotation is asked for in the prompt's own letters or named there.
"""

from __future__ import annotations

from bisect import bisect_right

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import failed
from gearshift.core.gates.window.base import Window

_LEAST_LETTERS = 12
_NEARLY_ALL = 0.9
_MOSTLY = 0.6

# Blocks of Unicode that hold the letters of one script, by their first code point, each up to the next entry.
_STARTS = (
    (0x0041, "latin"),
    (0x0370, "greek"),
    (0x0400, "cyrillic"),
    (0x0530, "armenian"),
    (0x0590, "hebrew"),
    (0x0600, "arabic"),
    (0x0700, "other"),
    (0x0900, "indic"),
    (0x0E00, "thai"),
    (0x0E80, "other"),
    (0x10A0, "georgian"),
    (0x1100, "hangul"),
    (0x1200, "other"),
    (0x1E00, "latin"),
    (0x1F00, "greek"),
    (0x2000, "other"),
    (0x3040, "japanese"),
    (0x3100, "han"),
    (0xA000, "other"),
    (0xAC00, "hangul"),
    (0xD7B0, "other"),
    (0xF900, "han"),
    (0xFB00, "other"),
)
_POINTS = tuple(point for point, _ in _STARTS)
_EAST_ASIAN = frozenset({"han", "japanese", "hangul"})
_NAMES = {
    "greek": ("greek",),
    "cyrillic": ("russian", "ukrainian", "bulgarian", "serbian", "cyrillic"),
    "hebrew": ("hebrew",),
    "arabic": ("arabic", "persian", "farsi", "urdu"),
    "indic": ("hindi", "bengali", "tamil", "telugu", "marathi", "sanskrit", "punjabi", "gujarati"),
    "thai": ("thai",),
    "georgian": ("georgian",),
    "armenian": ("armenian",),
    "east_asian": ("chinese", "mandarin", "cantonese", "japanese", "korean", "kanji", "hanzi"),
    "latin": ("english", "french", "german", "spanish", "italian", "portuguese", "latin", "translat"),
}


class LanguageWatcher:
    """Watches the script of one answer.

    Args:
        prompt: what the caller wrote; scripts that it uses, or languages that it names, are lawful.
    """

    lookback = 0

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._seen: dict[str, int] = {}

    def look(self, window: Window) -> Verdict | None:
        """Give a change of script, or None."""
        shares = scripts_of(window.text)
        letters = sum(shares.values())
        if letters < _LEAST_LETTERS:
            return None
        script = max(shares, key=lambda name: shares[name])
        before = sum(self._seen.values())
        is_new = before >= _LEAST_LETTERS and self._seen.get(script, 0) < (1 - _NEARLY_ALL) * before
        if is_new and shares[script] >= _MOSTLY * letters and not self._is_lawful(script):
            main = max(self._seen, key=lambda name: self._seen[name])
            return failed("language", "script", f"the answer changed its script from {main} to {script}")
        for name, count in shares.items():
            self._seen[name] = self._seen.get(name, 0) + count
        return None

    def _is_lawful(self, script: str) -> bool:
        """Tell whether the prompt uses or names the script; asked only when an answer has changed to it."""
        lowered = self._prompt.lower()
        return script in scripts_of(self._prompt) or any(name in lowered for name in _NAMES.get(script, ()))


def scripts_of(text: str) -> dict[str, int]:
    """Give how many letters of each script a text holds; Chinese, Japanese and Korean count as one, East Asian."""
    if text.isascii():
        # Nearly all of it letters: counting them would cost more than it tells.
        return {"latin": len(text)} if text else {}
    counts: dict[str, int] = {}
    for character in text:
        if character.isalpha():
            place = bisect_right(_POINTS, ord(character)) - 1
            script = _STARTS[place][1] if place >= 0 else "other"
            script = "east_asian" if script in _EAST_ASIAN else script
            counts[script] = counts.get(script, 0) + 1
    return counts
