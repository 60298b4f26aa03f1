"""OpenAI's official client for Node at the service: it works by changing its base URL, too."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from gearshift.core.answer import Usage
from gearshift.core.config.model import AccessConfig, KeyConfig, OpenAiConfig, ServerConfig
from gearshift.core.events import ToolCallFragment
from gearshift.core.words import Complexity, FailureKind, FinishReason
from tests.support.blueprints import stage
from tests.support.node_packages import node_of
from tests.support.openai_clients import url_of
from tests.support.running_server import RunningServer, of_stages, running_server
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says

HOME = Path(__file__).parents[1] / "support/openai_node"
BOUND_S = 30.0
AT_ONCE = OpenAiConfig(hold_back_tokens=0, hold_back_ms=0)
HTTP = ServerConfig(port=0, http_port=0, grace_s=5, openai=AT_ONCE)


@pytest.fixture(scope="module")
def node() -> str:
    """Give node, with the client installed."""
    return node_of(HOME)


async def called(node: str, server: RunningServer, call: str, *, key: str = "none") -> Any:
    """Have the client make a call of `calls.mjs`; give what came of it."""
    with anyio.fail_after(BOUND_S):
        done = await anyio.run_process([node, str(HOME / "calls.mjs"), url_of(server), call, key], stderr=sys.stderr)
    return json.loads(done.stdout)


async def test_whole_answer_says_who_served(node: str) -> None:
    async with running_server(
        of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([says("Good ", "day")])}
    ) as server:
        told = await called(node, server, "whole")
    assert (told["text"], told["model"], told["served"]) == ("Good day", "m0", "m0")
    assert told["id"]


async def test_stream_comes_with_its_finish_and_usage_whatever_keeps_it_alive(node: str) -> None:
    usage = Usage(input_tokens=20, output_tokens=9)
    for config in (AT_ONCE, OpenAiConfig(stream="hold_all", keep_alive_s=0.001)):
        server_config = ServerConfig(port=0, http_port=0, grace_s=5, openai=config)
        provider = ScriptedProvider([says("Good ", "day ", "to you", usage=usage)])
        async with running_server(of_stages(stage(0), server=server_config), providers={"p0": provider}) as server:
            told = await called(node, server, "streamed")
        assert told == {"text": "Good day to you", "finish": "stop", "total": 29}


async def test_tools_are_run_until_the_answer(node: str) -> None:
    asks = says(ToolCallFragment(0, "c1", "weather", '{"place": "Bern"}'), finish=FinishReason.TOOL_CALLS)
    provider = ScriptedProvider([asks, says("Sun.")])
    async with running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server:
        told = await called(node, server, "tools")
    assert told == {"text": "Sun.", "results": ["sun in Bern"]}
    assert len(provider.calls) == 2


async def test_json_schema_is_kept_to(node: str) -> None:
    poor = ScriptedProvider([says('{"item": "oil", "count": "many"}')])
    good = ScriptedProvider([says('{"item": "oil", "count": 3}')])
    config = of_stages(stage(0), stage(1, capability=Complexity.HIGH), server=HTTP)
    async with running_server(config, providers={"p0": poor, "p1": good}) as server:
        told = await called(node, server, "schema")
    assert told == {"order": {"item": "oil", "count": 3}, "model": "m1"}


async def test_vectors_are_read_from_the_encoding_that_the_client_asks_for_by_itself(node: str) -> None:
    provider = ScriptedProvider([Script(vectors=((0.25, -1.5), (0.5, 2.0)))])
    async with running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server:
        told = await called(node, server, "vectors")
    assert told == [[0.25, -1.5], [0.5, 2.0]]


async def test_models_are_listed_and_looked_up(node: str) -> None:
    async with running_server(
        of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([says("hi")])}
    ) as server:
        told = await called(node, server, "models")
    assert told["one"] in told["names"] and "gearshift" in told["names"]


async def test_what_is_not_served_is_refused_by_name(node: str) -> None:
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server:
        told = await called(node, server, "refused")
    assert [each["param"] for each in told] == ["n", "logprobs", "temprature", "frequency_penalty", "model"]
    assert [each["status"] for each in told] == [400, 400, 400, 400, 404]
    assert {each["kind"] for each in told} == {"BadRequestError", "NotFoundError"}
    assert provider.calls == []


async def test_stream_that_breaks_after_text_was_sent_is_an_error(node: str) -> None:
    provider = ScriptedProvider([fails(FailureKind.CONNECTION, "one ", "two ")])
    async with running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server:
        told = await called(node, server, "broken")
    assert told["text"] == "one two "
    assert (told["kind"], told["code"]) == ("APIError", "chain_exhausted")


async def test_stream_that_is_left_stops_the_model(node: str) -> None:
    provider = ScriptedProvider([Script(chunks=says("one ").chunks[:1], hangs=True)])
    async with running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server:
        await called(node, server, "left")
        await server.seen.wait()
    assert server.seen.ended[0][2] == "CANCELLED" and provider.running == 0


async def test_key_is_asked_for(node: str) -> None:
    key = "gs_app_" + "1f" * 32
    digest = hashlib.sha256(key.encode()).hexdigest()
    access = AccessConfig(keys=(KeyConfig(id="app", sha256=digest, tenant="default"),))
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0), server=HTTP, access=access), providers={"p0": provider}) as server:
        refused = await called(node, server, "broken")
        told = await called(node, server, "whole", key=key)
    assert (refused["kind"], refused["status"]) == ("AuthenticationError", 401)
    assert told["text"] == "hi"


def test_its_lock_file_names_no_registry() -> None:
    locked = json.loads((HOME / "package-lock.json").read_text())
    assert not [name for name, package in locked["packages"].items() if "resolved" in package]
