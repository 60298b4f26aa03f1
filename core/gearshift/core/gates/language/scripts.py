"""Which script a text is written in, told by its letters' code points, which is certain."""

from __future__ import annotations

from bisect import bisect_right

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


def mostly_ascii(text: str) -> bool:
    """Tell, cheaply, whether so much of a text is ASCII that its letters cannot be mostly of another script."""
    return text.isascii() or 2 * len(text.encode("ascii", "ignore")) >= len(text)


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
