"""Limits of one process and limits over Redis: the same verdicts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gearshift.core.admission import Admission, Amounts, Permit, Refusal, buckets_of, refusal_of
from gearshift.core.blueprint import Stage
from gearshift.core.buckets import Bucket, Budget
from gearshift.core.config.model import LimitsConfig
from gearshift.core.shared.buckets import SharedBucket, SharedPlaces
from gearshift.core.words import FailureKind
from tests.support.blueprints import stage
from tests.support.redis_server import redis_server, started_redis
from tests.support.shared_limits import ask, settle, shared_admission, shared_store, until

Opened = Callable[[], AbstractAsyncContextManager[Admission]]


@pytest.fixture(scope="module")
def redis_url() -> Generator[str]:
    """A Redis for the whole module; each test has keys of its own."""
    with started_redis() as server:
        yield server.url


_PREFIXES = itertools.count()


@pytest.fixture(params=["local", "redis"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Opens an admission of either form."""
    if request.param == "redis":
        url: str = request.getfixturevalue("redis_url")
        return lambda: shared_admission(url, prefix=f"t{next(_PREFIXES)}")

    @asynccontextmanager
    async def local() -> AsyncGenerator[Admission]:
        yield Admission()

    return local


def limited(**limits: Any) -> Stage:
    return stage(0, limits=LimitsConfig(**limits))


async def test_a_thousand_callers_get_exactly_what_a_bucket_holds(opened: Opened) -> None:
    of, got = limited(requests_per_minute=0.001, burst_s=86_400, tokens_per_minute=1e6), list[Permit | Refusal]()
    of = limited(requests_per_minute=100 / 1440, burst_s=86_400)  # 100, and next to no refill
    async with opened() as admission:
        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(_collect, admission, of, got)
        assert sum(isinstance(each, Permit) for each in got) == 100
        refused = next(each for each in got if isinstance(each, Refusal))
        assert refused.limit == "requests of p0/default/m0"
        assert 60 < refused.wait_s <= 14.5 * 60


async def _collect(admission: Admission, of: Stage, got: list[Permit | Refusal]) -> None:
    got.append(await ask(admission, of))


async def test_a_reservation_takes_from_all_or_none(opened: Opened) -> None:
    of = limited(concurrency=5, tokens_per_minute=600)
    async with opened() as admission:
        tenant = admission.shared_buckets(
            "tenant", "acme", LimitsConfig(requests_per_minute=2 / 1440, burst_s=86_400), 0
        )
        held = [await ask(admission, of, extra=tenant) for _ in range(3)]
        assert [isinstance(each, Permit) for each in held] == [True, True, False]
        assert isinstance(held[2], Refusal)
        assert held[2].limit == "requests of tenant or task"
        # Nothing was taken by the third: two places are used, and 20 tokens.
        others = [await ask(admission, of, Amounts(580, None)) for _ in range(2)]
        assert [isinstance(each, Permit) for each in others] == [True, False]


async def test_what_was_not_used_comes_back_and_what_was_used_too_much_is_owed(opened: Opened) -> None:
    of = limited(tokens_per_minute=100 / 1440, burst_s=86_400)
    async with opened() as admission:
        first = await ask(admission, of, Amounts(100, None))
        assert isinstance(first, Permit)
        assert isinstance(await ask(admission, of, Amounts(40, None)), Refusal)
        settle(first, tokens=60)
        second = await ask(admission, of, Amounts(40, None), patience_s=5)
        assert isinstance(second, Permit)
        settle(second, tokens=90)
        third = await ask(admission, of, Amounts(1, None))
        assert isinstance(third, Refusal)
        assert third.wait_s > 0


async def test_a_stream_that_reserved_more_than_a_bucket_holds_owes_only_what_it_wrote(opened: Opened) -> None:
    of, answers = limited(tokens_per_minute=6000, burst_s=1), list[bool]()  # 100 tokens, 100 a second
    async with opened() as admission:
        permit = await ask(admission, of, Amounts(100, None))
        assert isinstance(permit, Permit)
        (bucket,) = admission.guards()[0].buckets
        await until(lambda: bucket.level(anyio.current_time()) >= 35)
        permit.extend(Amounts(30, None), answers.append)
        await until(lambda: bool(answers))
        assert answers == [True]
        settle(permit, tokens=130)
        assert isinstance(await ask(admission, of, Amounts(5, None)), Permit)


