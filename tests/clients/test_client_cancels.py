"""Cancels at any moment: none is lost, none becomes an error, none is seen by another scope."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine

import anyio
import anyio.lowlevel
import pytest

from gearshift.clients import Client, Code, RpcError, background, call, dial
from tests.support.fake_router import Context, completed, delta, running_fake_router, started, stream_of

ASKED = call("greet", "hello")
BOUND_S = 30.0
RUNS = 150
MOST_S = 0.006
"""Calls take one to three milliseconds here, so that a cancel falls before, into and behind them."""


async def whole(client: Client) -> object:
    return await client.route(background(), ASKED)


async def folded(client: Client) -> object:
    async with client.stream_route(background(), ASKED) as stream:
        return await stream.fold()


async def iterated(client: Client) -> object:
    async with client.stream_route(background(), ASKED) as stream:
        return [event async for event in stream]


CALLS = [pytest.param(each, id=each.__name__) for each in (whole, folded, iterated)]
Made = Callable[[Client], Coroutine[None, None, object]]


@pytest.mark.parametrize("made", CALLS)
async def test_a_scope_that_ends_at_any_moment_ends_its_call_and_nothing_else(made: Made) -> None:
    chance, caught = random.Random(1), 0
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = stream_of([started(), delta(1, "hi")], [completed("hi")])
        await made(client)
        with anyio.fail_after(BOUND_S) as outer:
            for _ in range(RUNS):
                answer = None
                with anyio.move_on_after(chance.uniform(0, MOST_S)) as scope:
                    answer = await made(client)
                assert (answer is None) == scope.cancelled_caught
                caught += scope.cancelled_caught
                task = asyncio.current_task()
                assert task is not None and task.cancelling() == 0, "a cancel was left behind"
                await anyio.lowlevel.checkpoint()
        assert not outer.cancelled_caught
        assert await made(client) is not None, "the client still works"
    assert 0 < caught < RUNS


@pytest.mark.parametrize("made", CALLS)
async def test_a_group_that_is_cancelled_at_any_moment_ends_all_of_its_calls(made: Made) -> None:
    chance = random.Random(2)
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = stream_of([started(), delta(1, "hi")], [completed("hi")])
        with anyio.fail_after(BOUND_S):
            for _ in range(RUNS // 10):
                async with anyio.create_task_group() as tasks:
                    for _ in range(10):
                        tasks.start_soon(made, client)
                    await anyio.sleep(chance.uniform(0, MOST_S))
                    tasks.cancel_scope.cancel()


@pytest.mark.parametrize("made", CALLS)
async def test_a_timeout_of_asyncio_at_any_moment_is_its_own(made: Made) -> None:
    chance, passed = random.Random(3), 0
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = stream_of([started(), delta(1, "hi")], [completed("hi")])
        with anyio.fail_after(BOUND_S):
            for _ in range(RUNS):
                try:
                    async with asyncio.timeout(chance.uniform(0, MOST_S)):
                        await made(client)
                except TimeoutError:
                    passed += 1
                task = asyncio.current_task()
                assert task is not None and task.cancelling() == 0
    assert passed > 0


async def test_a_failure_beside_a_call_cancels_it_and_is_what_is_raised() -> None:
    class Beside(Exception):
        pass

    async def fail_when(arrived: anyio.Event) -> None:
        await arrived.wait()
        raise Beside

    async with running_fake_router() as (router, address), dial(address) as client:
        arrived = anyio.Event()

        async def stay(_: object, context: Context) -> None:
            arrived.set()
            await anyio.sleep_forever()

        router.scripts["Route"] = stay
        with anyio.fail_after(BOUND_S):
            with pytest.raises(ExceptionGroup) as caught:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(whole, client)
                    tasks.start_soon(fail_when, arrived)
            assert [type(error) for error in caught.value.exceptions] == [Beside]
            await router.cancelled.wait()


async def test_a_shielded_call_outlives_the_scope_around_it() -> None:
    async with running_fake_router() as (_, address), dial(address) as client:
        with anyio.CancelScope() as scope:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                assert await whole(client) is not None
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught


async def test_a_scope_that_was_cancelled_before_sends_nothing() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        for made in (whole, folded):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await made(client)
            assert scope.cancelled_caught
        # What had begun is cancelled at once; a context that has ended is not even begun.
        asked = len(router.requests)
        ctx, cancel = background().with_cancel()
        cancel()
        with pytest.raises(RpcError) as caught:
            await client.route(ctx, ASKED)
        assert caught.value.code is Code.CANCELLED
        assert len(router.requests) == asked
