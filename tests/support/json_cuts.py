"""Feed one text to the incremental checker in many cuts, and compare with the full validator."""

import random
from collections.abc import Iterable, Iterator

from gearshift.core.schema import DocumentError, Schema, parse_document
from gearshift.core.schema.streaming import StreamChecker, StreamIssue

SMALL = 48
"""Texts up to this many characters are cut in two at every place."""


def streamed(schema: Schema | None, pieces: Iterable[str]) -> tuple[bool, StreamIssue | None]:
    """Return whether a piece was refused before the end, and the issue."""
    checker = StreamChecker(schema)
    for piece in pieces:
        if (issue := checker.feed(piece)) is not None:
            return True, issue
    issue = checker.finish()
    assert not checker.gave_up
    return False, issue


def is_valid(schema: Schema | None, text: str) -> bool:
    """Return the full validator's verdict on a text."""
    try:
        value = parse_document(text)
    except DocumentError:
        return False
    return schema is None or schema.is_valid(value)


def cuts(text: str, seed: int = 1) -> Iterator[list[str]]:
    """Yield text cut by characters, in two, and by chance."""
    yield list(text)
    if len(text) <= SMALL:
        for place in range(1, len(text)):
            yield [text[:place], text[place:]]
    chance = random.Random(seed)
    for longest in (3, 4, 17):
        pieces: list[str] = []
        at = 0
        while at < len(text):
            size = chance.randint(0, longest)
            pieces.append(text[at : at + size])
            at += size
        yield pieces


def agrees(schema: Schema | None, text: str) -> StreamIssue | None:
    """Assert that the verdict is the full validator's and that no cut changes what is said; return the issue."""
    outcome = streamed(schema, [text])
    assert (outcome[1] is None) is is_valid(schema, text), (text, outcome, schema and schema.canonical)
    for pieces in cuts(text):
        assert streamed(schema, pieces) == outcome, (pieces, schema and schema.canonical)
    if outcome[0] and outcome[1] is not None:
        # The character that it names is the one: without it nothing is said, with it the same.
        offset = outcome[1].offset
        assert offset < len(text)
        assert streamed(schema, [text[: offset + 1]]) == outcome
        assert not streamed(schema, [text[:offset]])[0]
    return outcome[1]
