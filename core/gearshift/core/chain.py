"""One call's way through its chain: attempts, gates, hops, and the events that the caller sees.

Rules: one path for unary and streaming: the same steps in the same order, gone through by `events`, which shows them, and
by `answer`, which gives what the events would fold to and makes none. What to do next is decided by `Course`, what the
caller sees by `Composer`, what an answer is worth by `Judge`: this module only carries out. `events` is a plain async
generator with no scope around a yield; every attempt is settled and recorded synchronously in a `finally`, also when
the caller leaves.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from decimal import Decimal

import anyio
from msgspec import structs

from gearshift.core.admission import ASK, Admission, Amounts, AnyBucket, Permit, Refusal
from gearshift.core.answer import (
    NO_USAGE,
    Answer,
    AttemptRecord,
    Completion,
    Cost,
    SkippedStage,
    StageRef,
    Usage,
    Verdict,
)
from gearshift.core.assessed import AssessedAttempt, MendedAttempt
from gearshift.core.attempt import Attempt
from gearshift.core.call import PreparedCall
from gearshift.core.composer import Composer, digest_of
from gearshift.core.config.model import RetryConfig
from gearshift.core.course import Course, Finish, Step, Try
from gearshift.core.errors import ChainExhaustedError, DeadlineError, NotAcceptedError, RouteError
from gearshift.core.estimate import Estimator
from gearshift.core.events import AttemptStarted, Completed, Event, Started, Switch
from gearshift.core.failures import FAILURE_RULES, ProviderFailure
from gearshift.core.flight import Horizon
from gearshift.core.gates import Finding, Judgement
from gearshift.core.gates.schema import SchemaGate, complaint
from gearshift.core.observer import Observer
from gearshift.core.pace import Pacer
from gearshift.core.plan import LastResort, machine_time_forecast, not_allowed, token_cost
from gearshift.core.provider import Provider, WholeProvider
from gearshift.core.refused import limits_spent
from gearshift.core.request import JsonOutput, ToolCall
from gearshift.core.reuse import PrefixReuse
from gearshift.core.schema import DocumentError, canonical_json, parse_document
from gearshift.core.words import (
    AttemptCause,
    AttemptOutcome,
    AttemptRole,
    CheckpointPolicy,
    FailureKind,
    Outcome,
    SwitchMode,
    TaskType,
    VerdictResult,
)

DEADLINE_SLACK_S = 0.005
"""A call that ends so near its deadline has run out of time, whatever its last attempt says."""
_DEFAULT_HOLD_TOKENS = 32
_DEFAULT_HOLD_MS = 400

_TIMEOUTS = (FailureKind.CONNECT_TIMEOUT, FailureKind.FIRST_TOKEN_TIMEOUT, FailureKind.TOTAL_TIMEOUT)
_NO_CHECKPOINTS = (CheckpointPolicy.NONE, "nobody sees a unary answer before its end")
_UNSEEN = Composer(hold_all=True, hold_tokens=0, hold_s=0.0, reasoning=False)
"""Of all unary calls: nothing is ever fed to it, so that it has nothing to show and nothing to take back."""


class ChainRunner:
    """Runs calls through their chains. Shared by all calls of a router."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        admission: Admission,
        estimator: Estimator,
        reuse: PrefixReuse | None,
        observers: Sequence[Observer],
        retry: RetryConfig,
        chance: random.Random,
    ) -> None:
        self.providers = providers
        self.answering = {name: each.answer for name, each in providers.items() if isinstance(each, WholeProvider)}
        """How unary answers are asked for, by provider, of those that give them without a generator."""
        self.admission = admission
        self.estimator = estimator
        self.reuse = reuse
        """Tells when a provider is asked to keep a prefix; None asks none."""
        self.observers = observers
        # Most observers hear one thing only; what they do not want to hear is not said.
        self.heard_starts = [each.attempt_starting for each in observers if _hears(each, "attempt_starting")]
        self.heard_ends = [
            (each.attempt_ended if _hears(each, "attempt_ended") else None, each.call_ended)
            for each in observers
            if _hears(each, "attempt_ended") or _hears(each, "call_ended")
        ]
        self.retry = retry
        self.chance = chance

    def stream(self, call: PreparedCall, horizon: Horizon | None = None) -> AsyncGenerator[list[Event]]:
        """Give the call's events, one list an upstream read.

        Args:
            call: what to run.
            horizon: of a call that is shared: moves its end away.

        Raises:
            ChainExhaustedError, NotAcceptedError, RateLimitedError, DeadlineError: after `Completed`, when there is no
                answer to give.

        """
        run = _Run(self, call)
        if horizon is not None:
            horizon.attach(run.extend)
        return run.events()

    def answer(self, call: PreparedCall, horizon: Horizon | None = None) -> Awaitable[Answer]:
        """Give a unary call's answer: what its events would fold to; `horizon` as in `stream`.

        Raises:
            ChainExhaustedError, NotAcceptedError, RateLimitedError, DeadlineError: there is none to give.

        """
        run = _Run(self, call)
        if horizon is not None:
            horizon.attach(run.extend)
        return run.answer()

    async def admit(self, step: Try, amounts: Amounts, buckets: Sequence[AnyBucket]) -> Permit | Refusal:
        """Reserve what an attempt is expected to take, waiting for it where that is worth it; then keep the pace."""
        stage, excluded, began = step.planned.stage, step.excluded, time.monotonic()
        early = step.planned.is_last_resort
        permit = self.admission.admit_nowait(stage, amounts, buckets, excluded=excluded, early=early)
        if isinstance(permit, Refusal) and (
            permit.reason == ASK or (permit.reason == "limit" and _worth_waiting(permit.wait_s, step.wait_s))
        ):
            until = began + step.wait_s
            permit = await self.admission.admit(stage, amounts, buckets, excluded=excluded, until=until, early=early)
        if isinstance(permit, Permit) and permit.guard.pacer is not None:
            return await _paced(permit, permit.guard.pacer, began, step.budget_s)
        return permit


