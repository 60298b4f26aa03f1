"""What one call does on its way through the chain, scripted stage by stage."""

from __future__ import annotations

import time
from contextlib import aclosing, suppress
from dataclasses import replace
from decimal import Decimal

import anyio
import pytest

from gearshift.core.answer import StageRef, Usage, Verdict
from gearshift.core.blueprint import ChainPolicy, Stage
from gearshift.core.catalogue import Feature
from gearshift.core.config.model import BreakerConfig, LimitsConfig
from gearshift.core.errors import (
    ChainExhaustedError,
    DeadlineError,
    LedgerError,
    NotAcceptedError,
    RateLimitedError,
)
from gearshift.core.events import ReasoningDelta, TextDelta, ToolCallFragment
from gearshift.core.failures import ProviderFailure
from gearshift.core.gates import Candidate
from gearshift.core.gates.window.base import Watcher
from gearshift.core.ledger.outcomes import JudgedAttempt, confidence_of, measured
from gearshift.core.ledger.row import verdicts_text
from gearshift.core.observer import CallContext, Observer
from gearshift.core.provider import Chunk, Timeouts, TokenLogprob
from gearshift.core.request import (
    JsonOutput,
    LabelOutput,
    Message,
    Parameters,
    Policy,
    ProviderState,
    StreamPolicy,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    user,
)
from gearshift.core.words import (
    AttemptCause,
    AttemptOutcome,
    AttemptRole,
    BreakerState,
    CheckpointPolicy,
    Complexity,
    FailureKind,
    FinishReason,
    Outcome,
    OutcomeVerdict,
    Role,
    Sensitivity,
    SwitchMode,
    TaskType,
    UsageSource,
    VerdictResult,
)
from tests.support.blueprints import ALL_FEATURES, blueprint, policy, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import Replay, replayed

_LOW, _MEDIUM, _HIGH = Complexity.LOW, Complexity.MEDIUM, Complexity.HIGH
_LABELS = LabelOutput(labels=("good", "bad"))
_LOOP = tuple(" and so on" for _ in range(40))


def sure(text: str, logprob: float) -> Script:
    """Give an answer of one token with its log-probability."""
    end = Chunk(finish_reason=FinishReason.STOP, usage=Usage(input_tokens=10, output_tokens=1))
    return Script(chunks=[Chunk(parts=[TextDelta(text)], logprobs=[TokenLogprob(text, logprob)], tokens=1), end])


def streaming(mode: SwitchMode = SwitchMode.REGENERATE, hold: int = 0, **options: bool) -> StreamPolicy:
    return StreamPolicy(hold_back_tokens=hold, mode=mode, **options)


def chain(*capabilities: Complexity, chain_policy: ChainPolicy | None = None) -> tuple[Stage, ...]:
    return tuple(
        stage(place, capability=capability, price=str(10**place), limits=LimitsConfig(concurrency=1))
        for place, capability in enumerate(capabilities)
    )


async def streamed(made: Engine, stream: StreamPolicy, **options: object) -> Replay:
    with anyio.fail_after(5):
        replay = await replayed(made.router.stream(changed(request(**options), stream=stream)))  # type: ignore[arg-type]
    made.check_settled()
    return replay


# -- switching -------------------------------------------------------------------------------------------------------


async def test_a_switch_within_the_window_is_never_seen() -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.SERVER, "a", "b")], [says("c", "d")]])
    replay = await streamed(made, streaming(hold=32))
    assert replay.text == "cd"
    assert not replay.switches
    assert not replay.retracts


async def test_regenerate_takes_back_what_was_sent_with_the_next_text() -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.SERVER, "a", "b")], [says("c", "d")]])
    replay = await streamed(made, streaming())
    assert replay.text == "cd"
    assert [switch.mode for switch in replay.switches] == [SwitchMode.REGENERATE]
    assert [retract.after for retract in replay.retracts] == [0]


async def test_the_partial_is_kept_when_the_rest_of_the_chain_dies() -> None:
    made = engine(
        blueprint(*chain(_LOW, _LOW, _LOW)),
        [[fails(FailureKind.SERVER, "a", "b")], [fails(FailureKind.SERVER)], [fails(FailureKind.OVERLOAD)]],
    )
    replay = await streamed(made, streaming())
    assert replay.text == "ab"
    assert not replay.retracts
    assert isinstance(replay.error, ChainExhaustedError)
    assert [record.failure for record in replay.error.attempts] == [
        FailureKind.SERVER,
        FailureKind.SERVER,
        FailureKind.OVERLOAD,
    ]


