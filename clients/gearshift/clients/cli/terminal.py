"""What a terminal needs: colours, widths, tables, and text that cannot command it.

Rules: pure functions of text; colours only where they are wanted (a terminal, no NO_COLOR, TERM is not dumb).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Final, TextIO

_ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*m")
_PLAIN: Final = "\x1b[0m"
_UNSAFE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Palette:
    """Colours, or the text as it is."""

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on

    def bold(self, text: str) -> str:
        """Give what matters most."""
        return self._paint("1", text)

    def dim(self, text: str) -> str:
        """Give what matters least."""
        return self._paint("2", text)

    def good(self, text: str) -> str:
        """Give what went well."""
        return self._paint("32", text)

    def bad(self, text: str) -> str:
        """Give what went wrong."""
        return self._paint("31", text)

    def warn(self, text: str) -> str:
        """Give what to look at."""
        return self._paint("33", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_on and text else text


def palette_for(stream: TextIO) -> Palette:
    """Give colours when stream is a terminal that wants them (https://no-color.org)."""
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Palette(is_on=is_wanted and stream.isatty())


def size_of_output() -> os.terminal_size:
    """Give the terminal's own size: a COLUMNS of the environment may be another's, and text is taken back by rows."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return shutil.get_terminal_size()
    return size if size.columns and size.lines else shutil.get_terminal_size()


def safe(text: str) -> str:
    """Take out what could command a terminal: control characters but tab and newline, and bidirectional overrides."""
    return _UNSAFE.sub("", text)


def width_of(text: str) -> int:
    """Give the columns of one line, without its colours."""
    plain = _ESCAPES.sub("", text)
    if plain.isascii():
        return len(plain)
    return sum(_columns(character) for character in plain)


def rows_of(text: str, columns: int) -> int:
    """Give how many times the cursor has moved down after text was printed from column 0 of so wide a terminal."""
    rows, at = 0, 0
    for character in text:
        if character == "\n":
            rows, at = rows + 1, 0
            continue
        wide = 8 - at % 8 if character == "\t" else _columns(character)
        if at + wide > columns:
            rows, at = rows + 1, 0
        at = min(columns, at + wide)
    return rows


def cut(line: str, columns: int) -> str:
    """Cut one line after so many columns; its colours end with it."""
    if width_of(line) <= columns:
        return line
    kept, at, is_painted = "", 0, False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b"):
            kept, is_painted = kept + part, part != _PLAIN
            continue
        for character in part:
            if at + _columns(character) > columns - 1:
                return kept + "…" + (_PLAIN if is_painted else "")
            kept, at = kept + character, at + _columns(character)
    return kept


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], palette: Palette, *, right: str = "") -> str:
    """Lay rows out in columns.

    Args:
        headings: one a column.
        rows: one text a column each.
        palette: for the headings.
        right: one letter a column, "r" for those that are aligned to the right; missing ones are to the left.

    """
    widths = [max(width_of(row[index]) for row in (headings, *rows)) for index in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        padded: list[str] = []
        for index, cell in enumerate(cells):
            space = " " * (widths[index] - width_of(cell))
            padded.append(space + cell if right[index : index + 1] == "r" else cell + space)
        return "  ".join(padded).rstrip()

    return "\n".join([palette.dim(line(headings)), *(line(row) for row in rows)])


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
