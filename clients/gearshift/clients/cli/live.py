"""Text on a terminal that can be taken back.

Rules: gives the characters to write and writes nothing. What has scrolled out of sight cannot be taken back: then that
is said, and the text is written again below.
"""

from __future__ import annotations

from typing import Final

from gearshift.clients.cli.terminal import rows_of, safe

_CLEAR_BELOW: Final = "\x1b[J"


class LiveText:
    """An answer as it stands on a terminal of so many columns and lines."""

    def __init__(self, columns: int, lines: int) -> None:
        self._columns = max(1, columns)
        self._lines = max(1, lines)
        self._shown = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands there."""
        return not self._shown

    def append(self, text: str) -> str:
        """Give what to write to add text."""
        text = safe(text)
        self._shown += text
        return text

    def take_back(self) -> str:
        """Give what to write to have nothing of it stand; the cursor is then at the start of a line."""
        shown, self._shown = self._shown, ""
        if not shown:
            return ""
        rows = rows_of(shown, self._columns)
        if rows >= self._lines:
            return "\n--- what stands above was taken back ---\n"
        return (f"\x1b[{rows}A" if rows else "") + "\r" + _CLEAR_BELOW

    def end(self) -> str:
        """Give what to write to leave the cursor at the start of a line."""
        return "" if not self._shown or self._shown.endswith("\n") else "\n"