async def test_fail_mode_keeps_the_partial_and_tries_nothing_more() -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.SERVER, "a", "b")], [says("c")]])
    replay = await streamed(made, streaming(SwitchMode.FAIL))
    assert replay.text == "ab"
    assert replay.completed is not None
    assert replay.completed.completion.outcome is Outcome.FAILED
    assert not made.providers["p1"].calls
    assert isinstance(replay.error, ChainExhaustedError)


async def test_fail_mode_still_falls_back_before_the_first_text() -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.SERVER)], [says("c", " d")]])
    replay = await streamed(made, streaming(SwitchMode.FAIL))
    assert replay.text == "c d"
    assert replay.error is None


# Long enough for windows to pass and for checkpoints to trail them, and never the same words twice.
_TOLD = ("Numbers:", *(f" {number * 7919 % 10007} and" for number in range(900)))


async def test_continue_goes_on_from_the_last_checkpoint() -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.SERVER, *_TOLD)], [says("so", " it", " ends.")]])
    replay = await streamed(made, streaming(SwitchMode.CONTINUE))
    assert replay.checkpoints
    prefill = made.providers["p1"].calls[0].prefill
    assert prefill
    assert "".join(_TOLD).startswith(f"{prefill} ")
    assert replay.text == f"{prefill} so it ends."
    assert [switch.mode for switch in replay.switches] == [SwitchMode.CONTINUE]
    assert replay.retracts[0].after == replay.checkpoints[-1]


async def test_a_continuation_that_dies_leaves_what_was_committed() -> None:
    made = engine(
        blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.SERVER, "One", " two", " thr")], [fails(FailureKind.SERVER)]]
    )
    replay = await streamed(made, streaming(SwitchMode.CONTINUE))
    assert replay.text == "One two thr"
    assert replay.error is not None


async def test_a_continuation_may_write_only_what_is_left_of_max_tokens() -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.SERVER, *_TOLD)], [says("so", " it", " ends.")]])
    await streamed(made, streaming(SwitchMode.CONTINUE), parameters=Parameters(max_tokens=9000))
    call = made.providers["p1"].calls[0]
    assert call.parameters.max_tokens == 9000 - len(call.prefill) // 4


async def test_continue_behaves_as_fail_when_a_stage_cannot_continue() -> None:
    weak, strong = chain(_LOW, _LOW)
    unable = changed(strong, model=changed(strong.model, features=ALL_FEATURES - {Feature.PREFILL}))
    made = engine(blueprint(weak, unable), [[fails(FailureKind.SERVER, "One", " two")], [says("c")]])
    replay = await streamed(made, streaming(SwitchMode.CONTINUE))
    assert replay.text == "One two"
    assert not replay.checkpoints
    assert not made.providers["p1"].calls
    assert replay.started is not None
    assert replay.started.checkpoints is CheckpointPolicy.NONE
    assert "m1 cannot continue" in replay.started.checkpoints_reason


@pytest.mark.parametrize(
    ("stream", "output", "expected"),
    [
        pytest.param(streaming(), None, CheckpointPolicy.NONE, id="regenerate"),
        pytest.param(streaming(SwitchMode.FAIL), None, CheckpointPolicy.WINDOWS, id="fail"),
        pytest.param(streaming(SwitchMode.CONTINUE), None, CheckpointPolicy.WINDOWS, id="continue"),
        pytest.param(
            streaming(SwitchMode.CONTINUE, escalate_at_end=True), None, CheckpointPolicy.NONE, id="escalates at the end"
        ),
        pytest.param(streaming(SwitchMode.CONTINUE), JsonOutput(), CheckpointPolicy.NONE, id="json"),
        pytest.param(streaming(SwitchMode.FAIL), JsonOutput(), CheckpointPolicy.NONE, id="json held whole"),
        pytest.param(streaming(SwitchMode.FAIL, preview=True), JsonOutput(), CheckpointPolicy.NONE, id="json preview"),
    ],
)
async def test_checkpoints_are_promised_only_where_they_can_be_kept(
    stream: StreamPolicy, output: JsonOutput | None, expected: CheckpointPolicy
) -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[says("{}")], [says("{}")]])
    call = request(stream=stream, output=output, kind=TaskType.EXTRACT if output else TaskType.GENERATE)
    explained = made.router.explain(call)
    assert explained.checkpoints is expected
    assert explained.checkpoints_reason


