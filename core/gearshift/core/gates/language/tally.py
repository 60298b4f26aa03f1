"""The language of the last words of a text, kept while it is being written.

Rules: constant time a word; only words that say which language they are of count, code blocks, quotations and quoted
lines do not. A language is certain only with several different words that the other language lacks, and hardly any the
other way round: names and loan words are no language.
"""

from __future__ import annotations

import re
from collections import deque

from gearshift.core.gates.language.words import LANGUAGES_OF

SPAN = 24
"""The last words that are looked at."""
LEAST_WORDS = 12
"""Fewer words than these are in no language."""
_LEAST_MARKERS = 5
_LEAST_DIFFERENT = 4
_LEAST_SHARE = 0.25
_MOST_OTHERS = 0.2
_NEARLY = 0.7
_LONGEST_WORD = 40

QUOTES = '"“”«»„'
_PIECES = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|```|[\"“”«»„]|\n+>?")
_NONE: tuple[str, ...] = ()


class Tally:
    """Counts the last words of one text by language.

    Args:
        quoted: the text begins within a quotation.
    """

    __slots__ = ("_fenced", "_quoted", "_rest", "_words", "known")

    def __init__(self, *, quoted: bool = False) -> None:
        self._words: deque[tuple[str, tuple[str, ...]]] = deque(maxlen=SPAN)
        self._rest = ""
        self._fenced = False
        self._quoted = quoted
        self.known = 0
        """Words so far, known to a language or not, that were counted."""

    def add(self, text: str) -> None:
        """Take the next characters; a word, a mark or a new line at the end waits for what follows it."""
        if self._rest:
            text = self._rest + text
        cut = len(text)
        while cut and (text[cut - 1].isalpha() or text[cut - 1] in "`'’\n") and len(text) - cut < _LONGEST_WORD:
            cut -= 1
        self._rest = text[cut:]
        self._count(text[:cut].lower())

    def finish(self) -> None:
        """Take the last word as it stands."""
        self._count(self._rest.lower())
        self._rest = ""

    def _count(self, text: str) -> None:
        words, of, fenced, quoted = self._words, LANGUAGES_OF, self._fenced, self._quoted
        for piece in _PIECES.findall(text):
            first = piece[0]
            if first == "`":
                fenced, quoted = not fenced, False
            elif fenced:
                continue
            elif first == "\n":
                quoted = piece[-1] == ">"
            elif first in QUOTES:
                quoted = not quoted
            elif not quoted:
                if "’" in piece:
                    piece = piece.replace("’", "'")
                languages = of.get(piece, _NONE)
                if not languages and "'" in piece:
                    # An elided article (l'eau, dell'anno) tells as much as a whole one.
                    piece = piece[: piece.index("'") + 1]
                    languages = _ELIDED.get(piece, _NONE)
                words.append((piece, languages))
                self.known += 1
        self._fenced, self._quoted = fenced, quoted

    def candidates(self) -> list[str]:
        """Give the languages that the last words may be in, the likeliest first; near relations are all given."""
        counts: dict[str, int] = {}
        for _, languages in self._words:
            for language in languages:
                counts[language] = counts.get(language, 0) + 1
        if not counts:
            return []
        order = sorted(counts, key=lambda language: -counts[language])
        least = _NEARLY * counts[order[0]]
        return [language for language in order if counts[language] >= least]

    def is_in(self, language: str, other: str) -> bool:
        """Tell whether the last words are certainly in `language` rather than in `other`."""
        if len(self._words) < LEAST_WORDS:
            return False
        markers = [word for word, languages in self._words if language in languages and other not in languages]
        if len(markers) < max(_LEAST_MARKERS, _LEAST_SHARE * len(self._words)):
            return False
        if len(set(markers)) < _LEAST_DIFFERENT:
            return False
        others = sum([other in languages and language not in languages for _, languages in self._words])
        return others <= _MOST_OTHERS * len(markers)

    def foreign(self, home: str) -> int:
        """Give how many of the last words are common in some language, but not in `home`."""
        return sum([bool(languages) and home not in languages for _, languages in self._words])


_ELIDED = {
    **dict.fromkeys(("j'", "n'", "qu'", "s'", "c'", "m'", "t'"), ("french",)),
    **dict.fromkeys(("d'", "l'"), ("french", "italian")),
    **dict.fromkeys(("dell'", "nell'", "all'", "dall'", "sull'", "un'", "quest'", "c'"), ("italian",)),
}
