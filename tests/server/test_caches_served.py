"""The caches through the real service: one upstream call for a thousand, listed, purged, counted, and nobody else's."""

from __future__ import annotations

import hashlib
import secrets

import anyio
import grpc
import grpc.aio
import httpx
import pytest

from gearshift.core.blueprint import Blueprint
from gearshift.server.simulator import parse_plan, running_simulator
from gearshift.v1 import answer_pb2, call_pb2, ops_pb2, router_pb2, task_pb2
from tests.support.openai_bodies import openai_stream
from tests.support.running_server import RunningServer, events_of, from_yaml, running_server
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai

PLAN = """
version: 1
providers:
  up:
    wire: openai
    models: {m: {prices: {input_usd: 1, output_usd: 2}}}
    latency: {first_token_ms: 300}
"""
KEPT = """
caching: {embedding_merge_ms: 50}
tasks:
  declared:
    faq: {type: generate, temperature: 0, cache: {ttl_minutes: 5}}
    news: {type: generate, temperature: 0, cache: {}}
"""


def ask(prompt: str = "What is a gearbox?", task_id: str = "faq", **fields: object) -> call_pb2.Call:
    return call_pb2.Call(task=task_pb2.Task(id=task_id), prompt=prompt, **fields)  # type: ignore[arg-type]


async def test_a_thousand_equal_calls_make_one_upstream_call() -> None:
    async with running_simulator(parse_plan(PLAN)) as simulator:
        config = one_openai(simulator.base_urls["up"].removesuffix("/v1"), more=KEPT).replace("m-up", "m")
        async with running_server(config) as server:
            answers: list[answer_pb2.Answer] = []

            async def route() -> None:
                answers.append((await server.route(ask(), timeout=30)).answer)

            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:
                    for _ in range(1000):
                        tasks.start_soon(route)
            assert simulator.account.total.requests == 1
            assert len({answer.text for answer in answers}) == 1
            assert len({answer.request_id for answer in answers}) == 1000
            paid = [answer for answer in answers if answer.completion.cost.total_usd not in ("0", "")]
            assert len(paid) == 1
            await server.app.ledger.flush()
            report = (await server.ops.GetCostReport(ops_pb2.GetCostReportRequest())).total
            assert (report.attempts, report.cost_usd) == (1, paid[0].completion.cost.total_usd)
            counts = server.app.router.state.caches
            assert counts.shared()["response"] + counts.counts()["response"].hits == 999


async def test_two_hundred_equal_streams_make_one_upstream_call() -> None:
    async with running_simulator(parse_plan(PLAN)) as simulator:
        config = one_openai(simulator.base_urls["up"].removesuffix("/v1"), more=KEPT).replace("m-up", "m")
        async with running_server(config) as server:
            digests: set[str] = set()

            async def stream() -> None:
                events = await server.stream(ask(), timeout=30)
                text = "".join(part.text for delta in events_of(events, "delta") for part in delta.parts)
                done = events[-1].completed.completion
                assert hashlib.sha256(text.encode()).hexdigest() == done.digest
                digests.add(done.digest)

            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:
                    for _ in range(200):
                        tasks.start_soon(stream)
            assert simulator.account.total.requests == 1
            assert len(digests) == 1


async def test_a_hit_is_told_counted_and_logged_as_one() -> None:
    async with (
        scripted(Reply.json(_completion("A box."))) as upstream,
        running_server(from_yaml(one_openai(upstream.url, more=KEPT))) as server,
    ):
        first = (await server.route(ask())).answer.completion
        again = (await server.route(ask())).answer.completion
        events = await server.stream(ask())
        assert len(upstream.requests) == 1
        assert not first.cached and again.cached
        assert again.cost.saved_usd == first.cost.total_usd
        assert again.cost.total_usd == "0"
        assert events[0].started.cached and events[-1].completed.completion.cached
        assert [delta.number for delta in events_of(events, "delta")] == [1]
        text = await _metrics(server)
        assert 'gearshift_cache_hits_total{cache="response"} 2.0' in text
        assert 'gearshift_cache_misses_total{cache="response"} 1.0' in text
        assert 'gearshift_cache_entries{cache="response"} 1.0' in text
        assert 'gearshift_calls_total{outcome="accepted",stream="false",task="faq",task_type="generate"} 2.0' in text
        await server.app.ledger.flush()
        assert (await server.ops.GetCostReport(ops_pb2.GetCostReportRequest())).total.attempts == 1