async def test_a_loop_within_the_window_ends_the_attempt_early() -> None:
    made = engine(blueprint(*chain(_LOW, _MEDIUM)), [[says(*_LOOP)], [says("Fine.")]])
    replay = await streamed(made, streaming(hold=32))
    assert replay.text == "Fine."
    assert not replay.switches
    assert made.providers["p0"].closed_early == 1
    assert [record.outcome for record in made.notebook.attempts] == [AttemptOutcome.STOPPED, AttemptOutcome.ACCEPTED]
    assert made.notebook.attempts[0].usage.source is UsageSource.ESTIMATED


async def test_what_a_gate_has_stopped_is_not_let_out_after_all() -> None:
    made = engine(blueprint(*chain(_LOW)), [[says(*_LOOP)]])
    replay = await streamed(made, streaming(hold=32))
    assert replay.text == ""
    assert isinstance(replay.error, ChainExhaustedError)


async def test_a_poor_end_that_was_sent_is_taken_back_only_on_request() -> None:
    scripts = [[says("I'm sorry, but I cannot help with that.")], [says("Here it is.")]]
    made = engine(blueprint(*chain(_LOW, _HIGH)), scripts)
    replay = await streamed(made, streaming(escalate_at_end=True))
    assert replay.text == "Here it is."
    assert replay.switches[0].reason.startswith("refusal")


async def test_an_earlier_answer_is_restored_when_it_is_the_best() -> None:
    made = engine(
        blueprint(*chain(_LOW, _HIGH)),
        [[sure("good", -0.5)], [sure("bad", -2.0)]],
    )
    replay = await streamed(made, streaming(preview=True, escalate_at_end=True), output=_LABELS, kind=TaskType.CLASSIFY)
    assert replay.text == "good"
    assert [switch.mode for switch in replay.switches] == [SwitchMode.REGENERATE, SwitchMode.RESTORE]
    assert replay.completed is not None
    assert replay.completed.completion.outcome is Outcome.NOT_ACCEPTED


async def test_reasoning_comes_only_when_asked_for_and_never_in_the_text() -> None:
    script = Script(chunks=[Chunk(parts=[ReasoningDelta("Hm.")]), *says("Yes.").chunks])
    made = engine(blueprint(*chain(_LOW)), [[script]])
    replay = await streamed(made, streaming(hold=32, include_reasoning=True))
    assert (replay.text, replay.reasoning) == ("Yes.", "Hm.")
    replay = await streamed(made, streaming(hold=32))
    assert (replay.text, replay.reasoning) == ("Yes.", "")


# -- what is returned --------------------------------------------------------------------------------------------------


async def test_the_most_confident_valid_answer_is_returned() -> None:
    made = engine(
        blueprint(*chain(_LOW, _MEDIUM, _HIGH)), [[sure("good", -0.5)], [sure("bad", -0.4)], [sure("neither", -0.01)]]
    )
    answer = await made.router.route(request(output=_LABELS, kind=TaskType.CLASSIFY))
    assert answer.text == "bad"
    assert answer.completion.outcome is Outcome.NOT_ACCEPTED
    assert [record.served for record in answer.completion.attempts] == [False, True, False]


async def test_the_later_answer_is_returned_on_a_tie() -> None:
    made = engine(blueprint(*chain(_LOW, _HIGH)), [[sure("good", -0.5)], [sure("bad", -0.5)]])
    assert (await made.router.route(request(output=_LABELS, kind=TaskType.CLASSIFY))).text == "bad"


async def test_nothing_valid_is_an_error_under_require_valid() -> None:
    made = engine(blueprint(*chain(_LOW, _HIGH)), [[says("neither")], [says("nor")]])
    with pytest.raises(NotAcceptedError) as caught:
        await made.router.route(request(output=_LABELS, kind=TaskType.CLASSIFY, policy=Policy(require_valid=True)))
    assert caught.value.completion.outcome is Outcome.NOT_ACCEPTED
    made.check_settled()


async def test_no_escalation_returns_the_first_answer() -> None:
    made = engine(blueprint(*chain(_LOW, _HIGH)), [[says("neither")], [says("good")]])
    answer = await made.router.route(request(output=_LABELS, kind=TaskType.CLASSIFY, policy=Policy(no_escalation=True)))
    assert answer.text == "neither"
    assert not made.providers["p1"].calls


async def test_an_empty_answer_is_a_failed_attempt() -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[says(" ", "\n")], [says("Yes.")]])
    answer = await made.router.route(request())
    assert answer.text == "Yes."
    assert answer.completion.attempts[0].failure is FailureKind.EMPTY


