"""One call's walk over its plan: retries, hops and caps, without a loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.config.model import RetryConfig
from gearshift.core.course import Course, Finish, Step, Try
from gearshift.core.failures import FAILURE_RULES, ProviderFailure
from gearshift.core.plan import PlannedStage
from gearshift.core.words import AttemptCause, AttemptRole, Complexity, FailureKind
from tests.support.blueprints import policy, stage

_RETRY = RetryConfig(base_s=0.25, max_s=8.0)
_LOW, _MEDIUM, _HIGH = Complexity.LOW, Complexity.MEDIUM, Complexity.HIGH


def planned(
    position: int,
    *,
    capability: Complexity = _LOW,
    cost: str | None = "0.01",
    max_retries: int = 0,
    accounts: tuple[str, ...] = ("default",),
) -> PlannedStage:
    return PlannedStage(
        stage=stage(position, capability=capability, max_retries=max_retries, accounts=accounts),
        input_tokens=10,
        output_tokens=10,
        expected_cost=None if cost is None else Decimal(cost),
    )


def course(
    *stages: PlannedStage,
    max_attempts: int = 8,
    max_hops: int = 4,
    max_cost_usd: str | None = None,
    ends_at: float = 100.0,
    second_look: bool = True,
) -> Course:
    return Course(
        stages,
        policy(second_look=second_look),
        _RETRY,
        max_attempts=max_attempts,
        max_hops=max_hops,
        max_cost_usd=None if max_cost_usd is None else Decimal(max_cost_usd),
        ends_at=ends_at,
    )


def failure(kind: FailureKind = FailureKind.SERVER, retry_after_s: float | None = None) -> ProviderFailure:
    return ProviderFailure(kind, "scripted", retry_after_s=retry_after_s)


def taken(step: Step) -> Try:
    assert isinstance(step, Try)
    return step


def ended(step: Step | None) -> Finish:
    assert isinstance(step, Finish)
    return step


def begun(walk: Course, now: float = 0.0) -> Try:
    step = taken(walk.begin(now))
    walk.begun()
    return step


# -- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FailureKind)
def test_each_failure_is_retried_as_its_rule_says(kind: FailureKind) -> None:
    walk = course(planned(0, max_retries=1), planned(1))
    begun(walk)
    step = taken(walk.failed(failure(kind), "default", 0.0, 0.5))
    rule = FAILURE_RULES[kind]
    if rule.retry_here and rule.same_account:
        assert (step.index, step.cause) == (0, AttemptCause.RETRY)
        assert 0 < step.delay_s <= _RETRY.base_s
    else:
        assert (step.index, step.cause, step.delay_s) == (1, AttemptCause.FALLBACK, 0.0)


@pytest.mark.parametrize("kind", FailureKind)
def test_max_retries_1_means_at_most_two_calls(kind: FailureKind) -> None:
    walk = course(planned(0, max_retries=1))
    begun(walk)
    calls, step = 1, walk.failed(failure(kind), "default", 0.0, 0.5)
    while isinstance(step, Try):
        walk.begun()
        calls += 1
        step = walk.failed(failure(kind), "default", 0.0, 0.5)
    assert calls <= 2


@pytest.mark.parametrize("kind", [FailureKind.AUTHENTICATION, FailureKind.BILLING, FailureKind.MODEL_NOT_FOUND])
def test_a_refused_key_is_tried_on_another_account_at_once(kind: FailureKind) -> None:
    walk = course(planned(0, max_retries=2, accounts=("a", "b")), planned(1))
    begun(walk)
    step = taken(walk.failed(failure(kind), "a", 0.0, 0.9))
    assert (step.index, step.excluded, step.delay_s) == (0, frozenset({"a"}), 0.0)
    walk.begun()
    assert taken(walk.failed(failure(kind), "b", 0.0, 0.9)).index == 1  # no account is left


def test_a_rate_limited_account_is_left_for_another_at_once() -> None:
    walk = course(planned(0, max_retries=1, accounts=("a", "b")), planned(1))
    begun(walk)
    step = taken(walk.failed(failure(FailureKind.RATE_LIMIT, 5.0), "a", 0.0, 0.9))
    assert (step.index, step.excluded, step.delay_s) == (0, frozenset({"a"}), 0.0)


def test_a_retry_prefers_an_account_that_has_not_failed() -> None:
    walk = course(planned(0, max_retries=1, accounts=("a", "b")))
    begun(walk)
    assert taken(walk.failed(failure(), "b", 0.0, 0.9)).excluded == {"b"}


def test_accounts_are_forgiven_on_the_next_stage() -> None:
    walk = course(planned(0, max_retries=1, accounts=("a", "b")), planned(1, accounts=("a", "b")))
    begun(walk)
    walk.failed(failure(), "a", 0.0, 0.0)
    walk.begun()
    step = taken(walk.failed(failure(), "b", 0.0, 0.0))
    assert (step.index, step.excluded) == (1, frozenset())


@pytest.mark.parametrize(
    ("chance", "retries", "delay"),
    [(0.0, 0, 0.0), (1.0, 0, 0.25), (0.5, 1, 0.25), (1.0, 3, 2.0), (1.0, 8, 8.0)],
)
def test_backoff_is_full_jitter(chance: float, retries: int, delay: float) -> None:
    walk = course(planned(0, max_retries=20), max_attempts=50, ends_at=1e6)
    begun(walk)
    for _ in range(retries):
        taken(walk.failed(failure(), "default", 0.0, 0.0))
        walk.begun()
    assert taken(walk.failed(failure(), "default", 0.0, chance)).delay_s == pytest.approx(delay)


def test_retry_after_is_honoured() -> None:
    walk = course(planned(0, max_retries=1), planned(1))
    begun(walk)
    step = taken(walk.failed(failure(FailureKind.RATE_LIMIT, 3.0), "default", 0.0, 0.1))
    assert (step.index, step.delay_s) == (0, 3.0)


def test_a_long_retry_after_goes_to_the_next_stage_at_once() -> None:
    walk = course(planned(0, max_retries=1), planned(1))
    begun(walk)
    step = taken(walk.failed(failure(FailureKind.RATE_LIMIT, 9.0), "default", 0.0, 0.1))
    assert (step.index, step.delay_s) == (1, 0.0)


def test_on_the_last_stage_only_the_deadline_bounds_retry_after() -> None:
    walk = course(planned(0, max_retries=1))
    begun(walk)
    assert taken(walk.failed(failure(FailureKind.RATE_LIMIT, 60.0), "default", 0.0, 0.1)).delay_s == 60.0
    walk = course(planned(0, max_retries=1))
    begun(walk)
    ended(walk.failed(failure(FailureKind.RATE_LIMIT, 100.0), "default", 0.0, 0.1))
    assert walk.soonest_s == 100.0


def test_the_shortest_wait_is_told() -> None:
    walk = course(planned(0), planned(1), planned(2))
    begun(walk)
    walk.failed(failure(FailureKind.RATE_LIMIT, 20.0), "default", 0.0, 0.1)
    walk.begun()
    walk.failed(failure(FailureKind.OVERLOAD, 7.0), "default", 0.0, 0.1)
    walk.refused("limit", "requests", 9.0, 0.0)
    assert walk.soonest_s == 7.0


# -- hops ------------------------------------------------------------------------------------------------------------


def test_a_failed_attempt_goes_to_any_next_stage() -> None:
    walk = course(planned(0, capability=_HIGH), planned(1, capability=_LOW))
    begun(walk)
    step = taken(walk.failed(failure(), "default", 0.0, 0.5))
    assert (step.index, step.cause) == (1, AttemptCause.FALLBACK)


def test_a_poor_answer_goes_only_upward() -> None:
    walk = course(planned(0), planned(1), planned(2, capability=_MEDIUM), planned(3, capability=_HIGH))
    begun(walk)
    step = taken(walk.poor("poor", 0.0))
    assert (step.index, step.cause) == (2, AttemptCause.ESCALATION)
    walk.begun()
    assert taken(walk.poor("poor", 0.0)).index == 3
    walk.begun()
    assert ended(walk.poor("poor", 0.0)).reason == "poor"


def test_a_poor_answer_ends_where_nothing_stronger_is_left() -> None:
    walk = course(planned(0, capability=_MEDIUM), planned(1, capability=_MEDIUM), planned(2))
    begun(walk)
    assert ended(walk.poor("poor", 0.0)).reason == "poor"


def test_a_refused_escalation_still_goes_only_upward() -> None:
    walk = course(planned(0), planned(1, capability=_MEDIUM), planned(2), planned(3, capability=_HIGH))
    begun(walk)
    assert taken(walk.poor("poor", 0.0)).index == 1
    step = taken(walk.refused("limit", "requests", 5.0, 0.0))
    assert (step.index, step.cause) == (3, AttemptCause.ESCALATION)
    ended(walk.refused("limit", "requests", 5.0, 0.0))


def test_a_refused_second_look_escalates() -> None:
    walk = course(planned(0, cost="0.01"), planned(1, cost="0.01"), planned(2, capability=_HIGH, cost="1"))
    begun(walk)
    assert walk.look_again(0.0) is not None
    step = taken(walk.refused("limit", "requests", 5.0, 0.0))
    assert (step.index, step.cause) == (2, AttemptCause.ESCALATION)


def test_a_refused_stage_is_passed_over_with_its_reason() -> None:
    walk = course(planned(0), planned(1))
    taken(walk.begin(0.0))
    step = taken(walk.refused("limit", "tokens of p0", 3.0, 0.0))
    assert (step.index, step.cause) == (1, AttemptCause.FALLBACK)
    assert [(each.stage.ref.position, reason, detail) for each, reason, detail in walk.passed_over] == [
        (0, "limit", "tokens of p0")
    ]


# -- the second look ---------------------------------------------------------------------------------------------------


def _looking(first: str | None, following: str | None, *, second_look: bool = True) -> Course:
    walk = course(planned(0, cost=first), planned(1, cost=following, capability=_HIGH), second_look=second_look)
    begun(walk)
    return walk


def test_a_second_look_is_another_sample_of_the_same_stage() -> None:
    step = _looking("0.01", "0.04").look_again(0.0)
    assert step is not None
    assert (step.index, step.role, step.cause) == (0, AttemptRole.CHECK, AttemptCause.SECOND_LOOK)


@pytest.mark.parametrize(
    ("first", "following"),
    [
        pytest.param("0.011", "0.04", id="more than a quarter of the next stage"),
        pytest.param(None, "0.04", id="an unknown price"),
        pytest.param("0.01", None, id="an unknown price of the next stage"),
    ],
)
def test_a_second_look_that_may_not_pay_is_not_taken(first: str | None, following: str | None) -> None:
    assert _looking(first, following).look_again(0.0) is None


def test_a_second_look_is_taken_once() -> None:
    walk = _looking("0.01", "1")
    assert walk.look_again(0.0) is not None
    walk.begun()
    assert walk.look_again(0.0) is None


def test_a_second_look_is_not_taken_where_the_policy_forbids_it() -> None:
    assert _looking("0.01", "1", second_look=False).look_again(0.0) is None


def test_a_second_look_is_not_taken_on_the_last_stage() -> None:
    walk = course(planned(0), planned(1, cost="1"))
    begun(walk)
    assert walk.look_again(0.0) is None  # the next stage is no stronger


def test_a_second_look_counts_as_an_attempt() -> None:
    walk = course(planned(0, cost="0.01"), planned(1, cost="1", capability=_HIGH), max_attempts=1)
    begun(walk)
    assert walk.look_again(0.0) is None


# -- caps ------------------------------------------------------------------------------------------------------------


def test_the_deadline_is_split_so_that_later_stages_have_time() -> None:
    walk = course(planned(0), planned(1), planned(2), ends_at=60.0)
    assert begun(walk).budget_s == pytest.approx(30.0)
    assert taken(walk.failed(failure(), "default", 30.0, 0.0)).budget_s == pytest.approx(20.0)
    walk.begun()
    assert taken(walk.failed(failure(), "default", 50.0, 0.0)).budget_s == pytest.approx(10.0)


def test_nothing_begins_without_time() -> None:
    assert ended(course(planned(0)).begin(99.99)).reason == "deadline"
    walk = course(planned(0), planned(1))
    begun(walk)
    assert ended(walk.failed(failure(), "default", 99.99, 0.0)).reason == "deadline"


def test_an_unknown_cost_ends_a_capped_call() -> None:
    walk = course(planned(0), planned(1), max_cost_usd="5")
    begun(walk)
    walk.spend(None)
    assert ended(walk.failed(failure(), "default", 0.0, 0.0)).reason == "cap"


def test_waiting_for_a_limit_is_for_the_last_stage_or_a_cheaper_one() -> None:
    walk = course(planned(0, cost="0.01"), planned(1, cost="0.02"), planned(2, cost="0.01"), ends_at=60.0)
    assert begun(walk).wait_s == 1.0
    assert taken(walk.refused("limit", "x", 1.0, 0.0)).wait_s == 0.0
    last = taken(walk.refused("limit", "x", 1.0, 0.0))
    assert last.wait_s == last.budget_s


def test_a_further_batch_counts_towards_no_cap_on_attempts() -> None:
    walk = course(planned(0), max_attempts=1)
    begun(walk)
    assert isinstance(walk.again(0.0), Try)
    ended(walk.failed(failure(), "default", 0.0, 0.0))


# -- properties ------------------------------------------------------------------------------------------------------


@dataclass
class _Walked:
    calls: list[Try] = field(default_factory=list[Try])
    outcomes: list[str] = field(default_factory=list[str])
    now: float = 0.0
    spent: Decimal = Decimal(0)
    last_began: float = 0.0


_STAGES = st.lists(
    st.tuples(
        st.sampled_from(Complexity),
        st.sampled_from(["0.001", "0.01", "0.3", "1"]),
        st.integers(0, 3),
        st.sampled_from([("a",), ("a", "b"), ("a", "b", "c")]),
    ),
    min_size=1,
    max_size=4,
)
_OUTCOMES = st.lists(
    st.one_of(
        st.tuples(st.just("failed"), st.sampled_from(FailureKind), st.none() | st.floats(0, 40)),
        st.tuples(st.just("failed"), st.just(FailureKind.RATE_LIMIT), st.floats(0, 12)),
        st.tuples(st.just("poor"), st.none(), st.none()),
        st.tuples(st.just("unsure"), st.none(), st.none()),
        st.tuples(st.just("refused"), st.none(), st.floats(0, 40)),
    ),
    min_size=1,
    max_size=60,
)
_Outcome = tuple[str, FailureKind | None, float | None]


def _walk(walk: Course, outcomes: list[_Outcome], took: float, chance: float, share: Decimal) -> _Walked:
    """Walk to the end; the outcomes begin anew when they are used up, as in a storm."""
    done, turn = _Walked(), 0
    step: Step = walk.begin(done.now)
    while isinstance(step, Try):
        assert turn < 1000, "the walk does not end"
        what, kind, wait = outcomes[turn % len(outcomes)]
        turn += 1
        done.now += step.delay_s
        if what == "refused":
            done.outcomes.append("refused")
            step = walk.refused("limit", "tokens", wait or 0.0, done.now)
            continue
        account = next(
            each.account.name for each in step.planned.stage.provider.accounts if each.account.name not in step.excluded
        )
        walk.begun()
        done.calls.append(step)
        done.outcomes.append(what)
        done.last_began = done.now
        done.now += min(took, step.budget_s)
        assert step.planned.expected_cost is not None
        cost = step.planned.expected_cost * share
        done.spent += cost
        walk.spend(cost)
        if what == "failed" and step.role is AttemptRole.ANSWER:
            assert kind is not None
            step = walk.failed(failure(kind, wait), account, done.now, chance)
        else:
            look = walk.look_again(done.now) if what == "unsure" and step.role is AttemptRole.ANSWER else None
            step = look if look is not None else walk.poor("poor", done.now)
    return done


@settings(max_examples=300, deadline=None)
@given(
    stages=_STAGES,
    outcomes=_OUTCOMES,
    max_attempts=st.integers(1, 10),
    max_hops=st.integers(0, 5),
    cap=st.none() | st.sampled_from(["1", "1.5", "4"]),
    ends_at=st.floats(0.1, 60),
    took=st.floats(0, 10),
    chance=st.floats(0, 1, exclude_max=True),
    share=st.sampled_from([Decimal(0), Decimal("0.5"), Decimal(1)]),
)
def test_no_cap_is_ever_exceeded(
    stages: list[tuple[Complexity, str, int, tuple[str, ...]]],
    outcomes: list[_Outcome],
    max_attempts: int,
    max_hops: int,
    cap: str | None,
    ends_at: float,
    took: float,
    chance: float,
    share: Decimal,
) -> None:
    plan = [
        planned(place, capability=capability, cost=cost, max_retries=retries, accounts=accounts)
        for place, (capability, cost, retries, accounts) in enumerate(stages)
    ]
    walk = course(*plan, max_attempts=max_attempts, max_hops=max_hops, max_cost_usd=cap, ends_at=ends_at)
    done = _walk(walk, outcomes, took, chance, share)
    # Attempts, hops, money and time.
    assert len(done.calls) <= max_attempts
    hops = sum(1 for first, second in zip(done.calls, done.calls[1:], strict=False) if first.index != second.index)
    assert hops <= walk.hops <= max_hops
    if cap is not None:
        assert done.spent <= Decimal(cap)
    assert done.last_began <= ends_at
    assert done.now <= ends_at + 1e-6
    # A stage is never called more often than its retries allow, besides one second look, and never again once left.
    for place, each in enumerate(plan):
        answers = [call for call in done.calls if call.index == place and call.role is AttemptRole.ANSWER]
        checks = [call for call in done.calls if call.index == place and call.role is AttemptRole.CHECK]
        assert len(answers) <= each.stage.max_retries + 1
        assert len(checks) <= 1
    assert [call.index for call in done.calls] == sorted(call.index for call in done.calls)
    # A poor answer only goes upward.
    made = [outcome for outcome in done.outcomes if outcome != "refused"]
    for outcome, first, second in zip(made, done.calls, done.calls[1:], strict=False):
        if outcome != "failed" or first.role is AttemptRole.CHECK:
            upward = second.planned.stage.ref.capability > first.planned.stage.ref.capability
            assert upward or second.role is AttemptRole.CHECK
