"""Many calls at once on one router: limits hold, waiters are served, and nothing is left over."""

from __future__ import annotations

import time

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.config.model import AccessConfig, BreakerConfig, LimitsConfig, TenantConfig
from gearshift.core.errors import ChainExhaustedError, RateLimitedError, RouteError
from gearshift.core.request import StreamPolicy
from gearshift.core.words import BreakerState, FailureKind
from tests.support.blueprints import blueprint, policy, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import replayed

_SCRIPTS = st.lists(
    st.sampled_from(
        [
            says("Yes", ", it", " is."),
            says("I'm sorry, but I can't help with that."),
            fails(FailureKind.RATE_LIMIT, retry_after_s=0.0),
            fails(FailureKind.RATE_LIMIT, retry_after_s=60.0),
            fails(FailureKind.SERVER, "Ye"),
            fails(FailureKind.CONNECTION),
        ]
    ),
    min_size=1,
    max_size=6,
)


async def crowd(
    made: Engine, count: int, *, leaving: frozenset[int] = frozenset(), tenant: str = "default"
) -> list[str]:
    """Make calls at once, every other one streamed; some leave after a few turns of the loop."""
    ends: list[str] = []

    async def one(number: int) -> None:
        call = request(request_id=f"r{number}", tenant=tenant)
        with anyio.CancelScope() as scope:
            if number in leaving:

                async def leave() -> None:
                    for _ in range(number % 7):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                tasks.start_soon(leave)
            try:
                if number % 2:
                    replay = await replayed(made.router.stream(changed(call, stream=StreamPolicy(hold_back_tokens=1))))
                    ends.append(type(replay.error).__name__ if replay.error is not None else replay.text)
                else:
                    ends.append((await made.router.route(call)).text)
            except RouteError as error:
                ends.append(type(error).__name__)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(one, number)
    return ends


@settings(max_examples=60, deadline=None)
@given(
    scripts=st.lists(_SCRIPTS, min_size=1, max_size=3),
    concurrency=st.integers(1, 3),
    count=st.integers(1, 12),
    leaving=st.frozensets(st.integers(0, 11), max_size=6),
    max_attempts=st.integers(1, 5),
    retries=st.integers(0, 2),
)
def test_limits_hold_and_nothing_is_left_over(
    scripts: list[list[Script]],
    concurrency: int,
    count: int,
    leaving: frozenset[int],
    max_attempts: int,
    retries: int,
) -> None:
    stages = [
        stage(place, limits=LimitsConfig(concurrency=concurrency), max_retries=retries, breaker=BreakerConfig(open_s=5))
        for place in range(len(scripts))
    ]
    made = engine(blueprint(*stages, chain_policy=policy(max_attempts=max_attempts)), scripts)

    async def run() -> None:
        ends = await crowd(made, count, leaving=leaving)
        assert len(ends) >= count - len(leaving)
        made.check_settled()
        for provider in made.providers.values():
            assert provider.most_running <= concurrency
        assert made.upstream_calls <= max_attempts * count
        # A breaker that is half-open has a probe under way; none is.
        assert all(guard.breaker.state is not BreakerState.HALF_OPEN for guard in made.guards)

    anyio.run(run)


async def test_waiters_are_all_served_by_the_last_stage() -> None:
    made = engine(blueprint(stage(0, limits=LimitsConfig(concurrency=2))), [[says("Yes.")]])
    assert await crowd(made, 40) == ["Yes."] * 40
    assert made.providers["p0"].most_running == 2
    assert len(made.notebook.attempts) == 40
    made.check_settled()


async def test_a_tenants_places_are_shared_over_stages() -> None:
    plan = blueprint(stage(0), stage(1))
    access = AccessConfig(tenants={"acme": TenantConfig(limits=LimitsConfig(concurrency=1))})
    plan = changed(plan, config=changed(plan.config, access=access))
    made = engine(plan, [[fails(FailureKind.INVALID_REQUEST), says("One.")], [says("Two.")]])
    ends = await crowd(made, 12, tenant="acme")
    assert len(ends) == 12
    assert set(ends) <= {"One.", "Two."}
    assert all(provider.most_running == 1 for provider in made.providers.values())
    made.check_settled()


async def test_a_storm_of_429_costs_no_more_than_its_caps() -> None:
    stages = [stage(place, max_retries=3) for place in range(3)]
    made = engine(
        blueprint(*stages, chain_policy=policy(max_attempts=4)),
        [[fails(FailureKind.RATE_LIMIT, retry_after_s=0.0)] for _ in stages],
    )
    ends = await crowd(made, 20)
    assert set(ends) <= {"ChainExhaustedError", "RateLimitedError"}
    assert made.upstream_calls <= 4 * 20
    made.check_settled()


async def test_a_provider_that_asks_for_time_is_left_alone_by_everybody() -> None:
    made = engine(blueprint(stage(0)), [[fails(FailureKind.RATE_LIMIT, retry_after_s=600.0)]])
    with pytest.raises(ChainExhaustedError):
        await made.router.route(request())
    with anyio.fail_after(10), pytest.raises(RateLimitedError) as caught:
        await made.router.route(request(request_id="r2"))
    assert 100 < caught.value.retry_after_s <= 300
    assert made.upstream_calls == 1


async def test_one_probe_decides_for_a_crowd() -> None:
    breaker = BreakerConfig(consecutive_faults=1, open_s=0.02)
    made = engine(
        blueprint(stage(0, breaker=breaker), stage(1)), [[fails(FailureKind.SERVER), says("One.")], [says("Two.")]]
    )
    assert (await made.router.route(request())).text == "Two."
    await anyio.sleep(made.guards[0].breaker.probe_in(time.monotonic()) + 0.001)
    ends = await crowd(made, 10)
    assert made.guards[0].breaker.state is BreakerState.CLOSED
    assert ends.count("One.") >= 1
    assert set(ends) == {"One.", "Two."}
    made.check_settled()


async def test_a_pace_is_kept_and_never_outlasts_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gearshift.core.prepare.COMPLETED_MARGIN_S", 0.5)  # wide, for busy machines
    made = engine(blueprint(stage(0, limits=LimitsConfig(pace=0.1, concurrency=5))), [[says("Yes.")]])
    assert (await made.router.route(request())).text == "Yes."
    with anyio.fail_after(0.8), pytest.raises(RateLimitedError, match="pace of p0/default/m0"):
        await made.router.route(request(request_id="r2"))
    assert made.upstream_calls == 1
    made.check_settled()


async def test_who_leaves_while_paced_gives_everything_back() -> None:
    made = engine(blueprint(stage(0, limits=LimitsConfig(pace=0.5, concurrency=5))), [[says("Yes.")]])
    await made.router.route(request())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.router.route, request(request_id="r2"))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert made.upstream_calls == 1
    made.check_settled()