async def test_the_cost_is_that_of_every_attempt() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    made = engine(blueprint(*chain(_LOW, _HIGH)), [[says("neither", usage=usage)], [says("good", usage=usage)]])
    answer = await made.router.route(request(output=_LABELS, kind=TaskType.CLASSIFY))
    cost = answer.completion.cost
    assert (cost.total_usd, cost.served_usd, cost.strongest_usd) == (Decimal(11), Decimal(10), Decimal(10))
    assert answer.completion.usage_total.input_tokens == 2_000_000
    assert answer.completion.usage_served.input_tokens == 1_000_000


async def test_a_cap_on_cost_holds_while_the_answer_is_written() -> None:
    made = engine(blueprint(stage(0, price="1000")), [[says("Yes.")]])  # a tenth of a cent a token
    answer = await made.router.route(request(policy=Policy(max_cost_usd=Decimal("0.6"))))
    assert answer.text == "Yes."
    limit = made.providers["p0"].calls[0].parameters.max_tokens
    assert limit is not None
    assert 512 <= limit < 600
    await made.router.route(request(parameters=Parameters(max_tokens=100), policy=Policy(max_cost_usd=Decimal("0.6"))))
    assert made.providers["p0"].calls[1].parameters.max_tokens == 100
    await made.router.route(request(policy=Policy(max_cost_usd=Decimal(1000))))
    assert made.providers["p0"].calls[2].parameters.max_tokens is None


async def test_an_unknown_price_is_unknown_and_never_zero() -> None:
    made = engine(blueprint(stage(0, price=None)), [[says("Yes.")]])
    assert (await made.router.route(request())).completion.cost.total_usd is None


# -- the second look ---------------------------------------------------------------------------------------------------


async def _looked(*scripts: Script, **options: object) -> tuple[Engine, list[AttemptRole]]:
    made = engine(blueprint(*chain(_LOW, _HIGH)), [list(scripts), [sure("good", -0.01)]])
    call = changed(request(output=_LABELS, kind=TaskType.CLASSIFY), **options)
    answer = await made.router.route(call)
    made.check_settled()
    assert answer.text == "good"
    return made, [record.role for record in answer.completion.attempts]


async def test_an_agreeing_second_look_accepts() -> None:
    made, roles = await _looked(sure("good", -0.2), sure("good", -3.0))
    assert roles == [AttemptRole.ANSWER, AttemptRole.CHECK]
    call = made.providers["p0"].calls[1]
    assert call.parameters.temperature is not None
    assert call.parameters.temperature >= 0.7
    assert call.parameters.seed is not None
    assert made.notebook.attempts[0].outcome is AttemptOutcome.ACCEPTED
    assert made.notebook.attempts[0].verdicts[-1].gate == "second_look"
    assert made.notebook.attempts[0].detail == ""
    assert (made.guards[0].figures.accepted, made.guards[0].figures.poor) == (1, 0)


async def test_a_calibrated_second_look_says_how_sure_the_answer_is_now() -> None:
    measuring = replace(policy(), confidence="answer")
    made = engine(
        blueprint(*chain(_LOW, _HIGH), chain_policy=measuring),
        [[sure("good", -0.2), sure("good", -3.0)], [sure("good", -0.01)]],
    )
    answer = await made.router.route(request(output=_LABELS, kind=TaskType.CLASSIFY))
    made.check_settled()
    verdict = made.notebook.attempts[0].verdicts[-1]
    assert (verdict.gate, verdict.measured is not None and verdict.measured[0]) == ("second_look", "agreement")
    assert answer.completion.confidence == verdict.confidence
    assert answer.completion.confidence is not None
    assert answer.completion.confidence > 0.9
    judged = JudgedAttempt(
        request_id="r", verdict=OutcomeVerdict.ACCEPTED, chain="c", task_type="classify", position=0, provider="p",
        model="m", verdicts=verdicts_text(made.notebook.attempts[0].verdicts), cost_usd=None,
    )  # fmt: skip
    assert [each.measure for each in measured([judged])] == ["logprobs", "agreement"]
    assert confidence_of(judged) == pytest.approx(verdict.confidence, abs=0.001)


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(sure("bad", -0.01), id="another label"),
        pytest.param(sure("neither", -0.01), id="no label"),
        pytest.param(fails(FailureKind.SERVER), id="a failure"),
    ],
)
async def test_a_second_look_that_does_not_agree_escalates(second: Script) -> None:
    made, roles = await _looked(sure("good", -0.2), second)
    assert roles == [AttemptRole.ANSWER, AttemptRole.CHECK, AttemptRole.ANSWER]
    assert made.notebook.attempts[2].cause is AttemptCause.ESCALATION
    assert made.notebook.attempts[0].outcome is AttemptOutcome.POOR


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"parameters": Parameters(temperature=0.0)}, id="the caller fixed the temperature"),
        pytest.param({"parameters": Parameters(seed=1)}, id="the caller fixed the seed"),
        pytest.param({"policy": Policy(no_second_look=True)}, id="the caller forbids it"),
    ],
)
async def test_a_second_look_is_not_taken_when(options: dict[str, object]) -> None:
    _, roles = await _looked(sure("good", -0.2), **options)
    assert roles == [AttemptRole.ANSWER, AttemptRole.ANSWER]


