"""What the task classifier sees in a prompt.

Rules: a feature tells what is asked, never how long the text is. Only the first HEAD and the last TAIL characters are
read, so the time is bounded for any prompt; instructions stand at the ends, data in the middle. Training and answering
share this module: whatever is changed here needs a new training.

A token is the first six letters of a word ("classify" and "classified" meet in "classi"), the sign "0" for any number,
or one of a few signs. The features of a text are

1. its tokens, and its pairs of neighbouring tokens;
2. "@c": a word of concept c occurs; "@c2", "@c4", "@c8": at least so often among the first words;
3. "^c": a word of concept c is among the very first words.

The concepts are five short lists of words that people use to ask for each task type. They let a word that the training
data lacks ("triage", "draft") count like its neighbours. What each concept weighs is learned.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TypeAlias

HEAD = 600  # characters
TAIL = 200  # characters

Feature: TypeAlias = str | tuple[str, str]
"""A token or concept, or a pair of neighbouring tokens."""

_OPENING = 12  # tokens: where an instruction usually has its verb
_COUNTED = 60  # tokens: where concepts are counted
_TOKEN = re.compile(r"(?<![^\W\d_])[^\W\d_]{1,6}|(?<!\d)\d|[?{}\n$=+*/\\<>\[\]]")

_LISTS = {
    "c": (
        "classify classification categorize categorise category label tag triage bucket sentiment polarity positive "
        "negative neutral toxic spam intent entailment contradiction stance offensive hateful sarcastic ironic detect "
        "moderate judge rate plausible implausible acceptable duplicate determine decide indicate whether true false "
        "correct incorrect yes no options option choices choice topic class belongs appropriate best"
    ),
    "x": (
        "extract entity entities named mentioned mention span phrase fields field parse locate recognize recognise "
        "keyword acronym relation triple identify find list pull fetch json event attribute"
    ),
    "g": (
        "write generate compose create draft rewrite rephrase paraphrase reword summarize summarise summary translate "
        "translation describe story poem essay email headline title caption dialogue dialog article blog haiku slogan "
        "letter simplify shorten expand brainstorm produce convert imagine roleplay pretend polish improve edit role "
        "condense tldr outline"
    ),
    "r": (
        "solve calculate compute equation math mathematical arithmetic prove proof probability sum multiply divide "
        "subtract add remainder integer number total puzzle logic deduce derive reverse sort sorted order elements "
        "index even odd digit function algorithm operation times cost left each per days hours minutes"
    ),
    "e": (
        "represent embed embedding vector retrieve retrieval similar semantically relevant clustering passages "
        "documents query queries search"
    ),
}
_CONCEPTS = {word[:6]: concept for concept, words in _LISTS.items() for word in words.split()}
_LEVELS = {concept: ((8, f"@{concept}8"), (4, f"@{concept}4"), (2, f"@{concept}2")) for concept in _LISTS}


def tokens_of(text: str) -> list[str]:
    """Give the tokens of the two ends of text, in order."""
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]}\n{text[-TAIL:]}"
    return ["0" if token.isdigit() else token for token in _TOKEN.findall(text.lower())]


def features_of(tokens: list[str]) -> set[Feature]:
    """Give the features of a text from its tokens; each counts once, however often it occurs."""
    features: set[Feature] = set(tokens)
    features.update(["@" + _CONCEPTS[token] for token in _CONCEPTS.keys() & set(tokens)])
    features.update(pairwise(tokens))
    counts: dict[str, int] = {}
    for position, token in enumerate(tokens[:_COUNTED]):
        if token in _CONCEPTS:
            concept = _CONCEPTS[token]
            counts[concept] = counts.get(concept, 0) + 1
            if position < _OPENING:
                features.add("^" + concept)
    for concept, count in counts.items():
        features.update([name for level, name in _LEVELS[concept] if count >= level])
    return features
