"""Stored prompts, by our own client: sent once, by key after that, and again when the service forgot them."""

from __future__ import annotations

import pytest

from gearshift.clients import Code, RpcError, background, call, dial
from gearshift.v1 import ops_pb2
from tests.support.blueprints import stage
from tests.support.running_server import RunningServer, of_stages, running_server
from tests.support.scripted_provider import ScriptedProvider, says

PROMPT = "You are careful, and you never answer what you were not asked; your mood is {{mood}}. " * 10


async def purge(server: RunningServer) -> int:
    return (await server.ops.PurgeCache(ops_pb2.PurgeCacheRequest(all=True))).purged


def told(provider: ScriptedProvider) -> list[str]:
    return [each.system_static + each.system_dynamic for each in provider.calls]


async def test_client_sends_a_long_prompt_once_and_again_when_it_was_forgotten() -> None:
    provider = ScriptedProvider([says("hi")])
    asked = call("greet", "hello", system=PROMPT, variables={"mood": "good"})
    async with (
        running_server(of_stages(stage(0)), providers={"p0": provider}) as server,
        dial(server.address) as client,
    ):
        first = await client.route(background().with_timeout(10), asked)
        second = await client.route(background().with_timeout(10), asked)
        (entry,) = (await server.ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest())).entries
        assert first.completion.prompt_key == second.completion.prompt_key == entry.key
        assert entry.hits >= 1
        assert await purge(server) == 1
        third = await client.route(background().with_timeout(10), asked)
        assert third.text == "hi"
        assert await purge(server) == 1
        async with client.stream_route(background().with_timeout(10), asked) as stream:
            events = [event async for event in stream]
        assert events[-1].completed.completion.prompt_key == entry.key
    filled = told(provider)
    assert len(filled) == 4
    assert len(set(filled)) == 1 and "{{mood}}" not in filled[0] and "good" in filled[0]


async def test_prompt_is_stored_deleted_and_told_to_be_unknown() -> None:
    provider = ScriptedProvider([says("hi")])
    async with (
        running_server(of_stages(stage(0)), providers={"p0": provider}) as server,
        dial(server.address) as client,
    ):
        ctx = background().with_timeout(10)
        stored = await client.put_prompt(ctx, "greet", PROMPT)
        assert stored.ttl_seconds == 3600
        again = await client.put_prompt(ctx, "greet", PROMPT)
        assert again.key == stored.key
        by_key = call("greet", "hello", system_key=stored.key, variables={"mood": "bad"})
        assert (await client.route(ctx, by_key)).text == "hi"
        assert await client.delete_prompt(ctx, "greet", stored.key)
        assert not await client.delete_prompt(ctx, "greet", stored.key)
        with pytest.raises(RpcError) as caught:
            await client.route(ctx, by_key)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.reason == "PROMPT_NOT_CACHED"
    assert "bad" in told(provider)[0]


async def test_task_that_pastes_values_into_its_prompt_is_told_to_use_variables() -> None:
    provider = ScriptedProvider([says("hi")])
    async with (
        running_server(of_stages(stage(0)), providers={"p0": provider}) as server,
        dial(server.address) as client,
    ):
        ctx = background().with_timeout(10)
        notes: list[str] = []
        for number in range(8):
            text = f"The customer is customer{number}@example.com. " + PROMPT.replace("{{mood}}", "good")
            notes += (await client.route(ctx, call("greet", "hello", system=text))).completion.notes
        assert any("put {{name}} in their places" in note for note in notes)
        assert len((await server.ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest())).entries) == 0
    assert len(provider.calls) == 8
