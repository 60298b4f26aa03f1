"""The whole service over a shared Redis: two of them keep one limit, and say where it is kept."""

from __future__ import annotations

from contextlib import AsyncExitStack

import grpc
import pytest

from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import LimitsConfig, RedisConfig, SharedConfig
from gearshift.core.errors import ConfigError
from gearshift.v1 import ops_pb2
from tests.support.blueprints import stage
from tests.support.changed import changed
from tests.support.redis_server import redis_server
from tests.support.running_server import RunningServer, failure_of, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says
from tests.support.shared_limits import until


def _blueprint(url: str) -> Blueprint:
    made = of_stages(stage(0, limits=LimitsConfig(requests_per_minute=4 / 1440, burst_s=86_400)))
    shared = SharedConfig(redis=RedisConfig(url=url, slow_s=2.0, timeout_s=2.0))
    return changed(made, config=changed(made.config, shared=shared))


async def _answered(server: RunningServer) -> bool:
    try:
        await server.route(plain_call())
    except grpc.aio.AioRpcError as error:
        failed = failure_of(error)
        assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failed.quotas == ["requests of p0/default/m0"]
        return False
    return True


async def test_two_services_keep_one_limit_and_tell_of_it() -> None:
    async with redis_server() as redis, AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                running_server(_blueprint(redis.url), providers={"p0": ScriptedProvider([says("Yes.")])})
            )
            for _ in range(2)
        ]
        answered = [await _answered(servers[number % 2]) for number in range(8)]
        assert sum(answered) == 4
        stages = await servers[0].ops.ListStages(ops_pb2.ListStagesRequest())
        assert [bucket.books for bucket in stages.stages[0].buckets] == ["shared"]
        status = await servers[0].ops.GetStatus(ops_pb2.GetStatusRequest())
        assert status.shared.state == "up"
        redis.kill()
        store = servers[0].app.store
        assert store is not None
        await until(lambda: not store.is_up)
        status = await servers[0].ops.GetStatus(ops_pb2.GetStatusRequest())
        assert status.shared.state == "away"
        assert status.shared.reason
        assert any("shared store is away" in warning for warning in status.warnings)
        stages = await servers[0].ops.ListStages(ops_pb2.ListStagesRequest())
        assert [bucket.books for bucket in stages.stages[0].buckets] == ["share"]


async def test_a_service_without_a_shared_store_says_nothing_of_one() -> None:
    provider = ScriptedProvider([says("Yes.")])
    async with running_server(
        of_stages(stage(0, limits=LimitsConfig(concurrency=3))), providers={"p0": provider}
    ) as server:
        status = await server.ops.GetStatus(ops_pb2.GetStatusRequest())
        assert not status.HasField("shared")
        stages = await server.ops.ListStages(ops_pb2.ListStagesRequest())
        assert [bucket.books for bucket in stages.stages[0].buckets] == ["local"]


def test_the_stores_address_is_not_shown() -> None:
    assert "secret" not in repr(RedisConfig(url="redis://:secret@example.org"))


@pytest.mark.parametrize("url", ["http://example.org", "nothing"])
async def test_an_address_that_is_none_is_a_problem_of_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match=r"shared\.redis\.url"):
        async with running_server(_blueprint(url), providers={"p0": ScriptedProvider([says("Yes.")])}):
            pass
