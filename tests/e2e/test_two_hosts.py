"""Two hosts share one Redis and one PostgreSQL; each is cut from them, goes on with its share, and comes back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import grpc
import grpc.aio

from gearshift.v1 import ops_pb2, ops_pb2_grpc, router_pb2, router_pb2_grpc
from tests.support.postgres_server import postgres_server
from tests.support.redis_server import redis_server
from tests.support.running_server import failure_of, plain_call
from tests.support.served_config import one_openai
from tests.support.served_process import ServedProcess, served, stubs
from tests.support.two_hosts import Host, two_hosts

BOUND_S = 20.0
PORT = 18_099
"""Of the simulated provider, on each host's own loopback."""
RATE = 20.0
"""Admitted calls of the task `steady`, a second, over both hosts."""
PLAN = """
version: 1
providers:
  up:
    wire: openai
    models: {m-up: {}}
    latency: {first_token_ms: 1, token_ms: 0}
"""
MORE = """
shared:
  redis: {{url: "redis://{store}:{redis}/0", slow_s: 2}}
  processes: 2
  caches: false
ledger: {{url: "postgresql://postgres@{store}:{postgres}/gearshift"}}
tasks:
  declared:
    before: {{type: generate, limits: {{requests_per_minute: 0.06944444444, burst_s: 86400}}}}
    after: {{type: generate, limits: {{requests_per_minute: 0.06944444444, burst_s: 86400}}}}
    steady: {{type: generate, limits: {{requests_per_minute: 1200, burst_s: 0.5}}}}
    roomy: {{type: generate, limits: {{requests_per_minute: 1000000}}}}
"""
"""`before` and `after` hold a hundred calls each and next to no refill."""


@dataclass
class Serving:
    """A service on a host."""

    host: Host
    process: ServedProcess
    router: router_pb2_grpc.RouterServiceAsyncStub
    ops: ops_pb2_grpc.OpsServiceAsyncStub
    answered: int = 0

    async def call(self, task: str) -> str:
        """Call; give `answered`, or the reason of a refusal."""
        request = router_pb2.RouteRequest(call=plain_call(task_id=task))
        try:
            await self.router.Route(request, timeout=BOUND_S)
        except grpc.aio.AioRpcError as error:
            return failure_of(error).reason or str(error)
        self.answered += 1
        return "answered"

    async def state(self) -> str:
        """Tell how its Redis is: starting, up or away."""
        return (await self.ops.GetStatus(ops_pb2.GetStatusRequest())).shared.state

    async def wait_state(self, state: str) -> float:
        """Wait for it; give how long that took."""
        began = time.monotonic()
        with anyio.fail_after(BOUND_S):
            while await self.state() != state:
                await anyio.sleep(0.02)
        return time.monotonic() - began


