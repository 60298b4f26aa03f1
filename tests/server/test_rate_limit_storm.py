"""A provider that refuses everybody: calls upstream stay bounded, whatever the clients' retry policies are."""

from __future__ import annotations

import json
import time

import anyio
import grpc
import pytest

from gearshift.core.config.model import BreakerConfig
from gearshift.core.errors import RouteError
from gearshift.core.words import BreakerState, FailureKind
from tests.support.blueprints import blueprint, policy, stage
from tests.support.engine import engine, request
from tests.support.running_server import of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, fails, says

_BREAKER = BreakerConfig(consecutive_faults=5, open_s=1.0, max_open_s=4.0)
_RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED"],
                },
            }
        ]
    }
)


async def test_attempts_never_pass_the_cap_and_the_breaker_opens_within_a_second() -> None:
    stages = [stage(number, max_retries=3, breaker=_BREAKER) for number in range(3)]
    made = engine(blueprint(*stages, chain_policy=policy(max_attempts=4)), [[fails(FailureKind.RATE_LIMIT)]] * 3)
    attempts: list[int] = []
    began = time.monotonic()

    async def call(number: int) -> None:
        try:
            await made.router.route(request(request_id=f"r{number}"))
        except RouteError as error:
            attempts.append(len(getattr(error, "attempts", ())))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(300):
                tasks.start_soon(call, number)
    assert time.monotonic() - began < 10
    assert len(attempts) == 300
    assert max(attempts) <= 4
    assert all(guard.breaker.state is BreakerState.OPEN for guard in made.guards)
    # All began before anybody had heard: no more than each one's first calls went up.
    assert made.upstream_calls <= 300 * 4
    before = made.upstream_calls
    for number in range(200):
        await call(1000 + number)
    assert made.upstream_calls == before
    made.check_settled()


async def test_one_probe_at_a_time_goes_up_while_the_storm_lasts() -> None:
    plan = blueprint(stage(0, breaker=BreakerConfig(consecutive_faults=5, open_s=0.05, max_open_s=0.2)))
    made = engine(plan, [[fails(FailureKind.RATE_LIMIT)]])
    for number in range(5):
        with pytest.raises(RouteError):
            await made.router.route(request(request_id=f"r{number}"))
    guard = made.guards[0]
    assert guard.breaker.state is BreakerState.OPEN
    provider = made.providers["p0"]
    provider.most_running = 0
    provider.scripts = [fails(FailureKind.RATE_LIMIT)]
    ends = time.monotonic() + 0.6

    async def ask(number: int) -> None:
        while time.monotonic() < ends:
            with pytest.raises(RouteError):
                await made.router.route(request(request_id=f"s{number}"))
            await anyio.sleep(0.002)

    before = made.upstream_calls
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(ask, number)
    assert provider.most_running == 1
    # 0.05, 0.1, 0.2, 0.2 s apart.
    assert 1 <= made.upstream_calls - before <= 6


async def test_it_heals_when_the_storm_is_over() -> None:
    plan = blueprint(stage(0, breaker=BreakerConfig(consecutive_faults=2, open_s=0.05)))
    made = engine(plan, [[fails(FailureKind.RATE_LIMIT), fails(FailureKind.RATE_LIMIT), says("Yes.")]])
    for number in range(2):
        with pytest.raises(RouteError):
            await made.router.route(request(request_id=f"r{number}"))
    assert made.guards[0].breaker.reason == "rate_limit"
    await anyio.sleep(made.guards[0].breaker.probe_in(time.monotonic()))
    assert (await made.router.route(request(request_id="r9"))).text == "Yes."
    assert made.guards[0].breaker.state is BreakerState.CLOSED


async def test_a_provider_at_its_limit_that_answers_some_calls_stays_in_use() -> None:
    plan = blueprint(stage(0, breaker=_BREAKER))
    made = engine(plan, [[fails(FailureKind.RATE_LIMIT), says("Yes.")] * 20])
    for number in range(40):
        try:
            await made.router.route(request(request_id=f"r{number}"))
        except RouteError:
            continue
    assert made.guards[0].breaker.state is BreakerState.CLOSED
    assert made.upstream_calls == 40


async def _storm(calls: int, options: list[tuple[str, object]]) -> int:
    provider = ScriptedProvider([fails(FailureKind.RATE_LIMIT)])
    plan = of_stages(stage(0, max_retries=1, breaker=_BREAKER))
    async with running_server(plan, providers={"p0": provider}, channel_options=options) as server:

        async def call() -> None:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.route(plain_call(), timeout=1.5)
            assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

        with anyio.fail_after(20):
            for _ in range(calls // 20):
                async with anyio.create_task_group() as tasks:
                    for _ in range(20):
                        tasks.start_soon(call)
    return len(provider.calls)


async def test_a_client_with_a_retry_policy_does_not_multiply_the_storm() -> None:
    without = await _storm(20, [("grpc.enable_retries", 0)])
    within = await _storm(20, [("grpc.enable_retries", 1), ("grpc.service_config", _RETRIES)])
    assert without <= 20 * 2
    # Retries find the breaker open; now and then one is its probe.
    assert within <= without + 12