async def test_entries_of_all_caches_are_listed_and_purged_by_what_is_chosen() -> None:
    embedded = Reply.json(
        {"data": [{"index": 0, "embedding": [1, 2]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    )
    async with (
        scripted(Reply.json(_completion("A box.")), Reply.json(_completion("Rain.")), embedded) as upstream,
        running_server(one_openai(upstream.url, more=KEPT)) as server,
    ):
        await server.route(ask())
        await server.route(ask(task_id="news"))
        embed = router_pb2.EmbedRequest(task=task_pb2.Task(id="index"), inputs=["a"])
        await server.router.Embed(embed)
        assert (await server.router.Embed(embed)).completion.cached
        put = router_pb2.PutPromptRequest(task_id="faq", text="Be short. " * 80, static=True)
        await server.router.PutPrompt(put)
        listed = await server.ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest())
        assert sorted((entry.cache, entry.task_id) for entry in listed.entries) == [
            ("embedding", "index"),
            ("prompt", "faq"),
            ("response", "faq"),
            ("response", "news"),
        ]
        assert {entry.tenant for entry in listed.entries} == {"default"}
        assert listed.entries[0].cache == "embedding", "most used first"
        assert [each.cache for each in listed.stats] == ["prompt", "response", "embedding"]

        async def purged(**chosen: object) -> int:
            request = ops_pb2.PurgeCacheRequest(filter=ops_pb2.CacheFilter(**chosen))  # type: ignore[arg-type]
            return (await server.ops.PurgeCache(request)).purged

        assert await purged(cache="response", tenant="nobody") == 0
        assert await purged(cache="response", task_id="news") == 1
        assert await purged(task_id="faq") == 2
        assert await purged(cache="embedding") == 1
        assert (await server.ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest())).entries == []


async def test_a_tenant_never_gets_anothers_answer_nor_sees_its_entries() -> None:
    keys = {name: f"gsk_{name}_{secrets.token_hex(16)}" for name in ("acme", "other")}
    more = KEPT + "access:\n  tenants: {acme: {}, other: {}}\n  keys:\n"
    for name, key in keys.items():
        more += f"    - {{id: {name}, tenant: {name}, sha256: {hashlib.sha256(key.encode()).hexdigest()}}}\n"
    replies = [Reply.json(_completion("For acme.")), Reply.json(_completion("For other."))]
    async with scripted(*replies) as upstream, running_server(one_openai(upstream.url, more=more)) as server:
        for name, text in (("acme", "For acme."), ("other", "For other."), ("acme", "For acme.")):
            answer = (await server.route(ask(), metadata=(("authorization", f"Bearer {keys[name]}"),))).answer
            assert answer.text == text
        assert len(upstream.requests) == 2
        for refused in (
            server.ops.ListCacheEntries(
                ops_pb2.ListCacheEntriesRequest(), metadata=(("authorization", f"Bearer {keys['acme']}"),)
            ),
            server.ops.PurgeCache(
                ops_pb2.PurgeCacheRequest(all=True), metadata=(("authorization", f"Bearer {keys['acme']}"),)
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await refused
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_reload_keeps_answers_unless_their_task_has_changed() -> None:
    replies = [Reply.json(_completion("Old.")), Reply.json(_completion("New."))]
    async with scripted(*replies) as upstream:
        config = from_yaml(one_openai(upstream.url, more=KEPT))
        later: list[Blueprint] = []
        async with running_server(config, read=lambda: later[-1]) as server:
            await server.route(ask())
            later.append(_again(config, one_openai(upstream.url, more=KEPT.replace("news", "weather"))))
            await server.ops.Reload(ops_pb2.ReloadRequest())
            assert (await server.route(ask())).answer.completion.cached
            changed = KEPT.replace("faq: {type: generate", "faq: {type: generate, prompt: 'Be short.'")
            later.append(_again(config, one_openai(upstream.url, more=changed)))
            await server.ops.Reload(ops_pb2.ReloadRequest())
            answer = (await server.route(ask())).answer
            assert answer.text == "New." and not answer.completion.cached


async def test_a_repeated_stream_follows_the_running_one_over_the_wire() -> None:
    chunks = openai_stream(["Good ", "morning"])
    async with scripted(Reply.sse(*chunks)) as upstream, running_server(one_openai(upstream.url)) as server:
        call = call_pb2.Call(task=task_pb2.Task(id="greet"), prompt="hello", request_id="mine")
        results: list[str] = []

        async def stream() -> None:
            events = await server.stream(call)
            results.append("".join(part.text for delta in events_of(events, "delta") for part in delta.parts))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(stream)
        assert results == ["Good morning"] * 20
        assert len(upstream.requests) == 1


def _completion(text: str) -> dict[str, object]:
    return {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    }


def _again(first: Blueprint, text: str) -> Blueprint:
    """Build another configuration for the ports of the first."""
    made = from_yaml(text)
    assert made.config.server == first.config.server
    return made


async def _metrics(server: RunningServer) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://127.0.0.1:{server.app.http_port}/metrics")).text
