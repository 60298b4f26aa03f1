"""What a call's task is, and where each axis came from."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.blueprint import Blueprint, DeclaredTask
from gearshift.core.classifier import Guess
from gearshift.core.config.model import AccessConfig, ChainPolicyConfig, TasksConfig, TenantConfig
from gearshift.core.errors import ForbiddenError, InvalidRequestError, NoStageError, UnknownTaskError
from gearshift.core.prepare import caps_of, tightened
from gearshift.core.request import (
    EmbedRequest,
    JsonOutput,
    LabelOutput,
    Output,
    Policy,
    SystemPrompt,
    Task,
)
from gearshift.core.resolve import instruction_of, resolve, resolve_embed
from gearshift.core.words import Complexity, Sensitivity, Source, TaskType
from tests.support.blueprints import blueprint, declared_task, policy, stage
from tests.support.changed import changed
from tests.support.engine import request

_LABELS = LabelOutput(labels=("a", "b"))
_LOW, _MEDIUM, _HIGH = Complexity.LOW, Complexity.MEDIUM, Complexity.HIGH


def declared(
    kind: TaskType = TaskType.CLASSIFY,
    *,
    complexity: Complexity | None = None,
    sensitivity: Sensitivity | None = None,
    output: Output | None = None,
) -> DeclaredTask:
    chain = blueprint(stage(0)).chains["generate"]
    return changed(
        declared_task("triage", changed(chain, name="own")),
        type=kind,
        complexity=complexity,
        sensitivity=sensitivity,
        output=output,
        policy=policy(max_attempts=3),
        definition_hash="hash",
    )


def house(*tasks: DeclaredTask, strict: bool = False, tenants: Mapping[str, TenantConfig] | None = None) -> Blueprint:
    made = blueprint(stage(0))
    config = changed(made.config, tasks=TasksConfig(strict=strict), access=AccessConfig(tenants=dict(tenants or {})))
    return changed(
        made,
        config=config,
        tasks={each.id: each for each in tasks},
        capability_matrix={
            TaskType.CLASSIFY: _LOW,
            TaskType.EXTRACT: _MEDIUM,
            TaskType.GENERATE: _HIGH,
            TaskType.REASON: _HIGH,
            TaskType.EMBED: _LOW,
        },
    )


class Sure:
    """A classifier that always says the same."""

    def __init__(self, kind: str | None, complexity: str | None = None, confidence: float = 0.9) -> None:
        self.said = Guess(
            task_type=kind,
            confidence=confidence,
            complexity=complexity,
            complexity_confidence=confidence,
            probabilities=(),
        )
        self.asked: list[str] = []

    def guess(self, text: str) -> Guess:
        self.asked.append(text)
        return self.said


# -- type --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "task_id", "output", "classifier", "expected"),
    [
        pytest.param(TaskType.REASON, "x", _LABELS, None, (TaskType.REASON, Source.CALLER), id="caller before output"),
        pytest.param(
            TaskType.CLASSIFY, "triage", None, None, (TaskType.CLASSIFY, Source.CALLER), id="caller as declared"
        ),
        pytest.param(
            None, "triage", JsonOutput(), None, (TaskType.CLASSIFY, Source.DECLARATION), id="declaration before output"
        ),
        pytest.param(None, "x", _LABELS, Sure("reason"), (TaskType.CLASSIFY, Source.OUTPUT), id="labels"),
        pytest.param(None, "x", JsonOutput(), Sure("reason"), (TaskType.EXTRACT, Source.OUTPUT), id="schema"),
        pytest.param(None, "x", None, Sure("reason"), (TaskType.REASON, Source.CLASSIFIER), id="a sure classifier"),
        pytest.param(None, "x", None, Sure(None), (TaskType.GENERATE, Source.DEFAULT), id="an unsure classifier"),
        pytest.param(None, "x", None, Sure("embed"), (TaskType.GENERATE, Source.DEFAULT), id="never embed"),
        pytest.param(None, "x", None, None, (TaskType.GENERATE, Source.DEFAULT), id="nobody"),
    ],
)
def test_the_type_is_taken_from(
    kind: TaskType | None,
    task_id: str,
    output: Output | None,
    classifier: Sure | None,
    expected: tuple[TaskType, Source],
) -> None:
    got = resolve(request(kind=kind, task_id=task_id, output=output), house(declared()), classifier).resolution
    assert (got.type, got.type_source) == expected
    assert got.type_confidence == (0.9 if got.type_source is Source.CLASSIFIER else 1.0)


def test_a_type_that_conflicts_with_the_declaration_is_invalid() -> None:
    with pytest.raises(InvalidRequestError, match="declared as classify"):
        resolve(request(kind=TaskType.REASON, task_id="triage"), house(declared()), None)


def test_route_never_embeds() -> None:
    with pytest.raises(InvalidRequestError, match="call Embed"):
        resolve(request(kind=TaskType.EMBED), house(), None)
    with pytest.raises(InvalidRequestError, match="call Embed"):
        resolve(request(kind=None, task_id="triage"), house(declared(TaskType.EMBED)), None)


def test_the_classifier_reads_the_instruction_only_when_it_is_needed() -> None:
    classifier = Sure("reason")
    resolve(request(kind=TaskType.GENERATE), house(), classifier)
    assert not classifier.asked
    resolve(request("Why?", kind=None, system=SystemPrompt(text="Think.")), house(), classifier)
    assert classifier.asked == ["Think.\n\nWhy?"]


def test_the_instruction_is_the_last_user_turn() -> None:
    assert instruction_of(request("Why?")) == "Why?"
    assert instruction_of(request("Why?", system=SystemPrompt(key="k")), "Think.") == "Think.\n\nWhy?"
    assert instruction_of(request("Why?", system=SystemPrompt(key="k"))) == "Why?"


# -- complexity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said", "guessed", "expected", "filters"),
    [
        pytest.param(_LOW, _HIGH, "high", (_LOW, Source.CALLER), True, id="caller"),
        pytest.param(None, _HIGH, None, (_HIGH, Source.DECLARATION), True, id="declaration"),
    ],
)
def test_the_complexity_of_a_declared_task(
    asked: Complexity | None,
    said: Complexity | None,
    guessed: str | None,
    expected: tuple[Complexity, Source],
    filters: bool,
) -> None:
    got = resolve(
        request(kind=None, task_id="triage", complexity=asked),
        house(declared(complexity=said)),
        Sure(None, guessed),
    )
    assert (got.resolution.complexity, got.resolution.complexity_source) == expected
    assert got.complexity_declared == filters


@pytest.mark.parametrize(
    ("guess", "expected"),
    [
        pytest.param(Sure("classify", "high"), (_HIGH, Source.CLASSIFIER), id="it may raise"),
        pytest.param(Sure("extract", "low"), (_MEDIUM, Source.DEFAULT), id="it may not lower"),
        pytest.param(Sure("classify"), (_LOW, Source.DEFAULT), id="the type's default"),
    ],
)
def test_the_classifier_may_raise_the_complexity(guess: Sure, expected: tuple[Complexity, Source]) -> None:
    got = resolve(request(kind=None), house(), guess)
    assert (got.resolution.complexity, got.resolution.complexity_source) == expected
    assert not got.complexity_declared


# -- sensitivity -------------------------------------------------------------------------------------------------------


@given(
    asked=st.none() | st.sampled_from(Sensitivity),
    said=st.none() | st.sampled_from(Sensitivity),
    floor=st.sampled_from(Sensitivity),
    clearance=st.sampled_from(Sensitivity),
)
def test_sensitivity_is_never_lowered(
    asked: Sensitivity | None, said: Sensitivity | None, floor: Sensitivity, clearance: Sensitivity
) -> None:
    tenants = {"acme": TenantConfig(sensitivity_floor=floor.word, clearance=clearance.word)}
    plan = house(declared(sensitivity=said), tenants=tenants)
    call = request(kind=None, task_id="triage", tenant="acme", sensitivity=asked)
    named = [each for each in (asked, said) if each is not None]
    least = max([*named, floor])
    if not named and floor is Sensitivity.PUBLIC:
        least = Sensitivity.INTERNAL  # unset everywhere
    if least > clearance:
        with pytest.raises(ForbiddenError):
            resolve(call, plan, None)
        return
    got = resolve(call, plan, None).resolution
    assert got.sensitivity is least
    expected = {Source.CALLER: asked, Source.DECLARATION: said, Source.TENANT: floor, Source.DEFAULT: least}
    assert expected[got.sensitivity_source] is least


# -- rights ------------------------------------------------------------------------------------------------------------


def test_undeclared_tasks_are_unknown_where_tasks_are_strict() -> None:
    with pytest.raises(UnknownTaskError, match=r"declared: triage"):
        resolve(request(kind=None, task_id="tirage"), house(declared(), strict=True), None)
    assert resolve(request(kind=None, task_id="triage"), house(declared(), strict=True), None).declared is not None


def test_an_unknown_task_is_told_only_what_its_tenant_may_send() -> None:
    tenants = {"acme": TenantConfig(tasks=("triage",))}
    plan = house(declared(), changed(declared(), id="payroll"), strict=True, tenants=tenants)
    with pytest.raises(UnknownTaskError) as caught:
        resolve(request(kind=None, task_id="tirage", tenant="acme"), plan, None)
    assert "triage" in caught.value.message
    assert "payroll" not in caught.value.message


def test_a_tenant_may_use_its_own_tasks_only() -> None:
    plan = house(declared(), tenants={"acme": TenantConfig(tasks=("triage",))})
    assert resolve(request(kind=None, task_id="triage", tenant="acme"), plan, None).declared is not None
    with pytest.raises(ForbiddenError):
        resolve(request(kind=None, task_id="other", tenant="acme"), plan, None)


def test_a_type_without_a_chain_says_what_to_configure() -> None:
    plan = changed(house(), chains={})
    with pytest.raises(NoStageError, match=r"chains\.generate"):
        resolve(request(), plan, None)
    with pytest.raises(NoStageError, match=r"chains\.embed"):
        resolve_embed(embed(), plan)


def test_a_declared_task_brings_its_chain_policy_and_output() -> None:
    got = resolve(request(kind=None, task_id="triage"), house(declared(output=_LABELS)), None)
    assert (got.chain.name, got.policy.max_attempts, got.output, got.definition_hash) == ("own", 3, _LABELS, "hash")
    own = LabelOutput(labels=("x", "y"))
    assert (
        resolve(request(kind=None, task_id="triage", output=own), house(declared(output=_LABELS)), None).output == own
    )


def test_an_undeclared_task_is_known_by_its_id() -> None:
    got = resolve(request(task_id="free"), house(), None)
    assert (got.declared, got.definition_hash, got.chain.name) == (None, "free", "generate")


def embed(task: Task | None = None) -> EmbedRequest:
    return EmbedRequest(request_id="r", tenant="default", task=task or Task(id="x"), inputs=("a",))


def test_embedding_resolves_to_embed() -> None:
    assert resolve_embed(embed(), house()).resolution.type is TaskType.EMBED


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(Task(id="triage"), id="declared as another type"),
        pytest.param(Task(id="x", type=TaskType.CLASSIFY), id="tagged as another type"),
    ],
)
def test_embedding_another_type_of_task_is_invalid(task: Task) -> None:
    with pytest.raises(InvalidRequestError):
        resolve_embed(embed(task), house(declared()))


# -- tightening --------------------------------------------------------------------------------------------------------

_POLICIES = st.builds(
    Policy,
    max_attempts=st.none() | st.integers(1, 20),
    max_hops=st.none() | st.integers(0, 20),
    max_cost_usd=st.none() | st.decimals(0, 10, places=2),
    min_confidence=st.none() | st.floats(0, 1),
    escalation_threshold=st.none() | st.floats(0, 1),
    require_valid=st.booleans(),
    require_confidence=st.booleans(),
    no_second_look=st.booleans(),
)
_TENANT_POLICIES = st.builds(
    ChainPolicyConfig,
    max_attempts=st.none() | st.integers(1, 20),
    max_hops=st.none() | st.integers(0, 20),
    max_cost_usd=st.none() | st.decimals(0, 10, places=2),
    min_confidence=st.none() | st.floats(0, 1),
    escalation_threshold=st.none() | st.floats(0, 1),
    require_valid=st.none() | st.booleans(),
    require_confidence=st.none() | st.booleans(),
    second_look=st.none() | st.booleans(),
)


@given(asked=_POLICIES, tenant=_TENANT_POLICIES)
def test_tenants_and_callers_only_tighten(asked: Policy, tenant: ChainPolicyConfig) -> None:
    base = policy(max_attempts=8, max_hops=4, max_cost_usd=Decimal(5))
    got = tightened(base, tenant, asked)
    for by in (base, tenant, asked):
        assert by.max_attempts is None or got.max_attempts <= by.max_attempts
        assert by.max_hops is None or got.max_hops <= by.max_hops
        assert got.max_cost_usd is not None
        assert by.max_cost_usd is None or got.max_cost_usd <= by.max_cost_usd
        assert by.min_confidence is None or got.min_confidence >= by.min_confidence
        assert by.escalation_threshold is None or got.escalation_threshold >= by.escalation_threshold
        assert not by.require_valid or got.require_valid
        assert not by.require_confidence or got.require_confidence
    assert got.escalation_threshold <= got.min_confidence
    assert not (got.second_look and (asked.no_second_look or tenant.second_look is False))


def test_no_wish_changes_nothing() -> None:
    base = policy()
    assert tightened(base, ChainPolicyConfig(), Policy()) is base


def test_a_caller_may_only_narrow_the_tenants_models() -> None:
    plan = house(tenants={"acme": TenantConfig(models=("m1", "m2"))})
    resolved = resolve(request(tenant="acme"), plan, None)
    assert caps_of(Policy(), resolved, policy()).allowed_models == {"m1", "m2"}
    assert caps_of(Policy(allowed_models=frozenset({"m2", "m3"})), resolved, policy()).allowed_models == {"m2"}
    with pytest.raises(NoStageError, match="open to this tenant"):
        caps_of(Policy(allowed_models=frozenset({"m3"})), resolved, policy())
