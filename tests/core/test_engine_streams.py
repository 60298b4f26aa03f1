"""The engine over scripted chains: every stream keeps the rules of the contract, whatever the providers do."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing, suppress
from decimal import Decimal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.answer import Usage
from gearshift.core.blueprint import ChainPolicy, Stage
from gearshift.core.catalogue import Feature
from gearshift.core.config.model import GatesConfig, LimitsConfig
from gearshift.core.errors import NoStageError, NotAcceptedError, RouteError
from gearshift.core.events import Event, ReasoningDelta, TextDelta, ToolCallFragment
from gearshift.core.flight import snapshot
from gearshift.core.provider import Chunk, Timeouts, TokenLogprob
from gearshift.core.request import JsonOutput, LabelOutput, Output, Policy, Request, StreamPolicy, Tool
from gearshift.core.words import (
    AttemptCause,
    AttemptOutcome,
    Complexity,
    FailureKind,
    FinishReason,
    Outcome,
    SwitchMode,
    TaskType,
)
from tests.support.blueprints import ALL_FEATURES, blueprint, policy, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import Replay, replayed

_SCHEMA = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
_LOOP = tuple(" and so on" for _ in range(40))
_FAILURES = st.sampled_from(FailureKind)

_WORDS = st.lists(
    st.sampled_from(["Gears", " shift", " up", ".", "\n", "ing", " when", "  ", " models", "é", " fail"]),
    min_size=1,
    max_size=12,
)


def _confident(text: str, logprob: float) -> Script:
    end = Chunk(finish_reason=FinishReason.STOP, usage=Usage(input_tokens=10, output_tokens=1))
    return Script(chunks=[Chunk(parts=[TextDelta(text)], logprobs=[TokenLogprob(text, logprob)], tokens=1), end])


def _thinking(pieces: list[str]) -> Script:
    script = says(*pieces)
    return changed(script, chunks=[Chunk(parts=[ReasoningDelta("Let me think.")]), *script.chunks])


_TEXT_SCRIPTS = st.one_of(
    _WORDS.map(lambda pieces: says(*pieces)),
    _WORDS.map(lambda pieces: says(*pieces, finish=FinishReason.LENGTH)),
    _WORDS.map(_thinking),
    st.tuples(_FAILURES, _WORDS | st.just([])).map(lambda made: fails(made[0], *made[1])),
    st.just(Script(stalls=True)),
    _WORDS.map(lambda pieces: changed(says(*pieces), chunks=says(*pieces).chunks[:-1], stalls=True)),
    st.just(says(*_LOOP)),
    st.just(says("I'm sorry, but I cannot help with that.")),
    st.just(says(" ")),
    st.just(says(finish=FinishReason.CONTENT_FILTER)),
)
_JSON_SCRIPTS = st.sampled_from(
    [
        says('{"n"', ": 1}"),
        says("```json\n", '{"n": 2}', "\n```"),
        says('{"n": "one"}'),
        says('{"n": '),
        says("no json"),
        says('{"n": 3', finish=FinishReason.LENGTH),
        fails(FailureKind.CONNECTION, '{"n"'),
        fails(FailureKind.RATE_LIMIT, retry_after_s=0.0),
        _confident('{"n": 4}', -0.2),
        _confident('{"n": 5}', -3.0),
    ]
)
_LABEL_SCRIPTS = st.sampled_from(
    [
        says("good"),
        says("Label: bad"),
        says("neither"),
        fails(FailureKind.SERVER, "go"),
        fails(FailureKind.OVERLOAD),
        _confident("good", -0.01),
        _confident("good", -0.2),
        _confident("bad", -0.22),
        _confident("bad", -2.0),
    ]
)
_TOOL_SCRIPTS = st.sampled_from(
    [
        says(
            ToolCallFragment(0, "c1", "look", ""),
            ToolCallFragment(0, "", "", '{"a": 1}'),
            finish=FinishReason.TOOL_CALLS,
        ),
        says(
            "I will look.",
            ToolCallFragment(0, "c1", "look", "{}"),
            ToolCallFragment(1, "c2", "look", '{"b"'),
            ToolCallFragment(1, "", "", ": 2}"),
        ),
        says(ToolCallFragment(0, "c1", "look", "{broken")),
        says("Here", " it", " is."),
        fails(FailureKind.IDLE_TIMEOUT, "I will"),
        fails(FailureKind.SERVER),
    ]
)

_KINDS: dict[str, tuple[st.SearchStrategy[Script], TaskType, Output | None, tuple[Tool, ...]]] = {
    "text": (_TEXT_SCRIPTS, TaskType.GENERATE, None, ()),
    "json": (_JSON_SCRIPTS, TaskType.EXTRACT, JsonOutput(schema=_SCHEMA), ()),
    "labels": (_LABEL_SCRIPTS, TaskType.CLASSIFY, LabelOutput(labels=("good", "bad")), ()),
    "tools": (_TOOL_SCRIPTS, TaskType.GENERATE, None, (Tool(name="look"),)),
}


def _stage(place: int, capability: Complexity, retries: int, prefill: bool) -> Stage:
    made = stage(
        place,
        capability=capability,
        max_retries=retries,
        price=str(10**place),
        features=ALL_FEATURES if prefill else ALL_FEATURES - {Feature.PREFILL},
        limits=LimitsConfig(concurrency=2),
    )
    return changed(made, timeouts=Timeouts(connect_s=0.005, first_token_s=0.005, idle_s=0.005, total_s=0.02))


@st.composite
def _situations(draw: st.DrawFn) -> tuple[Engine, Request, ChainPolicy]:
    scripts, kind, output, tools = _KINDS[draw(st.sampled_from(sorted(_KINDS)))]
    length = draw(st.integers(1, 4))
    prefill = draw(st.booleans())
    stages = [
        _stage(place, draw(st.sampled_from(Complexity)), draw(st.integers(0, 2)), prefill or draw(st.booleans()))
        for place in range(length)
    ]
    chain_policy = policy(
        max_attempts=draw(st.integers(1, 8)),
        max_hops=draw(st.integers(0, 4)),
        require_valid=draw(st.booleans()),
        require_confidence=False,
    )
    streaming = StreamPolicy(
        hold_back_tokens=draw(st.sampled_from([0, 1, 3, 32])),
        hold_back_ms=draw(st.sampled_from([0, 400])),
        mode=draw(st.sampled_from([SwitchMode.REGENERATE, SwitchMode.CONTINUE, SwitchMode.FAIL])),
        escalate_at_end=draw(st.booleans()),
        preview=draw(st.booleans()),
        include_reasoning=draw(st.booleans()),
    )
    made = engine(
        blueprint(*stages, chain_policy=chain_policy),
        [draw(st.lists(scripts, min_size=1, max_size=3)) for _ in range(length)],
    )
    asked = Policy(
        max_attempts=draw(st.none() | st.integers(1, 3)),
        max_cost_usd=draw(st.none() | st.sampled_from([Decimal("0.001"), Decimal("0.01"), Decimal(1)])),
        no_escalation=draw(st.booleans()),
        no_second_look=draw(st.booleans()),
        require_valid=draw(st.booleans()),
    )
    call = request(kind=kind, output=output, tools=tools, stream=streaming, policy=asked)
    return made, call, chain_policy


def _check_caps(made: Engine, replay: Replay, call: Request, chain_policy: ChainPolicy) -> None:
    assert made.upstream_calls <= min(chain_policy.max_attempts, call.policy.max_attempts or 100)
    cap = call.policy.max_cost_usd
    if cap is not None:
        assert sum(record.cost_usd or 0 for record in made.notebook.attempts) <= cap
    positions = [attempt.stage.position for attempt in replay.attempts]
    hops = sum(1 for first, second in itertools.pairwise(positions) if first != second)
    assert hops <= chain_policy.max_hops


@settings(max_examples=300, deadline=None)
@given(situation=_situations())
def test_every_stream_keeps_the_rules(situation: tuple[Engine, Request, ChainPolicy]) -> None:
    made, call, chain_policy = situation

    async def run() -> None:
        with anyio.fail_after(10):
            try:
                stream = made.router.stream(call)
            except NoStageError:
                assert call.policy.max_cost_usd is not None  # every stage is too dear
                return
            replay = await replayed(stream)
        _check_caps(made, replay, call, chain_policy)
        made.check_settled()
        assert replay.completed is not None
        completion = replay.completed.completion
        accepted = completion.outcome is Outcome.ACCEPTED
        requires = chain_policy.require_valid or call.policy.require_valid
        if call.policy.no_escalation:
            assert all(record.cause is not AttemptCause.ESCALATION for record in made.notebook.attempts)
        assert (replay.error is None) == (accepted or (completion.outcome is Outcome.NOT_ACCEPTED and not requires))
        if completion.outcome is Outcome.NOT_ACCEPTED and requires:
            assert isinstance(replay.error, NotAcceptedError)
        assert call.stream is not None
        if not call.stream.include_reasoning:
            assert not replay.reasoning
        if call.stream.mode is SwitchMode.FAIL:
            assert not [each for each in replay.retracts if each.after == 0 and replay.switches]
        assert [each for _, each in made.notebook.calls] == ["" if replay.error is None else replay.error.reason]

    asyncio.run(run())


@settings(max_examples=200, deadline=None)
@given(situation=_situations(), leaves_after=st.integers(0, 12), cancelled=st.booleans())
def test_a_caller_that_leaves_at_any_event_leaves_nothing_behind(
    situation: tuple[Engine, Request, ChainPolicy], leaves_after: int, cancelled: bool
) -> None:
    made, call, chain_policy = situation

    async def read(scope: anyio.CancelScope) -> None:
        replay, seen = Replay(), 0
        try:
            events = made.router.stream(call)
        except NoStageError:
            return
        async with aclosing(events) as stream:
            async for batch in stream:
                replay.apply(batch)
                seen += 1
                if seen > leaves_after:
                    if not cancelled:
                        return
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()

    async def run() -> None:
        with anyio.fail_after(10):
            with anyio.CancelScope() as scope:
                try:
                    await read(scope)
                except RouteError:
                    pass
        made.check_settled()
        assert made.upstream_calls <= chain_policy.max_attempts
        assert len(made.notebook.calls) <= 1

    asyncio.run(run())


@settings(max_examples=300, deadline=None)
@given(situation=_situations())
def test_who_joins_a_shared_stream_at_any_message_keeps_the_rules(
    situation: tuple[Engine, Request, ChainPolicy],
) -> None:
    made, call, _ = situation

    async def run() -> None:
        log: list[list[Event]] = []
        with suppress(RouteError):
            async for batch in made.router.stream(call):
                log.append(batch)
        first = Replay()
        for batch in log:
            first.apply(batch)
        for place in range(1, len(log) + 1):
            late = Replay()
            late.apply(snapshot(log[:place]))
            for batch in log[place:]:
                late.apply(batch)
            assert late.text == first.text
            assert late.reasoning == first.reasoning
            assert late.fragments == first.fragments
            assert late.completed is first.completed
            assert set(late.checkpoints) <= set(first.checkpoints)

    asyncio.run(run())


def _outcomes(made: Engine) -> list[AttemptOutcome]:
    """Give how the attempts ended; being stopped early is a way of being poor."""
    return [
        AttemptOutcome.POOR if record.outcome is AttemptOutcome.STOPPED else record.outcome
        for record in made.notebook.attempts
    ]


@settings(max_examples=150, deadline=None)
@given(situation=_situations())
def test_unary_and_streamed_answers_agree(situation: tuple[Engine, Request, ChainPolicy]) -> None:
    given_engine, call, _chain_policy = situation
    # Held whole, so that a stream may switch wherever a unary call may; what fails in the middle, fails for both; and no
    # window ends before the answer does, since a unary answer has none.
    call = changed(call, stream=StreamPolicy(hold_back_tokens=4096, hold_back_ms=60_000, escalate_at_end=True))
    whole = GatesConfig(window_tokens=4096, window_ms=60_000, min_tokens_per_s=0)
    blueprint = given_engine.router.blueprint
    blueprint = changed(blueprint, config=changed(blueprint.config, gates=whole))
    scripts = [provider.scripts for provider in given_engine.providers.values()]
    made, other = engine(blueprint, scripts), engine(blueprint, scripts)

    async def run() -> None:
        with anyio.fail_after(10):
            try:
                stream = made.router.stream(call)
            except NoStageError:
                with pytest.raises(NoStageError):
                    await other.router.route(call)
                return
            replay = await replayed(stream)
            assert replay.completed is not None
            streamed = replay.completed
            try:
                answer = await other.router.route(call)
            except RouteError as error:
                assert replay.error is not None
                assert type(error) is type(replay.error)
                assert _outcomes(other) == _outcomes(made)
                return
        stopped = any(record.outcome is AttemptOutcome.STOPPED for record in made.notebook.attempts)
        if stopped and answer.completion.outcome is not Outcome.ACCEPTED:
            # A document that was stopped early is no candidate for the best answer; a whole one that failed is.
            return
        assert replay.error is None
        assert answer.text == replay.text
        assert answer.tool_calls == streamed.tool_calls
        one, two = answer.completion, streamed.completion
        assert (one.outcome, one.digest, one.served_by) == (two.outcome, two.digest, two.served_by)
        assert one.verdicts == two.verdicts
        assert _outcomes(other) == _outcomes(made)
        assert [(each.stage, each.cause) for each in one.attempts] == [
            (each.stage, each.cause) for each in two.attempts
        ]
        other.check_settled()

    asyncio.run(run())
