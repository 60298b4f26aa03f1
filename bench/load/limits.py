"""Limits and breakers: exact under overload, quick, and kept while the shared store is away.

python -m bench.load limits --seconds 60
"""

from __future__ import annotations

import argparse
import gc
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import uvloop

from gearshift.core.admission import Admission, Amounts, Permit
from gearshift.core.blueprint import Stage
from gearshift.core.config.model import BreakerConfig, LimitsConfig
from gearshift.core.errors import RouteError
from gearshift.core.shared.admission import SharedAdmission
from gearshift.core.words import BreakerState, FailureKind
from tests.support.blueprints import blueprint, policy, stage
from tests.support.engine import engine, request
from tests.support.redis_server import RedisServer, redis_server
from tests.support.scripted_provider import fails
from tests.support.shared_limits import ONE, ask, settle, shared_admission, until
from tests.support.slow_proxy import SlowProxy, slow_proxy

Line = dict[str, Any]
_ROOT = Path(__file__).parents[2]
_RATE = 200.0
_BURST_S = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload (60)")
    parser.add_argument("--calls", type=int, default=20_000, help="whose latency is measured (20000)")
    parser.add_argument("--rounds", type=int, default=20, help="of a thousand callers against a hundred (20)")


def run(arguments: argparse.Namespace) -> list[Line]:
    return uvloop.run(_run(arguments.seconds, arguments.calls, arguments.rounds))


async def _run(seconds: float, calls: int, rounds: int) -> list[Line]:
    found: list[Line] = []
    found += await _exact(rounds)
    found += await _quick(calls)
    found += await _overload(seconds)
    for name, fault in (("killed", _kill), ("hung (SIGSTOP)", _freeze), ("slowed by 100 ms", _slow)):
        found += await _away(name, fault)
    found += await _money()
    found += await _storm()
    return found


def _line(what: str, must: str, measured: str, holds: bool) -> Line:
    print(f"{what}: {measured}", file=sys.stderr, flush=True)
    return {"what": what, "must": must, "measured": measured, "holds": holds}


def _limited(number: int = 0, **limits: Any) -> Stage:
    return stage(number, limits=LimitsConfig(**limits))


# -- exact -------------------------------------------------------------------------------------------------------------