async def test_equal_documents_agree_however_they_are_written() -> None:
    made = engine(blueprint(*chain(_LOW, _HIGH)), [[sure('{"a": 1, "b": 2}', -0.2), sure('{"b":2,"a":1}', -0.2)], []])
    answer = await made.router.route(request(output=JsonOutput(), kind=TaskType.EXTRACT))
    assert answer.completion.outcome is Outcome.ACCEPTED
    assert answer.text == '{"a": 1, "b": 2}'


async def test_a_second_look_is_not_streamed() -> None:
    made = engine(blueprint(*chain(_LOW, _HIGH)), [[sure("good", -0.2), sure("good", -0.2)], []])
    replay = await streamed(made, streaming(), output=_LABELS, kind=TaskType.CLASSIFY)
    assert replay.text == "good"
    assert [attempt.role for attempt in replay.attempts] == [AttemptRole.ANSWER, AttemptRole.CHECK]


# -- retries and errors ------------------------------------------------------------------------------------------------


async def test_a_retry_is_an_attempt_of_its_own() -> None:
    made = engine(blueprint(stage(0, max_retries=1)), [[fails(FailureKind.SERVER), says("Yes.")]])
    answer = await made.router.route(request())
    assert [record.cause for record in answer.completion.attempts] == [AttemptCause.FIRST, AttemptCause.RETRY]
    assert [record.number for record in answer.completion.attempts] == [1, 2]
    made.check_settled()


async def test_an_exhausted_chain_says_what_happened_on_each_stage() -> None:
    made = engine(
        blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.RATE_LIMIT, retry_after_s=30)], [fails(FailureKind.SERVER)]]
    )
    with pytest.raises(ChainExhaustedError) as caught:
        await made.router.route(request())
    assert "p0/m0: scripted rate_limit" in caught.value.message
    assert "p1/m1: scripted server" in caught.value.message
    assert caught.value.retry_after_s == 30
    assert caught.value.completion.outcome is Outcome.FAILED


async def test_a_rate_limited_stage_is_passed_over_for_as_long_as_it_asked() -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.RATE_LIMIT, retry_after_s=60)], [says("Yes.")]])
    for number in range(3):
        assert (await made.router.route(request(request_id=f"r{number}"))).text == "Yes."
    assert len(made.providers["p0"].calls) == 1


async def test_every_limit_spent_says_how_long_to_wait() -> None:
    made = engine(blueprint(stage(0, limits=LimitsConfig(requests_per_minute=1))), [[says("Yes.")]])
    await made.router.route(request())
    with anyio.fail_after(5), pytest.raises(RateLimitedError) as caught:
        await made.router.route(request())
    assert 0 < caught.value.retry_after_s <= 60
    assert "requests of p0/default/m0" in caught.value.limit


async def test_an_open_breaker_is_skipped_and_told() -> None:
    made = engine(blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.AUTHENTICATION)], [says("Yes.")]])
    await made.router.route(request())
    answer = await made.router.route(request())
    assert len(made.providers["p0"].calls) == 1
    assert [(each.stage.position, each.reason) for each in answer.completion.skipped] == [(0, "breaker")]


async def test_a_chain_out_of_use_says_when_to_come_back() -> None:
    made = engine(blueprint(*chain(_LOW)), [[fails(FailureKind.AUTHENTICATION)]])
    with pytest.raises(ChainExhaustedError):
        await made.router.route(request())
    with pytest.raises(ChainExhaustedError) as caught:
        await made.router.route(request())
    assert not caught.value.attempts
    assert caught.value.retry_after_s is not None
    assert 200 < caught.value.retry_after_s <= 300


async def test_a_deadline_in_the_past_is_refused() -> None:
    made = engine(blueprint(*chain(_LOW)), [[says("Yes.")]])
    with anyio.move_on_after(0), pytest.raises(DeadlineError):
        await made.router.route(request())
    assert made.upstream_calls == 0


