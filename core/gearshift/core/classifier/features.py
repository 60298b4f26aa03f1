"""What the task classifier sees in a prompt.

Rules: a feature tells what is asked, never how long the text is. Only the first HEAD and the last TAIL characters are
read, so the time is bounded for any prompt; instructions stand at the ends, data in the middle. Training and answering
share this module: whatever is changed here needs a new training.

A token is the first six letters of a word ("classify" and "classified" meet in "classi"), the sign "0" for any number,
or one of a few signs. A text begins as after a line break, so that its first word, often the verb that asks, is told from the
same word within a sentence. The features of a text are its tokens and its pairs of neighbouring tokens, each counted once.

Complexity has a few more: how many quantities ("@0"), words that relate quantities ("@w") and formula signs ("@s") there
are, in steps. They grow with what has to be worked out; text without them adds nothing, however long it is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import pairwise
from typing import TypeAlias

HEAD = 500  # characters
TAIL = 200  # characters

Feature: TypeAlias = str | tuple[str, str]
"""A token or step, or a pair of neighbouring tokens."""

_TOKEN = re.compile(r"(?<![^\W\d_])[^\W\d_]{1,6}|(?<!\d)\d|[?.:{}\n$=+*/\\<>\[\]]")

_RELATING_WORDS = (
    "after all always altogether before between both cost difference each every except fewer first following half if "
    "least left less more most never not per percent prove quarter remaining rest same second than then third times "
    "total twice why"
)
_RELATING = frozenset(word[:6] for word in _RELATING_WORDS.split())
_STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 14, 20)
_NAMES = {kind: [f"@{kind}{step}" for step in _STEPS] for kind in "0ws"}


def tokens_of(text: str) -> list[str]:
    """Give the tokens of the two ends of text, in order."""
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]}\n{text[-TAIL:]}"
    return ["\n", *("0" if token.isdigit() else token for token in _TOKEN.findall(text.lower()))]


def features_of(tokens: list[str]) -> set[Feature]:
    """Give the features of a text from its tokens."""
    features: set[Feature] = set(tokens)
    features.update(pairwise(tokens))
    return features


def steps_of(tokens: list[str]) -> list[str]:
    """Give the features that only complexity has."""
    counts = (
        ("0", tokens.count("0")),
        ("w", sum(map(_RELATING.__contains__, tokens))),
        ("s", tokens.count("$") + tokens.count("\\")),
    )
    return [name for kind, count in counts if count for name in _NAMES[kind][: bisect_right(_STEPS, count)]]
