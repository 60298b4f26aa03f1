"""The accumulator against a model of the contract: replay gives the text, and what breaks the rules is found."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.clients import Accumulator, StreamProtocolError, digest
from gearshift.v1 import call_pb2, stream_pb2
from tests.support.fake_router import attempt, checkpoint, completed, delta, fragment, retract, started, switch


@dataclass
class Model:
    """The contract, said as simply as can be: all deltas ever sent, and which of them stand."""

    deltas: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    last: int = 0
    committed: int = 0

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.deltas)

    @property
    def live(self) -> list[int]:
        return [number for number, _ in self.deltas]


Step = tuple[str, int, str]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("delta", "delta", "delta", "retract", "checkpoint")),
        st.integers(0, 6),
        st.text(st.characters(codec="utf-8"), max_size=6),
    ),
    max_size=40,
)


def _events(steps: list[Step]) -> tuple[list[stream_pb2.Event], Model]:
    """Make a lawful stream, without its end, and what it must come to."""
    events, model = [started(), attempt(1)], Model()
    for kind, choice, text in steps:
        if kind == "delta":
            model.last += 1 + choice  # gaps are legal
            model.deltas.append((model.last, text))
            events.append(delta(model.last, text))
        elif kind == "retract":
            places = [number for number in (0, *model.live) if number >= model.committed]
            after = places[choice % len(places)]
            model.deltas = [(number, text) for number, text in model.deltas if number <= after]
            events.append(retract(after))
        elif later := [number for number in model.live if number > model.committed]:
            model.committed = later[choice % len(later)]
            events.append(checkpoint(model.committed))
    return events, model


@given(STEPS)
def test_replay_gives_the_text(steps: list[Step]) -> None:
    events, model = _events(steps)
    answer, shown = Accumulator(), ""
    for event in events:
        text = answer.apply(event)
        shown = answer.text if text is None else shown + text
        assert shown == answer.text
    assert answer.text == model.text
    assert answer.checkpoint == model.committed
    assert model.text.startswith(answer.committed)
    assert not answer.digest_matches()
    answer.apply(completed(model.text))
    assert answer.digest_matches()


@given(STEPS)
def test_committed_text_is_never_taken_back(steps: list[Step]) -> None:
    events, _ = _events(steps)
    answer, committed = Accumulator(), ""
    for event in events:
        answer.apply(event)
        assert answer.committed.startswith(committed)
        committed = answer.committed


@given(STEPS, st.data())
def test_what_breaks_the_rules_is_found_and_changes_nothing(steps: list[Step], data: st.DataObject) -> None:
    events, model = _events(steps)
    dead = sorted(set(range(1, model.last + 2)) - set(model.live))
    wrong = [started(), attempt(1), delta(model.last, "x"), delta(0, "x"), checkpoint(0), checkpoint(model.committed)]
    wrong += [retract(number) for number in dead] + [checkpoint(number) for number in dead]
    wrong += [retract(number) for number in (0, *model.live) if number < model.committed]
    answer = Accumulator()
    for event in events:
        answer.apply(event)
    with pytest.raises(StreamProtocolError):
        answer.apply(data.draw(st.sampled_from(wrong)))
    assert (answer.text, answer.checkpoint) == (model.text, model.committed)
    answer.apply(completed(model.text))
    assert answer.digest_matches()


@given(st.sampled_from([started(), attempt(9), delta(99, "x"), checkpoint(1), retract(0), switch(), completed("")]))
def test_nothing_follows_completed(event: stream_pb2.Event) -> None:
    answer = Accumulator()
    for one in (started(), delta(1, "a"), completed("a")):
        answer.apply(one)
    with pytest.raises(StreamProtocolError, match="after completed"):
        answer.apply(event)


def test_nothing_comes_before_started() -> None:
    with pytest.raises(StreamProtocolError, match="before started"):
        Accumulator().apply(delta(1, "a"))


def test_a_kind_of_a_later_contract_is_passed_over() -> None:
    answer = Accumulator()
    answer.apply(started())
    assert answer.apply(stream_pb2.Event.FromString(b"\xfa\x01\x00")) == ""


def test_reasoning_is_kept_apart_and_taken_back_with_the_rest() -> None:
    answer = Accumulator()
    for event in (started(), delta(1, "a"), delta(2, reasoning="because"), delta(3, "b", reasoning=" so")):
        answer.apply(event)
    assert (answer.text, answer.reasoning) == ("ab", "because so")
    assert answer.apply(retract(2)) is None
    assert (answer.text, answer.reasoning) == ("a", "because")
    assert answer.apply(retract(1)) == ""  # no text went
    assert answer.reasoning == ""


def test_fragments_of_tool_calls_are_joined_by_their_index() -> None:
    answer = Accumulator()
    for event in (
        started(),
        attempt(1),
        fragment(1, 0, '{"ci', call_id="c1", name="weather"),
        fragment(2, 1, "{}", call_id="c2", name="time"),
        fragment(3, 0, 'ty":1}'),
    ):
        answer.apply(event)
    assert [(one.id, one.name, one.arguments) for one in answer.tool_calls] == [
        ("c1", "weather", '{"city":1}'),
        ("c2", "time", "{}"),
    ]


def test_fragments_of_another_attempt_are_other_calls() -> None:
    answer = Accumulator()
    for event in (
        started(),
        attempt(1),
        fragment(1, 0, '{"half', call_id="c1", name="weather"),
        switch(),
        attempt(2),
        retract(0),
        fragment(2, 0, "{}", call_id="c9", name="weather"),
    ):
        answer.apply(event)
    assert [(one.id, one.arguments) for one in answer.tool_calls] == [("c9", "{}")]


def test_the_digest_of_tool_calls_is_of_their_canonical_json() -> None:
    calls = [call_pb2.ToolCall(id="c1", name="weather", arguments='{"city": "Málaga"}')]
    assert digest("ignored", calls) == digest('[{"arguments":"{\\"city\\": \\"Málaga\\"}","id":"c1","name":"weather"}]')
    answer = Accumulator()
    for event in (started(), fragment(1, 0, "{}", call_id="c1", name="weather"), completed("", tool_calls=calls)):
        answer.apply(event)
    assert answer.digest_matches()
    assert answer.tool_calls == tuple(calls)


def test_a_text_that_was_lost_on_the_way_is_noticed() -> None:
    answer = Accumulator()
    for event in (started(), delta(1, "a"), completed("ab")):
        answer.apply(event)
    assert not answer.digest_matches()
