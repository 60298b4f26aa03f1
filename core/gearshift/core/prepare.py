"""From a caller's request to a call that can run: understood, limited, planned.

Rules: synchronous, no I/O; every refusal happens here, before anything is spent. The caller's policy only tightens.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import anyio
from msgspec import Struct, structs

from gearshift.core.admission import Admission, AnyBucket
from gearshift.core.answer import Completion
from gearshift.core.blueprint import Blueprint, Chain, ChainPolicy, Stage
from gearshift.core.call import PreparedCall, holds_all
from gearshift.core.confidence import Gauge
from gearshift.core.confidence.assessment import ASK, LINE_TOKENS, why_not_asked
from gearshift.core.config.model import ChainPolicyConfig, LimitsConfig
from gearshift.core.errors import ChainExhaustedError, DeadlineError, NoStageError, PromptNotCachedError, invalid
from gearshift.core.estimate import Estimator, measure
from gearshift.core.experience import Experience
from gearshift.core.gates import Gate, Judge, WindowSettings
from gearshift.core.gates.coherence import Effect, effects_of
from gearshift.core.observer import CallContext
from gearshift.core.plan import Caps, Layout, Plan, lay_out, needs_of, plan, smallest, strongest
from gearshift.core.prompt import EMPTY_PROMPT, FilledPrompt, fill
from gearshift.core.promptcache import PromptCache
from gearshift.core.request import (
    NO_POLICY,
    JsonOutput,
    Parameters,
    Policy,
    Request,
    StreamPolicy,
    SystemPrompt,
    Task,
)
from gearshift.core.resolve import Classifier, Resolved, resolve
from gearshift.core.reuse import PrefixReuse
from gearshift.core.schema import (
    CheckLimitError,
    DocumentError,
    Schema,
    SchemaCache,
    SchemaError,
    SchemaLimitError,
    parse_document,
)
from gearshift.core.spending import Payer, Unheld, held, payers_of
from gearshift.core.tracing import CURRENT
from gearshift.core.validation import validate
from gearshift.core.words import Outcome, Sensitivity, Source, SwitchMode

COMPLETED_MARGIN_S = 0.05
"""How long before the caller's deadline a stream ends, so that `completed` is still seen (streams.md 17)."""
_MOST_JUDGES = 256
_MOST_DECISIONS = 4096
_NO_LIMITS = LimitsConfig()
_TOLD_BY_THE_TEXT = (Source.CLASSIFIER, Source.DEFAULT)
"""Sources of a task's type that another prompt may change."""


