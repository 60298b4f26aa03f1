"""Text as the simulated models' tokens.

Rules: lossless (the tokens joined are the text) and the same everywhere; a token is at most eight characters, a space
belongs to the word behind it, as with real tokenizers.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\s?\w{1,7}|\s?[^\w\s]|\s")

PROMPT_OVERHEAD = 8
"""Tokens that a chat template adds to every prompt."""


def tokens_of(text: str) -> list[str]:
    """Cut a text into tokens."""
    return _TOKEN.findall(text)


def prompt_tokens(characters: int, characters_per_token: float) -> int:
    """Give the tokens of a prompt of so many characters: fewer than one a character, and the template's own."""
    return int(characters / characters_per_token) + PROMPT_OVERHEAD
