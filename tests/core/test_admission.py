"""Leave to make an upstream call: reservations, queues, accounts, settlement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.admission import Admission, Amounts, AnyBucket, Permit, Refusal, buckets_of
from gearshift.core.blueprint import Stage
from gearshift.core.config.model import BreakerConfig, LimitsConfig
from gearshift.core.words import BreakerState, FailureKind
from tests.support.blueprints import stage
from tests.support.changed import changed

_ONE = Amounts(10, Decimal("0.01"))


def leave(
    admission: Admission,
    of: Stage,
    amounts: Amounts = _ONE,
    extra: Sequence[AnyBucket] = (),
    excluded: frozenset[str] = frozenset(),
) -> Permit:
    got = admission.admit_nowait(of, amounts, extra, excluded=excluded)
    assert isinstance(got, Permit), got
    return got


def refused(admission: Admission, of: Stage, amounts: Amounts = _ONE, extra: Sequence[AnyBucket] = ()) -> Refusal:
    got = admission.admit_nowait(of, amounts, extra)
    assert isinstance(got, Refusal)
    return got


def settle(
    permit: Permit, *, tokens: int = 10, cost: str = "0.01", failure: FailureKind | None = None, **options: float
) -> None:
    permit.settle(
        tokens=tokens,
        cost_usd=Decimal(cost),
        failure=failure,
        cancelled=False,
        accepted=None if failure else True,
        first_token_ms=1.0,
        total_ms=2.0,
        now=time.monotonic(),
        retry_after_s=options.get("retry_after_s"),
    )


def levels(admission: Admission, of: Stage) -> dict[str, float]:
    guard = admission.guard(of, of.provider.accounts[0], time.monotonic())
    return {bucket.unit: bucket.level(0.0) for bucket in guard.buckets}


def limited(**limits: object) -> Stage:
    return stage(0, limits=LimitsConfig(**limits))  # type: ignore[arg-type]


async def test_a_reservation_is_all_or_none() -> None:
    admission = Admission()
    of = limited(concurrency=5, requests_per_minute=60, tokens_per_minute=600)
    tenant = buckets_of(LimitsConfig(requests_per_minute=1), time.monotonic())
    leave(admission, of, extra=tenant)
    before = levels(admission, of)
    assert refused(admission, of, extra=tenant).limit == "requests of tenant or task"
    assert levels(admission, of) == before
    full = stage(1, limits=LimitsConfig(concurrency=1))
    fresh = buckets_of(LimitsConfig(tokens_per_minute=60), time.monotonic())
    held = leave(admission, full)
    assert refused(admission, full, extra=fresh).limit.startswith("concurrency")
    assert fresh[0].level(time.monotonic()) == fresh[0].capacity
    held.cancel()


async def test_cancelling_gives_everything_back() -> None:
    admission = Admission()
    of = limited(concurrency=1, requests_per_minute=60, tokens_per_minute=600, usd_per_day=Decimal(1))
    permit = leave(admission, of)
    permit.cancel()
    permit.cancel()
    settle(permit, tokens=10_000)
    assert levels(admission, of) == pytest.approx({"concurrency": 1, "requests": 60, "tokens": 600, "cost": 1})
    assert admission.guards()[0].figures.in_flight == 0
    assert admission.guards()[0].figures.attempts == 0


async def test_settling_puts_right_what_was_reserved_and_may_leave_a_debt() -> None:
    admission = Admission()
    of = limited(concurrency=1, tokens_per_minute=600, usd_per_day=Decimal(1))
    settle(leave(admission, of), tokens=700, cost="1.5")
    got = levels(admission, of)
    assert got["concurrency"] == 1
    assert got["tokens"] == pytest.approx(-100, abs=1)
    assert got["cost"] == pytest.approx(-0.5, abs=0.001)
    assert refused(admission, of).wait_s > 10


async def test_settling_twice_does_nothing() -> None:
    admission = Admission()
    of = limited(concurrency=2, tokens_per_minute=600)
    permit = leave(admission, of)
    settle(permit)
    settle(permit)
    permit.cancel()
    assert levels(admission, of)["concurrency"] == 2
    assert levels(admission, of)["tokens"] == pytest.approx(590, abs=1)
    assert admission.guards()[0].figures.attempts == 1


async def test_the_breaker_hears_how_calls_ended() -> None:
    admission = Admission()
    of = stage(0, breaker=BreakerConfig(consecutive_faults=2))
    settle(leave(admission, of), failure=FailureKind.SERVER)
    settle(leave(admission, of), failure=FailureKind.SERVER)
    got = refused(admission, of)
    assert (got.reason, got.limit) == ("breaker", "server")
    assert 0 < got.wait_s <= 15


async def test_a_cancelled_call_says_nothing_of_health() -> None:
    admission = Admission()
    of = stage(0, breaker=BreakerConfig(consecutive_faults=1))
    permit = leave(admission, of)
    permit.settle(
        tokens=1,
        cost_usd=None,
        failure=None,
        cancelled=True,
        accepted=None,
        first_token_ms=None,
        total_ms=1.0,
        now=time.monotonic(),
    )
    assert admission.guards()[0].breaker.state is BreakerState.CLOSED
    assert admission.guards()[0].figures.failures == 0


# -- accounts ----------------------------------------------------------------------------------------------------------


async def test_accounts_take_turns_by_weight() -> None:
    admission = Admission()
    of = stage(0, accounts=("heavy", "light"))
    heavy, light = of.provider.accounts
    weighted = (
        changed(heavy, account=changed(heavy.account, weight=3.0)),
        changed(light, account=changed(light.account, weight=1.0)),
    )
    of = changed(of, provider=changed(of.provider, accounts=weighted))
    turns = Counter[str]()
    for _ in range(40):
        permit = leave(admission, of)
        turns[permit.account.name] += 1
        settle(permit)
    assert turns == {"heavy": 30, "light": 10}


async def test_a_full_account_is_passed_over() -> None:
    admission = Admission()
    of = stage(0, accounts=("a", "b"), limits=LimitsConfig(concurrency=1))
    assert {leave(admission, of).account.name, leave(admission, of).account.name} == {"a", "b"}
    assert refused(admission, of).wait_s == float("inf")


async def test_a_rate_limited_account_is_passed_over() -> None:
    admission = Admission()
    of = stage(0, accounts=("a", "b"))
    first = leave(admission, of)
    settle(first, failure=FailureKind.RATE_LIMIT, retry_after_s=30.0)
    others = {leave(admission, of).account.name for _ in range(6)}
    assert others == {"a", "b"} - {first.account.name}


async def test_an_account_with_a_refused_key_is_passed_over() -> None:
    admission = Admission()
    of = stage(0, accounts=("a", "b"))
    first = leave(admission, of)
    settle(first, failure=FailureKind.AUTHENTICATION)
    assert {leave(admission, of).account.name for _ in range(4)} == {"a", "b"} - {first.account.name}


async def test_an_excluded_account_is_not_used() -> None:
    admission = Admission()
    of = stage(0, accounts=("a", "b"))
    assert {leave(admission, of, excluded=frozenset({"a"})).account.name for _ in range(3)} == {"b"}
    got = admission.admit_nowait(of, _ONE, (), excluded=frozenset({"a", "b"}))
    assert isinstance(got, Refusal)
    assert got.wait_s == float("inf")


# -- waiting -----------------------------------------------------------------------------------------------------------


async def test_waiters_are_served_in_order_and_a_large_one_is_not_starved() -> None:
    admission = Admission()
    of = limited(tokens_per_minute=1, burst_s=6000)  # 100 tokens, and next to no refill
    held = leave(admission, of, Amounts(100, None))
    served: list[int] = []

    async def wait(tokens: int) -> None:
        got = await admission.admit(of, Amounts(tokens, None), (), until=time.monotonic() + 1e6)
        assert isinstance(got, Permit)
        assert got.queue_s >= 0
        served.append(tokens)
        settle(got, tokens=0)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for tokens in (100, 1, 2, 3):
                tasks.start_soon(wait, tokens)
                await anyio.wait_all_tasks_blocked()
            # Nobody who comes now passes the line, however little he wants.
            assert isinstance(admission.admit_nowait(of, Amounts(0, None), ()), Refusal)
            settle(held, tokens=0)
    assert served == [100, 1, 2, 3]
    assert admission.guards()[0].waiting == 0


async def test_a_freed_place_wakes_who_waits() -> None:
    admission = Admission()
    of = limited(concurrency=1)
    held = leave(admission, of)
    got: list[Permit | Refusal] = []

    async def wait() -> None:
        got.append(await admission.admit(of, _ONE, (), until=time.monotonic() + 60))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert admission.guards()[0].waiting == 1
            settle(held)
    assert isinstance(got[0], Permit)


async def test_a_tenants_place_freed_on_another_account_wakes_who_waits() -> None:
    admission = Admission()
    here, there = stage(0), stage(1)
    tenant = buckets_of(LimitsConfig(concurrency=1), time.monotonic())
    held = leave(admission, there, extra=tenant)
    got: list[Permit | Refusal] = []

    async def wait() -> None:
        got.append(await admission.admit(here, _ONE, tenant, until=time.monotonic() + 60))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            settle(held)
    assert isinstance(got[0], Permit)


async def test_a_wait_that_is_vain_ends_at_once() -> None:
    admission = Admission()
    of = limited(requests_per_minute=1)
    settle(leave(admission, of))
    with anyio.fail_after(5):
        got = await admission.admit(of, _ONE, (), until=time.monotonic() + 20)
    assert isinstance(got, Refusal)
    assert got.wait_s > 50


async def test_waiting_ends_in_time() -> None:
    admission = Admission()
    of = limited(concurrency=1)
    leave(admission, of)
    with anyio.fail_after(5):
        got = await admission.admit(of, _ONE, (), until=time.monotonic() + 0.02)
    assert isinstance(got, Refusal)
    assert admission.guards()[0].waiting == 0


async def test_a_waiter_that_leaves_gives_up_its_turn() -> None:
    admission = Admission()
    of = limited(concurrency=1)
    held = leave(admission, of)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: admission.admit(of, _ONE, (), until=time.monotonic() + 60))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    settle(held)
    settle(leave(admission, of))
    assert admission.guards()[0].waiting == 0


async def test_a_breaker_that_opened_meanwhile_is_not_waited_for() -> None:
    admission = Admission()
    of = stage(0, limits=LimitsConfig(concurrency=1), breaker=BreakerConfig(consecutive_faults=1))
    held = leave(admission, of)
    got: list[Permit | Refusal] = []

    async def wait() -> None:
        got.append(await admission.admit(of, _ONE, (), until=time.monotonic() + 60))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            settle(held, failure=FailureKind.SERVER)
    assert isinstance(got[0], Refusal)
    assert got[0].reason == "breaker"


# -- reloading ---------------------------------------------------------------------------------------------------------


async def test_new_limits_keep_breaker_and_figures() -> None:
    admission = Admission()
    settle(leave(admission, limited(concurrency=1)), failure=FailureKind.AUTHENTICATION)
    of = limited(concurrency=7)
    guard = admission.guard(of, of.provider.accounts[0], time.monotonic())
    assert guard.breaker.state is BreakerState.OPEN
    assert guard.figures.attempts == 1
    assert guard.buckets[0].capacity == 7


async def test_new_limits_count_what_runs_under_the_old_ones() -> None:
    admission, old, new = Admission(), limited(concurrency=3), limited(concurrency=4)
    held = [leave(admission, old) for _ in range(3)]
    held.append(leave(admission, new))
    for of in (new, old, new):  # calls of both configurations go on for a while
        refused(admission, of)
    settle(held[0])
    held[0] = leave(admission, new)
    refused(admission, new)
    for each in held:
        settle(each)
    assert levels(admission, new) == {"concurrency": 4}


async def test_what_was_reserved_under_old_limits_comes_back_to_the_new_ones() -> None:
    admission = Admission()
    old = limited(tokens_per_minute=100 / 1440, burst_s=86_400)
    new = limited(tokens_per_minute=200 / 1440, burst_s=86_400)
    permit = leave(admission, old, Amounts(100, None))
    leave(admission, new, Amounts(100, None))
    refused(admission, new, Amounts(50, None))
    settle(permit, tokens=10)
    leave(admission, new, Amounts(90, None))
    refused(admission, new, Amounts(5, None))


async def test_what_was_spent_under_an_old_budget_is_put_right_in_the_new_one() -> None:
    admission, now = Admission(), time.monotonic()
    of = stage(0)
    extra = admission.shared_buckets("tenant", "acme", LimitsConfig(usd_per_day=Decimal(1)), now)
    permit = leave(admission, of, Amounts(1, Decimal("0.9")), extra)
    larger = admission.shared_buckets("tenant", "acme", LimitsConfig(usd_per_day=Decimal(2)), now)
    settle(permit, cost="0.1")
    assert larger[0].level(now) == pytest.approx(1.9)


async def test_a_pause_outlasts_new_limits() -> None:
    admission, old, new = Admission(), limited(concurrency=1), limited(concurrency=2)
    settle(leave(admission, old), failure=FailureKind.RATE_LIMIT, retry_after_s=30.0)
    assert refused(admission, new).limit.startswith("the provider's own limit")


async def test_new_limits_of_a_tenant_count() -> None:
    admission, now = Admission(), time.monotonic()
    old = admission.shared_buckets("tenant", "acme", LimitsConfig(concurrency=1), now)
    assert admission.shared_buckets("tenant", "acme", LimitsConfig(concurrency=1), now) is old
    new = admission.shared_buckets("tenant", "acme", LimitsConfig(concurrency=5), now)
    assert new[0].capacity == 5
    assert admission.shared_buckets("tenant", "other", None, now) == ()
    assert admission.shared_buckets("task", "acme", LimitsConfig(concurrency=1), now) is not new


# -- properties ------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "settle", "fail", "cancel"]), st.integers(0, 300), st.integers(0, 7)),
        max_size=60,
    ),
    concurrency=st.integers(1, 4),
)
def test_places_are_never_lost_nor_given_twice(steps: list[tuple[str, int, int]], concurrency: int) -> None:
    admission = Admission()
    of = limited(concurrency=concurrency, tokens_per_minute=6000)
    tenant = buckets_of(LimitsConfig(concurrency=concurrency + 1), time.monotonic())
    open_permits: list[Permit] = []
    for what, tokens, which in steps:
        if what == "take":
            got = admission.admit_nowait(of, Amounts(tokens, None), tenant)
            if isinstance(got, Permit):
                open_permits.append(got)
        elif open_permits:
            permit = open_permits.pop(which % len(open_permits))
            if what == "cancel":
                permit.cancel()
            else:
                settle(permit, tokens=tokens, failure=FailureKind.INVALID_REQUEST if what == "fail" else None)
        assert len(open_permits) <= concurrency
        guard = admission.guard(of, of.provider.accounts[0], time.monotonic())
        assert guard.figures.in_flight == len(open_permits)
        assert guard.buckets[0].level(0.0) == concurrency - len(open_permits)
        assert tenant[0].level(0.0) == concurrency + 1 - len(open_permits)


# -- money -------------------------------------------------------------------------------------------------------------


async def test_a_limit_on_spending_refuses_what_has_no_known_price() -> None:
    admission = Admission()
    unknown = Amounts(10, None)
    got = refused(admission, limited(usd_per_day=Decimal(1)), unknown)
    assert (got.reason, got.wait_s) == ("cap", float("inf"))
    assert "price of m0 is unknown" in got.limit
    tenant = buckets_of(LimitsConfig(usd_per_day=Decimal(1)), time.monotonic())
    assert refused(admission, stage(1), unknown, tenant).reason == "cap"
    leave(admission, stage(1), unknown)
    # A machine of one's own costs time, which is no spending.
    own = changed(stage(2), model=changed(stage(2).model, self_hosted=True))
    leave(admission, own, unknown, tenant)


async def test_a_spent_budget_is_passed_over_until_midnight() -> None:
    admission = Admission()
    of = limited(usd_per_day=Decimal(1))
    settle(leave(admission, of), cost="1.5")
    got = refused(admission, of)
    assert (got.reason, got.limit) == ("limit", "cost of p0/default/m0")
    assert 0 < got.wait_s <= 86_400
