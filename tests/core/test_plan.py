"""Which stages may serve a call, in which order, and why the others may not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.admission import Admission, Guard
from gearshift.core.blueprint import Stage
from gearshift.core.catalogue import Feature
from gearshift.core.estimate import Estimator
from gearshift.core.experience import Experience
from gearshift.core.failures import BreakerCount
from gearshift.core.plan import Caps, Needs, Plan, needs_of, not_allowed, plan
from gearshift.core.request import Image, JsonOutput, LabelOutput, Message, Text, Tool
from gearshift.core.resolve import Resolved, resolve
from gearshift.core.words import AttemptOutcome, Complexity, Role, Sensitivity, TaskType
from tests.support.blueprints import ALL_FEATURES, blueprint, stage
from tests.support.changed import changed
from tests.support.engine import request

_AT = datetime(2026, 6, 1, tzinfo=UTC)
_LOW, _MEDIUM, _HIGH = Complexity.LOW, Complexity.MEDIUM, Complexity.HIGH
_FREE = Caps(max_cost_usd=None, allowed_models=frozenset(), allowed_providers=frozenset(), require_confidence=False)


def needs(characters: int = 400) -> Needs:
    return Needs(features=(), characters=characters, images=0, max_tokens=100)


class Planner:
    """Plans with guards that a test can break and measure."""

    def __init__(
        self, *stages: Stage, adaptive: bool = False, default_complexity: Complexity = _LOW, **task: object
    ) -> None:
        self.stages = stages
        self.admission = Admission()
        self.experience = Experience()
        call = request(**task)  # type: ignore[arg-type]
        made = blueprint(*stages, adaptive=adaptive)
        made = changed(made, capability_matrix=dict.fromkeys(made.capability_matrix, default_complexity))
        self.resolved: Resolved = resolve(call, made, None)

    @property
    def guard_of(self) -> Callable[[Stage], Guard]:
        return lambda each: self.admission.state_of(each, 0.0)

    def plan(self, wanted: Needs | None = None, caps: Caps = _FREE, chance: float = 0.5) -> Plan:
        return plan(
            self.resolved,
            wanted or needs(),
            caps,
            Estimator(),
            self.guard_of,
            _AT,
            0.0,
            chance,
            experience=self.experience,
        )

    def measured(self, each: Stage, *, attempts: int, accepted: int, failed: int = 0) -> None:
        chain, kind, at = self.resolved.chain.name, self.resolved.resolution.type, _AT.timestamp()
        outcomes = ((AttemptOutcome.ACCEPTED, accepted), (AttemptOutcome.FAILED, failed))
        poor = (AttemptOutcome.POOR, attempts - accepted - failed)
        self.experience.seed((chain, each.provider.name, each.model.id), kind, (*outcomes, poor), at)


def positions(planned: Plan) -> list[int]:
    return [each.stage.ref.position for each in planned.stages]


def reasons(planned: Plan) -> dict[int, str]:
    return {each.stage.position: each.reason for each in planned.skipped}


async def test_stages_are_tried_in_the_written_order() -> None:
    assert positions(Planner(stage(0, price="9"), stage(1, price="1")).plan()) == [0, 1]


async def test_a_provider_without_clearance_is_skipped() -> None:
    planner = Planner(stage(0), stage(1, clearance=Sensitivity.RESTRICTED), sensitivity=Sensitivity.RESTRICTED)
    planned = planner.plan()
    assert (positions(planned), reasons(planned)) == ([1], {0: "clearance"})


async def test_a_missing_clearance_says_what_would_help() -> None:
    planned = Planner(stage(0), sensitivity=Sensitivity.RESTRICTED).plan()
    assert "it needs a provider with `clearance: restricted`" in planned.skipped[0].detail


async def test_restricted_tasks_need_a_secure_path() -> None:
    planner = Planner(stage(0, clearance=Sensitivity.RESTRICTED, secure=False), sensitivity=Sensitivity.RESTRICTED)
    assert reasons(planner.plan()) == {0: "clearance"}


async def test_an_internal_task_may_go_over_a_plain_network() -> None:
    assert positions(Planner(stage(0, secure=False)).plan()) == [0]


@given(clearance=st.sampled_from(Sensitivity), asked=st.sampled_from(Sensitivity), secure=st.booleans())
def test_sensitivity_is_never_widened(clearance: Sensitivity, asked: Sensitivity, secure: bool) -> None:
    forbidden = not_allowed(stage(0, clearance=clearance, secure=secure), asked, _FREE)
    allowed = clearance >= asked and (secure or asked is not Sensitivity.RESTRICTED)
    assert (forbidden is None) == allowed


async def test_a_declared_complexity_filters() -> None:
    planner = Planner(stage(0), stage(1, capability=_HIGH), complexity=_MEDIUM)
    planned = planner.plan()
    assert (positions(planned), reasons(planned)) == ([1], {0: "capability"})


async def test_a_guessed_complexity_only_reorders() -> None:
    planner = Planner(
        stage(0), stage(1, capability=_MEDIUM), stage(2), stage(3, capability=_HIGH), default_complexity=_MEDIUM
    )
    planned = planner.plan()
    assert (positions(planned), reasons(planned)) == ([1, 3, 0, 2], {})


async def test_a_prompt_that_does_not_fit_skips_the_stage() -> None:
    planner = Planner(stage(0, context_tokens=100), stage(1, context_tokens=8000), stage(2))
    planned = planner.plan(needs(characters=2000))
    assert (positions(planned), reasons(planned)) == ([1, 2], {0: "context"})


@pytest.mark.parametrize(
    ("missing", "call"),
    [
        pytest.param({Feature.TOOLS}, {"tools": (Tool(name="look"),)}, id="tools"),
        pytest.param(
            {Feature.JSON_SCHEMA, Feature.JSON_OBJECT}, {"output": JsonOutput(), "kind": TaskType.EXTRACT}, id="json"
        ),
        pytest.param(
            {Feature.IMAGES},
            {"messages": (Message(role=Role.USER, parts=(Text("?"), Image(data=b"x", media_type="image/png"))),)},
            id="images",
        ),
    ],
)
async def test_a_missing_feature_skips_the_stage(missing: set[Feature], call: dict[str, object]) -> None:
    planner = Planner(stage(0, features=ALL_FEATURES - missing), stage(1), **call)  # type: ignore[arg-type]
    wanted = request(**call)  # type: ignore[arg-type]
    images = 1 if "messages" in call else 0
    planned = planner.plan(needs_of(wanted, planner.resolved, 100, images, None))
    assert (positions(planned), reasons(planned)) == ([1], {0: "feature"})


async def test_either_way_to_json_will_do() -> None:
    planner = Planner(
        stage(0, features=ALL_FEATURES - {Feature.JSON_SCHEMA}), output=JsonOutput(), kind=TaskType.EXTRACT
    )
    wanted = request(output=JsonOutput(), kind=TaskType.EXTRACT)
    assert positions(planner.plan(needs_of(wanted, planner.resolved, 100, 0, None))) == [0]


async def test_a_required_confidence_needs_something_to_measure_it_by() -> None:
    planner = Planner(
        stage(0, features=ALL_FEATURES - {Feature.LOGPROBS, Feature.LABELS}),
        stage(1, features=ALL_FEATURES - {Feature.LABELS}),
        output=LabelOutput(labels=("a", "b")),
        kind=TaskType.CLASSIFY,
    )
    planned = planner.plan(caps=changed(_FREE, require_confidence=True))
    assert (positions(planned), reasons(planned)) == ([1], {0: "feature"})


@pytest.mark.parametrize(
    ("price", "cap", "reason"),
    [
        pytest.param("1", "0.0001", "cap", id="too dear"),
        pytest.param(None, "5", "cap", id="an unknown price"),
        pytest.param("1", "5", None, id="within the cap"),
    ],
)
async def test_a_try_that_would_pass_the_cap_is_not_made(price: str | None, cap: str, reason: str | None) -> None:
    planned = Planner(stage(0, price=price)).plan(caps=changed(_FREE, max_cost_usd=Decimal(cap)))
    assert reasons(planned).get(0) == reason


async def test_an_unknown_price_is_no_hindrance_without_a_cap() -> None:
    planned = Planner(stage(0, price=None)).plan()
    assert planned.stages[0].expected_cost is None


async def test_an_open_breaker_is_skipped() -> None:
    planner = Planner(stage(0), stage(1))
    planner.guard_of(planner.stages[0]).breaker.fail(BreakerCount.AUTHENTICATION, "authentication", 0.0)
    planned = planner.plan()
    assert (positions(planned), reasons(planned)) == ([1], {0: "breaker"})


async def test_one_account_that_works_is_enough() -> None:
    planner = Planner(stage(0, accounts=("a", "b")))
    first = planner.stages[0]
    planner.admission.guard(first, first.provider.accounts[0], 0.0).breaker.fail(BreakerCount.AUTHENTICATION, "x", 0.0)
    assert positions(planner.plan()) == [0]


async def test_allow_lists_skip_the_others() -> None:
    planner = Planner(stage(0), stage(1), stage(2))
    planned = planner.plan(
        caps=changed(_FREE, allowed_models=frozenset({"m1", "m2"}), allowed_providers=frozenset({"p1"}))
    )
    assert (positions(planned), reasons(planned)) == ([1], {0: "policy", 2: "policy"})


async def test_every_stage_is_planned_or_skipped_with_a_sentence() -> None:
    planner = Planner(stage(0), stage(1, context_tokens=10), stage(2, price=None), complexity=_LOW)
    planned = planner.plan(caps=changed(_FREE, max_cost_usd=Decimal(1)))
    assert sorted([*positions(planned), *reasons(planned)]) == [0, 1, 2]
    assert all(len(each.detail) > 10 for each in planned.skipped)


async def test_an_adaptive_chain_skips_a_stage_that_does_not_pay() -> None:
    planner = Planner(stage(0, price="5"), stage(1, price="10", capability=_HIGH), adaptive=True)
    planner.measured(planner.stages[0], attempts=100, accepted=30)
    planned = planner.plan()
    assert (positions(planned), reasons(planned)) == ([1], {0: "does_not_pay"})


@pytest.mark.parametrize(
    ("attempts", "accepted", "chance", "adaptive"),
    [
        pytest.param(100, 60, 0.5, True, id="it pays"),
        pytest.param(5, 0, 0.5, True, id="too little is known"),
        pytest.param(100, 30, 0.01, True, id="it is probed now and then"),
        pytest.param(100, 30, 0.5, False, id="the chain is not adaptive"),
    ],
)
async def test_an_adaptive_chain_keeps_a_stage_when(
    attempts: int, accepted: int, chance: float, adaptive: bool
) -> None:
    planner = Planner(stage(0, price="5"), stage(1, price="10", capability=_HIGH), adaptive=adaptive)
    planner.measured(planner.stages[0], attempts=attempts, accepted=accepted)
    assert positions(planner.plan(chance=chance)) == [0, 1]


async def test_the_last_stage_is_never_skipped_for_its_price() -> None:
    planner = Planner(stage(0, price="1"), adaptive=True)
    planner.measured(planner.stages[0], attempts=100, accepted=0)
    assert positions(planner.plan()) == [0]