async def test_a_stalled_chain_completes_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gearshift.core.prepare.COMPLETED_MARGIN_S", 0.5)  # wide, for busy machines
    stages = [changed(each, timeouts=Timeouts()) for each in chain(_LOW, _LOW)]
    made = engine(blueprint(*stages), [[Script(stalls=True)], [Script(stalls=True)]])
    with anyio.fail_after(0.8):
        replay = await replayed(made.router.stream(changed(request(), stream=streaming())))
    assert isinstance(replay.error, DeadlineError)
    assert len(made.notebook.attempts) == 2  # the time was split
    made.check_settled()


# -- leaving -----------------------------------------------------------------------------------------------------------


async def test_a_caller_that_leaves_closes_the_upstream_and_pays_what_was_used() -> None:
    script = Script(chunks=[Chunk(parts=[TextDelta("some words")], tokens=3)], hangs=True)
    made = engine(blueprint(*chain(_LOW)), [[script]])
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            await replayed(made.router.stream(changed(request(), stream=streaming())))

        tasks.start_soon(read)
        with anyio.fail_after(5):
            await made.providers["p0"].hanging.wait()
        tasks.cancel_scope.cancel()
    made.check_settled()
    assert made.providers["p0"].closed_early == 1
    (record,) = made.notebook.attempts
    assert record.outcome is AttemptOutcome.CANCELLED
    assert record.usage.source is UsageSource.ESTIMATED
    assert (record.usage.output_tokens, record.usage.input_tokens > 0) == (3, True)
    assert record.cost_usd is not None
    assert record.cost_usd > 0
    assert made.notebook.calls[0][1] == "CANCELLED"


async def test_a_unary_caller_that_leaves_is_billed_as_well() -> None:
    made = engine(blueprint(*chain(_LOW)), [[Script(hangs=True)]])
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.router.route, request())
            await made.providers["p0"].hanging.wait()
            scope.cancel()
    made.check_settled()
    assert made.notebook.attempts[0].outcome is AttemptOutcome.CANCELLED
    assert made.notebook.attempts[0].usage.input_tokens > 0


async def test_a_caller_that_leaves_before_the_call_went_out_pays_nothing() -> None:
    made = engine(blueprint(*chain(_LOW)), [[says("Yes.")]])
    async with aclosing(made.router.stream(changed(request(), stream=streaming()))) as stream:
        async for _ in stream:
            break  # started and the attempt were told; nothing went upstream yet
    made.check_settled()
    assert made.upstream_calls == 0
    assert not made.notebook.attempts


class _DeafLedger(Observer):
    """Cannot write the audit line."""

    def attempt_starting(self, context: CallContext, stage: StageRef, account: str) -> None:
        raise LedgerError("the disk is full")


async def test_a_call_whose_audit_line_cannot_be_written_does_not_go_out() -> None:
    made = engine(blueprint(*chain(_LOW)), [[says("Yes.")]], observers=[_DeafLedger()])
    with pytest.raises(LedgerError):
        await made.router.route(request())
    assert made.upstream_calls == 0
    assert all(guard.figures.in_flight == 0 for guard in made.guards)
    assert all(bucket.level(0.0) == bucket.capacity for guard in made.guards for bucket in guard.buckets)


class _BrokenGate:
    """An own gate with a bug."""

    name = "broken"

    def judge(self, candidate: Candidate) -> Verdict | None:
        raise ZeroDivisionError


async def test_a_broken_gate_loses_no_place() -> None:
    made = engine(blueprint(*chain(_LOW)), [[says("Yes.")]], gates=[_BrokenGate()])
    with pytest.raises(ZeroDivisionError):
        await made.router.route(request())
    made.check_settled()


class _BrokenWatch(_BrokenGate):
    """An own gate whose bug is in what watches a stream."""

    def watch(self) -> Watcher:
        raise ZeroDivisionError


async def test_a_gate_that_breaks_before_the_call_is_made_loses_no_place() -> None:
    made = engine(blueprint(*chain(_LOW)), [[says("Yes.")]], gates=[_BrokenWatch()])
    with anyio.fail_after(5):  # a call that finds no place waits for one
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async for _batch in made.router.stream(request(stream=StreamPolicy())):
                    pass
    assert made.upstream_calls == 0
    made.check_settled()


class _Picky:
    """An own gate that finds short answers poor."""

    name = "length"

    def judge(self, candidate: Candidate) -> Verdict | None:
        result = VerdictResult.PASS if len(candidate.text) > 5 else VerdictResult.LOW
        return Verdict(gate=self.name, result=result, detail="short")


