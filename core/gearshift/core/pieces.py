"""Text that comes in pieces.

Rules: pure. A piece that stands alone costs an object and a place, some 70 bytes, which is many times what a token's text
is; so short ones are joined, a run at a time. Long ones stay as they came, and are shared with whoever else keeps them.
"""

from __future__ import annotations

from typing import Final

RUN: Final = 64
"""So many pieces are looked at together."""
_SHORT: Final = 64
"""Characters below which a piece is worth joining, in the mean of its run."""


def folded(run: list[str]) -> list[str]:
    """Give the pieces of a run, joined where they are short."""
    joined = "".join(run)
    return [joined] if len(joined) < _SHORT * len(run) else run


class Pieces:
    """What has been appended so far; `length` is its characters."""

    __slots__ = ("_last", "_runs", "length")

    def __init__(self, text: str = "") -> None:
        self._runs: list[str] = [text] if text else []
        self._last: list[str] = []
        self.length = len(text)

    def append(self, text: str) -> None:
        """Take one more piece; amortised, a character is copied once."""
        last = self._last
        last.append(text)
        self.length += len(text)
        if len(last) == RUN:
            self._runs += folded(last)
            self._last = []

    def text(self, start: int = 0) -> str:
        """Give the text from a character on."""
        whole = "".join([*self._runs, *self._last])
        return whole[start:] if start else whole