class Preparer:
    """Prepares calls under one configuration. Shared by all calls of a router."""

    def __init__(
        self,
        blueprint: Blueprint,
        classifier: Classifier | None,
        prompts: PromptCache,
        schemas: SchemaCache,
        admission: Admission,
        estimator: Estimator,
        gates: Sequence[Gate],
        chance: random.Random,
        experience: Experience | None = None,
        gauge: Gauge | None = None,
        reuse: PrefixReuse | None = None,
    ) -> None:
        self._blueprint = blueprint
        self._classifier = classifier
        self._prompts = prompts
        self._schemas = schemas
        self._admission = admission
        self._estimator = estimator
        self._gates = gates
        windows = blueprint.config.gates
        self._windows = WindowSettings(
            tokens=windows.window_tokens,
            seconds=windows.window_ms / 1000,
            least_tokens_per_s=windows.min_tokens_per_s,
            slow_after_s=windows.slow_after_s,
            stall_s=windows.stall_ms / 1000,
        )
        self._chance = chance
        self._experience = experience
        self._gauge = gauge
        self._reuse = reuse
        self._judges: OrderedDict[ChainPolicy, Judge] = OrderedDict()
        self._cache_keys: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._decisions: OrderedDict[tuple[str, Task], _Decision] = OrderedDict()

    def prepare(self, request: Request, ends_by: float | None = None, *, explains: bool = False) -> PreparedCall:
        """Understand and plan a call.

        Args:
            request: from the edge.
            ends_by: the caller's deadline, seconds, monotonic; None asks the enclosing scope.
            explains: the plan says how an adaptive order came about, and leaves nothing to chance.

        Raises:
            InvalidRequestError, UnknownTaskError, ForbiddenError, PromptNotCachedError, NoStageError, DeadlineError: it
                cannot be served.
            ChainExhaustedError: it could be, but every stage is out of use for now.

        """
        began = time.monotonic()
        decision = self._known(request)
        validate(request, task_known=decision is not None)
        ends_at = call_ends_at(began, self._blueprint.config.defaults.deadline_s, ends_by)
        if decision is None:
            decision = self._decide(request, began)
        resolved, policy = decision.resolved, decision.policy
        prompt, prompt_key, notes = self._prompt(request, resolved, began, explains=explains)
        schema = self._schema(resolved) if resolved.output is not None else None
        if request.output is not None and request.output.examples and isinstance(request.output, JsonOutput):
            _check_examples(schema, request.output)
        if request.tools:
            self._check_tools(request)
        parameters = _parameters(request.parameters, resolved)
        characters, images = measure(request, resolved.output, len(prompt.static) + len(prompt.dynamic))
        most, not_assessed = parameters.max_tokens, ""
        if policy.self_assessment:
            whole = prompt.static + prompt.dynamic
            not_assessed = why_not_asked(request, resolved.output, whole, held=holds_all(request, resolved))
            if not not_assessed:
                characters += len(ASK)
                most = None if most is None else most + LINE_TOKENS
        caps, experience = decision.caps, self._experience
        if experience is not None and request.messages and request.messages[-1].has_results:
            experience = None  # an open tool loop stays on its model, whatever that costs
        warm = None
        if prompt_key and self._reuse is not None:
            warm = partial(self._reuse.warm_tokens, prompt_key=prompt_key, characters=len(prompt.static), now=began)
        planned = plan(
            resolved,
            needs_of(request, resolved, characters, images, most),
            caps,
            self._estimator,
            partial(self._admission.state_of, now=began),
            datetime.now(UTC),
            began,
            1.0 if explains else self._chance.random(),
            decision.layout,
            experience,
            explains=explains,
            warm=warm,
        )
        buckets = buckets_for(resolved, self._admission, began) if decision.is_limited else ()
        unheld: Unheld = ()
        for payer in decision.payers:
            spent = payer.spent((each.expected_cost for each in planned.stages), self._admission, began)
            if not spent:
                continue
            chain = self._blueprint.chains[payer.chain]
            moved = self._decided(request, structs.replace(resolved, chain=chain), capped_by(policy, chain))
            elsewhere = plan(
                moved.resolved,
                needs_of(request, moved.resolved, characters, images, most),
                moved.caps,
                self._estimator,
                partial(self._admission.state_of, now=began),
                datetime.now(UTC),
                began,
                1.0 if explains else self._chance.random(),
                moved.layout,
                experience,
                explains=explains,
                warm=warm,
            )
            if not elsewhere.stages and all(each.reason != "breaker" for each in elsewhere.skipped):
                notes = (*notes, f"{spent}, and no stage of the chain {chain.name} may serve instead")
                continue
            decision, resolved, planned = moved, moved.resolved, elsewhere
            policy, caps = moved.policy, moved.caps
            notes = (*notes, f"{spent}: the chain {chain.name} serves instead")
            unheld = (*unheld, (payer.kind, payer.name))
            buckets = held(buckets, unheld, self._blueprint, self._admission, began)
        return PreparedCall(
            request=request,
            resolved=resolved,
            plan=_tool_loop_first(planned, request) if len(request.messages) > 1 else planned,
            policy=policy,
            caps=caps,
            stream=_stream(request, resolved, self._blueprint.stream),
            context=CallContext(
                request_id=request.request_id,
                resolution=resolved.resolution,
                chain=resolved.chain.name,
                stream=request.stream is not None,
                revision=self._blueprint.revision,
                trace=CURRENT.get(),
                unheld=unheld,
            ),
            judge=decision.judge,
            prompt=prompt,
            prompt_key=prompt_key,
            notes=notes,
            parameters=parameters,
            schema=schema,
            buckets=buckets,
            cache_key=decision.cache_key,
            max_attempts=policy.max_attempts,
            max_hops=policy.max_hops,
            strongest=decision.strongest,
            characters=characters,
            images=images,
            began=began,
            ends_at=ends_at,
            assessed=policy.self_assessment and not not_assessed,
            not_assessed=not_assessed,
        )

    def require_stage(self, call: PreparedCall) -> None:
        """Check that a call has a stage to run on.

        Raises:
            NoStageError: no stage may ever serve it.
            ChainExhaustedError: some could, but are out of use for now.

        """
        require_stage(call.plan, call.resolved.chain, self._admission)

    def require_right(self, call: PreparedCall) -> None:
        """Check that a call may be answered at all, if only from a cache: some stage may serve it, in use or not.

        Raises:
            NoStageError: no stage may ever serve it.

        """
        if not call.plan.stages and all(each.reason != "breaker" for each in call.plan.skipped):
            self.require_stage(call)

    def _known(self, request: Request) -> _Decision | None:
        """Give what was decided before for this task, whose decision nothing else in the request may change."""
        if request.output is not None or request.policy is not NO_POLICY:
            return None
        return self._decisions.get((request.tenant, request.task))

    def _decide(self, request: Request, now: float) -> _Decision:
        """Understand the task; what follows from task and tenant alone is worked out once and kept."""
        key = request.system.key if request.system is not None else None
        entry = self._prompts.entry(request.tenant, key, now) if key is not None else None
        stored = "" if entry is None else entry.text
        resolved = resolve(request, self._blueprint, self._classifier, stored)
        policy = tightened(resolved.policy, resolved.tenant.policy, request.policy)
        decision = self._decided(request, resolved, policy)
        is_plain = request.output is None and request.policy is NO_POLICY
        if is_plain and resolved.resolution.type_source not in _TOLD_BY_THE_TEXT:
            self._decisions[request.tenant, request.task] = decision
            if len(self._decisions) > _MOST_DECISIONS:
                self._decisions.popitem(last=False)
        return decision

    def _decided(self, request: Request, resolved: Resolved, policy: ChainPolicy) -> _Decision:
        caps = caps_of(request.policy, resolved, policy)
        return _Decision(
            resolved=resolved,
            policy=policy,
            caps=caps,
            layout=lay_out(resolved, caps),
            strongest=strongest(resolved.chain.stages),
            is_limited=resolved.tenant.limits != _NO_LIMITS
            or (resolved.declared is not None and resolved.declared.limits is not None),
            judge=self._judge(policy),
            cache_key=self._cache_key(request.tenant, resolved),
            payers=payers_of(resolved),
        )

    def _prompt(
        self, request: Request, resolved: Resolved, now: float, *, explains: bool
    ) -> tuple[FilledPrompt, str, tuple[str, ...]]:
        """Give the system prompt, its key in the cache, and what the caller should know of it; to explain uses nothing."""
        system, declared = request.system, resolved.declared
        is_restricted = resolved.resolution.sensitivity is Sensitivity.RESTRICTED
        if system is None or (system.text is None and system.key is None):
            if declared is None or not declared.prompt:
                if system is not None and system.variables:
                    fill("", system.variables)
                return EMPTY_PROMPT, "", ()
            variables = system.variables if system is not None else dict[str, str]()
            system = SystemPrompt(text=declared.prompt, variables=variables, static=True)
        if system.key is not None:
            text = self._stored(request.tenant, system.key, now, explains=explains)
            if text is None:
                raise PromptNotCachedError("this prompt key is unknown or has run out: send the prompt's text again")
            # Without the key no provider is asked to keep what a restricted call sends.
            return fill(text, system.variables), "" if is_restricted else system.key, ()
        text = system.text or ""
        filled = fill(text, system.variables)
        if is_restricted:
            return filled, "", ()  # never cached
        if explains:
            return filled, self._prompts.known(request.tenant, resolved.definition_hash, text, now), ()
        is_static = system.static or (declared is not None and declared.static)
        key, note = self._prompts.keep(
            request.tenant, request.task.id, resolved.definition_hash, text, static=is_static, now=now
        )
        return filled, key, (note,) if note else ()

    def _stored(self, tenant: str, key: str, now: float, *, explains: bool) -> str | None:
        """Give a stored prompt; to explain a call is no use of it."""
        if not explains:
            return self._prompts.get(tenant, key, now)
        entry = self._prompts.entry(tenant, key, now)
        return None if entry is None else entry.text

    def _schema(self, resolved: Resolved) -> Schema | None:
        output = resolved.output
        if not isinstance(output, JsonOutput) or not output.schema:
            return None
        return self._compiled(output.schema, "call.output.json.schema")

    def _check_tools(self, request: Request) -> None:
        for index, tool in enumerate(request.tools):
            if tool.parameters_schema:
                self._compiled(tool.parameters_schema, f"call.tools[{index}].parameters_schema")

    def _compiled(self, text: str, field: str) -> Schema:
        try:
            return self._schemas.get(text)
        except (SchemaError, SchemaLimitError) as error:
            raise invalid(field, f"{error}") from error

    def _judge(self, policy: ChainPolicy) -> Judge:
        judge = self._judges.get(policy)
        if judge is None:
            judge = self._judges[policy] = Judge(policy, self._gates, self._windows, self._gauge)
            if len(self._judges) > _MOST_JUDGES:
                self._judges.popitem(last=False)
        return judge

    def _cache_key(self, tenant: str, resolved: Resolved) -> str:
        """Give what providers may route their caches by: a hash that tells nobody the tenant's name."""
        key = (tenant, resolved.definition_hash)
        known = self._cache_keys.get(key)
        if known is None:
            known = hashlib.sha256(f"{len(tenant)}:{tenant}{resolved.definition_hash}".encode()).hexdigest()[:32]
            self._cache_keys[key] = known
            if len(self._cache_keys) > 4096:
                self._cache_keys.popitem(last=False)
        return known


