"""Text in pieces is the text, and short pieces cost little more than their characters."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.composer import Composer
from gearshift.core.events import TextDelta
from gearshift.core.pieces import Pieces
from gearshift.core.provider import Chunk
from gearshift.core.transcript import Transcript

_TOKENS = 50_000
_TOKEN = " gear"


@given(st.lists(st.text(max_size=12), max_size=300), st.integers(0, 400))
def test_pieces_are_the_text_that_was_appended(texts: list[str], start: int) -> None:
    pieces, transcript = Pieces(), Transcript()
    for text in texts:
        pieces.append(text)
        transcript.add(Chunk(parts=[TextDelta(text)], tokens=1), 0.0)
        transcript.fold()
    whole = "".join(texts)
    assert pieces.text() == transcript.raw == whole
    assert pieces.text(start) == whole[start:]
    assert pieces.length == len(whole)


def test_a_text_goes_on_after_it_was_read() -> None:
    transcript = Transcript()
    for number in range(1000):
        transcript.add(Chunk(parts=[TextDelta(f" {number}")], tokens=1), 0.0)
        transcript.fold()
        if number % 90 == 0:
            assert transcript.raw.endswith(f" {number}")
    assert transcript.raw == "".join(f" {number}" for number in range(1000))


def test_long_pieces_are_shared_and_not_copied() -> None:
    pieces, long = Pieces(), "x" * 4096
    tracemalloc.start()
    try:
        for _ in range(1000):
            pieces.append(long)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 100_000 < pieces.length


def test_a_long_answer_token_by_token_keeps_a_few_bytes_a_character() -> None:
    """Each token once in the transcript and once in the view of the caller, and not an object for either."""
    composer = Composer(hold_all=False, hold_tokens=0, hold_s=0.0, reasoning=False)
    transcript = Transcript()
    composer.begin()
    tracemalloc.start()
    try:
        for number in range(_TOKENS):
            part = TextDelta(_TOKEN[: 1 + number % 5] + "é"[number % 3 :])  # made anew, as on the wire
            transcript.add(Chunk(parts=[part], tokens=1), 0.0)
            transcript.fold()
            composer.feed([part], 1, 0.0)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert composer.released == transcript.raw
    assert kept <= 4 * len(transcript.raw)
