"""Equal calls at several processes that share a Redis: one of them makes it, the others wait, hear of its end, or take over."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
import pytest
from redis.asyncio import Redis

from gearshift.core.answer import Answer
from gearshift.core.config.model import RedisConfig, SharedConfig, TaskCacheConfig
from gearshift.core.errors import ChainExhaustedError, DeadlineError, RouteError
from gearshift.core.events import Completed, Delta, Started
from gearshift.core.opening import cache_stores_of
from gearshift.core.request import Request, StreamPolicy
from gearshift.core.router import Router
from gearshift.core.words import FailureKind, FinishReason
from tests.support.blueprints import blueprint, declared_task, stage
from tests.support.changed import changed
from tests.support.engine import Notebook, request
from tests.support.redis_server import RedisServer, redis_server
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says

BOUND_S = 10.0


@dataclass
class Process:
    """A router as one of several processes has it."""

    router: Router
    provider: ScriptedProvider
    notebook: Notebook
    answers: list[Answer] = field(default_factory=list[Answer])
    errors: list[RouteError] = field(default_factory=list[RouteError])

    async def ask(self, prompt: str = "Why?") -> None:
        """Call; keep what comes."""
        try:
            self.answers.append(await self.router.route(asked(prompt)))
        except RouteError as error:
            self.errors.append(error)


def asked(prompt: str = "Why?") -> Request:
    return request(prompt, task_id="kept", kind=None)


@asynccontextmanager
async def processes(redis: RedisServer, *scripts: Script) -> AsyncGenerator[list[Process]]:
    """Run one for each script, which all its calls play."""
    made = blueprint(stage(0))
    chain = made.chains["generate"]
    task = changed(declared_task("kept", chain), temperature=0.0, definition_hash="definition", cache=TaskCacheConfig())
    shared = SharedConfig(redis=RedisConfig(url=redis.url, timeout_s=2.0, slow_s=2.0))
    plan = replace(made, tasks={"kept": task}, config=changed(made.config, shared=shared))
    async with AsyncExitStack() as stack:
        found: list[Process] = []
        for script in scripts:
            stores = await stack.enter_async_context(cache_stores_of(plan))
            provider, notebook = ScriptedProvider([script]), Notebook()
            router = Router(plan, providers={"p0": provider}, observers=(notebook,), stores=stores, seed=1)
            found.append(Process(await stack.enter_async_context(router), provider, notebook))
        yield found


@asynccontextmanager
async def keys(redis: RedisServer) -> AsyncGenerator[Redis]:
    client: Redis = Redis(host="127.0.0.1", port=redis.port)
    try:
        yield client
    finally:
        await client.aclose()


async def leases(client: Redis) -> list[bytes]:
    """Give the names of the leases that are held or were just given back."""
    return [key for key in await client.keys("*:l") if isinstance(key, bytes)]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


async def test_two_hundred_equal_calls_at_four_processes_are_one_upstream() -> None:
    gate = anyio.Event()
    async with redis_server() as redis, processes(redis, *[changed(says("One."), waits_for=gate)] * 4) as four:
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(four[number % 4].ask)
                await anyio.sleep(0.3)
                assert sum(len(each.provider.calls) for each in four) == 1
                gate.set()
        assert sum(len(each.provider.calls) for each in four) == 1
        answers = [answer for each in four for answer in each.answers]
        assert {answer.text for answer in answers} == {"One."}
        (leader,) = [each for each in four if each.provider.calls]
        followers = [each for each in four if each is not leader]
        costs = [answer.completion.cost for each in followers for answer in each.answers]
        assert all(cost.total_usd == 0 and cost.saved_usd for cost in costs)
        assert all(answer.completion.cached for each in followers for answer in each.answers)
        # Every call was told to the observers of its process, once.
        assert [len(each.notebook.calls) for each in four] == [50] * 4
        assert sum(len(each.notebook.attempts) for each in four) == 1
        assert all(0 < left for left in (await redis.ttls()).values()), "every key has a time to live"


async def test_failure_is_heard_by_all_processes_and_tried_again_by_none() -> None:
    gate = anyio.Event()
    script = changed(fails(FailureKind.SERVER), waits_for=gate)
    async with redis_server() as redis, processes(redis, script, script, script) as three:
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                for number in range(90):
                    tasks.start_soon(three[number % 3].ask)
                await anyio.sleep(0.3)
                gate.set()
        assert sum(len(each.provider.calls) for each in three) == 1
        assert [len(each.errors) for each in three] == [30, 30, 30]
        assert {type(error) for each in three for error in each.errors} == {ChainExhaustedError}
        assert len({error.message for each in three for error in each.errors}) == 1
        # A call that comes afterwards does not wait for what is over: it is made anew.
        with anyio.fail_after(BOUND_S):
            await three[0].ask()
        assert sum(len(each.provider.calls) for each in three) == 2


async def test_one_process_takes_over_when_the_lease_of_a_dead_one_ends() -> None:
    async with (
        redis_server() as redis,
        processes(redis, says("A."), says("B."), says("C.")) as three,
        keys(redis) as client,
    ):
        gate = anyio.Event()
        three[0].provider.scripts = [changed(says("A."), waits_for=gate)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(three[0].ask)
            await three[0].provider.waiting.wait()
            (lease,) = await leases(client)
            # As a process leaves it that was killed: nobody renews it, nobody gives it back.
            await client.set(lease, b"Ldead", px=400)
            tasks.cancel_scope.cancel()
        began = time.monotonic()
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                for number in range(40):
                    tasks.start_soon(three[1 + number % 2].ask)
        assert 0.2 < time.monotonic() - began < 3
        assert sum(len(each.provider.calls) for each in three[1:]) == 1
        assert len({answer.text for each in three[1:] for answer in each.answers}) == 1


async def test_call_that_everybody_left_goes_on_elsewhere() -> None:
    async with redis_server() as redis, processes(redis, Script(hangs=True), says("Two.")) as (one, two):
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as outer, anyio.create_task_group() as tasks:
                tasks.start_soon(one.ask)
                await one.provider.hanging.wait()
                outer.start_soon(two.ask)
                await anyio.sleep(0.2)
                assert not two.provider.calls
                tasks.cancel_scope.cancel()
        assert [answer.text for answer in two.answers] == ["Two."]
        assert not two.answers[0].completion.cached
        assert one.provider.closed_early == 1


async def test_own_deadline_bounds_the_wait_for_another_process() -> None:
    async with redis_server() as redis, processes(redis, Script(hangs=True), says("Two.")) as (one, two):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.ask)
            with anyio.fail_after(BOUND_S):
                await one.provider.hanging.wait()
            began = time.monotonic()
            with pytest.raises(DeadlineError):
                await two.router.route(asked(), ends_by=began + 0.5)
            assert 0.3 < time.monotonic() - began < 1.5
            tasks.cancel_scope.cancel()
        assert not two.provider.calls
        assert [error for _, error in two.notebook.calls] == ["DEADLINE"]


async def test_answer_that_is_not_kept_makes_nobody_wait_for_nothing() -> None:
    gate = anyio.Event()
    cut = changed(says("Cut sho", finish=FinishReason.LENGTH), waits_for=gate)
    async with redis_server() as redis, processes(redis, cut, cut) as (one, two):
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon((one, two)[number % 2].ask)
                await anyio.sleep(0.3)
                gate.set()
        # One call a process, as without leases, and no more.
        assert sorted((len(one.provider.calls), len(two.provider.calls))) == [1, 1]


async def test_redis_that_goes_away_lets_those_who_wait_go_on() -> None:
    gate = anyio.Event()
    async with (
        redis_server() as redis,
        processes(redis, changed(says("One."), waits_for=gate), says("Two.")) as (one, two),
    ):
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.ask)
                await one.provider.waiting.wait()
                tasks.start_soon(two.ask)
                await anyio.sleep(0.2)
                assert not two.answers
                redis.kill()
                while not two.answers:
                    await anyio.sleep(0.01)
                gate.set()
        assert [answer.text for answer in (*one.answers, *two.answers)] == ["One.", "Two."]


async def test_stream_that_waited_for_another_process_is_that_of_a_kept_answer() -> None:
    gate = anyio.Event()
    script = changed(says("One", " two."), waits_for=gate)
    streamed = changed(asked(), stream=StreamPolicy(hold_back_tokens=0, hold_back_ms=0))
    async with redis_server() as redis, processes(redis, script, script) as (one, two):
        events: list[object] = []

        async def read() -> None:
            async for batch in two.router.stream(streamed):
                events.extend(batch)

        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.ask)
                await one.provider.waiting.wait()
                tasks.start_soon(read)
                await anyio.sleep(0.2)
                gate.set()
        assert [type(event) for event in events if not isinstance(event, Delta)] == [Started, Completed]
        assert isinstance(events[0], Started) and events[0].cached
        assert isinstance(events[-1], Completed) and events[-1].completion.cached
        assert not two.provider.calls
        assert len(two.notebook.calls) == 1
        # Nothing renews a lease when none is held.
        with anyio.fail_after(BOUND_S):
            while one.router.state.leases is None or repr(one.router.state.leases) != "<RedisLeases 0 held>":
                await anyio.sleep(0.02)
