"""The shared store killed, hanging and slow: nobody fails, nobody waits, limits are kept, and it comes back by itself."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import anyio
import pytest

from gearshift.core.admission import Admission, Amounts, Permit, Refusal
from gearshift.core.blueprint import Stage
from gearshift.core.config.model import LimitsConfig
from gearshift.core.shared.admission import SharedAdmission
from gearshift.core.shared.health import StoreHealth, StoreState
from tests.support.blueprints import stage
from tests.support.redis_server import RedisServer, redis_server
from tests.support.shared_limits import ask, settle, shared_admission, until
from tests.support.slow_proxy import SlowProxy, slow_proxy

_RATE = 200.0


@dataclass
class Setting:
    """Two processes on one store that may be made slow."""

    redis: RedisServer
    proxy: SlowProxy
    processes: list[SharedAdmission]

    async def all_are(self, is_up: bool) -> float:
        return await until(lambda: all(each.store.is_up is is_up for each in self.processes))


@asynccontextmanager
async def two_processes(money_lease: float = 0.02) -> AsyncGenerator[Setting]:
    async with redis_server() as redis, slow_proxy(redis.port) as proxy, AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(
                shared_admission(proxy.url, slow_s=0.05, timeout_s=0.25, money_lease=money_lease)
            )
            for _ in range(2)
        ]
        setting = Setting(redis, proxy, processes)
        await setting.all_are(True)
        await until(lambda: all(each.store.processes == 2 for each in processes))
        yield setting


@dataclass
class Seen:
    """What an overload came to."""

    admitted: int = 0
    took: list[float] = field(default_factory=list[float])

    def slowest(self, share: float) -> float:
        return sorted(self.took)[int(len(self.took) * share)]


async def overload(setting: Setting, of: Stage, seconds: float) -> Seen:
    """Ask for more than there is, at every process."""
    seen, ends = Seen(), time.monotonic() + seconds

    async def callers(admission: Admission) -> None:
        while time.monotonic() < ends:
            began = time.perf_counter()
            got = await ask(admission, of)
            seen.took.append(time.perf_counter() - began)
            if isinstance(got, Permit):
                seen.admitted += 1
                settle(got)
            else:
                assert got.reason == "limit"
                await anyio.sleep(0.004)

    async with anyio.create_task_group() as tasks:
        for admission in setting.processes:
            tasks.start_soon(callers, admission)
    return seen


async def _kill(setting: Setting) -> None:
    setting.redis.kill()


async def _freeze(setting: Setting) -> None:
    setting.redis.freeze()


async def _slow(setting: Setting) -> None:
    setting.proxy.delay_s = 0.1


async def _mend(setting: Setting) -> None:
    setting.proxy.delay_s = 0.0
    setting.redis.thaw()
    if not setting.redis.is_running:
        await setting.redis.start()


@pytest.mark.parametrize("fault", [_kill, _freeze, _slow], ids=["killed", "hung", "slow"])
async def test_calls_go_on_within_milliseconds_at_the_same_rate(fault: Callable[[Setting], Awaitable[None]]) -> None:
    of = stage(0, limits=LimitsConfig(requests_per_minute=_RATE * 60, burst_s=1))
    async with two_processes() as setting:
        await overload(setting, of, 1.2)  # the bucket's first filling is spent
        await fault(setting)
        await overload(setting, of, 0.8)
        assert not any(each.store.is_up for each in setting.processes)
        seen = await overload(setting, of, 1.5)
        assert 0.9 * _RATE * 1.5 <= seen.admitted <= 1.1 * _RATE * 1.5
        assert seen.slowest(0.95) < 0.005
        await _mend(setting)
        assert await setting.all_are(True) < 2.0
        again = await overload(setting, of, 0.6)
        assert again.admitted <= _RATE


async def test_money_is_never_spent_beyond_what_is_held_ahead() -> None:
    of = stage(0, limits=LimitsConfig(usd_per_day=Decimal(10)))
    cent = Amounts(1, Decimal("0.01"))
    async with two_processes(money_lease=0.02) as setting:
        first = await ask(setting.processes[0], of, cent)
        assert isinstance(first, Permit)
        assert isinstance(await ask(setting.processes[1], of, cent), Permit)
        await until(lambda: all(each.store.budgets_held == 1 for each in setting.processes))
        setting.redis.freeze()
        await setting.all_are(False)
        spent = list[int]()
        for admission in setting.processes:
            got = [await ask(admission, of, cent) for _ in range(40)]
            spent.append(sum(isinstance(each, Permit) for each in got))
            assert isinstance(got[-1], Refusal)
        assert all(18 <= each <= 20 for each in spent), spent
        # What is settled meanwhile may be spent once more.
        settle(first, cost="0")
        assert isinstance(await ask(setting.processes[0], of, cent), Permit)
        setting.redis.thaw()
        assert await setting.all_are(True) < 2.0
        whole = Amounts(1, Decimal("0.01"))
        admitted = 0
        while isinstance(await ask(setting.processes[0], of, whole), Permit):
            admitted += 1
        # Everything is counted: the 10 USD less what was spent, less what the other process holds ahead.
        assert 1000 - sum(spent) - 1 - 1 - 21 <= admitted <= 1000 - sum(spent) - 1


async def test_what_is_held_ahead_runs_out_without_the_store() -> None:
    of = stage(0, limits=LimitsConfig(usd_per_day=Decimal(10)))
    cent = Amounts(1, Decimal("0.01"))
    async with two_processes(money_lease=0.02) as setting:
        assert isinstance(await ask(setting.processes[0], of, cent), Permit)
        await until(lambda: setting.processes[0].store.budgets_held == 1)
        setting.redis.freeze()
        await setting.all_are(False)
        bucket = setting.processes[0].guards()[0].buckets[0]
        now = time.monotonic()
        assert bucket.wait_for(0.01, now) == 0
        assert bucket.wait_for(0.01, now + 601) > 0


@pytest.mark.parametrize(("mode", "admitted"), [("closed", 0), ("open", 500)])
async def test_a_limit_may_refuse_or_let_through_while_the_store_is_away(mode: str, admitted: int) -> None:
    of = stage(0, limits=LimitsConfig(requests_per_minute=60, when_away=mode))
    async with two_processes() as setting:
        assert isinstance(await ask(setting.processes[0], of), Permit)
        setting.redis.kill()
        await setting.all_are(False)
        got = [await ask(setting.processes[0], of) for _ in range(500)]
        assert sum(isinstance(each, Permit) for each in got) == admitted


async def test_places_that_were_taken_without_the_store_are_told_to_it() -> None:
    of = stage(0, limits=LimitsConfig(concurrency=4))
    async with two_processes() as setting:
        one, other = setting.processes
        held = [await ask(one, of)]
        setting.redis.freeze()
        await setting.all_are(False)
        held += [await ask(one, of) for _ in range(3)]
        assert [isinstance(each, Permit) for each in held] == [True, True, False, False]  # half of four
        setting.redis.thaw()
        await setting.all_are(True)
        there = [await ask(other, of) for _ in range(3)]
        assert [isinstance(each, Permit) for each in there] == [True, True, False]
        for each in held:
            if isinstance(each, Permit):
                settle(each)
        assert isinstance(await ask(other, of, patience_s=5), Permit)


async def test_a_service_starts_without_its_store() -> None:
    of = stage(0, limits=LimitsConfig(requests_per_minute=10 / 1440, burst_s=86_400))
    async with redis_server() as redis:
        redis.kill()
        async with shared_admission(redis.url, processes=5) as admission:
            assert not admission.store.is_up
            got = [await ask(admission, of) for _ in range(10)]
            assert sum(isinstance(each, Permit) for each in got) == 2  # a fifth of ten
            await redis.start()
            await until(lambda: admission.store.is_up)
            rest = [await ask(admission, of) for _ in range(20)]
            assert sum(isinstance(each, Permit) for each in rest) == 8


async def test_scripts_are_loaded_again_when_the_store_forgot_them() -> None:
    of = stage(0, limits=LimitsConfig(requests_per_minute=6000))
    async with redis_server() as redis, shared_admission(redis.url) as admission:
        assert isinstance(await ask(admission, of), Permit)
        await redis.forget_scripts()
        assert isinstance(await ask(admission, of), Permit)
        assert admission.store.is_up
        assert admission.store.health.changes == 1


# -- when it counts as away ---------------------------------------------------------------------------------------------


def _up(slow_s: float = 0.03) -> StoreHealth:
    health = StoreHealth(slow_s)
    health.answered(0.0, 0.001)
    health.answered(0.0, 0.001)
    assert health.is_up
    return health


def test_one_failure_is_enough() -> None:
    health = _up()
    assert health.failed("gone", 1.0)
    assert health.state is StoreState.AWAY
    assert not health.failed("gone", 1.1)


def test_three_slow_answers_one_after_the_other_are_too_many() -> None:
    health = _up()
    assert not health.answered(1.0, 1.1)
    assert not health.answered(1.1, 1.2)
    assert health.answered(1.2, 1.3)
    assert not health.is_up


def test_slow_answers_at_the_same_time_are_one() -> None:
    health = _up()
    assert not any(health.answered(1.0, 1.1) for _ in range(50))
    assert health.is_up


def test_a_quick_answer_between_slow_ones_makes_good() -> None:
    health = _up()
    for second in range(10):
        health.answered(second, second + 0.1)
        health.answered(second + 0.2, second + 0.201)
    assert health.is_up


def test_it_is_back_after_two_quick_answers() -> None:
    health = _up()
    health.failed("gone", 1.0)
    assert not health.answered(2.0, 2.001)
    assert not health.answered(2.1, 2.2)
    assert not health.answered(2.3, 2.301)
    assert health.answered(2.4, 2.401)


# -- a store that refuses -----------------------------------------------------------------------------------------------


async def test_the_next_master_behind_the_same_name_is_found() -> None:
    of = stage(0, limits=LimitsConfig(requests_per_minute=60_000))
    async with (
        redis_server() as old,
        redis_server() as new,
        slow_proxy(old.port) as name,
        shared_admission(name.url) as admission,
    ):
        assert isinstance(await ask(admission, of), Permit)
        # The old master lives on, read-only, and keeps its connections; the name leads to the new one.
        name.target = new.port
        await old.follow(new.port)
        with anyio.fail_after(10):
            while admission.store.is_up:
                assert isinstance(await ask(admission, of), Permit)
                await anyio.sleep(0.01)
        assert "ReadOnly" in admission.store.health.reason
        assert isinstance(await ask(admission, of), Permit)  # of this process's share
        assert await until(lambda: admission.store.is_up) < 2.0
        assert isinstance(await ask(admission, of), Permit)