async def test_places_are_given_back_and_waited_for_in_order(opened: Opened) -> None:
    of, order = limited(concurrency=2), list[int]()
    async with opened() as admission:
        held = [await ask(admission, of), await ask(admission, of)]

        async def wait(number: int) -> None:
            got = await ask(admission, of, patience_s=20)
            assert isinstance(got, Permit)
            order.append(number)
            settle(got)

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(wait, number)
                    await until(lambda wanted=number + 1: admission.guards()[0].waiting == wanted)  # type: ignore[misc]
                for each in held:
                    assert isinstance(each, Permit)
                    settle(each)
        assert sorted(order) == list(range(5))
        assert order[0] in (0, 1)
        assert order == sorted(order, key=lambda number: number // 2) or order == list(range(5))


async def test_a_large_request_is_not_starved_by_small_ones(opened: Opened) -> None:
    of = limited(tokens_per_minute=6000, burst_s=1)  # 100 tokens, 100 a second
    async with opened() as admission:
        assert isinstance(await ask(admission, of, Amounts(100, None)), Permit)
        served = list[int]()

        async def take(tokens: int) -> None:
            got = await ask(admission, of, Amounts(tokens, None), patience_s=20)
            assert isinstance(got, Permit)
            served.append(tokens)
            settle(got, tokens=tokens)

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, 90)
                await until(lambda: admission.guards()[0].waiting == 1)
                for _ in range(10):
                    tasks.start_soon(take, 5)
        assert served[0] == 90


async def test_a_waiter_that_leaves_costs_nothing(opened: Opened) -> None:
    of = limited(concurrency=1, tokens_per_minute=100 / 1440, burst_s=86_400)
    async with opened() as admission:
        held = await ask(admission, of, Amounts(10, None))
        assert isinstance(held, Permit)
        with anyio.move_on_after(0.1):
            await ask(admission, of, Amounts(80, None), patience_s=60)
        settle(held, tokens=0)
        got = await ask(admission, of, Amounts(100, None), patience_s=5)
        assert isinstance(got, Permit)
        assert admission.guards()[0].waiting == 0
        assert all(bucket.line is None for bucket in admission.guards()[0].buckets)


async def test_callers_that_leave_while_they_are_asking_leave_nothing_behind(opened: Opened) -> None:
    of = limited(concurrency=50, tokens_per_minute=100 / 1440, burst_s=86_400)
    async with opened() as admission:
        for wait_s in (0.0, 0.0005, 0.001, 0.002, 0.004):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(_leave, admission, of, wait_s)
        whole = await ask(admission, of, Amounts(100, None), patience_s=5)
        assert isinstance(whole, Permit), whole


async def _leave(admission: Admission, of: Stage, wait_s: float) -> None:
    with anyio.move_on_after(wait_s):
        got = await ask(admission, of, Amounts(1, None))
        if isinstance(got, Permit):
            got.cancel()


async def test_nobody_waits_longer_than_his_deadline(opened: Opened) -> None:
    of = limited(concurrency=1)
    async with opened() as admission:
        assert isinstance(await ask(admission, of), Permit)
        began = anyio.current_time()
        got = await ask(admission, of, patience_s=0.2)
        assert isinstance(got, Refusal)
        assert 0.15 < anyio.current_time() - began < 2


async def test_one_tenant_that_waits_does_not_hold_up_another(opened: Opened) -> None:
    of = limited(concurrency=10)
    async with opened() as admission:
        full = admission.shared_buckets("tenant", "full", LimitsConfig(concurrency=1), 0)
        free = admission.shared_buckets("tenant", "free", LimitsConfig(concurrency=1), 0)
        assert isinstance(await ask(admission, of, extra=full), Permit)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: ask(admission, of, extra=full, patience_s=30))
            await until(lambda: admission.guards()[0].waiting == 1)
            assert isinstance(await ask(admission, of, extra=free), Permit)
            tasks.cancel_scope.cancel()


