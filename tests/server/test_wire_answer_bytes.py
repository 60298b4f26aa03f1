"""The usual answer is written as bytes: what they say is what the message says, field by field."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gearshift.core.answer import (
    Answer,
    AttemptRecord,
    Completion,
    Cost,
    SkippedStage,
    StageRef,
    Usage,
    Verdict,
)
from gearshift.core.request import ProviderState, Resolution, ToolCall
from gearshift.core.words import (
    AttemptCause,
    AttemptOutcome,
    AttemptRole,
    Complexity,
    FailureKind,
    FinishReason,
    Outcome,
    Sensitivity,
    Source,
    TaskType,
    UsageSource,
    VerdictResult,
)
from gearshift.server.wire import answer_to_wire
from gearshift.server.wire_answer import route_response, usual_answer
from gearshift.v1 import router_pb2

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["é" * 63, "x" * 127, "x" * 128, "y" * 2047, "z" * 20_000]
)
counts = st.integers(0, 2**40) | st.sampled_from([0, 1, 127, 128, 2047, 2048, 16_383, 16_384, 2**31 - 1, 2**31])
times = st.floats(0, 1e9)
money = st.none() | st.decimals(0, 1000, places=12)
STAGES = [
    StageRef(position=0, provider="p", model="m", capability=Complexity.LOW),
    StageRef(position=1, provider="q" * 130, model="ñ", capability=Complexity.HIGH, label="big"),
]
VERDICTS: list[tuple[Verdict, ...]] = [
    (),
    (Verdict(gate="refusal", result=VerdictResult.PASS),),
    tuple(
        [Verdict(gate=f"gate {n}", result=VerdictResult.UNMEASURED, reason="why", detail="d" * n) for n in range(40)]
    ),
]
RESOLUTIONS = [
    Resolution(
        task_id=task_id,
        declared=declared,
        type=TaskType.GENERATE,
        type_source=Source.DECLARATION,
        type_confidence=0.5,
        complexity=Complexity.MEDIUM,
        complexity_source=Source.DECLARATION,
        sensitivity=Sensitivity.INTERNAL,
        sensitivity_source=Source.DECLARATION,
        tenant="acme",
    )
    for task_id, declared in (("t", True), ("u" * 128, False))
]
usages = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    cache_write_tokens=st.sampled_from([0, 0, 0, 300]),
    cache_read_tokens=st.sampled_from([0, 0, 0, 5]),
    reasoning_tokens=st.sampled_from([0, 0, 0, 70_000]),
    source=st.sampled_from(UsageSource),
)


@st.composite
def usual_answers(draw: st.DrawFn) -> Answer:
    stage, verdicts, usage = draw(st.sampled_from(STAGES)), draw(st.sampled_from(VERDICTS)), draw(usages)
    total = draw(money)
    attempt = AttemptRecord(
        number=draw(st.integers(1, 9)),
        stage=stage,
        account=draw(st.sampled_from(["default", "", "second"])),
        role=draw(st.sampled_from(AttemptRole)),
        cause=draw(st.sampled_from(AttemptCause)),
        outcome=draw(st.sampled_from(AttemptOutcome)),
        failure=None,
        detail="",
        verdicts=verdicts,
        usage=usage,
        cost_usd=total,
        queue_ms=draw(st.just(0.0) | times),
        first_token_ms=draw(st.none() | times),
        total_ms=draw(times),
        started_at=1.0,
        served=True,
    )
    return Answer(
        request_id=draw(texts),
        text=draw(texts),
        tool_calls=(),
        reasoning="",
        resolution=draw(st.sampled_from(RESOLUTIONS)),
        completion=Completion(
            outcome=draw(st.sampled_from(Outcome)),
            served_by=stage,
            finish_reason=draw(st.none() | st.sampled_from(FinishReason)),
            verdicts=verdicts,
            attempts=(attempt,),
            usage_served=usage,
            usage_total=usage,
            cost=Cost(
                total_usd=total,
                served_usd=draw(st.just(total) | money),
                strongest_usd=draw(st.just(total) | money),
                strongest_model=draw(texts),
            ),
            digest=draw(texts),
            total_ms=draw(times),
            prompt_key=draw(st.just("") | texts),
        ),
    )


def both(answer: Answer) -> tuple[router_pb2.RouteResponse, router_pb2.RouteResponse]:
    return router_pb2.RouteResponse.FromString(route_response(answer)), router_pb2.RouteResponse(
        answer=answer_to_wire(answer)
    )


@given(usual_answers())
@settings(max_examples=300, deadline=None)
def test_bytes_of_a_usual_answer_say_what_its_message_says(answer: Answer) -> None:
    assert usual_answer(answer) is not None
    written, message = both(answer)
    assert written == message


@pytest.mark.parametrize("tokens", [-1, -(2**40), 2**62])
def test_counts_that_no_provider_should_report_are_written_all_the_same(tokens: int) -> None:
    answer = _plain(Usage(input_tokens=tokens, output_tokens=tokens))
    written, message = both(answer)
    assert written == message
    assert written.answer.completion.usage_total.input_tokens == tokens


def _plain(usage: Usage) -> Answer:
    attempt = AttemptRecord(
        number=1,
        stage=STAGES[0],
        account="default",
        role=AttemptRole.ANSWER,
        cause=AttemptCause.FIRST,
        outcome=AttemptOutcome.ACCEPTED,
        failure=None,
        detail="",
        verdicts=VERDICTS[1],
        usage=usage,
        cost_usd=Decimal("0.002"),
        queue_ms=0.0,
        first_token_ms=2.5,
        total_ms=3.5,
        started_at=1.0,
        served=True,
    )
    return Answer(
        request_id="r",
        text="yes",
        tool_calls=(),
        reasoning="",
        resolution=RESOLUTIONS[0],
        completion=Completion(
            outcome=Outcome.ACCEPTED,
            served_by=STAGES[0],
            finish_reason=FinishReason.STOP,
            verdicts=attempt.verdicts,
            attempts=(attempt,),
            usage_served=usage,
            usage_total=usage,
            cost=Cost(total_usd=attempt.cost_usd, served_usd=attempt.cost_usd),
            digest="abc",
            total_ms=4.5,
        ),
    )


USUAL = _plain(Usage(input_tokens=3, output_tokens=4))
ATTEMPT = USUAL.completion.attempts[0]
OTHER = STAGES[1]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"confidence": 0.5}, id="a confidence"),
        pytest.param({"verdicts": VERDICTS[2]}, id="other verdicts than the attempt's"),
        pytest.param({"usage_total": Usage(input_tokens=9)}, id="more was used than served"),
        pytest.param({"usage_served": Usage(input_tokens=9)}, id="another usage than the attempt's"),
        pytest.param({"skipped": (SkippedStage(stage=OTHER, reason="cap", detail="dear"),)}, id="a skipped stage"),
        pytest.param({"notes": ("a note",)}, id="a note"),
        pytest.param({"cached": True}, id="from a cache"),
        pytest.param({"label_probabilities": {"a": 0.5}}, id="scored labels"),
        pytest.param({"provider_state": ProviderState(provider="p", model="m", data=b"x")}, id="state"),
        pytest.param({"cost": Cost(saved_usd=Decimal(1))}, id="a saving"),
        pytest.param({"served_by": None}, id="nobody served it"),
        pytest.param({"served_by": OTHER}, id="another stage served it"),
        pytest.param({"attempts": ()}, id="no attempt"),
        pytest.param({"attempts": (ATTEMPT, ATTEMPT)}, id="two attempts"),
        pytest.param(
            {"attempts": (structs.replace(ATTEMPT, failure=FailureKind.EMPTY, detail="empty"),)}, id="a failed attempt"
        ),
        pytest.param({"attempts": (structs.replace(ATTEMPT, detail="why"),)}, id="a detail"),
        pytest.param({"attempts": (structs.replace(ATTEMPT, cost_usd=Decimal(2)),)}, id="another sum"),
    ],
)
def test_any_other_completion_is_written_field_by_field(fields: dict[str, object]) -> None:
    answer = structs.replace(USUAL, completion=structs.replace(USUAL.completion, **fields))
    assert usual_answer(answer) is None
    written, message = both(answer)
    assert written == message


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"tool_calls": (ToolCall(id="1", name="n", arguments="{}"),)}, id="tool calls"),
        pytest.param({"reasoning": "because"}, id="reasoning"),
    ],
)
def test_any_other_answer_is_written_field_by_field(fields: dict[str, object]) -> None:
    answer = structs.replace(USUAL, **fields)
    assert usual_answer(answer) is None
    written, message = both(answer)
    assert written == message
