"""The caches in a real Redis: shared by processes, bounded, purged everywhere, and no fault of a call when it is away."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from gearshift.core.blueprint import Blueprint
from gearshift.core.cache.store import CacheFilter, CacheItem
from gearshift.core.config.model import RedisConfig, SharedConfig, TaskCacheConfig
from gearshift.core.errors import CacheStoreError
from gearshift.core.opening import cache_stores_of
from gearshift.core.request import EmbedRequest, Request, Task
from gearshift.core.router import Router
from gearshift.core.shared.caches import RedisCacheStore
from gearshift.core.shared.connection import RedisConnection
from tests.support.blueprints import blueprint, declared_task, stage
from tests.support.changed import changed
from tests.support.engine import request
from tests.support.redis_server import RedisServer, redis_server
from tests.support.scripted_provider import Script, ScriptedProvider, says


def item(key: str, *, value: bytes = b"x", tenant: str = "acme", task: str = "faq", ttl_s: float = 60.0) -> CacheItem:
    return CacheItem(key=key, tenant=tenant, task_id=task, generation="1", value=value, ttl_s=ttl_s)


@asynccontextmanager
async def stores(
    redis: RedisServer, count: int = 1, *, max_bytes: int = 1_000_000, timeout_s: float = 0.25
) -> AsyncGenerator[list[RedisCacheStore]]:
    """Give stores as so many processes have them."""
    config = RedisConfig(url=redis.url, timeout_s=timeout_s)
    connections = [RedisConnection(config) for _ in range(count)]
    try:
        yield [RedisCacheStore(each, config.prefix, "response", max_bytes) for each in connections]
    finally:
        for each in connections:
            await each.aclose()


async def test_what_one_process_keeps_another_finds_and_purges() -> None:
    async with redis_server() as redis, stores(redis, 2) as (one, two):
        await one.put([item("a", value=b"\x00\xffbytes"), item("b", tenant="other")], 0.0)
        assert await two.get(["a", "b", "c"], 0.0) == [b"\x00\xffbytes", b"x", None]
        assert (two.counts().hits, two.counts().misses) == (2, 1)
        await two.get(["a"], 0.0)
        now = time.monotonic()
        listed = await one.entries(now)
        assert [(each.key, each.tenant, each.task_id, each.hits) for each in listed] == [
            ("a", "acme", "faq", 2),
            ("b", "other", "faq", 1),
        ]
        assert all(now - 5 < each.stored_at <= now and 55 < each.expires_at - now <= 60 for each in listed)
        assert await two.purge(CacheFilter(tenant="acme"), time.monotonic()) == 1
        assert await one.get(["a", "b"], 0.0) == [None, b"x"]
        assert two.counts().entries == 1


async def test_bytes_are_bounded_over_all_processes_and_what_was_not_used_goes_first() -> None:
    async with redis_server() as redis, stores(redis, 2, max_bytes=3000) as (one, two):
        for key in "ab":
            await one.put([item(key, value=b"x" * 700)], 0.0)
            await anyio.sleep(0.005)  # the server's time of use is in milliseconds
        await two.get(["a"], 0.0)
        await anyio.sleep(0.005)
        await two.put([item("c", value=b"x" * 700)], 0.0)
        await two.put([item("d", value=b"x" * 700)], 0.0)
        assert {each.key for each in await one.entries(0.0)} == {"a", "c", "d"}
        assert two.counts().evictions == 1
        assert two.counts().bytes <= 3000
        await two.put([item("e", value=b"x" * 3000)], 0.0)
        assert await two.get(["e"], 0.0) == [None]


async def test_an_entry_is_gone_after_its_time_and_leaves_nothing() -> None:
    async with redis_server() as redis, stores(redis) as (store,):
        await store.put([item("a", ttl_s=0.05), item("b")], 0.0)
        with anyio.fail_after(5):
            while await store.get(["a"], 0.0) != [None]:
                await anyio.sleep(0.01)
        assert [each.key for each in await store.entries(0.0)] == ["b"]
        assert store.counts().entries == 1
        assert all(0 < left for left in (await redis.ttls()).values()), "every key has a time to live"


async def test_a_redis_that_hangs_costs_one_call_its_timeout_and_fails_none() -> None:
    async with redis_server() as redis, stores(redis, timeout_s=0.1) as (store,):
        await store.put([item("a")], 0.0)
        redis.freeze()
        assert await store.get(["a"], 0.0) == [None]
        began = time.monotonic()
        for _ in range(100):
            assert await store.get(["a"], 0.0) == [None]
            await store.put([item("b")], 0.0)
        assert time.monotonic() - began < 0.1, "it is left alone for a while"
        redis.thaw()
        with anyio.fail_after(10):
            while await store.get(["a"], 0.0) != [b"x"]:
                await anyio.sleep(0.05)


async def test_a_redis_that_is_not_there_fails_no_call() -> None:
    async with redis_server() as redis, stores(redis) as (store,):
        redis.kill()
        await store.put([item("a")], 0.0)
        assert await store.get(["a"], 0.0) == [None]
        assert await store.entries(0.0) == []


async def test_a_purge_that_does_not_reach_redis_says_so() -> None:
    async with redis_server() as redis, stores(redis, timeout_s=0.1) as (store,):
        await store.put([item("a")], 0.0)
        redis.freeze()
        with pytest.raises(CacheStoreError, match="purge again"):
            await store.purge(CacheFilter(), 0.0)
        redis.thaw()
        with anyio.fail_after(10):
            while await store.get(["a"], 0.0) != [b"x"]:
                await anyio.sleep(0.05)
        assert await store.purge(CacheFilter(), 0.0) == 1


async def test_a_purge_misses_nothing_that_is_used_meanwhile() -> None:
    entries = 1500
    keys = [f"k{number}" for number in range(entries)]
    async with redis_server() as redis, stores(redis, 2, max_bytes=10_000_000, timeout_s=2) as (store, other):
        await store.put([item(key) for key in keys], 0.0)
        async with anyio.create_task_group() as tasks:

            async def use() -> None:
                while True:
                    for begin in range(0, entries, 50):
                        await other.get(keys[begin : begin + 50], 0.0)

            tasks.start_soon(use)
            await other.get(keys[:50], 0.0)
            assert await store.purge(CacheFilter(tenant="acme"), time.monotonic()) == entries
            tasks.cancel_scope.cancel()
        assert await store.get(keys, 0.0) == [None] * entries


# -- routers over it -------------------------------------------------------------------------------------------------


def plan(redis: RedisServer, *, caches: bool = True) -> Blueprint:
    made = blueprint(stage(0))
    chain = made.chains["generate"]
    task = changed(declared_task("kept", chain), temperature=0.0, definition_hash="definition", cache=TaskCacheConfig())
    config = changed(made.config, shared=SharedConfig(redis=RedisConfig(url=redis.url), caches=caches))
    return replace(made, tasks={"kept": task}, config=config)


def ask() -> Request:
    return request("Why?", task_id="kept", kind=None)


@asynccontextmanager
async def process(made: Blueprint, text: str) -> AsyncGenerator[tuple[Router, ScriptedProvider]]:
    provider = ScriptedProvider([says(text)])
    async with cache_stores_of(made) as found:
        router = Router(made, providers={"p0": provider}, stores=found, seed=1)
        async with router:
            yield router, provider


async def test_another_process_finds_the_answer_and_the_vectors() -> None:
    embed = EmbedRequest(request_id="r", tenant="default", task=Task(id="index"), inputs=("a", "bb"))
    async with redis_server() as redis:
        made = plan(redis)
        async with process(made, "One.") as (one, _), process(made, "Two.") as (two, theirs):
            first, again = await one.route(ask()), await two.route(ask())
            assert again.text == first.text == "One." and again.completion.cached
            theirs.scripts = [Script(vectors=((9.0, 9.0, 9.0),) * 2)]
            assert (await one.embed(embed)).embeddings == (await two.embed(embed)).embeddings
            assert not theirs.calls and not theirs.embed_calls
            assert await two.state.caches.purge("", CacheFilter(), time.monotonic()) == 3
            assert not (await one.route(ask())).completion.cached


async def test_calls_go_on_while_redis_is_away() -> None:
    async with redis_server() as redis, process(plan(redis), "One.") as (router, provider):
        redis.kill()
        for _ in range(3):
            assert (await router.route(ask())).text == "One."
        assert len(provider.calls) == 3


async def test_caches_stay_in_the_process_where_the_configuration_says_so() -> None:
    async with redis_server() as redis, cache_stores_of(plan(redis, caches=False)) as found:
        assert found is None