def _check_examples(schema: Schema | None, output: JsonOutput) -> None:
    """Refuse a worked example that shows the model an answer that the gate would reject."""
    for index, (_, text) in enumerate(output.examples):
        field = f"call.output.json.examples[{index}].json"
        try:
            document = parse_document(text)
            issues = [] if schema is None else schema.check(document)
        except DocumentError as error:
            raise invalid(field, f"is not JSON: {error}") from error
        except CheckLimitError as error:
            raise invalid(field, f"cannot be checked: {error}") from error
        if issues:
            raise invalid(field, f"does not keep to the schema: {issues[0]}")


def buckets_for(resolved: Resolved, admission: Admission, now: float) -> tuple[AnyBucket, ...]:
    """Give the tenant's and the task's buckets, which are reserved together with the account's."""
    tenant = admission.shared_buckets("tenant", resolved.resolution.tenant, resolved.tenant.limits, now)
    if resolved.declared is None or resolved.declared.limits is None:
        return tuple(tenant)
    task = admission.shared_buckets("task", resolved.declared.id, resolved.declared.limits, now)
    return (*tenant, *task)


def require_stage(planned: Plan, chain: Chain, admission: Admission) -> None:
    """Check that a plan has a stage to run on.

    Raises:
        NoStageError: no stage may ever serve the call.
        ChainExhaustedError: some could, but are out of use for now.

    """
    if planned.stages:
        return
    why = "; ".join(f"{each.stage.provider}/{each.stage.model}: {each.detail}" for each in planned.skipped)
    message = f"no stage of the chain {chain.name} may serve this call: {why}"
    broken = {each.stage.position for each in planned.skipped if each.reason == "breaker"}
    if not broken:
        raise NoStageError(message)
    now = time.monotonic()
    waits = [
        admission.state_of(stage, now).breaker.probe_in(now, early=True)
        for stage in chain.stages
        if stage.ref.position in broken
    ]
    completion = Completion(outcome=Outcome.FAILED, skipped=planned.skipped)
    raise ChainExhaustedError(message, attempts=(), completion=completion, retry_after_s=max(0.05, min(waits)))


