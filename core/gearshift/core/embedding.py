"""Texts to vectors, through the chain of an embed task (design 10).

Rules: the order of the inputs is kept; a call is batched to the model's limit, one upstream call a batch, each an attempt
of its own; vectors of different spaces are never mixed in one answer, and another space than the asked or the chain's
first one is used only where that is allowed. Every vector is checked: count, length, finite, not zero.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import anyio
from msgspec import structs

from gearshift.core.admission import Amounts, Guard, Permit, Refusal
from gearshift.core.answer import (
    NO_USAGE,
    AttemptRecord,
    Completion,
    Cost,
    EmbedAnswer,
    SkippedStage,
    Usage,
    Verdict,
)
from gearshift.core.blueprint import Blueprint, Chain, ChainPolicy, Stage
from gearshift.core.cache.vectors import Vector, VectorCache
from gearshift.core.catalogue import Feature, Model
from gearshift.core.chain import DEADLINE_SLACK_S, ChainRunner
from gearshift.core.course import Course, Finish, Step, Try
from gearshift.core.errors import ChainExhaustedError, DeadlineError, RouteError, invalid
from gearshift.core.estimate import Estimator
from gearshift.core.failures import FAILURE_RULES, ProviderFailure
from gearshift.core.merging import Merger
from gearshift.core.observer import CallContext
from gearshift.core.plan import (
    Caps,
    LastResort,
    Needs,
    Plan,
    PlannedStage,
    expected_cost,
    machine_time_cost,
    machine_time_forecast,
    not_allowed,
    plan,
    strongest,
    token_cost,
    with_last_resorts,
)
from gearshift.core.prepare import buckets_for, call_ends_at, capped_by, caps_of, require_stage, tightened
from gearshift.core.provider import EmbedCall, EmbedResult, Timeouts
from gearshift.core.refused import limits_spent
from gearshift.core.request import EmbedRequest
from gearshift.core.resolve import Resolved, resolve_embed
from gearshift.core.spending import Unheld, held, payers_of
from gearshift.core.tracing import CURRENT
from gearshift.core.transcript import is_free
from gearshift.core.validation import validate_embed
from gearshift.core.words import (
    AttemptCause,
    AttemptOutcome,
    FailureKind,
    Outcome,
    Sensitivity,
    Truncation,
    UsageSource,
    VerdictResult,
)

_FREE = Decimal(0)
_SURELY = 1.25
"""So many times a model's longest text must an estimate be before the text is taken for too long: the provider tells exactly."""
_SHORTER = "send shorter texts, or let their ends be cut (truncation)"