class _Run:
    """The state of one call."""

    _cut_short = 0
    """The attempt that ran when somebody with a later deadline came to wait for the call too."""

    def __init__(self, runner: ChainRunner, call: PreparedCall) -> None:
        self._runner = runner
        self._call = call
        self._course = Course(
            call.plan.stages,
            call.policy,
            runner.retry,
            max_attempts=call.max_attempts,
            max_hops=call.max_hops,
            max_cost_usd=call.caps.max_cost_usd,
            ends_at=call.ends_at,
        )
        self._is_shown = call.request.stream is not None
        if self._is_shown:
            stream, checkpoints = call.stream, call.checkpoints()
            self._checkpoints = checkpoints
            tokens = _DEFAULT_HOLD_TOKENS if stream.hold_back_tokens is None else stream.hold_back_tokens
            hold_ms = _DEFAULT_HOLD_MS if stream.hold_back_ms is None else stream.hold_back_ms
            self._composer = Composer(
                hold_all=call.hold_all,
                hold_tokens=tokens if hold_ms else 0,
                hold_s=hold_ms / 1000,
                reasoning=stream.include_reasoning,
                commit=checkpoints[0] is CheckpointPolicy.WINDOWS,
            )
        else:
            self._checkpoints = _NO_CHECKPOINTS
            self._composer = _UNSEEN
        self._attempts: list[Attempt] = []
        self._candidates: list[Attempt] = []
        self._left: tuple[StageRef, str] | None = None
        self._kind = AssessedAttempt if call.assessed else Attempt
        self._mending: tuple[str, str] | None = None
        """A document that its own stage is to mend, and what to tell it."""
        self._error: RouteError | None = None
        self._completion: Completion | None = None
        self._recorded = False

    def extend(self, ends_at: float) -> None:
        """Let the call go on until then, if that is later; an attempt that runs keeps its timeouts, and is made again."""
        if ends_at > self._call.ends_at:
            self._call = structs.replace(self._call, ends_at=ends_at)
            self._course.extend(ends_at)
            self._cut_short = len(self._attempts)

    async def events(self) -> AsyncGenerator[list[Event]]:
        call, course = self._call, self._course
        batch: list[Event] = [
            Started(
                request_id=call.request.request_id,
                resolution=call.resolved.resolution,
                plan=tuple([planned.stage.ref for planned in call.plan.stages]),
                skipped=call.plan.skipped,
                cached=False,
                checkpoints=self._checkpoints[0],
                checkpoints_reason=self._checkpoints[1],
            )
        ]
        try:
            step: Step = course.begin(time.monotonic())
            while isinstance(step, Try):
                if step.delay_s:
                    if batch:
                        yield batch
                        batch = []
                    await anyio.sleep(step.delay_s)
                permit = self._admit_at_once(step) or await self._admit(step)
                if isinstance(permit, Refusal):
                    step = self._refused(permit)
                    continue
                attempt = self._begin(step, permit, batch)
                try:
                    yield batch
                    batch = []
                    self._tell(attempt)
                    async with aclosing(attempt.chunks()) as chunks:
                        async for chunk in chunks:
                            events = attempt.take(chunk)
                            if events:
                                yield events
                                attempt.resume()
                            if attempt.stopped is not None:
                                break
                    attempt.end()
                except ProviderFailure as failure:
                    attempt.failure = failure
                finally:
                    # Runs also when the caller leaves; nothing is awaited, so that nothing can be lost.
                    attempt.hush()
                    attempt.settle()
                    course.spend(attempt.cost)
                step = self._next(attempt, batch)
                if batch and isinstance(step, Try):
                    yield batch
                    batch = []
            self._finish(step, batch)
            # Told before `completed` is sent, so that a ledger can be flushed in between.
            self._record()
            yield batch
            if self._error is not None:
                raise self._error
        finally:
            self._record()

    async def answer(self) -> Answer:
        course, unseen = self._course, list[Event]()
        try:
            step: Step = course.begin(time.monotonic())
            while isinstance(step, Try):
                if step.delay_s:
                    await anyio.sleep(step.delay_s)
                permit = self._admit_at_once(step) or await self._admit(step)
                if isinstance(permit, Refusal):
                    step = self._refused(permit)
                    continue
                attempt = self._begin(step, permit, unseen)
                try:
                    self._tell(attempt)
                    await attempt.read()
                    attempt.end()
                except ProviderFailure as failure:
                    attempt.failure = failure
                finally:
                    # Runs also when the caller leaves; nothing is awaited, so that nothing can be lost.
                    attempt.settle()
                    course.spend(attempt.cost)
                step = self._next(attempt, unseen)
            best = self._finish(step, unseen)
            self._record()
            if self._error is not None:
                raise self._error
            assert self._completion is not None and best is not None
            return Answer(
                request_id=self._call.request.request_id,
                text=best.final,
                tool_calls=best.tool_calls,
                reasoning="",
                resolution=self._call.resolved.resolution,
                completion=self._completion,
            )
        finally:
            self._record()

    # -- one attempt -------------------------------------------------------------------------------------------------

    def _admit_at_once(self, step: Try) -> Permit | None:
        """Give leave where nothing limits the attempt, as for most calls; None leaves the question to `_admit`."""
        call, stage = self._call, step.planned.stage
        if call.buckets or not_allowed(stage, call.resolved.resolution.sensitivity, call.caps) is not None:
            return None
        return self._runner.admission.unlimited(stage, step.excluded)

    async def _admit(self, step: Try) -> Permit | Refusal:
        """Reserve what the attempt is expected to take, waiting for it as long as the step allows."""
        stage, planned = step.planned.stage, step.planned
        forbidden = not_allowed(stage, self._call.resolved.resolution.sensitivity, self._call.caps)
        if forbidden is not None:
            return Refusal(forbidden[0], forbidden[1], float("inf"))
        buckets = self._call.buckets
        cost = planned.expected_cost if self._runner.admission.limits_money(stage, buckets) else None
        return await self._runner.admit(step, Amounts(planned.input_tokens + planned.output_tokens, cost), buckets)

    def _refused(self, refusal: Refusal) -> Step:
        """Say what follows where no leave was given."""
        now = time.monotonic()
        step = self._course.refused(refusal.reason, refusal.limit, refusal.wait_s, now)
        return self._last_resort(step, now) if isinstance(step, Finish) else step

    def _last_resort(self, step: Finish, now: float) -> Step:
        """Try stages whose breaker is open, or has opened since the plan, where there is no answer and nobody else to ask."""
        last = self._call.plan.last_resorts
        for planned, reason, _ in self._course.passed_over:
            if reason == "breaker" and not planned.is_last_resort:
                last = (*last, LastResort.of(planned))
        return self._course.resort(step, last, now) if last and not self._candidates else step

    def _begin(self, step: Try, permit: Permit, batch: list[Event]) -> Attempt:
        call, composer = self._call, self._composer
        self._course.begun()
        number = len(self._attempts) + 1
        if self._mending is not None:
            if step.cause is AttemptCause.RETRY:
                return self._begin_mending(self._mending, step, permit, number, batch)
            self._mending = None  # another stage begins anew
        if not self._is_shown:
            return self._kind(self._runner, call, composer, step, permit, number, "")
        stage = step.planned.stage
        prefix = ""
        if step.role is AttemptRole.ANSWER:
            if self._left is not None and composer.shows_content:
                prefix = composer.committed_text() if call.stream.mode is SwitchMode.CONTINUE else ""
                mode = SwitchMode.CONTINUE if prefix else SwitchMode.REGENERATE
                batch.append(Switch(from_stage=self._left[0], to_stage=stage.ref, mode=mode, reason=self._left[1]))
            elif call.stream.mode is SwitchMode.CONTINUE and composer.committed:
                prefix = composer.committed_text()
            composer.begin(prefix=prefix)
        batch.append(
            AttemptStarted(number=number, stage=stage.ref, role=step.role, cause=step.cause, detail=step.detail)
        )
        way_up = self._course.may_escalate and not call.request.policy.no_escalation
        return self._kind(self._runner, call, composer, step, permit, number, prefix, has_way_up=way_up)

    def _begin_mending(
        self, mending: tuple[str, str], step: Try, permit: Permit, number: int, batch: list[Event]
    ) -> Attempt:
        """Begin the attempt that shows a stage its own document; a retry of that attempt shows it again."""
        if self._is_shown:
            self._composer.begin()
            ref = step.planned.stage.ref
            batch.append(AttemptStarted(number=number, stage=ref, role=step.role, cause=step.cause, detail=step.detail))
        attempt = MendedAttempt(self._runner, self._call, self._composer, step, permit, number, "")
        attempt.document, attempt.complaint = mending
        return attempt

    def _tell(self, attempt: Attempt) -> None:
        """Tell the observers that the call goes upstream now; where one cannot hear it, it does not go."""
        for attempt_starting in self._runner.heard_starts:
            attempt_starting(self._call.context, attempt.step.planned.stage.ref, attempt.permit.account.name)
        self._attempts.append(attempt)

    def _next(self, attempt: Attempt, batch: list[Event]) -> Step:
        """Say what follows an attempt that has ended, and put what the caller must see of it into the batch."""
        now = time.monotonic()
        if attempt.step.role is AttemptRole.CHECK:
            return self._after_check(attempt, now)
        if attempt.failure is not None:
            return self._after_failure(attempt, attempt.failure, now)
        judgement = attempt.judgement
        assert judgement is not None
        if attempt.stopped is None:
            self._candidates.append(attempt)
        if judgement.finding is Finding.ACCEPT:
            return Finish("accepted", "")
        if judgement.finding is Finding.UNSURE and not self._composer.shows_content and self._may_look_again(attempt):
            look = self._course.look_again(now)
            if look is not None:
                return look
        if judgement.finding is Finding.HARD and self._call.policy.repair:
            mend = self._mend(attempt, judgement, now)
            if mend is not None:
                return mend
        return self._after_poor(attempt, judgement, now)

    def _mend(self, attempt: Attempt, judgement: Judgement, now: float) -> Try | None:
        """Give the same stage's chance to mend its document, where nothing else is wrong with the answer and nobody saw it."""
        output, call = self._call.resolved.output, self._call
        faults = [each.gate for each in judgement.verdicts if each.result is VerdictResult.FAIL]
        if not isinstance(output, JsonOutput) or attempt.stopped is not None or attempt.tool_calls:
            return None
        if faults != [SchemaGate.name] or self._composer.shows_content or not attempt.final.strip():
            return None
        told = complaint(attempt.final, call.schema)
        if not told:
            return None
        stage = attempt.step.planned.stage
        extra = int((len(attempt.final) + len(told)) / stage.model.characters_per_token)
        cost = (
            Decimal(0)
            if stage.model.self_hosted
            else token_cost(stage.model, Usage(input_tokens=extra), datetime.now(UTC))
        )
        step = self._course.mend("the document does not fit: its stage is told why, once", now, cost)
        if step is not None:
            self._mending = attempt.final, told
        return step

    def _after_failure(self, attempt: Attempt, failure: ProviderFailure, now: float) -> Step:
        told = FAILURE_RULES[failure.kind].told
        if self._composer.shows_content and not self._may_switch():
            return Finish("kept", told)
        if attempt.number == self._cut_short and failure.kind in _TIMEOUTS:
            step = self._course.once_more("the first caller's deadline cut it short, and another waits for longer", now)
        else:
            step = self._course.failed(failure, attempt.permit.account.name, now, self._runner.chance.random())
        if isinstance(step, Finish):
            step = self._last_resort(step, now)
        if isinstance(step, Try):
            self._leave(attempt, told)
        return step

    def _after_poor(self, attempt: Attempt, judgement: Judgement, now: float) -> Step:
        call = self._call
        if call.request.policy.no_escalation:
            return Finish("poor", "the caller asked for no escalation")
        shown = self._composer.shows_content or self._composer.committed
        if shown:
            goes_on = attempt.stopped is not None and call.stream.mode is SwitchMode.CONTINUE
            if self._composer.committed and not goes_on:
                return Finish("poor", "what was committed is not taken back")
            if not self._may_switch() and not (call.stream.mode is SwitchMode.CONTINUE and call.stream.escalate_at_end):
                return Finish("poor", "the mode keeps what was sent")
            if judgement.finding is not Finding.HARD and not call.stream.escalate_at_end:
                return Finish("poor", "a low confidence at the end is reported, not retracted")
        step = self._course.poor(judgement.summary, now)
        if isinstance(step, Try):
            self._leave(attempt, judgement.summary)
        return step

    def _after_check(self, check: Attempt, now: float) -> Step:
        """Take the second look's word: agreement accepts, anything else escalates."""
        first = self._candidates[-1]
        assert first.judgement is not None
        agreed = check.failure is None and check.judgement is not None and check.judgement.valid
        agreed = agreed and _same(first, check)
        call = self._call
        sure = None
        if check.failure is None:  # a failure says nothing of the first answer
            model, kind = first.step.planned.stage.model.id, call.resolved.resolution.type.word
            sure = call.judge.agreement(model, kind, first.judgement, agreed=agreed)
        verdict = Verdict(
            gate="second_look",
            result=VerdictResult.PASS if agreed else VerdictResult.LOW,
            reason="agreement" if agreed else "disagreement",
            detail="another sample of the same stage "
            + ("gave the same answer" if agreed else "did not give the same answer"),
            confidence=None if sure is None else sure.confidence,
            measured=None if sure is None else (sure.measure, sure.score),
        )
        first.judgement = structs.replace(
            first.judgement,
            finding=Finding.ACCEPT if agreed else Finding.POOR,
            verdicts=(*first.judgement.verdicts, verdict),
            confidence=first.judgement.confidence if sure is None else sure.confidence,
            summary="" if agreed else f"second_look: {verdict.detail}",
        )
        first.outcome = AttemptOutcome.ACCEPTED if agreed else AttemptOutcome.POOR
        first.detail = first.judgement.summary
        if agreed:
            first.permit.guard.agreed()
            return Finish("accepted", "")
        return self._after_poor(first, first.judgement, now)

    def _may_look_again(self, attempt: Attempt) -> bool:
        """Tell whether a second sample could say anything: not for scores, and not when the caller fixed the sample."""
        parameters, request = self._call.request.parameters, self._call.request
        return (
            self._call.resolved.resolution.type in (TaskType.CLASSIFY, TaskType.EXTRACT)
            and not request.policy.no_second_look
            and parameters.temperature is None
            and parameters.seed is None
            and attempt.transcript.label_probabilities is None
        )

    def _may_switch(self) -> bool:
        """Tell whether what was sent may be taken back, or continued."""
        mode = self._call.stream.mode
        if mode is SwitchMode.FAIL:
            return False
        return mode is not SwitchMode.CONTINUE or self._checkpoints[0] is CheckpointPolicy.WINDOWS

    def _leave(self, attempt: Attempt, reason: str) -> None:
        self._composer.drop(reason)
        self._left = (attempt.step.planned.stage.ref, reason)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self, step: Finish, batch: list[Event]) -> Attempt | None:
        """Choose what is returned, and complete; gives the attempt whose answer it is."""
        composer, call = self._composer, self._call
        best = self._best(step)
        accepted = best is not None and best.judgement is not None and best.judgement.finding is Finding.ACCEPT
        if best is None:
            if not self._attempts or self._attempts[-1].stopped is None:
                batch += composer.keep()  # what a gate has stopped is not let out after all
            self._complete(Outcome.FAILED, None, composer.released, ())
            self._error = self._error_for(step)
        else:
            text, calls = best.final, best.tool_calls
            if not self._is_shown:
                pass  # nobody has seen anything that it could differ from
            elif best is self._attempts[-1] or (
                self._attempts[-1].step.role is AttemptRole.CHECK and best is self._candidates[-1]
            ):
                batch += composer.settle(text, calls, "the final text differs from what was sent")
            else:
                if composer.shows_content:
                    batch.append(
                        Switch(
                            from_stage=self._attempts[-1].step.planned.stage.ref,
                            to_stage=best.step.planned.stage.ref,
                            mode=SwitchMode.RESTORE,
                            reason="an earlier answer is the best",
                        )
                    )
                batch += composer.restore(text, calls, "an earlier answer is the best")
            self._complete(Outcome.ACCEPTED if accepted else Outcome.NOT_ACCEPTED, best, text, calls)
            if not accepted and call.policy.require_valid:
                assert self._completion is not None
                why = best.judgement.summary if best.judgement is not None else ""
                self._error = NotAcceptedError(f"no answer passed its gates ({why})", completion=self._completion)
        assert self._completion is not None
        if self._is_shown:
            batch.append(Completed(completion=self._completion, tool_calls=best.tool_calls if best is not None else ()))
        return best

    def _best(self, step: Finish) -> Attempt | None:
        """Give the answer to return: the highest confidence among the valid ones, the later one on a tie."""
        if step.reason == "kept":
            return None
        last = self._candidates[-1] if self._candidates else None
        keeps = self._is_shown and self._call.stream.mode is SwitchMode.FAIL and self._composer.shows_content
        if keeps and last is not self._attempts[-1]:
            return None  # what was sent is kept, whatever an earlier attempt had
        if self._composer.committed and last is not self._attempts[-1]:
            return None  # what was committed is not that answer's, and is not taken back for it
        if last is not None and (step.reason == "accepted" or self._composer.committed):
            return last
        best: Attempt | None = None
        for candidate in self._candidates:
            if best is None or candidate.rank() >= best.rank():
                best = candidate
        return best

    def _complete(self, outcome: Outcome, served: Attempt | None, text: str, calls: Sequence[ToolCall]) -> None:
        call = self._call
        records = tuple([attempt.record(served=attempt is served) for attempt in self._attempts])
        if len(records) == 1:  # most calls: its sums are its own
            total, spent = records[0].usage, records[0].cost_usd
        else:
            total, spent = _sums(records)
        skipped = call.plan.skipped
        for planned, reason, detail in self._course.passed_over:
            skipped = (*skipped, SkippedStage(stage=planned.stage.ref, reason=reason, detail=detail))
        judgement = served.judgement if served is not None else None
        self._completion = Completion(
            outcome=outcome,
            served_by=served.step.planned.stage.ref if served is not None else None,
            finish_reason=served.transcript.finish_reason if served is not None else None,
            confidence=judgement.confidence if judgement is not None else None,
            verdicts=judgement.verdicts if judgement is not None else (),
            attempts=records,
            skipped=skipped,
            usage_served=served.usage if served is not None else NO_USAGE,
            usage_total=total,
            cost=self._cost(served, spent),
            digest=digest_of(text, calls),
            provider_state=served.state() if served is not None else None,
            notes=self._told(served),
            total_ms=(time.monotonic() - call.began) * 1000,
            prompt_key=call.prompt_key,
            label_probabilities=(served.transcript.label_probabilities or {}) if served is not None else {},
        )

    def _told(self, served: Attempt | None) -> tuple[str, ...]:
        """Give what the caller should know, each once."""
        notes = self._call.notes
        if served is not None and served.transcript.notes:
            notes += served.transcript.notes
        return tuple(dict.fromkeys(notes)) if notes else ()

    def _cost(self, served: Attempt | None, total: Decimal | None) -> Cost:
        if served is None:
            return Cost(total_usd=total)
        stage, own = self._call.strongest, served.step.planned.stage
        usage = served.usage
        if stage is own and not (usage.cache_read_tokens or usage.cache_write_tokens):
            price = served.cost  # it is the strongest itself, and nothing came from a cache
        elif stage.model.self_hosted:
            price = (
                served.cost
                if own.model.id == stage.model.id and own.provider.name == stage.provider.name
                else machine_time_forecast(stage, self._runner.admission.state_of(stage, time.monotonic()))
            )
        else:
            price = token_cost(stage.model, _uncached(usage), datetime.now(UTC))
        return Cost(total_usd=total, served_usd=served.cost, strongest_usd=price, strongest_model=stage.model.id)

    def _error_for(self, step: Finish) -> RouteError:
        """Say why there is no answer."""
        course = self._course
        assert self._completion is not None
        is_passed_over = not self._attempts and step.reason in ("limited", "cap") and bool(course.passed_over)
        if is_passed_over and all(reason == "limit" for _, reason, _ in course.passed_over):
            spent = [detail for _, _, detail in course.passed_over]
            return limits_spent(spent, course.soonest_s, self._call.resolved)
        if step.reason == "deadline" or time.monotonic() >= self._call.ends_at - DEADLINE_SLACK_S:
            return DeadlineError(_out_of_time(self._attempts))
        told = "; ".join(
            f"{attempt.step.planned.stage.ref.provider}/{attempt.step.planned.stage.ref.model}: {attempt.detail}"
            for attempt in self._attempts
        )
        passed_over = "; ".join(
            f"{planned.stage.ref.provider}/{planned.stage.ref.model}: {reason} ({detail})"
            for planned, reason, detail in course.passed_over
        )
        why = "; ".join(piece for piece in (told, passed_over) if piece)
        return ChainExhaustedError(
            f"no stage could answer ({step.detail or step.reason}): {why}",
            attempts=self._completion.attempts,
            completion=self._completion,
            retry_after_s=course.soonest_s,
        )

    def _record(self) -> None:
        """Tell the observers how the call ended, once, also when the caller left in the middle."""
        if self._recorded:
            return
        self._recorded = True
        if self._completion is None:
            self._complete(Outcome.FAILED, None, self._composer.released, ())
            error = "CANCELLED"
        else:
            error = self._error.reason if self._error is not None else ""
        completion = self._completion
        assert completion is not None
        context = self._call.context
        for attempt_ended, call_ended in self._runner.heard_ends:
            if attempt_ended is not None:
                for record in completion.attempts:
                    attempt_ended(context, record)
            call_ended(context, completion, error)


