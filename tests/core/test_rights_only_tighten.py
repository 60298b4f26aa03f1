"""No field of a tenant's or a caller's policy ever widens a right: what is in force is what all of them allow."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gearshift.core.blueprint import ChainPolicy
from gearshift.core.config.model import AccessConfig, ChainPolicyConfig, TenantConfig
from gearshift.core.errors import ForbiddenError, NoStageError
from gearshift.core.gates.coherence import Effect, effects_of
from gearshift.core.plan import Caps, not_allowed
from gearshift.core.prepare import caps_of, tightened
from gearshift.core.request import Policy, Request, Resolution, Task, user
from gearshift.core.resolve import Resolved, resolve
from gearshift.core.words import Complexity, Sensitivity, Source, TaskType
from tests.support.blueprints import blueprint, policy, stage

SAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
T = TypeVar("T", int, Decimal)
NAMES = ("a", "b", "c")
STRICTEST = (Effect.REJECT, Effect.NOTE, Effect.OFF)
CHECKS = ("arithmetic", "conclusion", "contradiction", "emptiness", "language", "source", "structure")

share = st.none() | st.sampled_from([0.0, 0.3, 0.75, 0.85, 0.9, 1.0])
cost = st.none() | st.sampled_from([Decimal("0.01"), Decimal(1), Decimal(5)])
tri = st.none() | st.booleans()
names = st.frozensets(st.sampled_from(NAMES))
sensitivities = st.sampled_from([Sensitivity.PUBLIC, Sensitivity.INTERNAL, Sensitivity.RESTRICTED])


@st.composite
def chain_policies(draw: st.DrawFn) -> ChainPolicy:
    threshold = draw(st.sampled_from([0.0, 0.5, 0.75]))
    effects = draw(st.dictionaries(st.sampled_from(CHECKS), st.sampled_from(["reject", "note", "off"])))
    return replace(
        policy(
            max_attempts=draw(st.integers(1, 20)),
            max_hops=draw(st.integers(0, 20)),
            max_cost_usd=draw(cost),
            require_valid=draw(st.booleans()),
            require_confidence=draw(st.booleans()),
            second_look=draw(st.booleans()),
        ),
        min_confidence=draw(st.sampled_from([0.75, 0.85, 1.0])),
        escalation_threshold=threshold,
        coherence=tuple(sorted(effects.items())),
    )


@st.composite
def tenant_policies(draw: st.DrawFn) -> ChainPolicyConfig:
    return ChainPolicyConfig(
        max_attempts=draw(st.none() | st.integers(1, 100)),
        max_hops=draw(st.none() | st.integers(0, 100)),
        max_cost_usd=draw(cost),
        min_confidence=draw(share),
        escalation_threshold=draw(share),
        require_valid=draw(tri),
        require_confidence=draw(tri),
        second_look=draw(tri),
        coherence=draw(st.dictionaries(st.sampled_from(CHECKS), st.sampled_from(["reject", "note", "off"]))),
    )


@st.composite
def asked_policies(draw: st.DrawFn) -> Policy:
    return Policy(
        max_attempts=draw(st.none() | st.integers(1, 100)),
        max_hops=draw(st.none() | st.integers(0, 100)),
        max_cost_usd=draw(cost),
        min_confidence=draw(share),
        escalation_threshold=draw(share),
        require_valid=draw(st.booleans()),
        require_confidence=draw(st.booleans()),
        allowed_models=draw(names),
        allowed_providers=draw(names),
        no_second_look=draw(st.booleans()),
        no_escalation=draw(st.booleans()),
    )


def least(*values: T | None) -> T | None:
    said = [each for each in values if each is not None]
    return min(said) if said else None


@SAMPLES
@given(chain=chain_policies(), tenant=tenant_policies(), asked=asked_policies())
def test_policy_in_force_is_the_meet_of_all_three(chain: ChainPolicy, tenant: ChainPolicyConfig, asked: Policy) -> None:
    made = tightened(chain, tenant, asked)
    assert made.max_attempts == least(chain.max_attempts, tenant.max_attempts, asked.max_attempts)
    assert made.max_hops == least(chain.max_hops, tenant.max_hops, asked.max_hops)
    assert made.max_cost_usd == least(chain.max_cost_usd, tenant.max_cost_usd, asked.max_cost_usd)
    said = [chain.escalation_threshold, tenant.escalation_threshold or 0.0, asked.escalation_threshold or 0.0]
    assert made.escalation_threshold == max(said)
    # What is given back must not be below what sends an answer on.
    assert made.min_confidence == max(
        chain.min_confidence, tenant.min_confidence or 0, asked.min_confidence or 0, *said
    )
    assert made.require_valid == (chain.require_valid or bool(tenant.require_valid) or asked.require_valid)
    assert made.require_confidence == (
        chain.require_confidence or bool(tenant.require_confidence) or asked.require_confidence
    )
    assert made.second_look == (chain.second_look and tenant.second_look is not False and not asked.no_second_look)
    ours, theirs = effects_of(chain.coherence), effects_of(made.coherence)
    for name, effect in theirs.items():
        wanted = [ours[name], *([Effect(tenant.coherence[name])] if name in tenant.coherence else [])]
        assert effect is min(wanted, key=STRICTEST.index)


@SAMPLES
@given(chain=chain_policies(), tenant=tenant_policies(), asked=asked_policies())
def test_tightening_twice_is_tightening_once(chain: ChainPolicy, tenant: ChainPolicyConfig, asked: Policy) -> None:
    once = tightened(chain, tenant, asked)
    again = tightened(once, tenant, asked)
    assert replace(again, coherence=()) == replace(once, coherence=())
    assert effects_of(again.coherence) == effects_of(once.coherence)


def resolved(tenant: TenantConfig, sensitivity: Sensitivity) -> Resolved:
    plan = blueprint(stage(0))
    return Resolved(
        resolution=Resolution(
            task_id="t",
            declared=False,
            type=TaskType.GENERATE,
            type_source=Source.CALLER,
            type_confidence=1.0,
            complexity=Complexity.LOW,
            complexity_source=Source.DEFAULT,
            sensitivity=sensitivity,
            sensitivity_source=Source.DEFAULT,
            tenant="acme",
        ),
        declared=None,
        chain=plan.chains["generate"],
        policy=policy(),
        tenant=tenant,
        output=None,
        definition_hash="t",
    )


@SAMPLES
@given(asked=asked_policies(), models=names, providers=names, sensitivity=sensitivities)
def test_stage_is_open_only_where_all_allow_it(
    asked: Policy, models: frozenset[str], providers: frozenset[str], sensitivity: Sensitivity
) -> None:
    tenant = TenantConfig(models=tuple(models), providers=tuple(providers))
    caps: Caps | None
    try:
        caps = caps_of(asked, resolved(tenant, sensitivity), policy())
    except NoStageError:
        caps = None
    for provider in NAMES:
        for model in NAMES:
            for clearance in (Sensitivity.PUBLIC, Sensitivity.INTERNAL, Sensitivity.RESTRICTED):
                one = stage(0, provider=provider, model=model, clearance=clearance)
                is_open = caps is not None and not_allowed(one, sensitivity, caps) is None
                assert is_open == (
                    (not models or model in models)
                    and (not asked.allowed_models or model in asked.allowed_models)
                    and (not providers or provider in providers)
                    and (not asked.allowed_providers or provider in asked.allowed_providers)
                    and clearance >= sensitivity
                )


@SAMPLES
@given(
    floor=sensitivities,
    clearance=sensitivities,
    said=st.none() | sensitivities,
    tasks=st.frozensets(st.sampled_from(["t", "u"])),
)
def test_sensitivity_is_never_lowered_and_clearance_never_passed(
    floor: Sensitivity, clearance: Sensitivity, said: Sensitivity | None, tasks: frozenset[str]
) -> None:
    tenant = TenantConfig(sensitivity_floor=floor.word, clearance=clearance.word, tasks=tuple(tasks))
    made = blueprint(stage(0))
    config = structs.replace(made.config, access=AccessConfig(tenants={"acme": tenant}))
    request = Request(
        request_id="r",
        tenant="acme",
        task=Task(id="t", type=TaskType.GENERATE, sensitivity=said),
        messages=(user("hello"),),
    )
    if floor is Sensitivity.PUBLIC:
        wanted = Sensitivity.INTERNAL if said is None else said
    else:
        wanted = max(floor, said) if said is not None else floor
    try:
        found = resolve(request, replace(made, config=config), None).resolution.sensitivity
    except ForbiddenError:
        assert wanted > clearance or (tasks and "t" not in tasks)
    else:
        assert found == wanted <= clearance and (not tasks or "t" in tasks)