class Embedder:
    """Runs embeddings under one configuration. Shared by all calls of a router."""

    def __init__(self, blueprint: Blueprint, runner: ChainRunner, cache: VectorCache, merger: Merger) -> None:
        self._blueprint = blueprint
        self._runner = runner
        self._cache = cache
        self._merger = merger

    async def embed(self, request: EmbedRequest, ends_by: float | None = None) -> EmbedAnswer:
        """Give one vector a text; `ends_by` as in `Router.route`.

        Raises:
            RouteError: as `Router.embed`.

        """
        began = time.monotonic()
        validate_embed(request)
        ends_at = call_ends_at(began, self._blueprint.config.defaults.deadline_s, ends_by)
        resolved = resolve_embed(request, self._blueprint)
        policy = tightened(resolved.policy, resolved.tenant.policy, request.policy)
        # A vector has no confidence.
        caps = replace(caps_of(request.policy, resolved, policy), require_confidence=False)
        planned = self._plan(request, resolved, caps, began)
        if not planned.stages:
            _refuse_long_text(request, planned)
        require_stage(planned, resolved.chain, self._runner.admission)
        unheld: Unheld = ()
        notes: tuple[str, ...] = ()

        def made(request: EmbedRequest, ends_at: float) -> _Run:
            return _Run(
                self._runner,
                request,
                resolved,
                policy,
                planned,
                caps,
                ends_at,
                began,
                self._blueprint,
                self._cache,
                unheld,
                notes,
            )

        own, first = made(request, ends_at), planned.stages[0].stage
        # What is known already costs nothing, whatever is spent.
        if (payers := payers_of(resolved)) and await own.look_up(first):
            for payer in payers:
                costs = (self._cost(each.stage, own.asked) for each in planned.stages)
                spent = payer.spent(costs, self._runner.admission, began)
                if not spent:
                    continue
                chain = self._blueprint.chains[payer.chain]
                moved, capped = structs.replace(resolved, chain=chain), capped_by(policy, chain)
                less = replace(caps, max_cost_usd=capped.max_cost_usd)
                elsewhere = self._alike(self._plan(request, moved, less, began, resolved.chain), request, first)
                if not elsewhere.stages and all(each.reason != "breaker" for each in elsewhere.skipped):
                    # Where money is reserved it is refused, in the same words as where nothing else was named.
                    continue
                require_stage(elsewhere, moved.chain, self._runner.admission)
                resolved, planned, policy, caps = moved, elsewhere, capped, less
                unheld = (*unheld, (payer.kind, payer.name))
                notes = (*notes, f"{spent}: the chain {payer.chain} serves instead")
            if unheld:
                own, first = made(request, ends_at), planned.stages[0].stage
        kind = _mergeable(request, resolved, caps, unheld)
        if kind is None or not await own.look_up(first):
            return await own.embed()
        most = max(1, first.model.max_batch)

        async def run(asked: EmbedRequest, ends_at: float) -> EmbedAnswer:
            return await (own if asked is request else made(asked, ends_at)).embed()

        def told(completion: Completion, error: str) -> None:
            self._cache.merged += 1
            context = _context(request, resolved, self._blueprint.revision, unheld)
            for observer in self._runner.observers:
                observer.call_ended(context, completion, error)

        return await self._merger.embed(kind, request, most, ends_at, run, told)

    def _plan(
        self, request: EmbedRequest, resolved: Resolved, caps: Caps, now: float, spaces_of: Chain | None = None
    ) -> Plan:
        """Plan a call; the chain that says which spaces may serve is its own, unless another is named."""
        admission = self._runner.admission

        def guard_of(stage: Stage) -> Guard:
            return admission.state_of(stage, now)

        # A text that may be cut fits every model.
        characters = max(map(len, request.inputs)) if request.truncation is Truncation.ERROR else 0

        def longest(model: Model) -> int:
            return self._runner.estimator.text_tokens(characters, model)

        needs = Needs(
            features=((frozenset({Feature.EMBED}), "embeddings"),),
            characters=characters,
            images=0,
            max_tokens=1,
        )
        planned = plan(
            resolved,
            needs,
            caps,
            self._runner.estimator,
            guard_of,
            datetime.now(UTC),
            now,
            self._runner.chance.random(),
        )
        chain = spaces_of or resolved.chain
        space = request.vector_space or chain.stages[0].model.vector_space
        free = request.allow_space_change or chain.allow_space_change
        kept: list[PlannedStage] = []
        last: list[LastResort] = []
        skipped = list(planned.skipped)
        for each in (*planned.stages, *planned.last_resorts):
            model = each.stage.model
            if request.dimensions is not None and request.dimensions not in model.dimensions:
                given = ", ".join(map(str, model.dimensions))
                reason, detail = "feature", f"{model.id} gives {given} dimensions, not {request.dimensions}"
            elif model.vector_space != space and not free:
                reason = "vector_space"
                detail = (
                    f"{model.id} is of the space {model.vector_space or 'unknown'}, not {space}; mixing spaces ruins an "
                    "index, so this needs allow_space_change"
                )
            elif model.max_input_tokens and longest(model) > _SURELY * model.max_input_tokens:
                detail = f"about {longest(model)} tokens do not fit {model.id}'s {model.max_input_tokens}"
                reason = "context"
            else:
                costs = self._costs(each.stage, request.inputs)
                if caps.max_cost_usd is None or (None not in costs and sum(filter(None, costs)) <= caps.max_cost_usd):
                    made = type(each)(
                        stage=each.stage,
                        input_tokens=each.input_tokens,
                        output_tokens=each.output_tokens,
                        expected_cost=None if None in costs else max(filter(None, costs), default=_FREE),
                    )
                    if isinstance(made, LastResort):
                        last.append(made)
                    else:
                        kept.append(made)
                    continue
                reason, detail = "cap", f"all of it is expected to cost more than the cap of {caps.max_cost_usd} USD"
            if each.stage.ref not in [one.stage for one in skipped]:
                skipped.append(SkippedStage(stage=each.stage.ref, reason=reason, detail=detail))
        return with_last_resorts(kept, skipped, last, guard_of, now)

    def _alike(self, planned: Plan, request: EmbedRequest, first: Stage) -> Plan:
        """Give the plan without stages that would, unasked, give vectors of another length than the first one's."""
        if request.dimensions is not None or request.allow_space_change:
            return planned
        length = first.model.dimensions[:1]
        kept = tuple(each for each in planned.stages if each.stage.model.dimensions[:1] == length)
        last = tuple(each for each in planned.last_resorts if each.stage.model.dimensions[:1] == length)
        return structs.replace(planned, stages=kept, last_resorts=last)

    def _cost(self, stage: Stage, inputs: Sequence[str]) -> Decimal | None:
        """Give what all of the texts are expected to cost on a stage, USD; None where the price is unknown."""
        costs = [cost for cost in self._costs(stage, inputs) if cost is not None]
        return sum(costs, _FREE) if costs else None

    def _costs(self, stage: Stage, inputs: Sequence[str]) -> list[Decimal | None]:
        """Give what each batch is expected to cost on a stage, USD; None where the price is unknown."""
        if stage.model.self_hosted:
            guard = self._runner.admission.state_of(stage, time.monotonic())
            return [machine_time_forecast(stage, guard)] * len(list(batches(inputs, stage.model)))
        at = datetime.now(UTC)
        return [
            token_cost(stage.model, Usage(input_tokens=tokens_of(batch, stage.model, self._runner.estimator)), at)
            for batch in batches(inputs, stage.model)
        ]


