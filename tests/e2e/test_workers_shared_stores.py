"""Workers over a real Redis and a real PostgreSQL: one limit, one breaker, one cache and one ledger for all of them."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import grpc
import grpc.aio
import pytest

from gearshift.v1 import ops_pb2, ops_pb2_grpc, router_pb2, router_pb2_grpc
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.redis_server import RedisServer, redis_server
from tests.support.running_server import failure_of, plain_call
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai
from tests.support.served_process import START_S, ServedProcess, served
from tests.support.worker_team import calling, kill, one_channel_each, status, until_serving

OK = Reply.json(openai_answer("hello there"))
CALLERS = 1000
MORE = """
shared: {{redis: {{url: "{redis}", slow_s: 2, timeout_s: 2}}, processes: 2}}
ledger: {{url: "{postgres}", durability: {durability}}}
server: {{grace_s: 10, max_calls: 4096}}
stream: {{hold_back_tokens: 0, hold_back_ms: 0}}
tasks:
  declared:
    hundred: {{type: generate, limits: {{requests_per_minute: 0.06944444444, burst_s: 86400}}}}
    faq: {{type: generate, temperature: 0, cache: {{ttl_minutes: 5}}}}
"""
"""`hundred` holds a hundred calls and next to no refill."""


@pytest.fixture(scope="module")
def database() -> Generator[PostgresServer]:
    with postgres_server() as server:
        yield server


@asynccontextmanager
async def shared_team(
    folder: Path, upstream: str, database: PostgresServer, name: str, durability: str = "async"
) -> AsyncGenerator[tuple[ServedProcess, RedisServer]]:
    """Serve with two workers, over an empty Redis and an empty database; wait until both reach Redis and know of each other."""
    await anyio.to_thread.run_sync(database.run, f"CREATE DATABASE {name}", "postgres")
    async with redis_server() as redis:
        more = MORE.format(redis=redis.url, postgres=database.url_of(name), durability=durability)
        path = folder / "gearshift.yaml"
        path.write_text(one_openai(upstream, more=more))
        async with served(path, "--workers", "2") as process:
            async with one_channel_each(process.address) as channels:
                for made in channels:
                    await until_shared(made)
            yield process, redis


async def until_shared(made: grpc.aio.Channel) -> None:
    """Wait until the worker at the end of a channel reaches the store and has counted two processes."""
    ops = ops_pb2_grpc.OpsServiceStub(made)
    with anyio.fail_after(START_S):
        while True:
            shared = (await ops.GetStatus(ops_pb2.GetStatusRequest())).shared
            if shared.state == "up" and shared.processes == 2:
                return
            await anyio.sleep(0.05)


async def told(made: grpc.aio.Channel, task: str) -> str:
    """Call; give `answered`, `cached`, or the reason of a refusal."""
    request = router_pb2.RouteRequest(call=plain_call(task_id=task))
    try:
        answer = (await router_pb2_grpc.RouterServiceStub(made).Route(request, timeout=START_S)).answer
    except grpc.aio.AioRpcError as error:
        return failure_of(error).reason or str(error)
    return "cached" if answer.completion.cached else "answered"


async def all_at_once(channels: Sequence[grpc.aio.Channel], task: str, calls: int) -> Counter[str]:
    """Make so many calls at once, over all channels in turn."""
    found = Counter[str]()

    async def one(made: grpc.aio.Channel) -> None:
        found[await told(made, task)] += 1

    async with anyio.create_task_group() as tasks:
        for number in range(calls):
            tasks.start_soon(one, channels[number % len(channels)])
    return found


async def rows(database: PostgresServer, name: str, where: str = "true") -> tuple[int, int, int]:
    """Give how many rows there are, of how many calls, by how many writers."""
    columns = "COUNT(*), COUNT(DISTINCT request_id), COUNT(DISTINCT id >> 40)"
    told = await anyio.to_thread.run_sync(database.run, f"SELECT {columns} FROM attempts WHERE {where}", name)
    attempts, calls, writers = map(int, told.split("|"))
    return attempts, calls, writers


async def until_written(process: ServedProcess) -> None:
    """Wait until no worker has a row that waits."""
    with anyio.fail_after(START_S):
        while (await status(process.address)).ledger_pending:
            await anyio.sleep(0.02)


async def test_thousand_callers_of_a_bucket_of_a_hundred_over_two_workers(
    tmp_path: Path, database: PostgresServer
) -> None:
    async with scripted(OK) as upstream, shared_team(tmp_path, upstream.url, database, "limits") as (process, _):
        async with one_channel_each(process.address) as channels:
            assert await all_at_once(channels, "hundred", CALLERS) == {"answered": 100, "RATE_LIMITED": CALLERS - 100}
        assert len(upstream.requests) == 100
        await until_written(process)
        attempts, calls, writers = await rows(database, "limits")
        assert (attempts, calls) == (100, 100)
        assert writers == 2  # both took part
        process.send(signal.SIGTERM)
        assert await process.wait() == 0
        assert await rows(database, "limits") == (100, 100, 2)
    assert "Traceback" not in process.said


async def test_answer_that_one_worker_keeps_is_found_and_purged_on_the_other(
    tmp_path: Path, database: PostgresServer
) -> None:
    async with (
        scripted(OK) as upstream,
        shared_team(tmp_path, upstream.url, database, "answers") as (process, _),
        one_channel_each(process.address) as channels,
    ):
        first, second = channels
        assert [await told(made, "faq") for made in (first, second, second)] == ["answered", "cached", "cached"]
        assert len(upstream.requests) == 1
        ops = ops_pb2_grpc.OpsServiceStub(second)
        listed = (await ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest())).entries
        assert [(each.task_id, each.hits) for each in listed] == [("faq", 2)]
        faq = ops_pb2.CacheFilter(task_id="faq")
        assert (await ops.PurgeCache(ops_pb2.PurgeCacheRequest(filter=faq))).purged == 1
        assert [await told(made, "faq") for made in (first, second)] == ["answered", "cached"]
        await until_written(process)
        assert (await rows(database, "answers"))[:2] == (2, 2)


async def test_prompt_that_one_worker_keeps_is_known_listed_and_deleted_on_the_other(
    tmp_path: Path, database: PostgresServer
) -> None:
    async with (
        scripted(OK, OK) as upstream,
        shared_team(tmp_path, upstream.url, database, "prompts") as (process, _),
        one_channel_each(process.address) as channels,
    ):
        first, second = map(router_pb2_grpc.RouterServiceStub, channels)
        text = "You answer with care, in a few words, and never what nobody asked. " * 20
        key = (await first.PutPrompt(router_pb2.PutPromptRequest(task_id="greet", text=text))).key
        asked = router_pb2.RouteRequest(call=plain_call(task_id="greet"))
        asked.call.system.key = key
        for stub in (second, first):
            assert (await stub.Route(asked, timeout=START_S)).answer.completion.prompt_key == key
        listed = ops_pb2.ListCacheEntriesRequest(filter=ops_pb2.CacheFilter(cache="prompt"))
        (entry,) = (await ops_pb2_grpc.OpsServiceStub(channels[1]).ListCacheEntries(listed)).entries
        assert (entry.key, entry.task_id) == (key, "greet")
        assert (await second.DeletePrompt(router_pb2.DeletePromptRequest(key=key))).deleted
        assert not (await first.DeletePrompt(router_pb2.DeletePromptRequest(key=key))).deleted
        for stub in (first, second):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Route(asked, timeout=START_S)
            assert failure_of(caught.value).reason == "PROMPT_NOT_CACHED"


async def test_thousand_equal_calls_over_two_workers_are_one_upstream(tmp_path: Path, database: PostgresServer) -> None:
    answered = asyncio.Event()
    slow = Reply(headers={"content-type": "application/json"}, pieces=(answered, *OK.pieces), framing="chunked")
    async with (
        scripted(slow, slow) as upstream,
        shared_team(tmp_path, upstream.url, database, "crowds") as (process, _),
        one_channel_each(process.address) as channels,
    ):
        found = Counter[str]()
        async with anyio.create_task_group() as tasks:

            async def crowd() -> None:
                found.update(await all_at_once(channels, "faq", CALLERS))

            tasks.start_soon(crowd)
            with anyio.fail_after(START_S):
                await upstream.asked.wait()
            answered.set()
        assert sum(found.values()) == found["answered"] + found["cached"] == CALLERS
        assert found["cached"] >= CALLERS / 4  # all those of the worker that did not make it
        assert len(upstream.requests) == 1
        await until_written(process)
        assert (await rows(database, "crowds"))[:2] == (1, 1)


async def test_breaker_that_opens_on_one_worker_is_open_on_the_other(tmp_path: Path, database: PostgresServer) -> None:
    # What opens for a rate limit is not asked before its time, though a call has nowhere else to go.
    broken = Reply.json({"error": {"message": "no"}}, status=429)
    async with (
        scripted(broken) as upstream,
        shared_team(tmp_path, upstream.url, database, "breakers") as (process, _),
        one_channel_each(process.address) as channels,
    ):
        first, second = channels
        for _ in range(5):
            assert await told(first, "greet") == "CHAIN_EXHAUSTED"
        explained = router_pb2.ExplainRequest(call=plain_call())
        with anyio.fail_after(START_S):  # the other looks five times a second
            while (await router_pb2_grpc.RouterServiceStub(second).Explain(explained)).stages[0].breaker != "open":
                await anyio.sleep(0.02)
        for made in (second, first):
            assert await told(made, "greet") == "CHAIN_EXHAUSTED"
        assert len(upstream.requests) == 5


async def test_worker_killed_under_load_comes_back_and_no_row_is_twice(
    tmp_path: Path, database: PostgresServer
) -> None:
    async with (
        scripted(*[OK] * 100_000) as upstream,
        shared_team(tmp_path, upstream.url, database, "kills", "sync") as (process, _),
    ):
        async with one_channel_each(process.address) as channels:
            for made in channels:
                assert await told(made, "greet") == "answered"
        async with calling(process.address, clients=6) as load:
            await load.more(100)
            before = await status(process.address)
            kill(before.workers[1].pid)
            after = await until_serving(process.address, restarts=1)
            await load.more(100)
        assert after.workers[1].restarts == 1, process.said
        assert after.workers[0].pid == before.workers[0].pid
        assert "SIGKILL" in after.workers[1].last_error
        async with one_channel_each(process.address) as channels:
            for made in channels:
                await until_shared(made)
            # Its limits are where they were, and the new one counts with them.
            assert (await all_at_once(channels, "hundred", 150))["answered"] == 100
        process.send(signal.SIGTERM)
        assert await process.wait() == 0
        written, calls, writers = await rows(database, "kills", "outcome = 'accepted'")
        assert written == calls
        assert writers == 3  # the killed one was another writer than its successor
        # A call whose row was written may have lost its answer with its worker, never the other way round.
        answered = load.answered + 2 + 100
        assert answered <= written <= answered + 24 * 4
        duplicates = "SELECT COUNT(*) - COUNT(DISTINCT id) FROM attempts"
        assert await anyio.to_thread.run_sync(database.run, duplicates, "kills") == "0"
    assert "Traceback" not in process.said


async def test_stop_drains_within_the_grace_and_every_row_is_in_postgresql(
    tmp_path: Path, database: PostgresServer
) -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    slow = Reply.sse(*frames[:2], going_on, *frames[2:])
    async with (
        scripted(slow, slow) as upstream,
        shared_team(tmp_path, upstream.url, database, "drains") as (process, _),
        one_channel_each(process.address) as channels,
    ):
        request = router_pb2.StreamRouteRequest(call=plain_call())
        streams = [router_pb2_grpc.RouterServiceStub(made).StreamRoute(request) for made in channels]
        events: list[list[object]] = [[], []]
        with anyio.fail_after(START_S):
            for number, stream in enumerate(streams):
                while not any(re.search("one", str(event)) for event in events[number]):
                    each = await stream.read()
                    assert isinstance(each, router_pb2.StreamRouteResponse)
                    events[number] += each.events
        process.send(signal.SIGTERM)
        began = time.monotonic()
        await process.says("stopping")
        going_on.set()
        for number, stream in enumerate(streams):
            with anyio.fail_after(START_S):
                while isinstance(each := await stream.read(), router_pb2.StreamRouteResponse):
                    events[number] += each.events
            assert "completed" in str(events[number][-1])
        assert await process.wait() == 0
        assert time.monotonic() - began < 10
        assert await rows(database, "drains", "outcome = 'accepted'") == (2, 2, 2)
    assert "Traceback" not in process.said
