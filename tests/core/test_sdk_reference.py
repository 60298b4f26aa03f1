"""The official SDKs as the reference: from the same bytes, adapter and SDK must read the same answer.

What both send for the same call must agree as well, in every field that both send.
"""

# The ollama package leaves the types of its tools' functions open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Feature
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http
from gearshift.core.provider import CacheHint, EmbedCall, ProviderCall, Timeouts
from gearshift.core.providers.anthropic import AnthropicProvider
from gearshift.core.providers.ollama import OllamaProvider
from gearshift.core.request import (
    Image,
    JsonOutput,
    Message,
    Parameters,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    user,
)
from gearshift.core.words import FailureKind, FinishReason, ReasoningEffort, Role, ToolMode
from tests.support import anthropic_wire, ollama_wire
from tests.support.chunk_folding import Folded, account, folded, some_model
from tests.support.scripted_server import Reply, ScriptedServer, scripted

if TYPE_CHECKING:
    import anthropic as anthropic_sdk
    import ollama as ollama_sdk

needs_anthropic = pytest.mark.skipif(
    find_spec("anthropic") is None, reason="the anthropic SDK is missing: pip install 'gearshift[anthropic]'"
)
needs_ollama = pytest.mark.skipif(
    find_spec("ollama") is None, reason="the ollama SDK is missing: pip install 'gearshift[ollama]'"
)
both_ways = pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])

SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was read of an answer, in words that both sides have."""

    text: str
    thinking: str
    tool_calls: tuple[tuple[str, object], ...]
    usage: Usage
    stop: FinishReason | None
    logprobs: tuple[tuple[str, float], ...] = ()


def as_read(answer: Folded) -> Read:
    return Read(
        text=answer.text,
        thinking=answer.reasoning,
        tool_calls=tuple((each.name, json.loads(each.arguments)) for each in answer.tool_calls),
        usage=answer.usage or Usage(),
        stop=answer.finish_reason,
        logprobs=tuple((each.token, each.logprob) for each in answer.logprobs),
    )


@asynccontextmanager
async def shared_http() -> AsyncGenerator[Http]:
    http = Http()
    try:
        yield http
    finally:
        await http.aclose()


def assert_agree(ours: Mapping[str, object], theirs: Mapping[str, object], *, common: set[str]) -> None:
    """Compare the bodies in the fields that both have, which must be these at least."""
    shared = ours.keys() & theirs.keys()
    assert common <= shared
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


# Anthropic.

STOPS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
}

CACHED = anthropic_wire.usage(
    input_tokens=5,
    output_tokens=40,
    cache_creation_input_tokens=100,
    cache_read_input_tokens=1000,
    cache_creation={"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 70},
    output_tokens_details={"thinking_tokens": 12},
)

ANTHROPIC_ANSWERS = [
    pytest.param(
        [
            anthropic_wire.start(CACHED),
            anthropic_wire.ping(),
            *anthropic_wire.text_block(0, "Grüße ", "aus 東京 🙂"),
            *anthropic_wire.stop("end_turn", output_tokens=40, output_tokens_details={"thinking_tokens": 12}),
        ],
        anthropic_wire.message(anthropic_wire.text("Grüße aus 東京 🙂"), counted=CACHED),
        id="text and caches",
    ),
    pytest.param(
        [
            anthropic_wire.start(),
            *anthropic_wire.thinking_block(0, "c2ln", "Let me ", "think."),
            *anthropic_wire.redacted_block(1, "b3BhcXVl"),
            *anthropic_wire.text_block(2, "I look."),
            *anthropic_wire.tool_block(3, "t1", "weather", '{"city": ', '"Paris", "n": [1, 2.5, null]}'),
            *anthropic_wire.tool_block(4, "t2", "now"),
            *anthropic_wire.stop("tool_use"),
        ],
        anthropic_wire.message(
            anthropic_wire.thinking("Let me think.", "c2ln"),
            anthropic_wire.redacted("b3BhcXVl"),
            anthropic_wire.text("I look."),
            anthropic_wire.tool_use("t1", "weather", {"city": "Paris", "n": [1, 2.5, None]}),
            anthropic_wire.tool_use("t2", "now", {}),
            stop_reason="tool_use",
        ),
        id="thinking and tools",
    ),
    pytest.param(
        [anthropic_wire.start(), *anthropic_wire.text_block(0, "Once"), *anthropic_wire.stop("max_tokens")],
        anthropic_wire.message(anthropic_wire.text("Once"), stop_reason="max_tokens"),
        id="cut short",
    ),
]


@asynccontextmanager
async def anthropic_client(server: ScriptedServer) -> AsyncGenerator[anthropic_sdk.AsyncAnthropic]:
    import anthropic

    client = anthropic.AsyncAnthropic(api_key="sk-test", base_url=server.url, max_retries=0, open_telemetry=False)
    async with client:
        yield client


def anthropic_call(server: ScriptedServer, *, streamed: bool) -> ProviderCall:
    return ProviderCall(
        model=some_model(
            "anthropic", Feature.TOOLS, Feature.CACHE_CONTROL, Feature.REASONING, Feature.JSON_SCHEMA, Feature.IMAGES
        ),
        account=account(server.url),
        timeouts=Timeouts(),
        messages=(user("Hi"),),
        stream=streamed,
        want_reasoning=True,
    )


def read_message(message: anthropic_sdk.types.Message) -> Read:
    counted = message.usage
    written, read = counted.cache_creation_input_tokens or 0, counted.cache_read_input_tokens or 0
    details, creation = counted.output_tokens_details, counted.cache_creation
    return Read(
        text="".join(block.text for block in message.content if block.type == "text"),
        thinking="".join(block.thinking for block in message.content if block.type == "thinking"),
        tool_calls=tuple((block.name, block.input) for block in message.content if block.type == "tool_use"),
        usage=Usage(
            input_tokens=counted.input_tokens + written + read,
            output_tokens=counted.output_tokens,
            cache_write_tokens=written,
            cache_read_tokens=read,
            reasoning_tokens=details.thinking_tokens if details is not None else 0,
            cache_write_1h_tokens=creation.ephemeral_1h_input_tokens if creation is not None else 0,
        ),
        stop=STOPS[message.stop_reason or ""],
    )


@needs_anthropic
@both_ways
@pytest.mark.parametrize(("events", "whole"), ANTHROPIC_ANSWERS)
async def test_anthropic_adapter_reads_what_the_sdk_reads(
    events: list[anthropic_wire.Event], whole: dict[str, object], streamed: bool
) -> None:
    reply = Reply.sse(anthropic_wire.frames(events)) if streamed else Reply.json(whole)
    async with scripted(reply) as server, shared_http() as http, anthropic_client(server) as client:
        ours = await folded(AnthropicProvider(http), anthropic_call(server, streamed=streamed))
        if streamed:
            async with client.messages.stream(
                model="claude-opus-5-5", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
            ) as stream:
                theirs: anthropic_sdk.types.Message = await stream.get_final_message()
        else:
            theirs = await client.messages.create(
                model="claude-opus-5-5", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
            )
    assert as_read(ours) == read_message(theirs)
    signed = [block.to_dict() for block in theirs.content if block.type in ("thinking", "redacted_thinking")]
    state = json.loads(ours.provider_state or b"[]")
    assert [{name: block[name] for name in kept} for block, kept in zip(state, signed, strict=True)] == signed


@needs_anthropic
@both_ways
async def test_anthropic_adapter_sends_what_the_sdk_sends(streamed: bool) -> None:
    import anthropic

    events = [anthropic_wire.start(), *anthropic_wire.text_block(0, "Hi"), *anthropic_wire.stop()]
    whole = anthropic_wire.message(anthropic_wire.text("Hi"))
    reply = Reply.sse(anthropic_wire.frames(events)) if streamed else Reply.json(whole)
    async with scripted(reply) as server, shared_http() as http, anthropic_client(server) as client:
        asked = replace(
            anthropic_call(server, streamed=streamed),
            system_static="Be brief.",
            system_dynamic="Today is Monday.",
            cache=CacheHint.ONE_HOUR,
            tools=(Tool(name="weather", description="Tells it.", parameters_schema=SCHEMA),),
            tool_choice=ToolChoice(mode=ToolMode.NAMED, name="weather"),
            output=JsonOutput(schema=SCHEMA),
            parameters=Parameters(
                max_tokens=64, stop=("END",), temperature=0.5, reasoning_effort=ReasoningEffort.MEDIUM
            ),
            messages=(
                Message(role=Role.USER, parts=(Image(data=b"\x89PNG", media_type="image/png"), Text("Where?"))),
                Message(role=Role.ASSISTANT, parts=(ToolCall(id="t1", name="weather", arguments='{"city":"Paris"}'),)),
                Message(role=Role.TOOL, parts=(ToolResult(tool_call_id="t1", content="rain"),)),
            ),
        )
        await folded(AnthropicProvider(http), asked)
        sent = await client.messages.create(
            model="claude-opus-5-5",
            max_tokens=64,
            stop_sequences=["END"],
            thinking={"type": "adaptive", "display": "summarized"},
            output_config={"effort": "medium", "format": {"type": "json_schema", "schema": json.loads(SCHEMA)}},
            system=[
                {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                {"type": "text", "text": "Today is Monday."},
            ],
            tools=[{"name": "weather", "description": "Tells it.", "input_schema": json.loads(SCHEMA)}],
            tool_choice={"type": "tool", "name": "weather"},
            messages=[
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="},
                        },
                        {"type": "text", "text": "Where?"},
                    ],
                },
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Paris"}}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "rain"}]},
            ],
            stream=streamed,
        )
        if isinstance(sent, anthropic.AsyncStream):
            await sent.close()
    ours, theirs = server.requests
    assert (ours.method, ours.path) == (theirs.method, theirs.path)
    for name in ("authorization", "anthropic-version", "content-type"):
        assert ours.headers[name] == theirs.headers[name]
    common = {"model", "max_tokens", "system", "tools", "tool_choice", "messages", "thinking", "output_config"}
    assert_agree(ours.json, theirs.json, common=common | {"stop_sequences"} | ({"stream"} if streamed else set()))


@needs_anthropic
async def test_anthropic_error_inside_a_stream_is_one_for_both() -> None:
    import anthropic

    events = [anthropic_wire.start(), *anthropic_wire.text_block(0, "On")[:2], anthropic_wire.error("overloaded_error")]
    reply = Reply.sse(anthropic_wire.frames(events))
    async with scripted(reply) as server, shared_http() as http, anthropic_client(server) as client:
        with pytest.raises(ProviderFailure) as ours:
            await folded(AnthropicProvider(http), anthropic_call(server, streamed=True))
        with pytest.raises(anthropic.APIStatusError) as theirs:
            async with client.messages.stream(
                model="claude-opus-5-5", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
            ) as stream:
                await stream.get_final_message()
    assert theirs.value.type == "overloaded_error"
    assert ours.value.kind is FailureKind.OVERLOAD


# Ollama.

OLLAMA_ANSWERS = [
    pytest.param(
        [
            ollama_wire.line(thinking="Let me "),
            ollama_wire.line(thinking="think."),
            ollama_wire.line("Grüße "),
            ollama_wire.line("aus 東京 🙂"),
            ollama_wire.last(),
        ],
        ollama_wire.whole("Grüße aus 東京 🙂", thinking="Let me think."),
        id="text and thinking",
    ),
    pytest.param(
        [
            ollama_wire.line(tool_calls=[ollama_wire.tool_call("weather", {"city": "Paris", "n": [1, 2.5, None]})]),
            ollama_wire.line(tool_calls=[ollama_wire.tool_call("now", {}, id="call_9")]),
            ollama_wire.last(),
        ],
        ollama_wire.whole(
            tool_calls=[
                ollama_wire.tool_call("weather", {"city": "Paris", "n": [1, 2.5, None]}),
                ollama_wire.tool_call("now", {}, id="call_9"),
            ]
        ),
        id="tools",
    ),
    pytest.param(
        [
            ollama_wire.line("Yes", logprobs=[ollama_wire.logprob("Yes", -0.125, ("No", -2.5))]),
            ollama_wire.line("!", logprobs=[ollama_wire.logprob("!", -0.5)]),
            ollama_wire.last("length"),
        ],
        {
            **ollama_wire.whole("Yes!", done_reason="length"),
            "logprobs": [ollama_wire.logprob("Yes", -0.125, ("No", -2.5)), ollama_wire.logprob("!", -0.5)],
        },
        id="logprobs, cut short",
    ),
]


@asynccontextmanager
async def ollama_client(server: ScriptedServer) -> AsyncGenerator[ollama_sdk.AsyncClient]:
    import ollama

    client = ollama.AsyncClient(host=server.url, timeout=10)
    async with client:
        yield client


def ollama_call(server: ScriptedServer, *, streamed: bool) -> ProviderCall:
    features = (Feature.REASONING, Feature.TEMPERATURE, Feature.SEED, Feature.JSON_SCHEMA, Feature.TOOLS)
    return ProviderCall(
        model=some_model("ollama", *features, wire_id="qwen3", options={"think": "levels"}),
        account=account(server.url, api_key=""),
        timeouts=Timeouts(),
        messages=(user("Hi"),),
        stream=streamed,
        want_reasoning=True,
        want_logprobs=True,
    )


def read_responses(responses: list[ollama_sdk.ChatResponse]) -> Read:
    messages = [each.message for each in responses]
    calls = [call.function for message in messages for call in message.tool_calls or ()]
    ended = responses[-1]
    stop = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}[ended.done_reason or ""]
    return Read(
        text="".join(message.content or "" for message in messages),
        thinking="".join(message.thinking or "" for message in messages),
        tool_calls=tuple((call.name, dict(call.arguments)) for call in calls),
        usage=Usage(input_tokens=ended.prompt_eval_count or 0, output_tokens=ended.eval_count or 0),
        stop=FinishReason.TOOL_CALLS if calls else stop,
        logprobs=tuple((each.token, each.logprob) for response in responses for each in response.logprobs or ()),
    )


@needs_ollama
@both_ways
@pytest.mark.parametrize(("lines", "whole"), OLLAMA_ANSWERS)
async def test_ollama_adapter_reads_what_the_sdk_reads(
    lines: list[ollama_wire.Line], whole: dict[str, object], streamed: bool
) -> None:
    reply = Reply.sse(ollama_wire.lines(lines), content_type="application/x-ndjson") if streamed else Reply.json(whole)
    async with scripted(reply) as server, shared_http() as http, ollama_client(server) as client:
        ours = await folded(OllamaProvider(http), ollama_call(server, streamed=streamed))
        if streamed:
            stream = await client.chat(model="qwen3", messages=[{"role": "user", "content": "Hi"}], stream=True)
            theirs = [each async for each in stream]
        else:
            theirs = [await client.chat(model="qwen3", messages=[{"role": "user", "content": "Hi"}])]
    assert as_read(ours) == read_responses(theirs)


@needs_ollama
async def test_ollama_adapter_sends_what_the_sdk_sends() -> None:
    reply = Reply.json(ollama_wire.whole("Hi"))
    async with scripted(reply) as server, shared_http() as http, ollama_client(server) as client:
        asked = replace(
            ollama_call(server, streamed=False),
            system_static="Be brief.",
            tools=(Tool(name="weather", description="Tells it.", parameters_schema=SCHEMA),),
            parameters=Parameters(
                temperature=0.5, seed=7, max_tokens=64, stop=("END",), reasoning_effort=ReasoningEffort.LOW
            ),
            messages=(
                Message(role=Role.USER, parts=(Text("Where?"), Image(data=b"\x89PNG", media_type="image/png"))),
                Message(role=Role.USER, parts=(Text("There."),)),
            ),
        )
        await folded(OllamaProvider(http), asked)
        await client.chat(
            model="qwen3",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Where?", "images": [b"\x89PNG"]},
                {"role": "user", "content": "There."},
            ],
            tools=[
                {
                    "type": "function",
                    "function": {
                        "name": "weather",
                        "description": "Tells it.",
                        "parameters": {
                            "type": "object",
                            "properties": {"city": {"type": "string"}},
                            "required": ["city"],
                        },
                    },
                }
            ],
            options={"temperature": 0.5, "seed": 7, "num_predict": 64, "stop": ["END"]},
            think="low",
            logprobs=True,
            top_logprobs=2,
        )
    ours, theirs = server.requests
    assert (ours.method, ours.path) == (theirs.method, theirs.path)
    sent = json.loads(ours.body)
    # The SDK drops what its own types do not know, such as a closed object.
    assert sent["tools"][0]["function"]["parameters"].pop("additionalProperties") is False
    common = {"model", "stream", "messages", "options", "think", "logprobs", "top_logprobs"}
    assert_agree(sent, theirs.json, common=common | {"tools"})


@needs_ollama
async def test_ollama_embeddings_are_the_same_for_both() -> None:
    async with (
        scripted(Reply.json(ollama_wire.embedded([0.5, 0.25], [1.0, 2.0]))) as server,
        shared_http() as http,
        ollama_client(server) as client,
    ):
        given = ollama_call(server, streamed=False)
        call = EmbedCall(
            model=given.model, account=given.account, timeouts=given.timeouts, inputs=("a", "b"), dimensions=2
        )
        ours = await OllamaProvider(http).embed(call)
        theirs = await client.embed(model="qwen3", input=["a", "b"], truncate=False, dimensions=2)
    assert [list(vector) for vector in ours.vectors] == [list(vector) for vector in theirs.embeddings]
    assert ours.usage is not None and ours.usage.input_tokens == theirs.prompt_eval_count
    assert_agree(server.requests[0].json, server.requests[1].json, common={"model", "input", "truncate", "dimensions"})


@needs_ollama
async def test_ollama_error_inside_a_stream_is_one_for_both() -> None:
    import ollama

    data = ollama_wire.lines([ollama_wire.line("On"), {"error": "model 'qwen3' not found"}])
    reply = Reply.sse(data, content_type="application/x-ndjson")
    async with scripted(reply) as server, shared_http() as http, ollama_client(server) as client:
        with pytest.raises(ProviderFailure) as ours:
            await folded(OllamaProvider(http), ollama_call(server, streamed=True))
        stream = await client.chat(model="qwen3", messages=[{"role": "user", "content": "Hi"}], stream=True)
        with pytest.raises(ollama.ResponseError) as theirs:
            _ = [each async for each in stream]
    assert theirs.value.status_code == -1
    assert ours.value.kind is FailureKind.MODEL_NOT_FOUND