async def test_own_gates_judge_too() -> None:
    made = engine(blueprint(*chain(_LOW, _HIGH)), [[says("Yes.")], [says("Certainly.")]], gates=[_Picky()])
    answer = await made.router.route(request())
    assert answer.text == "Certainly."
    assert answer.completion.attempts[1].cause is AttemptCause.ESCALATION


# -- the call that goes out ------------------------------------------------------------------------------------------


async def test_opaque_state_goes_back_to_its_own_model_only() -> None:
    state = ProviderState(provider="p1", model="m1", data=b"signed")
    loop = (
        user("Look."),
        Message(
            role=Role.ASSISTANT,
            parts=(Text("I look."), ToolCall(id="c", name="look", arguments="{}")),
            provider_state=state,
        ),
        Message(role=Role.TOOL, parts=(ToolResult(tool_call_id="c", content="found"),)),
    )
    made = engine(blueprint(*chain(_LOW, _LOW)), [[says("B")], [fails(FailureKind.SERVER)]])
    answer = await made.router.route(request(messages=loop))
    # The open tool loop stays on its model; on a fault the opaque part is dropped, and that is said.
    assert made.providers["p1"].calls[0].messages[1].provider_state == state
    assert made.providers["p0"].calls[0].messages[1].provider_state is None
    assert any("left out" in note for note in answer.completion.notes)


async def test_a_tool_loop_stays_on_its_model_though_that_keeps_no_state() -> None:
    look = ToolCallFragment(0, "c1", "look", "{}")
    made = engine(blueprint(*chain(_LOW, _LOW)), [[fails(FailureKind.SERVER), says("A")], [says(look), says("B")]])
    call = request(tools=(Tool(name="look"),))
    turn = await made.router.route(call)
    state = turn.completion.provider_state
    assert state == ProviderState(provider="p1", model="m1", data=b"")
    messages = (
        *call.messages,
        Message(role=Role.ASSISTANT, parts=turn.tool_calls, provider_state=state),
        Message(role=Role.TOOL, parts=(ToolResult(tool_call_id="c1", content="found"),)),
    )
    answer = await made.router.route(changed(call, messages=messages))
    assert answer.text == "B"
    # There is nothing in it for any provider, and nothing that could be left out.
    assert made.providers["p1"].calls[1].messages[1].provider_state is None
    assert answer.completion.notes == ()
    # The next question begins at the cheap end again.
    over = (*messages, Message(role=Role.ASSISTANT, parts=(Text("B"),)), user("And now?"))
    assert (await made.router.route(changed(call, messages=over))).text == "A"


async def test_restricted_tasks_go_to_cleared_and_secure_providers_only() -> None:
    stages = (
        stage(0),
        stage(1, clearance=Sensitivity.RESTRICTED, secure=False),
        stage(2, clearance=Sensitivity.RESTRICTED),
    )
    made = engine(blueprint(*stages), [[says("A")], [says("B")], [says("C")]])
    answer = await made.router.route(request(sensitivity=Sensitivity.RESTRICTED))
    assert answer.text == "C"
    assert [each.reason for each in answer.completion.skipped] == ["clearance", "clearance"]
    assert made.upstream_calls == 1


async def test_what_a_restricted_answer_said_is_not_in_its_verdicts() -> None:
    made = engine(
        blueprint(stage(0, clearance=Sensitivity.RESTRICTED), chain_policy=policy(max_attempts=1)), [[says("secret")]]
    )
    for output, kind in ((_LABELS, TaskType.CLASSIFY), (JsonOutput(schema='{"type":"object"}'), TaskType.EXTRACT)):
        answer = await made.router.route(request(sensitivity=Sensitivity.RESTRICTED, output=output, kind=kind))
        assert "secret" not in repr(answer.completion)


async def test_a_failure_without_detail_is_told_by_the_table() -> None:
    silent = changed(fails(FailureKind.OVERLOAD), failure=ProviderFailure(FailureKind.OVERLOAD, ""))
    made = engine(blueprint(*chain(_LOW)), [[silent]])
    with pytest.raises(ChainExhaustedError, match="the provider is overloaded"):
        await made.router.route(request())


# -- documents that are watched while they are written -----------------------------------------------------------------

_COUNT = JsonOutput(
    schema='{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'
)