class _Decision(Struct, frozen=True, kw_only=True):
    """What follows from a call's task, tenant, output spec and policy."""

    resolved: Resolved
    policy: ChainPolicy
    caps: Caps
    layout: Layout
    strongest: Stage
    is_limited: bool
    """Whether its tenant or task has limits."""
    payers: tuple[Payer, ...]
    """Whose budgets, once spent, lead to another chain."""
    judge: Judge
    cache_key: str


def call_ends_at(now: float, default_s: float, ends_by: float | None = None) -> float:
    """Give when a call must have ended, by `ends_by`, the enclosing scope or the default; seconds, monotonic.

    Raises:
        DeadlineError: it has already passed.

    """
    deadline = anyio.current_effective_deadline() if ends_by is None else ends_by
    # anyio's time is the loop's, which is the monotonic clock too.
    remaining = default_s if deadline == float("inf") else deadline - now
    if remaining <= 0:
        raise DeadlineError("the deadline has already passed")
    return now + max(remaining - COMPLETED_MARGIN_S, remaining / 2)


_NO_RULE = ChainPolicyConfig()
_STRICTEST_FIRST = (Effect.REJECT, Effect.NOTE, Effect.OFF)


def tightened(policy: ChainPolicy, tenant: ChainPolicyConfig, asked: Policy) -> ChainPolicy:
    """Give the policy with what the tenant's and the caller's say, where that is stricter."""
    if tenant is not _NO_RULE and tenant != _NO_RULE:
        policy = _stricter(policy, tenant, second_look=tenant.second_look is not False)
    if asked is not NO_POLICY and asked != NO_POLICY:
        policy = _stricter(policy, asked, second_look=not asked.no_second_look)
    return policy


def capped_by(policy: ChainPolicy, chain: Chain) -> ChainPolicy:
    """Give the policy with the caps of a chain that serves in place of another, where those are lower."""
    by = chain.policy
    costs = [cost for cost in (policy.max_cost_usd, by.max_cost_usd) if cost is not None]
    return replace(
        policy,
        max_attempts=min(policy.max_attempts, by.max_attempts),
        max_hops=min(policy.max_hops, by.max_hops),
        max_cost_usd=min(costs) if costs else None,
    )


