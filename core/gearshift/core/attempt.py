"""One upstream call: made, read, judged, settled.

Rules: an attempt is settled exactly once, synchronously, however it ended; the transcript tells what was used. What is
released on the way is the composer's business; a window that is full is judged before it is released.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import structs

from gearshift.core.admission import Permit
from gearshift.core.answer import NO_USAGE, AttemptRecord, Usage, Verdict
from gearshift.core.call import PreparedCall
from gearshift.core.catalogue import Feature
from gearshift.core.composer import Composer
from gearshift.core.course import Try
from gearshift.core.events import Event, TextDelta
from gearshift.core.failures import FAILURE_RULES, ProviderFailure
from gearshift.core.gates import Candidate, Finding, Judgement
from gearshift.core.gates.asked import Asked
from gearshift.core.gates.window.document import DocumentWatch
from gearshift.core.gates.window.throughput import GATE as THROUGHPUT
from gearshift.core.gates.window.watch import Watch
from gearshift.core.meter import Meter, meter_of
from gearshift.core.plan import affordable_output, machine_time_cost, smallest, token_cost
from gearshift.core.provider import CacheHint, Chunk, ProviderCall, Timeouts
from gearshift.core.request import JsonOutput, LabelOutput, Message, Parameters, ProviderState, ToolCall
from gearshift.core.transcript import Transcript
from gearshift.core.wake import Wake
from gearshift.core.words import (
    AttemptOutcome,
    AttemptRole,
    FailureKind,
    FinishReason,
    Sensitivity,
    UsageSource,
)

if TYPE_CHECKING:
    from gearshift.core.chain import ChainRunner

_SECOND_LOOK_TEMPERATURE = 0.7
_STATE_DROPPED = "the reasoning state of an earlier turn belongs to another model and was left out"


class Attempt:
    """One upstream call and what came of it.

    `stated` is the model's own word on how sure it is: 0 to 1, NOT_SAID, or None where it was not asked.

    Args:
        prefix: committed text that the answer begins with and that the model continues.
        has_way_up: whether a poor answer could go to a stronger stage.

    """

    stated: float | None = None

    def __init__(
        self,
        runner: ChainRunner,
        call: PreparedCall,
        composer: Composer,
        step: Try,
        permit: Permit,
        number: int,
        prefix: str,
        *,
        has_way_up: bool = True,
    ) -> None:
        self._runner = runner
        self._call = call
        self._composer = composer
        self.step = step
        self.permit = permit
        self.number = number
        self.prefix = prefix
        self._has_way_up = has_way_up
        self.transcript = Transcript()
        self.failure: ProviderFailure | None = None
        self.stopped: Verdict | None = None
        self.judgement: Judgement | None = None
        self.outcome = AttemptOutcome.CANCELLED
        self.final = ""
        self.tool_calls: tuple[ToolCall, ...] = ()
        self.usage: Usage = NO_USAGE
        self.cost: Decimal | None = Decimal(0)
        self.detail = "the caller left before it ended"
        self._watch: Watch | None = None
        self._document: DocumentWatch | None = None
        self._meter: Meter | None = None
        if call.request.stream is not None and step.role is AttemptRole.ANSWER:
            # An answer that comes whole has no windows to judge.
            try:
                self._watch = call.judge.watch(self._asked(), time.perf_counter())
                self._document = self._document_watch()
                self._meter = meter_of(permit, step.planned, call.judge.window_tokens)
            except BaseException:
                permit.cancel()  # an own gate has broken; a place that is not given back is lost for good
                raise
        self._passed = 0
        self._wake: Wake | None = None
        self._timeouts: Timeouts | None = None
        """Those that it was given, where its caller's deadline made them shorter than the stage's."""
        self.made = False
        """Whether the call went upstream."""
        self._ended = False
        self._total_ms = 0.0
        self._started_at = time.time()
        self._began = time.perf_counter()

    def chunks(self) -> AsyncGenerator[Chunk]:
        """Make the call."""
        self.made = True
        chunks = self._runner.providers[self.step.planned.stage.provider.name].stream(self._provider_call())
        return self._meter.paced(chunks) if self._meter is not None and self.permit.answers_later else chunks

    async def read(self) -> None:
        """Make the call and take its answer whole: nobody reads along."""
        answer = self._runner.answering.get(self.step.planned.stage.provider.name)
        if answer is not None:
            self.made = True
            await answer(self._provider_call(), self._took)
            return
        chunks = self.chunks()
        try:
            async for chunk in chunks:
                self._took(chunk)
        except BaseException:
            await chunks.aclose()
            raise

    def _took(self, chunk: Chunk) -> None:
        self.transcript.add(chunk, time.perf_counter())

    def take(self, chunk: Chunk) -> list[Event]:
        """Take one upstream read; give what the caller sees of it."""
        now = time.perf_counter()
        self.transcript.add(chunk, now)
        self.transcript.fold()
        if self._meter is not None:
            self._meter.take(chunk)
        if self.step.role is AttemptRole.CHECK:
            return []
        if not chunk.parts:
            return self._look_at_held([], now) if self._wake is not None else []
        composer, watch = self._composer, self._watch
        if watch is not None:
            text = "".join([part.text for part in chunk.parts if isinstance(part, TextDelta)])
            if text:
                verdict = watch.feed(text, chunk.tokens, chunk.logprobs, now)
                if verdict is None and self._document is not None:
                    verdict = self._document.feed(text)
                if verdict is not None:
                    return self._stop(verdict)
            else:
                watch.resume(now)  # reasoning is no slow text
        events = composer.feed(chunk.parts, chunk.tokens, now)
        if composer.holding:
            events = self._look_at_held(events, now)
            if self.stopped is not None:
                return events  # reasoning has its numbers already
        if watch is not None and watch.passed != self._passed:
            self._passed = watch.passed
            events += composer.pass_window(watch.clean)
        return events

    def resume(self) -> None:
        """Note that the caller has taken what it was given, and the provider is waited for again."""
        if self._watch is not None:
            self._watch.resume(time.perf_counter())

    def hush(self) -> None:
        """Do not wake the adapter any more."""
        if self._wake is not None:
            self._wake.cancel()

    def _look_at_held(self, events: list[Event], now: float) -> list[Event]:
        """Judge and release what is held once it is due; until then see to it that this is noticed without a read."""
        composer, watch, wake = self._composer, self._watch, self._wake
        if composer.due(now):
            self.hush()
            # What is held is judged before it is shown, however short its window is.
            if watch is not None and (verdict := watch.look(now)) is not None:
                return [*events, *self._stop(verdict)]
            events += composer.release()
        elif wake is not None and not wake.is_set and (left := composer.hold_left(now)) is not None:
            wake.after(left)  # again, where a timer rang a little early
        return events

    def _asked(self) -> Asked:
        """Give what the answer is compared with; nothing is joined before a gate looks."""
        call = self._call
        return Asked(call.prompt, call.request.messages, call.resolved.output)

    def _document_watch(self) -> DocumentWatch | None:
        """Give what watches a JSON answer; where tools are allowed, text may be something else than the document."""
        call = self._call
        if not isinstance(call.resolved.output, JsonOutput) or call.request.tools or not call.policy.enforce_schema:
            return None
        if not self._has_way_up or (call.policy.repair and call.hold_all):
            return None  # nothing is gained by stopping: the best answer there is comes back, marked; or its stage mends it
        is_restricted = call.resolved.resolution.sensitivity is Sensitivity.RESTRICTED
        return DocumentWatch(call.schema, restricted=is_restricted)

    def _stop(self, verdict: Verdict) -> list[Event]:
        """Stop at a hard failure; too slow a stream is the provider's fault, so that any stage may take over."""
        self.stopped = verdict
        if verdict.gate == THROUGHPUT:
            self.failure = ProviderFailure(FailureKind.IDLE_TIMEOUT, verdict.detail)
        return []

    def end(self) -> None:
        """Note that the provider's answer came to its end by itself (or was stopped by a window)."""
        self._ended = True

    def settle(self) -> None:
        """Judge what came, work out what it used and cost, and give back what was reserved too much."""
        if not self.made:
            self.permit.cancel()
            return
        call, stage, transcript = self._call, self.step.planned.stage, self.transcript
        now = time.perf_counter()
        self._total_ms = (now - self._began) * 1000
        complete = self._ended and self.failure is None
        tells = (
            True  # of the provider's health: not where what was asked for, or how soon, may be to blame for a failure
        )
        filtered = transcript.finish_reason is FinishReason.CONTENT_FILTER
        if complete and self.stopped is None and transcript.is_empty and not filtered:
            self.failure = ProviderFailure(FailureKind.EMPTY, "the answer held neither text nor a tool call")
            complete, tells = False, False
        failure = self.failure
        if failure is not None and tells:
            tells = self._tells(failure.kind)
        ended = complete and self.stopped is None
        if ended and transcript.usage is not None:  # most calls, whose input need not be estimated
            self.usage = transcript.usage
        else:
            self.usage = transcript.used(self.step.planned.input_tokens, failure, ended=ended)
        self.cost = self._price()
        if failure is not None:
            self.outcome = AttemptOutcome.FAILED
            self.detail = failure.detail or FAILURE_RULES[failure.kind].told
        try:
            if complete:
                self._judge()
        finally:
            # Also when an own gate breaks: a place that is not given back is lost for good.
            accepted = None
            if complete and self.judgement is not None and self.step.role is AttemptRole.ANSWER:
                accepted = self.judgement.finding is Finding.ACCEPT
            self.permit.settle(
                tokens=self.usage.input_tokens + self.usage.output_tokens,
                cost_usd=self.cost,
                failure=failure.kind if failure is not None else None,
                cancelled=failure is None and not complete,
                accepted=accepted,
                first_token_ms=self._first_token_ms(),
                total_ms=self._total_ms,
                now=time.monotonic(),
                retry_after_s=failure.retry_after_s if failure is not None else None,
                tells=tells,
            )
        if complete and self.usage.source is UsageSource.REPORTED and not call.images:
            self._runner.estimator.learn(
                call.resolved.resolution.task_id,
                stage.model,
                call.characters,
                self.usage.input_tokens,
                self.usage.output_tokens,
            )

    def _tells(self, kind: FailureKind) -> bool:
        """Tell whether a failure says anything of the provider's health; it may be the caller's doing."""
        streaming = self._call.request.stream is not None
        if streaming and kind is FailureKind.TOTAL_TIMEOUT and self.transcript.first_token_at is not None:
            return False  # it was writing: the answer is long, or its reader slow
        given = self._timeouts
        given_s = None if given is None else given.shortened(kind, self.step.planned.stage.timeouts)
        return given_s is None or not self.permit.guard.figures.was_hurried(given_s, of_first_token=streaming)

    def rank(self) -> tuple[bool, float]:
        """Give what answers are compared by: valid first, then the confidence."""
        assert self.judgement is not None
        confidence = self.judgement.confidence
        return self.judgement.valid, confidence if confidence is not None else -1.0

    def state(self) -> ProviderState | None:
        """Give the provider's opaque state, to be sent back with this turn; empty where there is only a model to stay on."""
        data = self.transcript.provider_state
        if data is None:
            if not self.tool_calls:
                return None
            data = b""  # nothing to keep but the model, on which a tool loop stays
        stage = self.step.planned.stage
        return ProviderState(provider=stage.provider.name, model=stage.model.id, data=data)

    def record(self, *, served: bool) -> AttemptRecord:
        """Give the ledger's row."""
        return AttemptRecord(
            number=self.number,
            stage=self.step.planned.stage.ref,
            account=self.permit.account.name,
            role=self.step.role,
            cause=self.step.cause,
            outcome=self.outcome,
            failure=self.failure.kind if self.failure is not None else None,
            detail=self.detail,
            verdicts=self.judgement.verdicts if self.judgement is not None else (),
            usage=self.usage,
            cost_usd=self.cost,
            queue_ms=self.permit.queue_s * 1000,
            first_token_ms=self._first_token_ms(),
            total_ms=self._total_ms,
            started_at=self._started_at,
            served=served,
        )

    def _judge(self) -> None:
        call, transcript = self._call, self.transcript
        if self.stopped is not None:
            self.outcome = AttemptOutcome.STOPPED
            self.detail = self.stopped.detail
            self.judgement = Judgement(
                finding=Finding.HARD,
                verdicts=(self.stopped,),
                confidence=None,
                valid=False,
                summary=f"{self.stopped.gate}: {self.stopped.detail}",
            )
            return
        self.tool_calls = transcript.tool_calls
        # A tool call is no document: the output spec speaks of the turn that answers.
        output = None if self.tool_calls else call.resolved.output
        text = transcript.final(output)
        if self.prefix:
            text = self.prefix + self._composer.continued(text)
        self.final = text
        self.judgement = call.judge.judge(
            Candidate(
                text=text,
                raw=transcript.raw,
                task_type=call.resolved.resolution.type,
                output=output,
                tool_calls=self.tool_calls,
                finish_reason=transcript.finish_reason,
                logprobs=transcript.logprobs,
                label_probabilities=transcript.label_probabilities,
                length_asked=call.request.parameters.max_tokens is not None,
                schema=call.schema,
                restricted=call.resolved.resolution.sensitivity is Sensitivity.RESTRICTED,
                asked=self._asked()
                if call.judge.measures_answers or (call.judge.check_coherence and not isinstance(output, LabelOutput))
                else None,
                model=self.step.planned.stage.model.id if call.judge.measures_answers else "",
                stated=self.stated,
            )
        )
        passed = self.judgement.finding is Finding.ACCEPT
        self.outcome = AttemptOutcome.ACCEPTED if passed else AttemptOutcome.POOR
        self.detail = "" if passed else self.judgement.summary

    def _price(self) -> Decimal | None:
        stage = self.step.planned.stage
        if stage.model.self_hosted:
            return machine_time_cost(stage, self._total_ms / 1000, self.permit.machine_s())
        if self.usage is NO_USAGE:
            return Decimal(0)
        return token_cost(stage.model, self.usage, datetime.now(UTC))

    def _first_token_ms(self) -> float | None:
        first = self.transcript.first_token_at
        return None if first is None else (first - self._began) * 1000

    def _provider_call(self) -> ProviderCall:
        call, step = self._call, self.step
        stage, model = step.planned.stage, step.planned.stage.model
        features, streaming = model.features, call.request.stream is not None
        timeouts = stage.timeouts
        # What was spent waiting in line is no longer there.
        remaining = max(0.001, call.ends_at - time.monotonic())
        budget = min(step.budget_s, remaining)
        whole = remaining if streaming else budget
        if timeouts.first_token_s > budget or timeouts.total_s > whole:
            timeouts = Timeouts(
                connect_s=min(timeouts.connect_s, budget),
                first_token_s=min(timeouts.first_token_s, budget),
                idle_s=timeouts.idle_s,
                total_s=min(timeouts.total_s, whole),
            )
            self._timeouts = timeouts
        if streaming and 0 < call.judge.stall_s < timeouts.idle_s:
            timeouts = Timeouts(
                connect_s=timeouts.connect_s,
                first_token_s=timeouts.first_token_s,
                idle_s=call.judge.stall_s,
                total_s=timeouts.total_s,
            )
        hint = CacheHint.NONE
        if call.prompt_key and Feature.CACHE_CONTROL in features and (reuse := self._runner.reuse) is not None:
            prefix_tokens = int(len(call.prompt.static) / model.characters_per_token)
            hint = reuse.hint(model, call.prompt_key, prefix_tokens, time.monotonic())
        if streaming and step.role is AttemptRole.ANSWER and self._composer.holds_for_a_time:
            self._wake = Wake()
        return ProviderCall(
            model=model,
            account=self.permit.account,
            timeouts=timeouts,
            messages=self._messages(),
            system_static=call.prompt.static,
            system_dynamic=call.prompt.dynamic,
            tools=call.request.tools,
            tool_choice=call.request.tool_choice,
            output=call.resolved.output,
            parameters=self._parameters(),
            stream=streaming,
            prefill=self.prefix,
            want_logprobs=Feature.LOGPROBS in features and call.resolved.output is not None,
            want_reasoning=streaming and call.stream.include_reasoning,
            cache=hint,
            cache_key=call.cache_key,
            extra_body=stage.extra_body,
            wake=self._wake,
            trace_head=trace.head(self.number) if (trace := call.context.trace) is not None else b"",
        )

    def _parameters(self) -> Parameters:
        asked, stage = self._call.parameters, self.step.planned.stage
        limit = smallest(asked.max_tokens, stage.max_tokens)
        if limit is not None and self.prefix:  # a continuation has what its beginning left over
            limit = max(1, limit - int(len(self.prefix) / stage.model.characters_per_token))
        if self.step.left_usd is not None and not stage.model.self_hosted:
            # A cap on cost holds while the answer is written, too.
            planned = self.step.planned
            limit = smallest(
                limit, affordable_output(stage.model, planned.input_tokens, self.step.left_usd, datetime.now(UTC))
            )
        temperature = asked.temperature if asked.temperature is not None else stage.temperature
        seed = asked.seed
        if self.step.role is AttemptRole.CHECK:
            temperature = max(_SECOND_LOOK_TEMPERATURE, temperature or 0.0)
            seed = self._runner.chance.randrange(2**31)
        if limit == asked.max_tokens and temperature == asked.temperature and seed == asked.seed:
            return asked
        return structs.replace(asked, max_tokens=limit, temperature=temperature, seed=seed)

    def _messages(self) -> tuple[Message, ...]:
        """Give the conversation; opaque state goes only to the provider and model that it came from."""
        messages = self._call.request.messages
        for message in messages:
            if message.provider_state is not None:
                break
        else:
            return messages
        stage = self.step.planned.stage
        kept: list[Message] = []
        for message in messages:
            state = message.provider_state
            if state is not None and not state.data:
                message = structs.replace(message, provider_state=None)  # it names a model only
            elif state is not None and (state.provider != stage.provider.name or state.model != stage.model.id):
                message = structs.replace(message, provider_state=None)
                self.transcript.notes = (*self.transcript.notes, _STATE_DROPPED)
            kept.append(message)
        return tuple(kept)