async def test_a_wrong_key_stops_a_document_before_its_end() -> None:
    wrong = says('{"', "wro", 'ng": ', *["1"] * 200, "}")
    made = engine(blueprint(*chain(_LOW, _HIGH)), [[wrong], [says('{"n": 1}')]])
    replay = await replayed(made.router.stream(changed(request(), stream=streaming(), output=_COUNT)))
    assert replay.text == '{"n": 1}'
    first, second = made.notebook.attempts
    assert (first.outcome, second.outcome) == (AttemptOutcome.STOPPED, AttemptOutcome.ACCEPTED)
    assert first.verdicts[0].reason == "schema_additionalProperties"
    assert first.usage.output_tokens < 10
    assert made.providers["p0"].closed_early == 1
    made.check_settled()


async def test_a_wrong_document_of_the_last_stage_comes_back_marked() -> None:
    made = engine(blueprint(*chain(_LOW)), [[says('{"wrong": ', "1", "}")]])
    replay = await replayed(made.router.stream(changed(request(), stream=streaming(), output=_COUNT)))
    assert replay.text == '{"wrong": 1}'
    assert replay.completed is not None
    assert replay.completed.completion.outcome is Outcome.NOT_ACCEPTED


async def test_a_loop_after_a_checkpoint_is_continued_from_there() -> None:
    loops = says(*_TOLD, *[" and so on and so on"] * 120)
    made = engine(blueprint(*chain(_LOW, _HIGH)), [[loops], [says(" it", " ends.")]])
    replay = await streamed(made, streaming(SwitchMode.CONTINUE))
    assert replay.checkpoints
    assert made.notebook.attempts[0].outcome is AttemptOutcome.STOPPED
    assert replay.text.endswith(" it ends.")
    assert [switch.mode for switch in replay.switches] == [SwitchMode.CONTINUE]


# -- what callers may not do to the health of a provider -------------------------------------------------------------


async def _hasty(made: Engine, seconds: float, **options: object) -> None:
    ends_by = time.monotonic() + seconds
    with suppress(DeadlineError, ChainExhaustedError):
        if "stream" in options:
            async for _batch in made.router.stream(request(**options), ends_by=ends_by):  # type: ignore[arg-type]
                pass
        else:
            await made.router.route(request(**options), ends_by=ends_by)  # type: ignore[arg-type]


_FRAGILE = BreakerConfig(consecutive_faults=2, window=4, fault_rate=0.5)
_WRITES_ON = fails(FailureKind.TOTAL_TIMEOUT, "word ")


@pytest.mark.parametrize(
    ("script", "options"),
    [
        pytest.param(Script(stalls=True), {}, id="whole"),
        pytest.param(Script(stalls=True), {"stream": StreamPolicy()}, id="stream"),
        pytest.param(_WRITES_ON, {"stream": StreamPolicy()}, id="stream that has begun"),
    ],
)
async def test_callers_in_a_hurry_take_no_provider_out_of_use(script: Script, options: dict[str, object]) -> None:
    made = engine(blueprint(stage(0, breaker=_FRAGILE)), [[script]])
    for number in range(6):
        await _hasty(made, 0.1, request_id=f"r{number}", **options)
    assert made.upstream_calls == 6
    assert made.guards[0].breaker.state is BreakerState.CLOSED
    assert made.guards[0].figures.failures == 6
    made.check_settled()


async def test_a_provider_that_is_much_slower_than_usual_is_taken_out_of_use() -> None:
    made = engine(blueprint(stage(0, breaker=_FRAGILE)), [[says("Yes."), Script(stalls=True)]])
    await made.router.route(request())
    made.guards[0].figures.total_ms = 10.0
    for number in range(2):
        await _hasty(made, 0.2, request_id=f"r{number}")
    assert made.guards[0].breaker.state is BreakerState.OPEN


async def test_a_provider_that_takes_longer_than_is_configured_is_taken_out_of_use() -> None:
    quick = Timeouts(connect_s=0.01, first_token_s=0.01, idle_s=0.01, total_s=0.02)
    made = engine(blueprint(changed(stage(0, breaker=_FRAGILE), timeouts=quick)), [[Script(stalls=True)]])
    for number in range(2):
        await _hasty(made, 5.0, request_id=f"r{number}")
    assert made.guards[0].breaker.state is BreakerState.OPEN


async def test_prompts_that_ask_for_nothing_take_no_provider_out_of_use() -> None:
    made = engine(blueprint(stage(0, breaker=_FRAGILE)), [[says(" "), says(finish=FinishReason.LENGTH)]])
    for number in range(6):
        with pytest.raises(ChainExhaustedError):
            await made.router.route(request(request_id=f"r{number}"))
    assert made.guards[0].breaker.state is BreakerState.CLOSED
    assert [record.failure for record in made.notebook.attempts] == [FailureKind.EMPTY] * 6
