"""What the caller sees of the attempts, without a loop."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.composer import Composer, digest_of, seam
from gearshift.core.events import Checkpoint, Delta, DeltaPart, Event, ReasoningDelta, Retract, TextDelta
from gearshift.core.request import ToolCall


def composer(
    *, hold_all: bool = False, hold_tokens: int = 0, hold_s: float = 0.4, reasoning: bool = False, commit: bool = False
) -> Composer:
    return Composer(hold_all=hold_all, hold_tokens=hold_tokens, hold_s=hold_s, reasoning=reasoning, commit=commit)


class View:
    """A client's view."""

    def __init__(self) -> None:
        self.live: list[Delta] = []
        self.checkpoint = 0
        self.highest = 0

    def apply(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Delta():
                    assert event.number > self.highest
                    self.highest = event.number
                    self.live.append(event)
                case Retract():
                    assert event.after >= self.checkpoint
                    assert event.after == 0 or any(delta.number == event.after for delta in self.live)
                    self.live = [delta for delta in self.live if delta.number <= event.after]
                case Checkpoint():
                    assert event.through > self.checkpoint
                    assert any(delta.number == event.through for delta in self.live)
                    self.checkpoint = event.through
                case _:
                    raise AssertionError(event)

    @property
    def text(self) -> str:
        return "".join(part.text for delta in self.live for part in delta.parts if isinstance(part, TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(part.text for delta in self.live for part in delta.parts if isinstance(part, ReasoningDelta))


def text(*pieces: str) -> list[DeltaPart]:
    return [TextDelta(piece) for piece in pieces]


def test_nothing_is_held_with_a_window_of_zero() -> None:
    stream = composer()
    stream.begin()
    assert stream.feed(text("a"), 1, 0.0) == [Delta(1, (TextDelta("a"),), 0)]
    assert not stream.holding


def test_the_window_is_full_by_tokens_or_by_time() -> None:
    stream = composer(hold_tokens=3, hold_s=0.4)
    stream.begin()
    assert stream.feed(text("a"), 1, 0.0) == []
    assert not stream.due(0.39)
    assert stream.due(0.4)
    stream.feed(text("b"), 2, 0.1)
    assert stream.due(0.1)
    assert stream.release() == [Delta(1, (TextDelta("a"), TextDelta("b")), 0)]
    assert stream.feed(text("c"), 1, 0.2) == [Delta(2, (TextDelta("c"),), 1)]


def test_tokens_are_guessed_where_the_wire_does_not_count_them() -> None:
    stream = composer(hold_tokens=10)
    stream.begin()
    stream.feed(text("x" * 40), 0, 0.0)
    assert stream.due(0.0)


def test_whole_holding_waits_for_the_end() -> None:
    stream = composer(hold_all=True)
    stream.begin()
    assert stream.feed(text("```json\n", "{}", "\n```"), 900, 0.0) == []
    assert not stream.due(1e9)
    assert stream.settle("{}", (), "fences") == [Delta(1, (TextDelta("{}"),), 0)]


def test_tool_calls_are_given_whole() -> None:
    stream = composer(hold_all=True)
    stream.begin()
    call = ToolCall(id="1", name="f", arguments="{}")
    events = stream.settle("", (call,), "")
    assert len(events) == 1
    assert stream.released == ""


def test_a_retraction_travels_with_the_next_text() -> None:
    stream = composer()
    stream.begin()
    stream.feed(text("a"), 1, 0.0)
    stream.drop("died")
    stream.begin()
    assert stream.released == "a"
    assert stream.feed(text("b"), 1, 0.0) == [Retract(0, "died"), Delta(2, (TextDelta("b"),), 0)]
    assert stream.released == "b"


def test_the_partial_stays_when_the_rest_of_the_chain_dies() -> None:
    stream = composer(hold_tokens=2)
    stream.begin()
    stream.feed(text("a"), 2, 0.0)
    stream.release()
    stream.drop("died")
    stream.begin()
    stream.feed(text("b"), 1, 0.0)
    assert stream.keep() == []
    assert stream.released == "a"


def test_what_is_held_is_released_when_it_is_all_there_is() -> None:
    stream = composer(hold_tokens=9)
    stream.begin()
    stream.feed(text("a"), 1, 0.0)
    assert stream.keep() == [Delta(1, (TextDelta("a"),), 0)]


def test_a_final_text_that_differs_is_sent_again() -> None:
    stream, view = composer(), View()
    stream.begin()
    view.apply(stream.feed(text("Label: a"), 1, 0.0))
    view.apply(stream.settle("a", (), "differs"))
    assert view.text == "a"
    assert view.highest == 2


def test_held_text_that_differs_is_never_sent() -> None:
    stream = composer(hold_tokens=32)
    stream.begin()
    stream.feed(text("Label: a"), 1, 0.0)
    assert stream.settle("a", (), "differs") == [Delta(1, (TextDelta("a"),), 0)]


def test_tool_calls_are_sent_again_with_a_text_that_differs() -> None:
    stream, view = composer(), View()
    call = ToolCall(id="1", name="f", arguments="{}")
    stream.begin()
    view.apply(stream.feed(text("x"), 1, 0.0))
    view.apply(stream.settle("y", (call,), "differs"))
    assert len(view.live[-1].parts) == 2


def test_an_empty_end_takes_back_what_another_attempt_sent() -> None:
    stream, view = composer(), View()
    stream.begin()
    view.apply(stream.feed(text("a"), 1, 0.0))
    stream.drop("died")
    stream.begin()
    view.apply(stream.settle("", (), ""))
    assert view.text == ""


def test_an_earlier_answer_is_sent_again_under_new_numbers() -> None:
    stream, view = composer(), View()
    stream.begin()
    view.apply(stream.feed(text("first"), 1, 0.0))
    stream.drop("poor")
    stream.begin()
    view.apply(stream.feed(text("second"), 1, 0.0))
    events = stream.restore("first", (), "the best")
    view.apply(events)
    assert events == [Retract(0, "the best"), Delta(3, (TextDelta("first"),), 0)]


def test_checkpoints_stand_at_seams_only() -> None:
    stream = composer(commit=True)
    stream.begin()
    assert stream.feed(text("Hello"), 1, 0.0) == [Delta(1, (TextDelta("Hello"),), 0)]
    assert stream.feed(text("ish"), 1, 0.0) == [Delta(2, (TextDelta("ish"),), 0)]
    assert stream.feed(text(" wor"), 1, 0.0) == [Delta(3, (TextDelta(" wor"),), 0)]
    assert stream.feed(text("ld "), 1, 0.0) == [Delta(4, (TextDelta("ld "),), 0)]
    assert stream.feed(text(" again"), 1, 0.0) == [Delta(5, (TextDelta(" again"),), 0)]
    assert stream.pass_window(100) == [Checkpoint(2)]
    assert stream.committed_text() == "Helloish"
    assert stream.pass_window(100) == []


def test_checkpoints_trail_what_a_later_window_may_still_find() -> None:
    stream = composer(commit=True)
    stream.begin()
    for piece in ("One", " two", " three"):
        stream.feed(text(piece), 1, 0.0)
    assert stream.pass_window(2) == []
    assert stream.pass_window(6) == [Checkpoint(1)]
    assert stream.pass_window(7) == [Checkpoint(2)]


def test_a_continuation_stands_after_the_checkpoint() -> None:
    stream, view = composer(commit=True), View()
    stream.begin()
    for piece in ("One", " two", " thr"):
        view.apply(stream.feed(text(piece), 1, 0.0))
    view.apply(stream.pass_window(100))
    stream.drop("died")
    prefix = stream.committed_text()
    assert prefix == "One two"
    stream.begin(prefix=prefix)
    view.apply(stream.feed(text("three"), 1, 0.0))  # it came without its space
    view.apply(stream.feed(text(" four"), 1, 0.0))
    final = prefix + stream.continued("three four")
    view.apply(stream.settle(final, (), "differs"))
    assert view.text == final == "One two three four"


def test_white_space_before_a_continuation_waits_for_a_visible_character() -> None:
    stream, view = composer(commit=True), View()
    stream.begin()
    for piece in ("One.", " Two"):
        view.apply(stream.feed(text(piece), 1, 0.0))
    view.apply(stream.pass_window(100))
    stream.drop("died")
    stream.begin(prefix="One.")
    view.apply(stream.feed(text("\n"), 1, 0.0))
    view.apply(stream.feed(text("\n"), 1, 0.0))
    assert view.text == "One. Two"
    view.apply(stream.feed(text("Three"), 1, 0.0))
    assert view.text == "One.\n\nThree"
    assert stream.settle("One." + stream.continued("\n\nThree"), (), "") == []


def test_the_seam_stays_where_it_was_first_seen() -> None:
    stream, view = composer(commit=True), View()
    stream.begin()
    for piece in ("The quick brown", " fox"):
        view.apply(stream.feed(text(piece), 1, 0.0))
    view.apply(stream.pass_window(100))
    stream.drop("died")
    stream.begin(prefix="The quick brown")
    # Piece by piece the overlap is not seen; what was released and even committed must stay.
    pieces = ("The", " quick", " brown", " fox")
    for piece in pieces:
        view.apply(stream.feed(text(piece), 1, 0.0))
        view.apply(stream.pass_window(100))
    final = "The quick brown" + stream.continued("".join(pieces))
    view.apply(stream.settle(final, (), "differs"))
    assert view.text == final


@pytest.mark.parametrize(
    ("standing", "continuation", "joined"),
    [
        pytest.param("One two", " three", "One two three", id="as it should come"),
        pytest.param("One two", "three", "One two three", id="without its space"),
        pytest.param("One two", "\nthree", "One two\nthree", id="with other white space"),
        pytest.param(
            "I saw the quick brown fox", "the quick brown fox jump", "I saw the quick brown fox jump", id="overlap"
        ),
        pytest.param(
            "I saw the quick brown fox", " the quick brown foxes", "I saw the quick brown fox es", id="overlap inside"
        ),
        pytest.param("the cat", "the cat", "the cat the cat", id="too short for an overlap"),
    ],
)
def test_a_continuation_is_joined_at_its_seam(standing: str, continuation: str, joined: str) -> None:
    before, cut = seam(standing, continuation)
    assert standing + before + continuation[cut:] == joined


def test_reasoning_is_never_held_and_is_dropped_with_the_rest() -> None:
    stream, view = composer(hold_tokens=32, reasoning=True), View()
    stream.begin()
    view.apply(stream.feed([ReasoningDelta("hm")], 1, 0.0))
    assert view.reasoning == "hm"
    stream.drop("died")
    stream.begin()
    view.apply(stream.feed([ReasoningDelta("well")], 1, 0.0))
    view.apply(stream.feed(text("a"), 32, 0.0))
    view.apply(stream.release())
    assert (view.text, view.reasoning) == ("a", "well")


def test_reasoning_is_left_out_unless_asked_for() -> None:
    stream = composer()
    stream.begin()
    assert stream.feed([ReasoningDelta("hm"), TextDelta("a")], 1, 0.0) == [Delta(1, (TextDelta("a"),), 0)]


def test_the_digest_is_of_text_or_of_tool_calls() -> None:
    assert digest_of("", ()) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    call = ToolCall(id="1", name="f", arguments='{"a": 1}')
    assert digest_of("text", (call,)) == digest_of("other", (call,))
    assert digest_of("", (call,)) != digest_of("", (ToolCall(id="1", name="f", arguments='{"a":1}'),))


# -- properties ------------------------------------------------------------------------------------------------------

_PIECES = st.lists(
    st.sampled_from(["a", "bc", " ", " d", "e ", "\n", "fgh ijkl mnop qrst", ".", "é", "  "]), max_size=8
)
_ATTEMPT = st.tuples(_PIECES, st.sampled_from(["settle", "other", "drop", "drop", "think"]), st.booleans())


@settings(max_examples=400, deadline=None)
@given(
    attempts=st.lists(_ATTEMPT, min_size=1, max_size=5),
    hold_tokens=st.integers(0, 6),
    hold_all=st.booleans(),
    reasoning=st.booleans(),
    commit=st.booleans(),
)
def test_replaying_always_gives_the_final_text(
    attempts: list[tuple[list[str], str, bool]], hold_tokens: int, hold_all: bool, reasoning: bool, commit: bool
) -> None:
    commit = commit and not hold_all
    stream = composer(hold_all=hold_all, hold_tokens=hold_tokens, reasoning=reasoning, commit=commit)
    view, standing, first = View(), "", ""
    for pieces, end, thinks in attempts:
        prefix = stream.committed_text() if commit else ""
        stream.begin(prefix=prefix)
        if thinks:
            view.apply(stream.feed([ReasoningDelta("hm")], 1, 0.0))
        for piece in pieces:
            view.apply(stream.feed(text(piece), 1, 0.0))
            if stream.due(0.0):
                view.apply(stream.release())
            assert view.text == stream.released
        whole = "".join(pieces)
        final = prefix + stream.continued(whole) if prefix else whole
        if end in ("settle", "other") and whole.strip():
            if end == "other" and not commit:
                final = f"<{final}>"
            view.apply(stream.settle(final, (), "differs"))
            assert view.text == final == stream.released
            if first and not commit:
                view.apply(stream.restore(first, (), "the best"))
                assert view.text == first
            return
        first = first or whole
        standing = view.text
        stream.drop("died")
        assert view.text == standing
    view.apply(stream.keep())
    assert view.text == stream.released
    assert view.text.startswith(stream.committed_text())