async def test_a_budget_is_for_the_day_and_for_the_month(opened: Opened) -> None:
    of = limited(usd_per_day=Decimal(2), usd_per_month=Decimal(3))
    async with opened() as admission:
        first = await ask(admission, of, Amounts(1, Decimal("1.5")))
        assert isinstance(first, Permit)
        second = await ask(admission, of, Amounts(1, Decimal("0.75")))
        assert isinstance(second, Refusal)
        assert second.limit == "cost of p0/default/m0"
        settle(first, cost="0.25")
        assert isinstance(await ask(admission, of, Amounts(1, Decimal("1.5")), patience_s=0), Permit | Refusal)
        never = await ask(admission, of, Amounts(1, Decimal(4)), patience_s=5)
        assert isinstance(never, Refusal)
        assert never.wait_s == float("inf")


async def test_a_budget_may_be_seeded_with_what_was_spent_before(redis_url: str) -> None:
    limits = LimitsConfig(usd_per_day=Decimal(2))
    local = buckets_of(limits, 0.0)[0]
    assert isinstance(local, Budget)
    local.seed(1.75, 0.0)
    assert local.level(0.0) == pytest.approx(0.25)
    async with shared_admission(redis_url, prefix="seeded") as admission:
        budget = admission.store.buckets("tenant", "acme", limits, 0.0)[0]
        assert await admission.seed("tenant", "acme", limits, {"day": Decimal("1.75")})
        assert not await admission.seed("tenant", "acme", limits, {"day": Decimal("1.75")})  # it was counted already
        got = await ask(admission, stage(0), Amounts(1, Decimal("0.5")), [budget])
        assert isinstance(got, Refusal)


async def test_a_rate_limited_account_is_passed_over(opened: Opened) -> None:
    of = stage(0, accounts=("a", "b"), limits=LimitsConfig(requests_per_minute=1000))
    async with opened() as admission:
        first = await ask(admission, of)
        assert isinstance(first, Permit)
        first.settle(
            tokens=0,
            cost_usd=None,
            failure=FailureKind.RATE_LIMIT,
            cancelled=False,
            accepted=None,
            first_token_ms=None,
            total_ms=1.0,
            now=anyio.current_time(),
            retry_after_s=30.0,
        )
        others = [await ask(admission, of) for _ in range(6)]
        assert {each.account.name for each in others if isinstance(each, Permit)} == {"a", "b"} - {first.account.name}
        assert all(isinstance(each, Permit) for each in others)


async def test_new_limits_keep_the_levels(redis_url: str) -> None:
    async with shared_admission(redis_url, prefix="reload") as admission:
        assert isinstance(await ask(admission, limited(requests_per_minute=10 / 1440, burst_s=86_400)), Permit)
        larger = limited(requests_per_minute=20 / 1440, burst_s=86_400)
        got = [await ask(admission, larger) for _ in range(30)]
        assert 9 <= sum(isinstance(each, Permit) for each in got) <= 20


# -- the same timeline in both -----------------------------------------------------------------------------------------

_BASE = 1_796_083_140.0  # 2026-11-30 23:59:00 UTC: a day and a month end within the minute


