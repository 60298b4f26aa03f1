"""Stored prompts in a real Redis: known to every process that shares it, never to another tenant, deleted and purged everywhere."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import msgspec
import pytest

from gearshift.core.blueprint import Blueprint
from gearshift.core.cache.prompts import SharedPrompts
from gearshift.core.cache.store import CacheFilter, CacheItem
from gearshift.core.config.model import CachingConfig, RedisConfig, SharedConfig
from gearshift.core.errors import CacheStoreError, PromptNotCachedError, RouteError
from gearshift.core.events import Completed
from gearshift.core.opening import cache_stores_of
from gearshift.core.promptcache import prompt_key
from gearshift.core.request import Request, SystemPrompt
from gearshift.core.router import Router
from gearshift.core.shared.caches import RedisCacheStore
from gearshift.core.shared.connection import RedisConnection
from gearshift.core.words import Sensitivity
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import request
from tests.support.redis_server import RedisServer, redis_server
from tests.support.scripted_provider import ScriptedProvider, says

TEXT = "You answer with care, in a few words, and never what nobody asked. " * 20
OTHER = "You mend clocks, and nothing else; whoever brings a watch is sent away kindly. " * 20
BOUND_S = 10.0


def plan(redis: RedisServer, *, timeout_s: float = 0.25, ttl_minutes: float = 60.0) -> Blueprint:
    made = blueprint(stage(0))
    shared = SharedConfig(redis=RedisConfig(url=redis.url, timeout_s=timeout_s))
    caching = CachingConfig(ttl_minutes=ttl_minutes)
    return replace(made, config=changed(made.config, shared=shared, caching=caching))


@asynccontextmanager
async def process(made: Blueprint) -> AsyncGenerator[Router]:
    """Run a router as one of several processes has it."""
    providers = {"p0": ScriptedProvider([says("hi")])}
    async with cache_stores_of(made) as stores, Router(made, providers=providers, stores=stores, seed=1) as router:
        yield router


@asynccontextmanager
async def two(redis: RedisServer) -> AsyncGenerator[tuple[Router, Router]]:
    made = plan(redis)
    async with process(made) as one, process(made) as other:
        yield one, other


def by_key(key: str, *, tenant: str = "default") -> Request:
    return request(tenant=tenant, system=SystemPrompt(key=key))


async def is_known(router: Router, key: str, *, tenant: str = "default") -> bool:
    try:
        await router.route(by_key(key, tenant=tenant))
    except PromptNotCachedError:
        return False
    return True


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(BOUND_S):
        while not condition():
            await anyio.sleep(0.02)


async def in_redis(router: Router) -> set[str]:
    assert router.state.shared_prompts is not None
    return {each.key for each in await router.state.shared_prompts.entries(time.monotonic())}


async def until_in_redis(router: Router, *keys: str) -> None:
    with anyio.fail_after(BOUND_S):
        while await in_redis(router) != set(keys):
            await anyio.sleep(0.02)


async def test_prompt_put_at_one_process_is_known_at_another_at_once() -> None:
    async with redis_server() as redis, two(redis) as (one, other):
        key = await one.store_prompt("default", "task", TEXT)
        assert (await other.route(by_key(key))).completion.prompt_key == key
        assert other.state.prompts.entry("default", key, time.monotonic()) is not None, "asked for once only"
        events = [event async for batch in one.stream(by_key(key)) for event in batch]
        assert isinstance(events[-1], Completed)
        assert all(0 < left for left in (await redis.ttls()).values()), "every key has a time to live"


async def test_stream_shared_call_and_explanation_find_it_too() -> None:
    async with redis_server() as redis, process(plan(redis)) as one:
        key = await one.store_prompt("default", "task", TEXT)
        async with process(plan(redis)) as other:
            events = [event async for batch in other.stream(by_key(key)) for event in batch]
            assert isinstance(events[-1], Completed)
        async with process(plan(redis)) as other:
            assert (await other.route(by_key(key), joinable=True)).text == "hi"
        async with process(plan(redis)) as other:
            joined = [event async for batch in other.stream(by_key(key), joinable=True) for event in batch]
            assert isinstance(joined[-1], Completed)
        async with process(plan(redis)) as other:
            await other.find_prompt(by_key(key))
            assert other.explain(by_key(key)).call.prompt_key == key


async def test_prompt_kept_on_first_use_is_known_at_another() -> None:
    async with redis_server() as redis, two(redis) as (one, other):
        key = (await one.route(request(system=SystemPrompt(text=TEXT, static=True)))).completion.prompt_key
        await until_in_redis(one, key)
        assert await is_known(other, key)


async def test_many_look_ups_of_one_key_are_one() -> None:
    async with redis_server() as redis, two(redis) as (one, other):
        key = await one.store_prompt("default", "task", TEXT)
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(other.route, by_key(key))
        assert other.state.shared_prompts is not None
        async with stored_by_hand(redis) as store:
            (entry,) = await store.entries(0.0)
        assert entry.hits == 1


@asynccontextmanager
async def stored_by_hand(redis: RedisServer) -> AsyncGenerator[RedisCacheStore]:
    config = RedisConfig(url=redis.url)
    connection = RedisConnection(config)
    try:
        yield RedisCacheStore(connection, config.prefix, "prompt", 1_000_000)
    finally:
        await connection.aclose()


async def test_no_other_tenant_gets_it_or_deletes_it() -> None:
    async with redis_server() as redis, two(redis) as (one, other):
        key = await one.store_prompt("acme", "task", TEXT)
        assert not await is_known(other, key, tenant="beta")
        assert not await other.forget_prompt("beta", key)
        assert await in_redis(other) == {key}
        assert await is_known(other, key, tenant="acme")


@pytest.mark.parametrize("tenant", ["acme", "beta"])
async def test_what_stands_under_a_wrong_key_is_not_believed(tenant: str) -> None:
    key = prompt_key("acme", "task", TEXT)
    async with redis_server() as redis, process(plan(redis)) as router, stored_by_hand(redis) as store:
        for value in (msgspec.msgpack.encode((tenant, "task", "task", OTHER)), b"\xc1", b""):
            item = CacheItem(key=key, tenant="acme", task_id="task", generation="", value=value, ttl_s=60)
            assert await store.put([item], 0.0) == 1
            assert not await is_known(router, key, tenant="acme")
            assert router.state.prompts.counts().entries == 0, "nothing of it is kept here"


async def test_key_that_is_none_is_not_asked_for() -> None:
    async with redis_server() as redis, process(plan(redis)) as router:
        assert isinstance(router.state.shared_prompts, SharedPrompts)
        for key in ("x", "*", "a" * 33, "A" * 32, "\0" * 32):
            assert not await is_known(router, key)
            assert not await router.forget_prompt("default", key)
        assert await redis.ttls() == {}, "nothing was asked"


async def test_restricted_prompt_is_never_stored() -> None:
    async with redis_server() as redis, process(plan(redis)) as router:
        restricted = request(system=SystemPrompt(text=TEXT, static=True), sensitivity=Sensitivity.RESTRICTED)
        try:
            await router.route(restricted)
        except RouteError as error:
            assert error.reason == "NO_STAGE"
        assert router.state.shared_prompts is not None
        await router.state.shared_prompts.catch_up()
        key = await router.store_prompt("default", "task", OTHER)
        assert await in_redis(router) == {key}


async def test_deleted_prompt_is_forgotten_by_every_process() -> None:
    async with redis_server() as redis, two(redis) as (one, other):
        key, left = [await one.store_prompt("default", "task", text) for text in (TEXT, OTHER)]
        assert await is_known(other, key) and await is_known(other, left)
        assert await other.forget_prompt("default", key)
        assert not await other.forget_prompt("default", key)
        assert not await is_known(other, key)
        await until(lambda: one.state.prompts.entry("default", key, time.monotonic()) is None)
        assert not await is_known(one, key)
        assert await is_known(one, left) and await is_known(other, left)
        # Stored anew it is known again, whoever had deleted it.
        assert await one.store_prompt("default", "task", TEXT) == key
        assert await is_known(other, key)
        await one.state.shared_prompts.catch_up()  # type: ignore[union-attr]
        assert await is_known(one, key)


async def test_purge_is_of_redis_and_of_every_process_and_within_its_scope() -> None:
    async with redis_server() as redis, two(redis) as (one, other):
        key = await one.store_prompt("acme", "task", TEXT)
        left = await one.store_prompt("beta", "task", TEXT)
        assert await is_known(other, key, tenant="acme") and await is_known(other, left, tenant="beta")
        listed = await other.state.caches.entries("prompt", CacheFilter(), time.monotonic())
        assert {(each.key, each.tenant, each.task_id) for each in listed} == {
            (key, "acme", "task"),
            (left, "beta", "task"),
        }
        assert all(0 < each.expires_in_s <= 3600 and 0 <= each.age_s < 60 for each in listed)
        assert await other.state.caches.purge("prompt", CacheFilter(tenant="acme"), time.monotonic()) == 1
        await until(lambda: one.state.prompts.entry("acme", key, time.monotonic()) is None)
        assert not await is_known(one, key, tenant="acme") and not await is_known(other, key, tenant="acme")
        assert await is_known(one, left, tenant="beta")
        assert await one.state.caches.purge("", CacheFilter(min_age_s=3600), time.monotonic()) == 0
        assert await is_known(other, left, tenant="beta")
        assert await one.state.caches.purge("", CacheFilter(), time.monotonic()) == 1
        assert await in_redis(one) == set()


async def test_listing_shows_what_only_another_process_has_used() -> None:
    async with redis_server() as redis, two(redis) as (one, other):
        key = await one.store_prompt("default", "task", TEXT)
        (entry,) = await other.state.caches.entries("", CacheFilter(), time.monotonic())
        assert (entry.cache, entry.key, entry.hits) == ("prompt", key, 0)


async def test_prompt_lives_for_its_time_since_its_last_use_anywhere() -> None:
    async with redis_server() as redis:
        made = plan(redis, ttl_minutes=0.02)
        async with process(made) as one, process(made) as other:
            key = await one.store_prompt("default", "task", TEXT)
            ends = time.monotonic() + 2.0
            while time.monotonic() < ends:  # beyond its time to live
                assert await is_known(one, key)
                await anyio.sleep(0.05)
            assert await is_known(other, key)
            with anyio.fail_after(BOUND_S):
                while await in_redis(one):
                    await anyio.sleep(0.1)
            assert not await is_known(one, key) and not await is_known(other, key)


async def test_redis_that_hangs_or_is_gone_costs_no_known_prompt_anything() -> None:
    async with redis_server() as redis, process(plan(redis, timeout_s=0.1)) as router:
        key = await router.store_prompt("default", "task", TEXT)
        redis.freeze()
        assert not await is_known(router, "0" * 32)
        began = time.monotonic()
        for number in range(50):
            assert await is_known(router, key)
            assert not await is_known(router, f"{number:032x}")
        assert time.monotonic() - began < 0.5, "it is left alone for a while"
        again = await router.store_prompt("default", "task", OTHER)
        assert await is_known(router, again)
        with pytest.raises(CacheStoreError, match="delete it again"):
            await router.forget_prompt("default", key)
        assert router.state.prompts.entry("default", key, time.monotonic()) is None
        redis.thaw()
        with anyio.fail_after(BOUND_S):
            while again not in await in_redis(router):
                await anyio.sleep(0.05)


async def test_redis_that_lost_everything_is_told_again() -> None:
    async with redis_server() as redis, two(redis) as (one, other):
        key = await one.store_prompt("default", "task", TEXT)
        await redis.restart()
        await until_in_redis(one, key)
        assert await is_known(one, key) and await is_known(other, key)