@asynccontextmanager
async def serving(host: Host, config: Path, plan: Path) -> AsyncGenerator[Serving]:
    """Run a simulated provider and a service on a host."""
    simulate = [*host.prefix, sys.executable, "-m", "gearshift.clients.cli", "simulate", "--plan", str(plan)]
    async with await anyio.open_process(
        [*simulate, "--port", str(PORT)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as provider:
        try:
            arguments = ("--host", host.address, "--no-http", "--log-level", "error")
            async with (
                served(config, *arguments, prefix=host.prefix) as process,
                stubs(process.address) as (router, ops),
            ):
                yield Serving(host, process, router, ops)
        finally:
            if provider.returncode is None:
                provider.kill()


async def all_at_once(services: Sequence[Serving], task: str, calls: int) -> Counter[str]:
    """Call each service so often, all at once."""
    told = Counter[str]()

    async def one(service: Serving) -> None:
        told[await service.call(task)] += 1

    async with anyio.create_task_group() as tasks:
        for service in services:
            for _ in range(calls):
                tasks.start_soon(one, service)
    return told


async def overload(services: Sequence[Serving], seconds: float) -> tuple[list[int], Counter[str]]:
    """Call `steady` for a time, more than is allowed; give what each service answered, and what else was said."""
    ends = time.monotonic() + seconds
    answered, refused = [0] * len(services), Counter[str]()

    async def caller(at: int, service: Serving) -> None:
        while time.monotonic() < ends:
            said = await service.call("steady")
            if said == "answered":
                answered[at] += time.monotonic() < ends
            else:
                refused[said] += 1
                await anyio.sleep(0.02)

    async with anyio.create_task_group() as tasks:
        for at, service in enumerate(services):
            for _ in range(6):
                tasks.start_soon(caller, at, service)
    return answered, refused


async def slowest(service: Serving, calls: int) -> float:
    """Give the longest of some calls that no limit holds up, seconds."""
    took = 0.0
    for _ in range(calls):
        began = time.monotonic()
        assert await service.call("roomy") == "answered"
        took = max(took, time.monotonic() - began)
    return took


async def in_thread(run: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(run)


async def test_two_hosts_keep_one_limit_and_one_ledger_over_cuts(tmp_path: Path) -> None:
    with two_hosts() as network, postgres_server(network.store) as postgres:
        async with redis_server(network.store) as redis:
            more = MORE.format(store=network.store, redis=redis.port, postgres=postgres.port)
            config, plan = tmp_path / "gearshift.yaml", tmp_path / "plan.yaml"
            config.write_text(one_openai(f"http://127.0.0.1:{PORT}/p/up", more=more))
            plan.write_text(PLAN)
            host_a, host_b = network.hosts
            async with serving(host_a, config, plan) as one, serving(host_b, config, plan) as other:
                both = (one, other)
                for each in both:
                    await each.wait_state("up")
                with anyio.fail_after(BOUND_S):
                    while (await one.ops.GetStatus(ops_pb2.GetStatusRequest())).shared.processes != 2:
                        await anyio.sleep(0.05)

                # Exact over both.
                assert await all_at_once(both, "before", 120) == {"answered": 100, "RATE_LIMITED": 140}

                # One is cut: it goes on with its share, and the other notices nothing.
                await in_thread(host_a.cut)
                assert await slowest(one, 1) < 2
                await one.wait_state("away")
                assert await slowest(one, 20) < 0.5
                assert await slowest(other, 20) < 0.5
                answered, refused = await overload([one], 2.0)
                assert 0.7 * RATE / 2 * 2 <= answered[0] <= RATE / 2 * (2 + 0.5) + 2, (answered, refused)
                assert set(refused) <= {"RATE_LIMITED"}
                assert await other.state() == "up"
                await in_thread(host_a.mend)
                back_in = await one.wait_state("up")
                assert back_in < 3

                # Both are cut: their shares make up the limit.
                for host in network.hosts:
                    await in_thread(host.cut)
                for each in both:
                    await slowest(each, 1)
                    await each.wait_state("away")
                answered, refused = await overload(both, 3.0)
                assert 0.8 * RATE * 3 <= sum(answered) <= RATE * (3 + 0.5) + 4, (answered, refused)
                assert set(refused) <= {"RATE_LIMITED"}
                for host in network.hosts:
                    await in_thread(host.mend)
                for each in both:
                    assert await each.wait_state("up") < 3

                # Exact again, and every call is in the ledger, those of the cuts too.
                assert await all_at_once(both, "after", 120) == {"answered": 100, "RATE_LIMITED": 140}
                with anyio.fail_after(BOUND_S):
                    for each in both:
                        while (await each.ops.GetStatus(ops_pb2.GetStatusRequest())).ledger_pending:
                            await anyio.sleep(0.05)
                rows = await anyio.to_thread.run_sync(
                    postgres.run, "SELECT COUNT(*), COUNT(DISTINCT request_id) FROM attempts WHERE outcome = 'accepted'"
                )
                total = one.answered + other.answered
                assert rows == f"{total}|{total}"
                report = await one.ops.GetCostReport(ops_pb2.GetCostReportRequest())
                assert report.total.calls == total
