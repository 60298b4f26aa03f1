"""How many tokens a call will take, before it is made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.estimate import UNKNOWN_OUTPUT_TOKENS, Estimator, measure
from gearshift.core.request import Image, JsonOutput, LabelOutput, Message, Text, Tool, ToolCall, ToolResult
from gearshift.core.words import Role
from tests.support.blueprints import stage
from tests.support.engine import request

_MODEL = stage(0).model


def test_output_is_the_default_until_it_is_known() -> None:
    estimator = Estimator()
    for _ in range(19):
        estimator.learn("t", _MODEL, 0, 10, 30)
    assert estimator.output_tokens("t", _MODEL, None) == UNKNOWN_OUTPUT_TOKENS
    assert estimator.output_tokens("t", _MODEL, 100) == 100
    estimator.learn("t", _MODEL, 0, 10, 30)
    assert estimator.output_tokens("t", _MODEL, None) == 30
    assert estimator.output_tokens("t", _MODEL, 20) == 20
    assert estimator.output_tokens("other", _MODEL, None) == UNKNOWN_OUTPUT_TOKENS


def test_output_is_the_95th_percentile_of_late() -> None:
    estimator = Estimator()
    for tokens in range(1, 129):
        estimator.learn("t", _MODEL, 0, 10, tokens)
    assert estimator.output_tokens("t", _MODEL, None) == 122
    for _ in range(128):
        estimator.learn("t", _MODEL, 0, 10, 5)
    assert estimator.output_tokens("t", _MODEL, None) == 5


def test_the_factor_of_a_model_is_learned() -> None:
    estimator = Estimator()
    before = estimator.input_tokens(8000, 0, _MODEL)
    for _ in range(100):
        estimator.learn("t", _MODEL, 8000, 4000, 1)
    assert before == 2008
    assert 3950 <= estimator.input_tokens(8000, 0, _MODEL) <= 4010


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000)), max_size=40))
def test_estimates_stay_sane_whatever_is_reported(reports: list[tuple[int, int, int]]) -> None:
    estimator = Estimator()
    for characters, entered, written in reports:
        estimator.learn("t", _MODEL, characters, entered, written)
    assert 8000 / 16 <= estimator.input_tokens(8000, 0, _MODEL) <= 8000 / 0.5 + 8
    assert 1 <= estimator.output_tokens("t", _MODEL, None) <= 10_000


def test_everything_that_the_model_reads_is_measured() -> None:
    call = request(
        messages=(
            Message(role=Role.USER, parts=(Text("12345"), Image(url="https://x"))),
            Message(role=Role.ASSISTANT, parts=(ToolCall(id="c", name="look", arguments="{}"),)),
            Message(role=Role.TOOL, parts=(ToolResult(tool_call_id="c", content="found"),)),
        ),
        tools=(Tool(name="look", description="Looks.", parameters_schema="{}"),),
    )
    assert measure(call, None, 100) == (100 + 5 + 6 + 5 + 12, 1)
    assert measure(call, LabelOutput(labels=("a", "bc"), examples=(("x", "a"),)), 0)[0] == 28 + 3 + 2
    assert measure(call, JsonOutput(schema="{}"), 0)[0] == 28 + 2
