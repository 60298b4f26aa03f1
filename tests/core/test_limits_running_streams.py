"""Streams that pass what they reserved: they reserve the next window, or end."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from gearshift.core.config.model import LimitsConfig
from gearshift.core.errors import ChainExhaustedError
from gearshift.core.events import Completed, Delta, Event
from gearshift.core.request import Parameters, StreamPolicy
from gearshift.core.words import FailureKind, Outcome
from tests.support.blueprints import blueprint, stage
from tests.support.engine import Engine, engine, request
from tests.support.redis_server import redis_server
from tests.support.scripted_provider import says
from tests.support.shared_limits import shared_admission, until
from tests.support.slow_proxy import slow_proxy

_WINDOW = 32
_LONG = tuple(f"word{number} " for number in range(900))
"""More than the 512 tokens that are reserved where nothing is known yet."""


async def _run(made: Engine, **fields: object) -> tuple[list[Event], ChainExhaustedError | None]:
    events: list[Event] = []
    try:
        async for batch in made.router.stream(request(stream=StreamPolicy(), **fields)):  # type: ignore[arg-type]
            events += batch
    except ChainExhaustedError as error:
        return events, error
    return events, None


def _level(made: Engine) -> float:
    return next(bucket for bucket in made.guards[0].buckets if bucket.unit == "tokens").level(anyio.current_time())


async def test_a_stream_reserves_window_after_window() -> None:
    limits = LimitsConfig(tokens_per_minute=2000 / 1440, burst_s=86_400)
    made = engine(blueprint(stage(0, limits=limits)), [[says(*_LONG)]])
    events, error = await _run(made)
    assert error is None
    assert isinstance(events[-1], Completed)
    assert events[-1].completion.outcome is Outcome.ACCEPTED
    made.check_settled()


async def test_a_limit_is_not_passed_by_more_than_a_window_a_stream() -> None:
    limits = LimitsConfig(tokens_per_minute=600 / 1440, burst_s=86_400)
    made = engine(blueprint(stage(0, limits=limits)), [[says(*_LONG)]])
    events, error = await _run(made)
    assert error is not None
    assert [attempt.failure for attempt in error.attempts] == [FailureKind.OVERRUN]
    assert isinstance(events[-1], Completed)
    attempt = error.attempts[0]
    assert attempt.usage.output_tokens > 500  # it is billed for what it wrote
    assert _level(made) >= -_WINDOW
    made.check_settled()


async def test_many_streams_at_once_pass_a_limit_by_a_window_each_at_most() -> None:
    limits = LimitsConfig(tokens_per_minute=2500 / 1440, burst_s=86_400)
    made = engine(blueprint(stage(0, limits=limits)), [[says(*_LONG)]])
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(lambda number=number: _run(made, request_id=f"r{number}"))  # type: ignore[misc]
    assert _level(made) >= -4 * _WINDOW
    made.check_settled()


async def test_a_stream_may_be_told_to_end_with_its_reservation() -> None:
    limits = LimitsConfig(tokens_per_minute=60_000, on_overrun="stop")
    made = engine(blueprint(stage(0, limits=limits)), [[says(*_LONG)]])
    _, error = await _run(made)
    assert error is not None
    assert [attempt.failure for attempt in error.attempts] == [FailureKind.OVERRUN]
    made.check_settled()


async def test_a_stream_that_was_ended_goes_on_at_the_next_stage() -> None:
    limits = LimitsConfig(tokens_per_minute=600 / 1440, burst_s=86_400)
    made = engine(blueprint(stage(0, limits=limits), stage(1)), [[says(*_LONG)], [says("Short.")]])
    events, error = await _run(made)
    assert error is None
    assert isinstance(events[-1], Completed)
    assert [attempt.failure for attempt in events[-1].completion.attempts] == [FailureKind.OVERRUN, None]
    made.check_settled()


async def test_money_is_reserved_window_by_window_too() -> None:
    # A token costs a millionth: 512 are reserved, and what is left pays for a hundred more.
    limits = LimitsConfig(usd_per_day=Decimal("0.000640"))
    made = engine(blueprint(stage(0, limits=limits)), [[says(*_LONG)]])
    _, error = await _run(made)
    assert error is not None
    assert error.attempts[0].failure is FailureKind.OVERRUN
    left = made.guards[0].buckets[0].level(anyio.current_time())
    assert left >= -_WINDOW * 1e-6


async def test_a_stream_within_its_reservation_reserves_nothing_more() -> None:
    limits = LimitsConfig(tokens_per_minute=600 / 1440, burst_s=86_400, on_overrun="stop")
    made = engine(blueprint(stage(0, limits=limits)), [[says(*_LONG[:300])]])
    _, error = await _run(made, parameters=Parameters(max_tokens=400))
    assert error is None


@pytest.mark.parametrize("tokens", [2000, 700])
async def test_over_redis_windows_are_asked_for_in_the_background(tokens: int) -> None:
    limits = LimitsConfig(tokens_per_minute=tokens / 1440, burst_s=86_400)
    async with redis_server() as redis, shared_admission(redis.url) as admission:
        made = engine(blueprint(stage(0, limits=limits)), [[says(*_LONG)]], admission=admission)
        _, error = await _run(made)
        assert (error is None) == (tokens == 2000)
        await until(lambda: not any(bucket.is_owing() for bucket in admission.store.known))
        await until(lambda: not admission.store.is_telling)
        assert _level(made) >= -_WINDOW
        # One question a window at most, besides the reservation itself.
        assert admission.store.asked <= 2 + (900 - 512) / _WINDOW + 2


@pytest.mark.parametrize("tokens", [2000, 700])
async def test_slow_store_holds_a_fast_stream_up_and_does_not_end_it(tokens: int) -> None:
    limits = LimitsConfig(tokens_per_minute=tokens / 1440, burst_s=86_400)
    async with (
        redis_server() as redis,
        slow_proxy(redis.port) as proxy,
        shared_admission(proxy.url) as admission,
    ):
        proxy.delay_s = 0.03
        made = engine(blueprint(stage(0, limits=limits)), [[says(*_LONG)]], admission=admission)
        events, error = await _run(made)
        assert (error is None) == (tokens == 2000)
        if error is None:
            shown = sum(len(event.parts) for event in events if isinstance(event, Delta))
            assert shown == len(_LONG)
        else:
            assert [attempt.failure for attempt in error.attempts] == [FailureKind.OVERRUN]
        await until(lambda: not any(bucket.is_owing() for bucket in admission.store.known))
        await until(lambda: not admission.store.is_telling)
        assert _level(made) >= -_WINDOW