def _hears(observer: Observer, method: str) -> bool:
    """Tell whether an observer wants to hear this: whether it has a method of its own."""
    return getattr(type(observer), method) is not getattr(Observer, method)


def _sums(records: Sequence[AttemptRecord]) -> tuple[Usage, Decimal | None]:
    """Give what attempts used and cost in all; one unknown cost makes the sum unknown."""
    usage, cost, is_known = NO_USAGE, Decimal(0), True
    for record in records:
        usage = usage + record.usage if usage is not NO_USAGE else record.usage
        if record.cost_usd is None:
            is_known = False
        else:
            cost += record.cost_usd
    return usage, cost if is_known else None


async def _paced(permit: Permit, pacer: Pacer, began: float, budget_s: float) -> Permit | Refusal:
    """Wait for the pacer's slot; whom it does not come in time, or who is cancelled meanwhile, gives everything back."""
    try:
        with anyio.move_on_after(budget_s - (time.monotonic() - began)):
            await pacer.acquire()
            permit.queue_s = time.monotonic() - began
            return permit
    except BaseException:
        permit.cancel()
        raise
    permit.cancel()
    return Refusal("limit", f"pace of {permit.guard.name}", pacer.interval_s)


def _out_of_time(attempts: Sequence[Attempt]) -> str:
    """Say what the time went into."""
    told = "; ".join(
        f"{each.step.planned.stage.ref.provider}/{each.step.planned.stage.ref.model}: {each.detail}"
        for each in attempts
    )
    return f"the deadline has passed: {told or 'it left no time for an attempt'}"


def _worth_waiting(wait_s: float, patience_s: float) -> bool:
    """Tell whether a limit is worth waiting for; nobody knows when a place is freed, so that is tried."""
    return patience_s > 0 and (wait_s <= patience_s or wait_s == float("inf"))


def _same(first: Attempt, second: Attempt) -> bool:
    """Tell whether two answers agree: the same label, or the same canonical JSON."""
    if first.final == second.final:
        return True
    try:
        return canonical_json(parse_document(first.final)) == canonical_json(parse_document(second.final))
    except DocumentError:
        return False


def _uncached(usage: Usage) -> Usage:
    """Give the usage as another model would have had it: nothing read from or written to a cache."""
    if not (usage.cache_read_tokens or usage.cache_write_tokens):
        return usage
    return Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, source=usage.source)