@dataclass
class _Clock:
    now: float = 0.0

    def __call__(self) -> int:
        return round((_BASE + self.now) * 1_000_000)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 40_000), st.just(0)),
        st.tuples(st.just("take"), st.integers(0, 150), st.integers(0, 60)),
        st.tuples(st.just("settle"), st.integers(0, 200), st.integers(0, 9)),
    ),
    max_size=30,
)
_LIMITS = st.builds(
    LimitsConfig,
    requests_per_minute=st.sampled_from([None, 1, 7, 600]),
    tokens_per_minute=st.sampled_from([None, 100, 6001, 70_000]),
    concurrency=st.sampled_from([None, 1, 3]),
    usd_per_day=st.sampled_from([None, Decimal("0.05")]),
    usd_per_month=st.sampled_from([None, Decimal("0.12")]),
    burst_s=st.sampled_from([1.0, 60.0]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=_LIMITS, steps=_STEPS)
def test_the_same_timeline_has_the_same_verdicts(
    redis_url: str, limits: LimitsConfig, steps: list[tuple[str, int, int]]
) -> None:
    anyio.run(_compare, redis_url, limits, steps)


async def _compare(url: str, limits: LimitsConfig, steps: list[tuple[str, int, int]]) -> None:
    clock = _Clock()
    prefix = f"h{next(_PREFIXES)}"
    # Places are leases that a running process keeps by its own clock, which this one does not follow.
    async with shared_store(
        url,
        prefix=prefix,
        clock_us=clock,
        epoch_offset=_BASE,
        slow_s=2.0,
        timeout_s=2.0,
        lease_s=86_400.0,
        money_lease=0.0,
    ) as store:
        local = _of_epoch(buckets_of(limits, clock.now))
        shared = store.buckets("tenant", "acme", limits, clock.now)
        held: list[tuple[Amounts, float]] = []
        for what, number, other in steps:
            if what == "wait":
                clock.now += number / 1000
            elif what == "take":
                amounts = Amounts(number, Decimal(other) / 1000)
                refused = refusal_of(local, amounts, clock.now, "x")
                verdict = await store.reserve(shared, amounts, in_line=False)
                if verdict is None:
                    assert not shared
                    continue
                waits = [bucket.wait_for(amounts.of(bucket.unit), clock.now) for bucket in local]
                for bucket, here, there in zip(local, waits, verdict.waits, strict=True):
                    # The store counts in millionths: so long one takes to flow in.
                    grain = 2e-6 / bucket.refill_per_s + 2e-6 if bucket.refill_per_s else 2e-6
                    assert here == pytest.approx(there, abs=grain, rel=1e-9)
                close = max(waits, default=0.0) < 1e-4
                assert verdict.is_granted == (refused is None) or close, (refused, verdict.waits)
                if verdict.is_granted:
                    held.append((amounts, clock.now))
                    for bucket in local:
                        bucket.take(amounts.of(bucket.unit), clock.now)
            elif held:
                amounts, at = held.pop(other % len(held))
                used = Amounts(number, Decimal(number) / 2000)
                await _settle(
                    local, store_put_right=store.put_right, shared=shared, change=(amounts, used), now=clock.now, at=at
                )


async def _settle(
    local: list[Bucket],
    *,
    store_put_right: Callable[[], object],
    shared: list[SharedBucket],
    change: tuple[Amounts, Amounts],
    now: float,
    at: float,
) -> None:
    amounts, used = change
    for bucket in (*local, *shared):
        bucket.settle(amounts.of(bucket.unit), used.of(bucket.unit), now, at)
    told = store_put_right()
    assert await told  # type: ignore[misc]


def _of_epoch(buckets: list[Bucket]) -> list[Bucket]:
    return [
        Budget(capacity=each.capacity, epoch_offset=_BASE, now=0.0, period=each.period)
        if isinstance(each, Budget)
        else each
        for each in buckets
    ]


async def test_idle_keys_vanish() -> None:
    async with redis_server() as server:
        async with shared_admission(server.url, lease_s=1.0) as admission:
            of = limited(requests_per_minute=60, tokens_per_minute=60, concurrency=3, usd_per_day=Decimal(1))
            got = await ask(admission, of)
            assert isinstance(got, Permit)
            settle(got)
            await until(lambda: not any(bucket.is_owing() for bucket in admission.store.known))
            await until(lambda: admission.store.budgets_held == 1)
        ttls = await server.ttls()
        assert ttls
        assert all(0 < ttl < 2 * 86_400 * 1000 for ttl in ttls.values()), ttls


async def test_a_killed_processs_places_come_back(redis_url: str) -> None:
    of = limited(concurrency=2)
    keys = "killed"
    async with (
        shared_admission(redis_url, prefix=keys, lease_s=1.0) as admission,
        shared_admission(redis_url, prefix=keys, lease_s=1.0) as other,
    ):
        held = [await ask(other, of), await ask(other, of)]
        assert all(isinstance(each, Permit) for each in held)
        # A process that runs keeps them, one that was killed says nothing more.
        assert isinstance(await ask(admission, of, patience_s=1.5), Refusal)
        for bucket in other.store.known:
            if isinstance(bucket, SharedPlaces):
                bucket.leases.clear()
        got = await ask(admission, of, patience_s=5)
        assert isinstance(got, Permit)
