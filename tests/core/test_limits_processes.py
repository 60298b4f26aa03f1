"""Several processes on one Redis: limits are kept over all of them, and breakers are one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from gearshift.core.admission import Amounts, Permit, Refusal
from gearshift.core.config.model import BreakerConfig, LimitsConfig
from gearshift.core.shared.admission import SharedAdmission
from gearshift.core.words import BreakerState, FailureKind
from tests.support.blueprints import stage
from tests.support.limits_worker import LIMITS
from tests.support.redis_server import redis_server
from tests.support.shared_limits import ONE, ask, settle, shared_admission, until

_ROOT = Path(__file__).parents[2]


@contextmanager
def workers(url: str, count: int, calls: int) -> Generator[list[subprocess.Popen[str]]]:
    """Run processes while the block runs."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.limits_worker", url, str(calls)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait(10)
            assert each.stdin is not None and each.stdout is not None
            each.stdin.close()
            each.stdout.close()


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


async def test_three_processes_admit_exactly_what_a_bucket_holds_and_the_killed_ones_places_come_back() -> None:
    async with redis_server() as redis:
        with workers(redis.url, 3, 334) as started, anyio.fail_after(30):
            for each in started:
                assert await anyio.to_thread.run_sync(_line, each) == "ready"
            for each in started:
                _go(each)
            got = [int(await anyio.to_thread.run_sync(_line, each)) for each in started]
            assert sum(got) == 100
            of = stage(1, provider="p0", model="m0", limits=LimitsConfig(concurrency=LIMITS.concurrency))
            async with shared_admission(redis.url, lease_s=1.0) as admission:
                assert admission.store.processes == 4
                assert isinstance(await ask(admission, of), Refusal)
                for each in started:
                    each.kill()
                assert isinstance(await ask(admission, of, patience_s=10), Permit)


# -- breakers -----------------------------------------------------------------------------------------------------------

_BREAKER = BreakerConfig(consecutive_faults=6, open_s=0.5, max_open_s=2.0, window=1000, fault_rate=1.0)
_OF = stage(0, breaker=_BREAKER)


@asynccontextmanager
async def processes(count: int) -> AsyncGenerator[list[SharedAdmission]]:
    async with redis_server() as redis, AsyncExitStack() as stack:
        yield [await stack.enter_async_context(shared_admission(redis.url)) for _ in range(count)]


def breakers_of(admissions: list[SharedAdmission]) -> list[BreakerState]:
    now = time.monotonic()
    return [each.guard(_OF, _OF.provider.accounts[0], now).breaker.state for each in admissions]


async def fault(admission: SharedAdmission, kind: FailureKind = FailureKind.SERVER) -> None:
    got = await ask(admission, _OF)
    assert isinstance(got, Permit), got
    settle(got, failure=kind)


async def test_an_opening_is_seen_by_every_process_within_a_second() -> None:
    async with processes(3) as admissions:
        breakers_of(admissions)
        for _ in range(6):
            await fault(admissions[0])
        assert breakers_of(admissions)[0] is BreakerState.OPEN
        took = await until(lambda: breakers_of(admissions) == [BreakerState.OPEN] * 3)
        assert took < 1.0
        got = await ask(admissions[2], _OF)
        assert isinstance(got, Refusal)
        assert (got.reason, got.limit) == ("breaker", "server")


async def test_faults_of_all_processes_count_together() -> None:
    async with processes(3) as admissions:
        breakers_of(admissions)
        for _ in range(2):
            for each in admissions:
                await fault(each)
        took = await until(lambda: breakers_of(admissions) == [BreakerState.OPEN] * 3)
        assert took < 1.0


async def test_an_answer_of_another_process_breaks_the_row() -> None:
    async with processes(2) as admissions:
        breakers_of(admissions)
        for _ in range(3):
            for _ in range(2):
                await fault(admissions[0])
            await until(lambda: not admissions[0].guards()[0].breaker.untold)  # type: ignore[attr-defined]
            got = await ask(admissions[1], _OF)
            assert isinstance(got, Permit)
            settle(got)
            got = await ask(admissions[0], _OF)
            assert isinstance(got, Permit)
            settle(got)
            await until(lambda: not any(each.guards()[0].breaker.untold for each in admissions))  # type: ignore[attr-defined]
        assert breakers_of(admissions) == [BreakerState.CLOSED] * 2