def _refuse_long_text(request: EmbedRequest, planned: Plan) -> None:
    """Refuse a text that is the reason why no stage may serve; one whose breaker is open might.

    Raises:
        InvalidRequestError: names the text.

    """
    reasons = {each.reason: each.detail for each in planned.skipped}
    if "context" in reasons and "breaker" not in reasons:
        index = max(range(len(request.inputs)), key=lambda place: len(request.inputs[place]))
        raise invalid(f"inputs[{index}]", f"{reasons['context']}: {_SHORTER}")


def _mergeable(request: EmbedRequest, resolved: Resolved, caps: Caps, unheld: Unheld) -> Hashable | None:
    """Give what a call has in common with those that it may be merged with; None when it goes by itself."""
    resolution = resolved.resolution
    if resolution.sensitivity is Sensitivity.RESTRICTED or caps.max_cost_usd is not None:
        return None
    return (
        resolution.tenant,
        resolution.task_id,
        resolution.sensitivity,
        resolution.complexity,
        resolved.definition_hash,
        resolved.chain.revision,
        request.policy,
        caps.allowed_models,
        request.input_type,
        request.dimensions,
        request.truncation,
        request.vector_space,
        request.allow_space_change,
        unheld,
    )


def _context(request: EmbedRequest, resolved: Resolved, revision: str, unheld: Unheld) -> CallContext:
    return CallContext(
        request_id=request.request_id,
        resolution=resolved.resolution,
        chain=resolved.chain.name,
        stream=False,
        revision=revision,
        trace=CURRENT.get(),
        unheld=unheld,
    )


