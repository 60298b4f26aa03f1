"""Callers' deadlines: one timer for all calls, and each call ended by its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest

from gearshift.server.deadline import Deadlines

SHORT_S = 0.02
LONG_S = 30.0


async def until_over(deadlines: Deadlines, seconds: float | None) -> float:
    """Wait in a deadline's block for ever; gives after how long it ended."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError), deadlines.within(seconds):
        await anyio.sleep_forever()
    return asyncio.get_running_loop().time() - began


async def test_block_that_takes_longer_ends_with_a_timeout() -> None:
    with anyio.fail_after(5):
        assert await until_over(Deadlines(), SHORT_S) >= SHORT_S - 0.002


async def test_deadline_that_has_passed_ends_the_block_at_its_first_wait() -> None:
    with anyio.fail_after(5):
        await until_over(Deadlines(), 0.0)


async def test_later_call_with_an_earlier_deadline_is_ended_first() -> None:
    deadlines, ended = Deadlines(), list[float]()

    async def call(seconds: float) -> None:
        await until_over(deadlines, seconds)
        ended.append(seconds)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for seconds in (SHORT_S * 4, SHORT_S, SHORT_S * 2):
                tasks.start_soon(call, seconds)
    assert ended == [SHORT_S, SHORT_S * 2, SHORT_S * 4]


async def test_call_is_ended_though_an_earlier_one_has_left_the_timer_behind() -> None:
    deadlines = Deadlines()
    with anyio.fail_after(5):
        with deadlines.within(SHORT_S):
            pass
        assert await until_over(deadlines, SHORT_S * 2) >= SHORT_S * 2 - 0.002


async def test_call_that_is_answered_in_time_is_not_cancelled_later() -> None:
    deadlines = Deadlines()
    with anyio.fail_after(5):
        with deadlines.within(SHORT_S):
            pass
        await until_over(deadlines, SHORT_S * 2)  # the first one's time passes meanwhile
        await anyio.lowlevel.checkpoint()


async def test_call_without_a_deadline_goes_on() -> None:
    deadlines = Deadlines()
    with anyio.move_on_after(SHORT_S * 2) as scope:
        with deadlines.within(None) as deadline:
            assert deadline.at is None
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_cancellation_from_outside_stays_one() -> None:
    with anyio.move_on_after(SHORT_S) as scope:
        with Deadlines().within(LONG_S):
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_error_of_the_block_is_told_as_it_is() -> None:
    with pytest.raises(ValueError, match="own"), Deadlines().within(LONG_S):
        raise ValueError("own")


async def test_calls_that_are_answered_arm_one_timer_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    armed: list[float] = []
    call_at = loop.call_at

    def counted(when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        armed.append(when)
        return call_at(when, callback)

    monkeypatch.setattr(loop, "call_at", counted)
    deadlines = Deadlines()

    async def call() -> None:
        with deadlines.within(LONG_S):
            await anyio.lowlevel.checkpoint()

    for _ in range(50):
        await call()
    assert len(armed) == 1
