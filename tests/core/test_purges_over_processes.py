"""A purge at one process reaches what another is making at that moment: it is given to who waits, and not kept."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from gearshift.core.answer import Answer
from gearshift.core.blueprint import Blueprint
from gearshift.core.cache.store import CacheFilter, CacheItem
from gearshift.core.config.model import RedisConfig, SharedConfig, TaskCacheConfig
from gearshift.core.opening import cache_stores_of
from gearshift.core.request import EmbedRequest, Task
from gearshift.core.router import Router
from gearshift.core.shared.caches import RedisCacheStore
from gearshift.core.shared.connection import RedisConnection
from tests.support.blueprints import blueprint, declared_task, stage
from tests.support.changed import changed
from tests.support.engine import request
from tests.support.redis_server import RedisServer, redis_server
from tests.support.scripted_provider import Script, ScriptedProvider, says

BOUND_S = 10.0


def plan(redis: RedisServer) -> Blueprint:
    made = blueprint(stage(0))
    chain = made.chains["generate"]
    task = changed(declared_task("kept", chain), temperature=0.0, definition_hash="definition", cache=TaskCacheConfig())
    shared = SharedConfig(redis=RedisConfig(url=redis.url, timeout_s=2.0))
    return replace(made, tasks={"kept": task}, config=changed(made.config, shared=shared))


@asynccontextmanager
async def process(made: Blueprint, script: Script) -> AsyncGenerator[tuple[Router, ScriptedProvider]]:
    provider = ScriptedProvider([script])
    async with (
        cache_stores_of(made) as stores,
        Router(made, providers={"p0": provider}, stores=stores, seed=1) as router,
    ):
        yield router, provider


@asynccontextmanager
async def stores(redis: RedisServer, count: int) -> AsyncGenerator[list[RedisCacheStore]]:
    config = RedisConfig(url=redis.url)
    connections = [RedisConnection(config) for _ in range(count)]
    try:
        yield [RedisCacheStore(each, config.prefix, "response", 1_000_000) for each in connections]
    finally:
        for each in connections:
            await each.aclose()


def item(mark: int, *, key: str = "a", tenant: str = "acme", task: str = "faq") -> CacheItem:
    return CacheItem(key=key, tenant=tenant, task_id=task, generation="1", value=b"x", ttl_s=60, mark=mark)


@pytest.mark.parametrize(
    ("chosen", "is_kept"),
    [
        (CacheFilter(), False),
        (CacheFilter(tenant="acme"), False),
        (CacheFilter(task_id="faq"), False),
        (CacheFilter(key="a"), False),
        (CacheFilter(tenant="acme", task_id="faq", key="a"), False),
        (CacheFilter(tenant="beta"), True),
        (CacheFilter(tenant="acme", task_id="slogans"), True),
        (CacheFilter(key="b"), True),
        (CacheFilter(min_age_s=5), True),
    ],
)
async def test_what_was_begun_before_a_purge_of_it_is_refused(chosen: CacheFilter, is_kept: bool) -> None:
    async with redis_server() as redis, stores(redis, 2) as (writer, other):
        await writer.get(["a"], 0.0)
        begun = writer.mark
        await other.purge(chosen, time.monotonic())
        assert await writer.put([item(begun)], 0.0) == is_kept
        assert (await other.get(["a"], 0.0) == [b"x"]) == is_kept
        # What begins now is kept.
        await writer.get(["a"], 0.0)
        assert await writer.put([item(writer.mark)], 0.0) == 1


async def test_what_was_begun_before_redis_lost_its_purges_is_refused() -> None:
    async with redis_server() as redis, stores(redis, 2) as (writer, other):
        assert await writer.put([item(writer.mark)], 0.0) == 0, "begun before the store was asked"
        await writer.get(["a"], 0.0)
        begun = writer.mark
        await other.purge(CacheFilter(), 0.0)
        await redis.restart()
        with anyio.fail_after(BOUND_S):
            while await other.purged_since(0) is None:
                await anyio.sleep(0.05)
        with anyio.fail_after(BOUND_S):
            while await writer.purged_since(0) is None:
                await anyio.sleep(0.05)
        assert await writer.put([item(begun)], 0.0) == 0
        assert await other.get(["a"], 0.0) == [None]


async def test_purges_that_are_remembered_are_bounded_and_none_is_forgotten() -> None:
    async with redis_server() as redis, stores(redis, 2) as (writer, other):
        await writer.get(["a"], 0.0)
        begun = writer.mark
        await other.remove("acme", "a")
        for number in range(1100):
            await other.remove("acme", f"k{number}")
        purged = await writer.purged_since(begun)
        assert purged is not None and len(purged.scopes) < 1000
        assert purged.begins_at <= begun < purged.mark
        assert await writer.put([item(begun)], 0.0) == 0
        assert all(0 < left for left in (await redis.ttls()).values()), "every key has a time to live"


async def test_answer_that_another_process_is_making_is_given_and_not_kept() -> None:
    gate = anyio.Event()
    async with redis_server() as redis:
        made = plan(redis)
        async with (
            process(made, changed(says("Old."), waits_for=gate)) as (one, provider),
            process(made, says("New.")) as (other, theirs),
        ):
            answers: list[Answer] = []

            async def ask() -> None:
                answers.append(await one.route(request("Why?", task_id="kept", kind=None)))

            with anyio.fail_after(BOUND_S):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask)
                    while not provider.calls:
                        await anyio.sleep(0.01)
                    assert await other.state.caches.purge("", CacheFilter(task_id="kept"), time.monotonic()) == 0
                    gate.set()
            assert [answer.text for answer in answers] == ["Old."]
            for router in (other, one):
                found = await router.route(request("Why?", task_id="kept", kind=None))
                assert found.text == "New."
            assert len(provider.calls) == len(theirs.calls) == 1


async def test_answer_that_was_made_during_a_purge_of_others_is_kept() -> None:
    gate = anyio.Event()
    async with redis_server() as redis:
        made = plan(redis)
        async with (
            process(made, changed(says("Old."), waits_for=gate)) as (one, provider),
            process(made, says("New.")) as (other, theirs),
        ):
            with anyio.fail_after(BOUND_S):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(one.route, request("Why?", task_id="kept", kind=None))
                    while not provider.calls:
                        await anyio.sleep(0.01)
                    await other.state.caches.purge("", CacheFilter(tenant="somebody"), time.monotonic())
                    gate.set()
            assert (await other.route(request("Why?", task_id="kept", kind=None))).text == "Old."
            assert not theirs.calls


async def test_vectors_that_another_process_is_making_are_given_and_not_kept() -> None:
    gate = anyio.Event()
    embed = EmbedRequest(request_id="r", tenant="default", task=Task(id="index"), inputs=("a", "bb"))
    old, new = ((1.0, 1.0, 1.0),) * 2, ((2.0, 2.0, 2.0),) * 2
    async with redis_server() as redis:
        made = plan(redis)
        async with (
            process(made, Script(vectors=old, waits_for=gate)) as (one, provider),
            process(made, Script(vectors=new)) as (other, theirs),
        ):
            with anyio.fail_after(BOUND_S):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(one.embed, embed)
                    while not provider.embed_calls:
                        await anyio.sleep(0.01)
                    await other.state.caches.purge("embedding", CacheFilter(), time.monotonic())
                    gate.set()
            assert (await other.embed(embed)).embeddings == new
            assert (await one.embed(embed)).embeddings == new
            assert len(provider.embed_calls) == len(theirs.embed_calls) == 1