class _Run:
    """The state of one embedding."""

    def __init__(
        self,
        runner: ChainRunner,
        request: EmbedRequest,
        resolved: Resolved,
        policy: ChainPolicy,
        planned: Plan,
        caps: Caps,
        ends_at: float,
        began: float,
        blueprint: Blueprint,
        cache: VectorCache,
        unheld: Unheld,
        notes: Sequence[str],
    ) -> None:
        self._blueprint = blueprint
        self._unheld = unheld
        self._cache = cache
        self._keys: list[str] | None = None
        """Of the texts that are asked for upstream, where their vectors are to be kept."""
        self.asked: tuple[str, ...] = request.inputs
        """What is asked upstream: the texts that the cache lacks, each once."""
        self._known: dict[str, Vector] = {}
        """Vectors of the stage's model that were in the cache, by text."""
        self._looked_up: Stage | None = None
        self._purges = cache.purges
        self._runner = runner
        self._request = request
        self._resolved = resolved
        self._plan = planned
        self._caps = caps
        self._began = began
        self._ends_at = ends_at
        self._course = Course(
            planned.stages,
            policy,
            runner.retry,
            max_attempts=policy.max_attempts,
            max_hops=policy.max_hops,
            max_cost_usd=caps.max_cost_usd,
            ends_at=ends_at,
        )
        self._given = Timeouts()
        """What the last upstream call was given."""
        self._vectors: list[Vector] = []
        self._records: list[AttemptRecord] = []
        self._notes: list[str] = list(notes)
        self._context = _context(request, resolved, blueprint.revision, unheld)

    async def embed(self) -> EmbedAnswer:
        completion: Completion | None = None
        error: RouteError | None = None
        stage = self._plan.stages[0].stage
        try:
            is_lacking = await self.look_up(stage)
            step: Step = self._course.begin(time.monotonic()) if is_lacking else Finish("accepted", "")
            while isinstance(step, Try):
                if step.delay_s:
                    await anyio.sleep(step.delay_s)
                if step.planned.stage is not stage:
                    stage, self._vectors = step.planned.stage, []
                    is_lacking = await self.look_up(stage)
                step = await self._batch(step) if is_lacking else Finish("accepted", "")
            if step.reason != "accepted":
                completion = self._completion(Outcome.FAILED, None)
                error = self._exhausted(step, completion)
                raise error
            completion = self._completion(Outcome.ACCEPTED, stage)
        finally:
            if completion is None:
                completion = self._completion(Outcome.FAILED, None)
                reason = "CANCELLED"
            else:
                reason = error.reason if error is not None else ""
            for observer in self._runner.observers:
                for record in completion.attempts:
                    observer.attempt_ended(self._context, record)
                observer.call_ended(self._context, completion, reason)
        vectors = self._whole()
        return EmbedAnswer(
            request_id=self._request.request_id,
            embeddings=vectors,
            dimensions=len(vectors[0]),
            vector_space=stage.model.vector_space,
            resolution=self._resolved.resolution,
            completion=completion,
        )

    async def look_up(self, stage: Stage) -> bool:
        """Find the texts whose vectors by this stage's model are known already; answer whether any is lacking."""
        inputs = self._request.inputs
        if stage is self._looked_up:
            return bool(self.asked)
        self._looked_up = stage
        keys = self._cache.keys(self._request, self._resolved, self._caps, stage)
        if keys is None:
            return True
        found = await self._cache.find(keys, time.monotonic())
        self._purges = self._cache.purges  # nothing that is to be kept was asked for before
        self._known = {text: vector for text, vector in zip(inputs, found, strict=True) if vector is not None}
        lacking = {text: key for text, key in zip(inputs, keys, strict=True) if text not in self._known}
        self.asked, self._keys = tuple(lacking), list(lacking.values())
        return bool(lacking)

    def _whole(self) -> tuple[Vector, ...]:
        """Give one vector a text, in the order of the inputs."""
        if self._keys is None:
            return tuple(self._vectors)
        made = dict(zip(self.asked, self._vectors, strict=True))
        return tuple(self._known[text] if text in self._known else made[text] for text in self._request.inputs)

    async def _batch(self, step: Try) -> Step:
        """Make one upstream call for the next inputs; say what follows."""
        stage = step.planned.stage
        begin = len(self._vectors)
        inputs = self.asked[begin : begin + max(1, stage.model.max_batch)]
        permit = await self._admit(step, inputs)
        if isinstance(permit, Refusal):
            now = time.monotonic()
            return self._or_last_resort(self._course.refused(permit.reason, permit.limit, permit.wait_s, now), now)
        if step.cause is not AttemptCause.FIRST or not self._records:
            self._course.begun()  # batches after the first are no further attempts, since nothing failed
        try:
            for observer in self._runner.observers:
                observer.attempt_starting(self._context, stage.ref, permit.account.name)
        except BaseException:
            permit.cancel()
            raise
        failure: ProviderFailure | None = None
        result: EmbedResult | None = None
        started_at, clock = time.time(), time.perf_counter()
        try:
            result = await self._runner.providers[stage.provider.name].embed(self._call(step, permit, inputs))
            known = self._vectors[0] if self._vectors else next(iter(self._known.values()), None)
            checked(result, len(inputs), len(known) if known is not None else self._request.dimensions)
        except ProviderFailure as caught:
            failure = caught
        finally:
            self._settle(step, permit, result, failure, started_at, (time.perf_counter() - clock) * 1000, inputs)
        now = time.monotonic()
        if failure is not None:
            chance = self._runner.chance.random()
            return self._or_last_resort(self._course.failed(failure, permit.account.name, now, chance), now)
        assert result is not None
        self._vectors += result.vectors
        self._notes += result.notes
        if self._keys is not None:
            keys = self._keys[begin : begin + len(inputs)]
            await self._cache.keep(keys, result.vectors, self._resolved, self._purges, now)
        if len(self._vectors) == len(self.asked):
            return Finish("accepted", "")
        return self._course.again(now)

    def _or_last_resort(self, step: Step, now: float) -> Step:
        """Try stages whose breaker is open, where there is nobody else to ask."""
        last = self._plan.last_resorts
        return self._course.resort(step, last, now) if last and isinstance(step, Finish) else step

    async def _admit(self, step: Try, inputs: Sequence[str]) -> Permit | Refusal:
        stage = step.planned.stage
        forbidden = not_allowed(stage, self._resolved.resolution.sensitivity, self._caps)
        if forbidden is not None:
            return Refusal(forbidden[0], forbidden[1], float("inf"))
        estimator = self._runner.estimator
        tokens = tokens_of(inputs, stage.model, estimator)
        admission, now = self._runner.admission, time.monotonic()
        cost = expected_cost(stage, tokens, 0, lambda asked: admission.state_of(asked, now), datetime.now(UTC))
        buckets = buckets_for(self._resolved, admission, now)
        if self._unheld:
            buckets = held(buckets, self._unheld, self._blueprint, admission, now)
        return await self._runner.admit(step, Amounts(tokens, cost), buckets)

    def _call(self, step: Try, permit: Permit, inputs: tuple[str, ...]) -> EmbedCall:
        stage, request = step.planned.stage, self._request
        asked = stage.timeouts
        # What was spent waiting in line is no longer there.
        budget = min(step.budget_s, max(0.001, self._ends_at - time.monotonic()))
        self._given = Timeouts(
            connect_s=min(asked.connect_s, budget),
            first_token_s=min(asked.first_token_s, budget),
            idle_s=asked.idle_s,
            total_s=min(asked.total_s, budget),
        )
        return EmbedCall(
            model=stage.model,
            account=permit.account,
            timeouts=self._given,
            inputs=inputs,
            input_type=request.input_type,
            dimensions=request.dimensions,
            truncation=request.truncation,
            extra_body=stage.extra_body,
            trace_head=trace.head(len(self._records) + 1) if (trace := self._context.trace) is not None else b"",
        )

    def _settle(
        self,
        step: Try,
        permit: Permit,
        result: EmbedResult | None,
        failure: ProviderFailure | None,
        started_at: float,
        total_ms: float,
        inputs: Sequence[str],
    ) -> None:
        stage = step.planned.stage
        cancelled = result is None and failure is None
        usage = NO_USAGE
        if result is not None and result.usage is not None:
            usage = result.usage
        elif failure is None or not is_free(failure):
            tokens = tokens_of(inputs, stage.model, self._runner.estimator)
            usage = Usage(input_tokens=tokens, source=UsageSource.ESTIMATED)
        if stage.model.self_hosted:
            cost = machine_time_cost(stage, total_ms / 1000, permit.machine_s())
        elif usage is NO_USAGE:
            cost = Decimal(0)
        else:
            cost = token_cost(stage.model, usage, datetime.now(UTC))
        self._course.spend(cost)
        passed = failure is None and not cancelled
        given_s = None if failure is None else self._given.shortened(failure.kind, stage.timeouts)
        hurried = given_s is not None and permit.guard.figures.was_hurried(given_s, of_first_token=False)
        permit.settle(
            tokens=usage.input_tokens,
            cost_usd=cost,
            failure=failure.kind if failure is not None else None,
            cancelled=cancelled,
            accepted=passed or None,
            first_token_ms=None,
            total_ms=total_ms,
            now=time.monotonic(),
            retry_after_s=failure.retry_after_s if failure is not None else None,
            tells=not hurried,
        )
        # A text whose end was cut tells nothing of how many characters make a token.
        if passed and usage.source is UsageSource.REPORTED and self._request.truncation is Truncation.ERROR:
            self._runner.estimator.learn_texts(stage.model, sum(map(len, inputs)), usage.input_tokens)
        outcome, detail = AttemptOutcome.CANCELLED, "the caller left before it ended"
        if failure is not None:
            outcome, detail = AttemptOutcome.FAILED, failure.detail or FAILURE_RULES[failure.kind].told
        elif passed:
            outcome, detail = AttemptOutcome.ACCEPTED, ""
        self._records.append(
            AttemptRecord(
                number=len(self._records) + 1,
                stage=stage.ref,
                account=permit.account.name,
                role=step.role,
                cause=step.cause,
                outcome=outcome,
                failure=failure.kind if failure is not None else None,
                detail=detail,
                verdicts=(Verdict(gate="vectors", result=VerdictResult.PASS),) if passed else (),
                usage=usage,
                cost_usd=cost,
                queue_ms=permit.queue_s * 1000,
                first_token_ms=None,
                total_ms=total_ms,
                started_at=started_at,
                served=passed,
            )
        )

    def _completion(self, outcome: Outcome, stage: Stage | None) -> Completion:
        served = [
            record for record in self._records if record.served and stage is not None and record.stage == stage.ref
        ]
        records = tuple(structs.replace(record, served=record in served) for record in self._records)
        costs = [record.cost_usd for record in records]
        skipped = [
            *self._plan.skipped,
            *(
                SkippedStage(stage=each.stage.ref, reason=reason, detail=detail)
                for each, reason, detail in self._course.passed_over
            ),
        ]
        usage = _total([record.usage for record in served])
        cost = Cost(total_usd=None if None in costs else sum((each for each in costs if each is not None), Decimal(0)))
        if stage is not None:
            theirs = [record.cost_usd for record in served]
            best = strongest(self._resolved.chain.stages)
            own = None if None in theirs else sum((each for each in theirs if each is not None), Decimal(0))
            cost = structs.replace(
                cost,
                served_usd=own,
                strongest_usd=own if best is stage else self._on(best, usage),
                strongest_model=best.model.id,
            )
            if self._known:
                cost = structs.replace(cost, saved_usd=self._saved(stage))
        return Completion(
            outcome=outcome,
            served_by=stage.ref if stage is not None else None,
            cached=stage is not None and not self.asked,
            verdicts=(Verdict(gate="vectors", result=VerdictResult.PASS),) if stage is not None else (),
            attempts=records,
            skipped=tuple(skipped),
            usage_served=usage,
            usage_total=_total([record.usage for record in records]),
            cost=cost,
            notes=tuple(dict.fromkeys(self._notes)),
            total_ms=(time.monotonic() - self._began) * 1000,
        )

    def _on(self, stage: Stage, usage: Usage) -> Decimal | None:
        """Give what the served usage would have cost on another stage, USD; None when that is unknown."""
        if stage.model.self_hosted:
            return machine_time_forecast(stage, self._runner.admission.state_of(stage, time.monotonic()))
        return token_cost(stage.model, usage, datetime.now(UTC))

    def _saved(self, stage: Stage) -> Decimal | None:
        """Give what the texts that were found would have cost, estimated by their length; None when that is unknown."""
        if stage.model.self_hosted:
            return None
        tokens = tokens_of(list(self._known), stage.model, self._runner.estimator)
        saved = token_cost(stage.model, Usage(input_tokens=tokens), datetime.now(UTC))
        self._cache.count_saved(saved)
        return saved

    def _exhausted(self, step: Finish, completion: Completion) -> RouteError:
        passed_over = self._course.passed_over
        if not self._records and passed_over and all(reason == "limit" for _, reason, _ in passed_over):
            return limits_spent([detail for _, _, detail in passed_over], self._course.soonest_s, self._resolved)
        if step.reason == "deadline" or time.monotonic() >= self._ends_at - DEADLINE_SLACK_S:
            told = "; ".join(f"{each.stage.provider}/{each.stage.model}: {each.detail}" for each in completion.attempts)
            return DeadlineError(f"the deadline has passed: {told or 'it left no time for an attempt'}")
        failed = [each for each in completion.attempts if each.failure is not None]
        if failed and not passed_over and all(each.failure is FailureKind.CONTEXT_LENGTH for each in failed):
            models = ", ".join(dict.fromkeys(each.stage.model for each in failed))
            return invalid("inputs", f"one of the texts is longer than {models} takes: {_SHORTER}")
        told = "; ".join(f"{each.stage.provider}/{each.stage.model}: {each.detail}" for each in completion.attempts)
        more = "; ".join(
            f"{each.stage.ref.provider}/{each.stage.ref.model}: {detail}" for each, _, detail in passed_over
        )
        why = "; ".join(piece for piece in (told, more) if piece)
        return ChainExhaustedError(
            f"no stage could embed ({step.detail or step.reason}): {why}",
            attempts=completion.attempts,
            completion=completion,
            retry_after_s=self._course.soonest_s,
        )


