"""Stored prompts at two services that share a Redis, as two hosts do: by RPC, with nothing else between them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from gearshift.clients import RpcError, background, call, dial
from gearshift.core.config.model import RedisConfig, SharedConfig
from gearshift.v1 import ops_pb2
from tests.support.blueprints import stage
from tests.support.changed import changed
from tests.support.redis_server import RedisServer, redis_server
from tests.support.running_server import RunningServer, of_stages, running_server
from tests.support.scripted_provider import ScriptedProvider, says

PROMPT = "You are careful, and you never answer what you were not asked; your mood is {{mood}}. " * 10
BOUND_S = 10.0


@asynccontextmanager
async def host(redis: RedisServer) -> AsyncGenerator[RunningServer]:
    made = of_stages(stage(0))
    shared = SharedConfig(redis=RedisConfig(url=redis.url))
    made = replace(made, config=changed(made.config, shared=shared))
    async with running_server(made, providers={"p0": ScriptedProvider([says("hi")])}) as server:
        yield server


async def test_prompt_put_at_one_host_is_used_listed_and_deleted_at_the_other() -> None:
    async with (
        redis_server() as redis,
        host(redis) as one,
        host(redis) as other,
        dial(one.address) as here,
        dial(other.address) as there,
    ):
        ctx = background().with_timeout(BOUND_S)
        stored = await here.put_prompt(ctx, "greet", PROMPT)
        listed = (await other.ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest())).entries
        assert [(each.cache, each.key, each.task_id) for each in listed] == [("prompt", stored.key, "greet")]
        by_key = call("greet", "hello", system_key=stored.key, variables={"mood": "good"})
        assert (await there.explain(ctx, by_key)).stages
        assert (await there.route(ctx, by_key)).text == "hi"
        async with here.stream_route(ctx, by_key) as stream:
            events = [event async for event in stream]
        assert events[-1].completed.completion.prompt_key == stored.key
        assert await there.delete_prompt(ctx, "greet", stored.key)
        with anyio.fail_after(BOUND_S):  # the other hears of it within a second
            while one.app.router.state.prompts.kept(stored.key) is not None:
                await anyio.sleep(0.02)
        for client in (here, there):
            with pytest.raises(RpcError) as caught:
                await client.route(ctx, by_key)
            assert caught.value.reason == "PROMPT_NOT_CACHED"


async def test_purge_at_one_host_empties_the_other_and_deletion_without_redis_says_so() -> None:
    async with (
        redis_server() as redis,
        host(redis) as one,
        host(redis) as other,
        dial(one.address) as here,
        dial(other.address) as there,
    ):
        ctx = background().with_timeout(BOUND_S)
        key = (await here.put_prompt(ctx, "greet", PROMPT)).key
        by_key = call("greet", "hello", system_key=key, variables={"mood": "good"})
        assert (await there.route(ctx, by_key)).text == "hi"
        assert (await one.ops.PurgeCache(ops_pb2.PurgeCacheRequest(all=True))).purged == 1
        with anyio.fail_after(BOUND_S):
            while other.app.router.state.prompts.kept(key) is not None:
                await anyio.sleep(0.02)
        key = (await here.put_prompt(ctx, "greet", PROMPT)).key
        redis.kill()
        assert (await here.route(ctx, by_key)).text == "hi"
        with pytest.raises(RpcError) as caught:
            await here.delete_prompt(ctx, "greet", key)
        assert caught.value.reason == "CACHE_STORE"