async def _exact(rounds: int) -> list[Line]:
    hundred: dict[str, Any] = {"requests_per_minute": 100 / 1440, "burst_s": 86_400}
    here: list[int] = []
    for _ in range(rounds):
        here.append(await _crowd(Admission(), _limited(**hundred), 1000))
    there: list[int] = []
    async with redis_server() as redis:
        for number in range(rounds):
            async with shared_admission(redis.url, prefix=f"exact{number}") as admission:
                there.append(await _crowd(admission, _limited(**hundred), 1000))
    three = [await _three() for _ in range(max(1, rounds // 4))]
    return [
        _line("1,000 callers, a bucket of 100, one process", "100 each time", _spread(here), set(here) == {100}),
        _line("the same over Redis", "100 each time", _spread(there), set(there) == {100}),
        _line("the same, three processes on one Redis", "100 each time", _spread(three), set(three) == {100}),
    ]


async def _crowd(admission: Admission, of: Stage, callers: int) -> int:
    got: list[bool] = []

    async def caller() -> None:
        got.append(isinstance(await ask(admission, of), Permit))

    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(caller)
    return sum(got)


async def _three() -> int:
    async with redis_server() as redis:
        started = [
            subprocess.Popen(  # noqa: ASYNC220  # it returns at once
                [sys.executable, "-m", "tests.support.limits_worker", redis.url, "334"],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        try:
            for each in started:
                assert each.stdout is not None
                await anyio.to_thread.run_sync(each.stdout.readline)
            for each in started:
                assert each.stdin is not None
                each.stdin.write("\n")
                each.stdin.flush()
            return sum([int(await anyio.to_thread.run_sync(each.stdout.readline)) for each in started if each.stdout])
        finally:
            for each in started:
                each.kill()
                each.wait(10)


def _spread(counts: list[int]) -> str:
    return f"{min(counts)} to {max(counts)} in {len(counts)} rounds"


# -- quick -------------------------------------------------------------------------------------------------------------


async def _quick(calls: int) -> list[Line]:
    of = _limited(requests_per_minute=1e9, tokens_per_minute=1e9, concurrency=1000, usd_per_day=Decimal(1_000_000))
    local, took = Admission(), list[float]()
    for _ in range(calls):
        began = time.perf_counter()
        got = local.admit_nowait(of, ONE, ())
        took.append(time.perf_counter() - began)
        assert isinstance(got, Permit)
        settle(got)
    here = _percentiles(took)
    there: list[float] = []
    chance = random.Random(1)
    async with redis_server() as redis, shared_admission(redis.url) as admission:

        async def caller(count: int) -> None:
            for _ in range(count):
                began = time.perf_counter()
                got = await ask(admission, of)
                there.append(time.perf_counter() - began)
                assert isinstance(got, Permit)
                settle(got)
                await anyio.sleep(chance.expovariate(50))

        for _ in range(50):  # connections, scripts
            got = await ask(admission, of)
            assert isinstance(got, Permit)
            settle(got)
        gc.collect()
        bare: list[float] = []
        async with await anyio.connect_tcp("127.0.0.1", redis.port) as stream:
            for _ in range(calls // 20):
                began = time.perf_counter()
                await stream.send(b"PING\r\n")
                await stream.receive()
                bare.append(time.perf_counter() - began)
                await anyio.sleep(chance.expovariate(400))
        async with anyio.create_task_group() as tasks:
            for _ in range(8):  # 400 a second
                tasks.start_soon(caller, calls // 40)
    far = _percentiles(there)
    return [
        _line(
            "local limiter, five limits",
            "p99 under 50 µs",
            f"p50 {here[0] * 1e6:.1f}, p99 {here[1] * 1e6:.1f} µs",
            here[1] < 50e-6,
        ),
        _line(
            "Redis limiter on loopback, five limits, 400 calls a second",
            "p99 under 1.5 ms",
            f"p50 {far[0] * 1e3:.2f}, p99 {far[1] * 1e3:.2f} ms (a bare PING: p99 {_percentiles(bare)[1] * 1e3:.2f})",
            far[1] < 1.5e-3,
        ),
    ]


def _percentiles(took: list[float]) -> tuple[float, float]:
    ordered = sorted(took)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


# -- overload ------------------------------------------------------------------------------------------------------------


async def _overload(seconds: float) -> list[Line]:
    of = _limited(requests_per_minute=_RATE * 60, burst_s=_BURST_S)
    found: list[Line] = []
    capacity = _RATE * _BURST_S
    must = f"{0.99 * _RATE * seconds:.0f} to {capacity + _RATE * seconds:.0f}"
    admitted, took, _ = await _press([Admission()], of, seconds)
    found.append(
        _line(
            f"{seconds:.0f} s of overload, {_RATE:.0f} a second, one process",
            must,
            f"{admitted} in {took:.2f} s",
            0.99 * _RATE * seconds <= admitted <= capacity + _RATE * took + 1,
        )
    )
    async with redis_server() as redis, AsyncExitStack() as stack:
        admissions: list[Admission] = [await stack.enter_async_context(shared_admission(redis.url)) for _ in range(3)]
        admitted, took, _ = await _press(admissions, of, seconds)
    found.append(
        _line(
            "the same over Redis, from three sides",
            must,
            f"{admitted} in {took:.2f} s",
            0.99 * _RATE * seconds <= admitted <= capacity + _RATE * took + 1,
        )
    )
    return found


async def _press(admissions: list[Admission], of: Stage, seconds: float) -> tuple[int, float, list[float]]:
    """Ask for more than there is; give what was admitted, in how long, and how long each answer took."""
    admitted, latencies, began = 0, list[float](), time.monotonic()

    async def caller(admission: Admission) -> None:
        nonlocal admitted
        while time.monotonic() < began + seconds:
            asked = time.perf_counter()
            got = await ask(admission, of)
            latencies.append(time.perf_counter() - asked)
            if isinstance(got, Permit):
                admitted += 1
                settle(got)
            else:
                await anyio.sleep(0.004)

    async with anyio.create_task_group() as tasks:
        for admission in admissions:
            for _ in range(2):
                tasks.start_soon(caller, admission)
    return admitted, time.monotonic() - began, latencies


# -- the store away --------------------------------------------------------------------------------------------------------

Fault = Callable[[RedisServer, SlowProxy], Awaitable[None]]


async def _kill(redis: RedisServer, proxy: SlowProxy) -> None:
    redis.kill()


async def _freeze(redis: RedisServer, proxy: SlowProxy) -> None:
    redis.freeze()


async def _slow(redis: RedisServer, proxy: SlowProxy) -> None:
    proxy.delay_s = 0.1


async def _away(name: str, fault: Fault) -> list[Line]:
    of = _limited(requests_per_minute=_RATE * 60, burst_s=_BURST_S)
    async with redis_server() as redis, slow_proxy(redis.port) as proxy, AsyncExitStack() as stack:
        shared: list[SharedAdmission] = [
            await stack.enter_async_context(shared_admission(proxy.url, slow_s=0.05, timeout_s=0.25)) for _ in range(2)
        ]
        await until(lambda: all(each.store.processes == 2 and each.store.is_up for each in shared))
        both: list[Admission] = [*shared]
        await _press(both, of, 1.5)
        await fault(redis, proxy)
        await _press(both, of, 1.0)
        admitted, took, latencies = await _press(both, of, 5.0)
        proxy.delay_s = 0.0
        redis.thaw()
        if not redis.is_running:
            await redis.start()
        back = await until(lambda: all(each.store.is_up for each in shared))
    ordered = sorted(latencies)
    p99, longest = ordered[int(len(ordered) * 0.99)], ordered[-1]
    share = admitted / (_RATE * took)
    return [
        _line(
            f"Redis {name}: wait for leave after the first second",
            "under 5 ms, none fails",
            f"p99 {p99 * 1e3:.2f}, longest {longest * 1e3:.2f} ms of {len(ordered)}",
            p99 < 0.005,
        ),
        _line(f"Redis {name}: admitted, of the limit", "90 to 110 %", f"{share:.1%}", 0.9 <= share <= 1.1),
        _line(f"Redis {name}: back in use after its return", "under 2 s", f"{back:.2f} s", back < 2.0),
    ]


async def _money() -> list[Line]:
    of, cent = _limited(usd_per_day=Decimal(10)), Amounts(1, Decimal("0.01"))
    async with redis_server() as redis, AsyncExitStack() as stack:
        shared = [
            await stack.enter_async_context(shared_admission(redis.url, timeout_s=0.25, money_lease=0.02))
            for _ in range(3)
        ]
        for each in shared:
            await ask(each, of, cent)
        await until(lambda: all(each.store.budgets_held == 1 for each in shared))
        redis.freeze()
        await until(lambda: not any(each.store.is_up for each in shared))
        spent = [sum([isinstance(await ask(each, of, cent), Permit) for _ in range(100)]) for each in shared]
    most = max(spent) / 100
    return [
        _line(
            "money spent by each of three processes while Redis hangs, of 10 USD",
            "at most the lease, 0.20 USD",
            f"{most:.2f} USD",
            most <= 0.2,
        )
    ]


# -- a storm of 429 -----------------------------------------------------------------------------------------------------------


async def _storm() -> list[Line]:
    breaker = BreakerConfig(consecutive_faults=5, open_s=1.0, max_open_s=4.0)
    stages = [stage(number, max_retries=3, breaker=breaker) for number in range(3)]
    made = engine(blueprint(*stages, chain_policy=policy(max_attempts=4)), [[fails(FailureKind.RATE_LIMIT)]] * 3)
    attempts: list[int] = []
    opened_at: list[float] = []
    began = time.monotonic()
    most_running = 0

    async def call(number: int) -> None:
        nonlocal most_running
        try:
            await made.router.route(request(request_id=f"r{number}"))
        except RouteError as error:
            attempts.append(len(getattr(error, "attempts", ())))
        if not opened_at and all(guard.breaker.state is BreakerState.OPEN for guard in made.guards):
            opened_at.append(time.monotonic() - began)
            for provider in made.providers.values():
                provider.most_running = 0

    async with anyio.create_task_group() as tasks:
        for number in range(1000):
            tasks.start_soon(call, number)
    first = made.upstream_calls
    ends, number = time.monotonic() + 10.0, 10_000
    while time.monotonic() < ends:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                number += 1
                tasks.start_soon(call, number)
        await anyio.sleep(0.02)
    most_running = max(provider.most_running for provider in made.providers.values())
    later = made.upstream_calls - first
    return [
        _line("429 storm: attempts of a call, cap 4", "at most 4", str(max(attempts)), max(attempts) <= 4),
        _line("429 storm: all breakers open after", "under 1 s", f"{opened_at[0]:.3f} s", opened_at[0] < 1.0),
        _line(
            "429 storm: calls upstream of the first 1,000 calls, three stages",
            "at most 4,000",
            str(first),
            first <= 4000,
        ),
        _line(
            "429 storm: calls upstream in the next 10 s, by so many calls",
            "probes only: at most 12 a stage",
            f"{later} by {number - 10_000}",
            later <= 36,
        ),
        _line("429 storm: probes of a stage at a time", "1", str(most_running), most_running <= 1),
    ]