def batches(inputs: Sequence[str], model: Model) -> Iterator[Sequence[str]]:
    """Give the inputs in batches that the model takes."""
    size = max(1, model.max_batch)
    for begin in range(0, len(inputs), size):
        yield inputs[begin : begin + size]


def tokens_of(inputs: Sequence[str], model: Model, estimator: Estimator) -> int:
    """Estimate the tokens of a batch."""
    return sum(estimator.text_tokens(len(text), model) for text in inputs)


def checked(result: EmbedResult, count: int, dimensions: int | None) -> None:
    """Check the vectors of one upstream call.

    Raises:
        ProviderFailure: MALFORMED; their count or length is wrong, or one is not finite or is zero.

    """
    fault = ""
    if len(result.vectors) != count:
        fault = f"it gave {len(result.vectors)} vectors for {count} texts"
    else:
        length = dimensions or len(result.vectors[0])
        for vector in result.vectors:
            if len(vector) != length or not length:
                fault = f"it gave a vector of {len(vector)} dimensions instead of {length}"
            elif not all(map(math.isfinite, vector)):
                fault = "it gave a vector with numbers that are not finite"
            elif not any(vector):
                fault = "it gave a vector of zeros"
    if fault:
        raise ProviderFailure(FailureKind.MALFORMED, fault)


def _total(usages: Sequence[Usage]) -> Usage:
    total = NO_USAGE
    for usage in usages:
        total = usage if total is NO_USAGE else total + usage
    return total