async def test_one_process_probes_and_its_answer_closes_all() -> None:
    async with processes(3) as admissions:
        breakers_of(admissions)
        for _ in range(6):
            await fault(admissions[0])
        await until(lambda: breakers_of(admissions) == [BreakerState.OPEN] * 3)
        probes: list[Permit] = []

        async def try_it(admission: SharedAdmission) -> None:
            ends = time.monotonic() + 1.2
            while time.monotonic() < ends:
                got = await ask(admission, _OF)
                if isinstance(got, Permit):
                    probes.append(got)
                    return
                assert got.reason == "breaker"
                await anyio.sleep(0.02)

        async with anyio.create_task_group() as tasks:
            for each in admissions:
                tasks.start_soon(try_it, each)
        assert len(probes) == 1
        settle(probes[0])
        assert await until(lambda: breakers_of(admissions) == [BreakerState.CLOSED] * 3) < 1.0


async def test_a_failed_probe_keeps_all_open_for_longer() -> None:
    async with processes(2) as admissions:
        breakers_of(admissions)
        for _ in range(6):
            await fault(admissions[0])
        await until(lambda: breakers_of(admissions) == [BreakerState.OPEN] * 2)
        probe: list[Permit] = []
        while not probe:
            got = await ask(admissions[1], _OF)
            if isinstance(got, Permit):
                probe.append(got)
            await anyio.sleep(0.02)
        settle(probe[0], failure=FailureKind.SERVER)
        await until(lambda: all(each.guards()[0].breaker.probe_in(time.monotonic()) > 0.6 for each in admissions))


async def test_a_call_with_nowhere_else_to_go_probes_early_for_all() -> None:
    async with processes(3) as admissions:
        breakers_of(admissions)
        for _ in range(6):
            await fault(admissions[0])
        await until(lambda: breakers_of(admissions) == [BreakerState.OPEN] * 3)
        first = await admissions[1].admit(_OF, ONE, (), until=time.monotonic(), early=True)
        assert isinstance(first, Permit)
        # One at a time, whichever process asks.
        for each in (admissions[0], admissions[2]):
            got = await each.admit(_OF, ONE, (), until=time.monotonic(), early=True)
            assert isinstance(got, Refusal)
            assert got.reason == "breaker"
        settle(first, failure=FailureKind.SERVER)
        second: list[Permit] = []
        while not second:
            got = await admissions[2].admit(_OF, ONE, (), until=time.monotonic(), early=True)
            if isinstance(got, Permit):
                second.append(got)
            await anyio.sleep(0.01)
        settle(second[0])
        assert await until(lambda: breakers_of(admissions) == [BreakerState.CLOSED] * 3) < 1.0


async def test_a_refused_key_is_known_to_all() -> None:
    async with processes(2) as admissions:
        breakers_of(admissions)
        await fault(admissions[0], FailureKind.AUTHENTICATION)
        await until(lambda: breakers_of(admissions) == [BreakerState.OPEN] * 2)
        assert admissions[1].guards()[0].breaker.probe_in(time.monotonic()) > 200


async def test_healthy_calls_without_limits_ask_nobody() -> None:
    async with processes(1) as (admission,):
        breakers_of([admission])
        asked = admission.store.asked
        for _ in range(200):
            got = admission.admit_nowait(_OF, ONE, ())
            assert isinstance(got, Permit)
            settle(got)
        assert admission.store.asked == asked


async def test_large_requests_are_not_starved_by_another_process() -> None:
    of = stage(0, limits=LimitsConfig(tokens_per_minute=6000, burst_s=1))  # 100, and 100 a second
    async with processes(2) as (one, other):
        assert isinstance(await ask(one, of, _tokens(100)), Permit)
        served: list[float] = []

        async def large() -> None:
            got = await ask(one, of, _tokens(100), patience_s=20)
            assert isinstance(got, Permit)
            served.append(time.monotonic())

        async def small() -> None:
            while not served:
                got = await ask(other, of, _tokens(5), patience_s=20)
                assert isinstance(got, Permit)

        began = time.monotonic()
        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(large)
                await until(lambda: one.guards()[0].waiting == 1)
                for _ in range(5):
                    tasks.start_soon(small)
        assert served[0] - began < 5


def _tokens(count: int) -> Amounts:
    return Amounts(count, None)


async def test_overload_admits_the_rate_over_all_processes() -> None:
    rate = 100.0
    of = stage(0, limits=LimitsConfig(requests_per_minute=rate * 60, burst_s=0.5))
    async with processes(3) as admissions:
        admitted, seconds = 0, 2.0
        began = time.monotonic()

        async def callers(admission: SharedAdmission) -> None:
            nonlocal admitted
            while time.monotonic() < began + seconds:
                if isinstance(await ask(admission, of), Permit):
                    admitted += 1
                else:
                    await anyio.sleep(0.005)

        async with anyio.create_task_group() as tasks:
            for each in admissions:
                for _ in range(4):
                    tasks.start_soon(callers, each)
        took = time.monotonic() - began
        assert 0.97 * rate * seconds <= admitted <= rate * 0.5 + rate * took + 1