def _stricter(policy: ChainPolicy, by: ChainPolicyConfig | Policy, *, second_look: bool) -> ChainPolicy:
    threshold = max(policy.escalation_threshold, by.escalation_threshold or 0.0)
    costs = [cost for cost in (policy.max_cost_usd, by.max_cost_usd) if cost is not None]
    return replace(
        policy,
        max_attempts=policy.max_attempts if by.max_attempts is None else min(policy.max_attempts, by.max_attempts),
        max_hops=policy.max_hops if by.max_hops is None else min(policy.max_hops, by.max_hops),
        max_cost_usd=min(costs) if costs else None,
        min_confidence=max(policy.min_confidence, by.min_confidence or 0.0, threshold),
        escalation_threshold=threshold,
        require_valid=policy.require_valid or bool(by.require_valid),
        require_confidence=policy.require_confidence or bool(by.require_confidence),
        second_look=policy.second_look and second_look,
        coherence=_stricter_checks(policy.coherence, by.coherence)
        if isinstance(by, ChainPolicyConfig) and by.coherence
        else policy.coherence,
        confidence="answer" if isinstance(by, ChainPolicyConfig) and by.confidence == "answer" else policy.confidence,
        self_assessment=policy.self_assessment
        and not (isinstance(by, ChainPolicyConfig) and by.self_assessment is False),
        repair=policy.repair and not (isinstance(by, ChainPolicyConfig) and by.repair is False),
    )


def _stricter_checks(ours: tuple[tuple[str, str], ...], by: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Give what each check does: the stricter of the two."""
    effects = effects_of(ours)
    for name, effect in by.items():
        effects[name] = min(effects[name], Effect(effect), key=_STRICTEST_FIRST.index)
    return tuple(sorted((name, effect.value) for name, effect in effects.items()))


def caps_of(asked: Policy, resolved: Resolved, policy: ChainPolicy) -> Caps:
    """Give the chain's, the tenant's and the caller's caps and allow-lists, merged.

    Raises:
        NoStageError: tenant and caller have no model, or no provider, in common.

    """
    models, providers = asked.allowed_models, asked.allowed_providers
    if resolved.tenant.models:
        theirs = frozenset(resolved.tenant.models)
        models = models & theirs if models else theirs
        if not models:
            raise NoStageError("none of the allowed models is open to this tenant")
    if resolved.tenant.providers:
        theirs = frozenset(resolved.tenant.providers)
        providers = providers & theirs if providers else theirs
        if not providers:
            raise NoStageError("none of the allowed providers is open to this tenant")
    return Caps(
        max_cost_usd=policy.max_cost_usd,
        allowed_models=models,
        allowed_providers=providers,
        # Answers that are measured by themselves, or by their model's word, need no log-probabilities of the provider.
        require_confidence=policy.require_confidence
        and policy.confidence != "answer"
        and not (policy.self_assessment and not isinstance(resolved.output, JsonOutput)),
    )


def _parameters(asked: Parameters, resolved: Resolved) -> Parameters:
    """Give the caller's parameters, with the declared task's where the caller says nothing."""
    declared = resolved.declared
    if declared is None or (declared.max_tokens is None and declared.temperature is None):
        return asked
    return structs.replace(
        asked,
        max_tokens=smallest(asked.max_tokens, declared.max_tokens),
        temperature=declared.temperature if asked.temperature is None else asked.temperature,
    )


def _stream(request: Request, resolved: Resolved, default: StreamPolicy) -> StreamPolicy:
    declared = resolved.declared.stream if resolved.declared is not None else default
    asked = request.stream
    if asked is None:
        return declared
    return replace(
        asked,
        hold_back_tokens=declared.hold_back_tokens if asked.hold_back_tokens is None else asked.hold_back_tokens,
        hold_back_ms=declared.hold_back_ms if asked.hold_back_ms is None else asked.hold_back_ms,
        mode=asked.mode or declared.mode or SwitchMode.REGENERATE,
        escalate_at_end=declared.escalate_at_end if asked.escalate_at_end is None else asked.escalate_at_end,
    )


def _tool_loop_first(planned: Plan, request: Request) -> Plan:
    """Put the model first that an open tool loop runs on."""
    if not request.messages or not request.messages[-1].has_results:
        return planned
    for message in reversed(request.messages):
        state = message.provider_state
        if state is not None:
            order = sorted(
                planned.stages,
                key=lambda each: (each.stage.provider.name, each.stage.model.id) != (state.provider, state.model),
            )
            return structs.replace(planned, stages=tuple(order))
    return planned
