"""Whether a text that is still being written can become one of some texts.

Rules: the texts are sorted once; a walk narrows them down piece by piece, each
character once, so that it ends at the same character however the text is cut.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

GOOD = -1
"""What `advance` returns while some text still fits."""


def sorted_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """Return texts as a walk needs them."""
    return tuple(sorted(set(texts)))


class Walk:
    """One way through a trie that is never built: a range of sorted texts that begin alike."""

    __slots__ = ("_depth", "_high", "_low", "_texts")

    def __init__(self, texts: tuple[str, ...]) -> None:
        self._texts = texts
        self._low = 0
        self._high = len(texts)
        self._depth = 0

    def advance(self, piece: str) -> int:
        """Take the next characters; return the index in piece of the first that no text has there, or GOOD.

        Not to be called again once a character fitted nothing.
        """
        texts, depth = self._texts, self._depth
        end = depth + len(piece)
        if self._high - self._low == 1:
            if texts[self._low].startswith(piece, depth):
                self._depth = end
                return GOOD
            return _common(piece, texts[self._low], depth)

        def part(text: str) -> str:
            return text[depth:end]

        low = bisect_left(texts, piece, self._low, self._high, key=part)
        high = bisect_right(texts, piece, low, self._high, key=part)
        if low == high:
            # In sorted order, what shares most with piece stands beside its place.
            near = texts[max(low - 1, self._low) : min(low + 1, self._high)]
            return max((_common(piece, text, depth) for text in near), default=0)
        self._low, self._high, self._depth = low, high, end
        return GOOD


def _common(piece: str, text: str, depth: int) -> int:
    for index, char in enumerate(piece):
        if depth + index >= len(text) or text[depth + index] != char:
            return index
    return len(piece)
