"""The OpenAI format over real HTTP: what is sent, what is read, and how it fails."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Feature, Model
from gearshift.core.events import ReasoningDelta, TextDelta, ToolCallFragment
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http
from gearshift.core.provider import Account, Chunk, EmbedCall, Provider, ProviderCall, Timeouts, TokenLogprob
from gearshift.core.providers._openai_dialects import DIALECTS
from gearshift.core.providers._openai_request import OpenAiRequest
from gearshift.core.providers.openai import OpenAiProvider
from gearshift.core.request import (
    Image,
    JsonOutput,
    LabelOutput,
    Message,
    Parameters,
    ProviderState,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    user,
)
from gearshift.core.words import (
    Complexity,
    FailureKind,
    FinishReason,
    InputType,
    ReasoningEffort,
    Role,
    ToolMode,
    Truncation,
)
from tests.support.openai_bodies import (
    USAGE,
    frame,
    openai_answer,
    openai_error,
    openai_stream,
    openai_vectors,
    usage_frame,
)
from tests.support.scripted_server import BOUND_S, End, Reply, ScriptedServer, scripted, sse

MODEL = Model(
    id="small",
    provider_kind="openai",
    wire_id="wire-small",
    capability=Complexity.LOW,
    features=frozenset(Feature),
    max_output_tokens=1000,
    dimensions=(4, 2),
    max_batch=8,
)
PLAIN = replace(MODEL, features=frozenset[Feature]())
CALL = ProviderCall(
    model=MODEL, account=Account(name="a", base_url="", api_key="k"), timeouts=Timeouts(), messages=(user("Hi"),)
)
ALL_USAGE = Usage(input_tokens=20, output_tokens=9, cache_read_tokens=5, cache_write_tokens=3, reasoning_tokens=4)


@asynccontextmanager
async def serving(*replies: Reply, dialect: str = "openai") -> AsyncGenerator[tuple[ScriptedServer, OpenAiProvider]]:
    http = Http()
    async with scripted(*replies) as server:
        try:
            with anyio.fail_after(BOUND_S):
                yield server, OpenAiProvider(http, dialect)
        finally:
            await http.aclose()


def at(server: ScriptedServer, call: ProviderCall) -> ProviderCall:
    return replace(call, account=replace(call.account, base_url=f"{server.url}/v1"))


async def chunks_of(call: ProviderCall, *replies: Reply, dialect: str = "openai") -> list[Chunk]:
    async with serving(*replies, dialect=dialect) as (server, provider):
        return [chunk async for chunk in provider.stream(at(server, call))]


async def sent(call: ProviderCall, *, dialect: str = "openai") -> dict[str, Any]:
    """Give the body that a call sends."""
    async with serving(Reply.json(openai_answer()), dialect=dialect) as (server, provider):
        async for _ in provider.stream(replace(at(server, call), stream=False)):
            pass
        return server.requests[0].json


async def failure_of(call: ProviderCall, *replies: Reply, dialect: str = "openai") -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await chunks_of(call, *replies, dialect=dialect)
    return caught.value


def text_of(chunks: Sequence[Chunk]) -> str:
    return "".join(part.text for chunk in chunks for part in chunk.parts if isinstance(part, TextDelta))


def calls_of(chunks: Sequence[Chunk]) -> list[tuple[str, str, str]]:
    found: dict[int, tuple[str, str, str]] = {}
    for part in (part for chunk in chunks for part in chunk.parts if isinstance(part, ToolCallFragment)):
        if part.index in found:
            assert not part.id
            assert not part.name
            id_, name, arguments = found[part.index]
            found[part.index] = (id_, name, arguments + part.arguments)
        else:
            found[part.index] = (part.id, part.name, part.arguments)
    return [found[index] for index in sorted(found)]


STREAM = replace(CALL, stream=True)


# The whole answer


async def test_unary_answer_is_one_chunk() -> None:
    chunks = await chunks_of(CALL, Reply.json(openai_answer("Grüße 🦊")))
    assert chunks == [Chunk(parts=[TextDelta("Grüße 🦊")], usage=ALL_USAGE, finish_reason=FinishReason.STOP)]


async def test_call_goes_where_it_must_with_its_key() -> None:
    async with serving(Reply.json(openai_answer())) as (server, provider):
        account = Account(name="a", base_url=f"{server.url}/v1/", api_key="k", headers={"X-Org": "o"})
        async for _ in provider.stream(replace(CALL, account=account)):
            pass
        (seen,) = server.requests
        assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
        assert seen.headers["authorization"] == "Bearer k"
        assert seen.headers["x-org"] == "o"
        assert seen.headers["content-type"] == "application/json"
        assert seen.json == {"model": "wire-small", "messages": [{"role": "user", "content": "Hi"}]}


async def test_account_without_a_key_sends_none() -> None:
    async with serving(Reply.json(openai_answer())) as (server, provider):
        account = Account(name="a", base_url=server.url)
        async for _ in provider.stream(replace(CALL, account=account)):
            pass
        assert "authorization" not in server.requests[0].headers


async def test_bare_socket_is_asked_under_v1(tmp_path: Path) -> None:
    http = Http()
    async with scripted(Reply.json(openai_answer()), unix_path=str(tmp_path / "model.sock")) as server:
        provider = OpenAiProvider(http, "llamacpp")
        for base_url in (server.url, f"{server.url}/v1"):
            call = replace(CALL, account=Account(name="a", base_url=base_url))
            assert text_of([chunk async for chunk in provider.stream(call)]) == "Hello"
        assert [seen.path for seen in server.requests] == ["/v1/chat/completions"] * 2
        await http.aclose()


async def test_missing_usage_and_nulls_are_tolerated() -> None:
    bare = {"choices": [{"message": {"content": "x"}}]}
    assert await chunks_of(CALL, Reply.json(bare)) == [Chunk(parts=[TextDelta("x")], finish_reason=FinishReason.STOP)]
    nulls = openai_answer("x", usage={"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": None})
    (chunk,) = await chunks_of(CALL, Reply.json(nulls))
    assert chunk.usage == Usage(input_tokens=3)


async def test_deepseeks_cache_counters_are_read() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 7, "prompt_cache_miss_tokens": 3}
    (chunk,) = await chunks_of(CALL, Reply.json(openai_answer("x", usage=usage)), dialect="deepseek")
    assert chunk.usage == Usage(input_tokens=10, output_tokens=2, cache_read_tokens=7)


async def test_unary_tool_calls_are_whole_fragments() -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]
    answer = openai_answer(None, finish="tool_calls", message={"tool_calls": calls})
    chunks = await chunks_of(CALL, Reply.json(answer))
    assert len(chunks) == 1
    assert calls_of(chunks) == [("c1", "f", '{"a":1}'), ("c2", "g", "{}")]
    assert chunks[0].finish_reason is FinishReason.TOOL_CALLS


async def test_unary_logprobs_carry_the_runner_up() -> None:
    content: list[object] = [
        {
            "token": "spam",
            "logprob": -0.1,
            "top_logprobs": [{"token": "spam", "logprob": -0.1}, {"token": "ham", "logprob": -2.5}],
        },
        {"token": "!", "logprob": -1.0, "top_logprobs": []},
        {"token": "?", "logprob": None},
    ]
    answer = openai_answer("spam!", logprobs={"content": content, "refusal": None})
    (chunk,) = await chunks_of(replace(CALL, want_logprobs=True), Reply.json(answer))
    assert chunk.logprobs == [TokenLogprob("spam", -0.1, -2.5), TokenLogprob("!", -1.0, None)]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
async def test_reasoning_comes_only_when_wanted(key: str) -> None:
    reply = Reply.json(openai_answer("x", message={key: "because"}))
    (chunk,) = await chunks_of(replace(CALL, want_reasoning=True), reply)
    assert chunk.parts == [ReasoningDelta("because"), TextDelta("x")]
    (chunk,) = await chunks_of(CALL, reply)
    assert chunk.parts == [TextDelta("x")]


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("something new", FinishReason.STOP),
        (None, FinishReason.STOP),
    ],
)
async def test_finish_reason_is_translated(word: str | None, finish: FinishReason) -> None:
    (chunk,) = await chunks_of(CALL, Reply.json(openai_answer("x", finish=word)))
    assert chunk.finish_reason is finish


async def test_answer_that_is_cut_off_by_length_may_be_empty() -> None:
    (chunk,) = await chunks_of(CALL, Reply.json(openai_answer("", finish="length")))
    assert chunk.finish_reason is FinishReason.LENGTH


async def test_nothing_after_a_prefill_is_an_answer() -> None:
    (chunk,) = await chunks_of(replace(CALL, prefill="x"), Reply.json(openai_answer("")), dialect="groq")
    assert chunk.finish_reason is FinishReason.STOP


# The stream


async def test_stream_is_a_chunk_a_read() -> None:
    steps = [asyncio.Event() for _ in range(3)]
    frames = [part.encode() for part in openai_stream(["Hel", "lo", " you"])]
    reply = Reply.sse(
        frames[0] + frames[1], steps[0], frames[2] + frames[3], steps[1], *frames[4:6], steps[2], frames[6]
    )
    async with serving(reply) as (server, provider), aclosing(provider.stream(at(server, STREAM))) as stream:
        assert await anext(stream) == Chunk(parts=[TextDelta("Hel")], tokens=1)
        steps[0].set()
        assert await anext(stream) == Chunk(parts=[TextDelta("lo you")], tokens=2)
        steps[1].set()
        steps[2].set()
        assert await anext(stream) == Chunk(usage=ALL_USAGE, finish_reason=FinishReason.STOP)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert server.requests[0].json["stream_options"] == {"include_usage": True}
        assert server.requests[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_every_cut_of_a_stream_gives_the_same_answer(end: str) -> None:
    body = "".join(openai_stream(["Gr", "üße", " 🦊"])).replace("\n", end).encode()
    go = [asyncio.Event() for _ in range(len(body))]
    replies = [Reply.sse(body[:cut], go[cut], body[cut:]) for cut in range(1, len(body))]

    async def answer(provider: OpenAiProvider, call: ProviderCall) -> None:
        chunks = [chunk async for chunk in provider.stream(call)]
        assert text_of(chunks) == "Grüße 🦊"
        assert chunks[-1].finish_reason is FinishReason.STOP
        assert chunks[-1].usage == ALL_USAGE

    async with serving(*replies) as (server, provider):
        for cut in range(1, len(body)):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answer, provider, at(server, STREAM))
                # The second half leaves when the first one lies with the client, so that the cut is real.
                await anyio.wait_all_tasks_blocked()
                go[cut].set()
        assert server.connections == 1


async def test_stream_gives_its_connection_back() -> None:
    async with serving(Reply.sse(*openai_stream(["x"]))) as (server, provider):
        for _ in range(3):
            async for _ in provider.stream(at(server, STREAM)):
                pass
        assert server.connections == 1


async def test_streamed_tool_calls_are_fragments() -> None:
    def piece(index: int | None, arguments: str, **first: str) -> dict[str, object]:
        function = {"arguments": arguments} | ({"name": first["name"]} if "name" in first else {})
        return frame(
            {"tool_calls": [{"index": index, "function": function} | ({"id": first["id"]} if "id" in first else {})]}
        )

    frames = [
        frame({"role": "assistant", "content": None}),
        piece(0, "", id="c1", name="f"),
        piece(0, '{"a"'),
        piece(0, ":1}"),
        piece(1, "", id="c2", name="g"),
        frame(finish="tool_calls"),
    ]
    chunks = await chunks_of(STREAM, Reply.sse(*sse(frames)))
    assert calls_of(chunks) == [("c1", "f", '{"a":1}'), ("c2", "g", "{}")]
    assert chunks[-1].finish_reason is FinishReason.TOOL_CALLS


async def test_tool_calls_without_numbers_or_ids_are_told_apart() -> None:
    frames = [
        frame({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}),
        frame({"tool_calls": [{"function": {"name": "g", "arguments": '{"b"'}}]}),
        frame({"tool_calls": [{"function": {"arguments": ":2}"}}]}),
        frame(finish="stop"),
    ]
    chunks = await chunks_of(STREAM, Reply.sse(*sse(frames)))
    assert calls_of(chunks) == [("call_0", "f", "{}"), ("call_1", "g", '{"b":2}')]
    assert chunks[-1].finish_reason is FinishReason.TOOL_CALLS


async def test_repeated_id_and_name_are_given_once() -> None:
    whole = {"index": 3, "id": "c1", "function": {"name": "f", "arguments": "{"}}
    frames = [frame({"tool_calls": [whole]}), frame({"tool_calls": [whole]}), frame(finish="tool_calls")]
    chunks = await chunks_of(STREAM, *[Reply.sse(*sse(frames))])
    assert calls_of(chunks) == [("c1", "f", "{{")]


async def test_streamed_logprobs_come_with_their_text() -> None:
    content = [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.5}]}]
    frames = [frame({"content": "a"}, logprobs={"content": content}), frame(finish="stop")]
    chunks = await chunks_of(replace(STREAM, want_logprobs=True), Reply.sse(*sse(frames)))
    assert chunks[0].logprobs == [TokenLogprob("a", -0.5, -1.5)]


async def test_streamed_reasoning_precedes_the_text() -> None:
    frames = [
        frame({"reasoning_content": "I "}),
        frame({"reasoning_content": "think"}),
        frame({"content": "so"}),
        frame(finish="stop"),
    ]
    chunks = await chunks_of(replace(STREAM, want_reasoning=True), Reply.sse("".join(sse(frames))))
    assert chunks[0].parts == [ReasoningDelta("I think"), TextDelta("so")]
    assert chunks[0].tokens == 1


async def test_groqs_own_usage_is_read() -> None:
    frames = [frame({"content": "x"}), frame(finish="stop", x_groq={"id": "r", "usage": USAGE})]
    chunks = await chunks_of(STREAM, Reply.sse(*sse(frames)), dialect="groq")
    assert chunks[-1].usage == ALL_USAGE


async def test_running_usage_stands_as_it_was_last() -> None:
    frames = [
        frame({"content": "a"}, usage={"prompt_tokens": 5, "completion_tokens": 1}),
        frame({"content": "b"}, finish="stop", usage={"prompt_tokens": 5, "completion_tokens": 2}),
    ]
    chunks = await chunks_of(STREAM, Reply.sse(*sse(frames)), dialect="vllm")
    assert chunks[-1].usage == Usage(input_tokens=5, output_tokens=2)


async def test_end_without_its_mark_is_an_end_when_a_reason_was_given() -> None:
    chunks = await chunks_of(STREAM, Reply.sse(*openai_stream(["x"], done=False)))
    assert (text_of(chunks), chunks[-1].finish_reason) == ("x", FinishReason.STOP)


async def test_end_mark_without_a_reason_is_an_end() -> None:
    chunks = await chunks_of(STREAM, Reply.sse(*openai_stream(["x"], finish=None)))
    assert (text_of(chunks), chunks[-1].finish_reason) == ("x", FinishReason.STOP)


async def test_whole_answer_to_a_stream_is_taken() -> None:
    chunks = await chunks_of(STREAM, Reply.json(openai_answer("x")))
    assert chunks == [Chunk(parts=[TextDelta("x")], usage=ALL_USAGE, finish_reason=FinishReason.STOP)]


# As seen on xllamacpp 2026.10.11549.
COMPLETION_TOKEN = {
    "choices": [
        {
            "text": " the",
            "index": 0,
            "logprobs": {
                "content": [
                    {
                        "id": 506,
                        "token": " the",
                        "bytes": [32, 116, 104, 101],
                        "logprob": -1.25,
                        "top_logprobs": [
                            {"id": 506, "token": " the", "bytes": [32, 116, 104, 101], "logprob": -1.25},
                            {"id": 5442, "token": " sea", "bytes": [32, 115, 101, 97], "logprob": -2.5},
                        ],
                    }
                ]
            },
            "finish_reason": None,
        }
    ],
    "created": 1795457758,
    "model": "embedded",
    "system_fingerprint": "b0-unknown",
    "object": "text_completion",
    "id": "chatcmpl-1",
}
COMPLETION_END = {
    "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}],
    "model": "embedded",
    "object": "text_completion",
    "usage": {
        "completion_tokens": 3,
        "prompt_tokens": 8,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 3},
    },
    "timings": {"cache_n": 3, "prompt_n": 5},
}


async def test_completions_of_a_prompt_are_read_like_chats() -> None:
    request = OpenAiRequest(path="/completions", body={"prompt": [2, 506], "stream": True})
    async with serving(Reply.sse(*sse([COMPLETION_TOKEN, COMPLETION_END]))) as (server, provider):
        chunks = [chunk async for chunk in provider.stream(at(server, STREAM), request)]
        assert server.requests[0].path == "/v1/completions"
        assert server.requests[0].json == {"prompt": [2, 506], "stream": True}
    assert text_of(chunks) == " the"
    assert chunks[0].logprobs == [TokenLogprob(" the", -1.25, -2.5)]
    assert chunks[0].tokens == 1
    assert chunks[-1].finish_reason is FinishReason.LENGTH
    assert chunks[-1].usage == Usage(input_tokens=8, output_tokens=3, cache_read_tokens=3)


async def test_comments_and_other_choices_are_passed_over() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}}]}
    frames = [": keep-alive\n\n", *sse([other], done=False), *openai_stream(["yes"])]
    assert text_of(await chunks_of(STREAM, Reply.sse(*frames))) == "yes"


async def test_thought_before_a_tool_call_comes_back_to_deepseek() -> None:
    frames = [
        frame({"reasoning_content": "hm"}),
        frame({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}),
        frame(finish="tool_calls"),
    ]
    chunks = await chunks_of(STREAM, Reply.sse(*sse(frames)), dialect="deepseek")
    assert chunks[-1].provider_state == b"hm"
    turn = Message(
        role=Role.ASSISTANT,
        parts=(ToolCall(id="c", name="f", arguments="{}"),),
        provider_state=ProviderState(provider="d", model="small", data=b"hm"),
    )
    body = await sent(replace(CALL, messages=(user("Hi"), turn)), dialect="deepseek")
    assert body["messages"][1]["reasoning_content"] == "hm"
    body = await sent(replace(CALL, messages=(user("Hi"), turn)), dialect="openai")
    assert "reasoning_content" not in body["messages"][1]


# Closing


async def test_leaving_a_stream_closes_the_upstream() -> None:
    reply = Reply.sse(*openai_stream(["x"], finish=None, usage=False, done=False), end=End.HANG)
    async with serving(reply) as (server, provider):
        async with aclosing(provider.stream(at(server, STREAM))) as stream:
            await anext(stream)
        await server.wait_closed_early()


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_a_call_closes_the_upstream(stream: bool) -> None:
    reply = Reply.sse(b": waiting\n\n", end=End.HANG)
    async with serving(reply) as (server, provider):

        async def run() -> None:
            async with aclosing(provider.stream(at(server, replace(CALL, stream=stream)))) as chunks:
                async for _ in chunks:
                    pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await server.asked.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await server.wait_closed_early()


async def test_silence_after_text_is_an_idle_timeout() -> None:
    reply = Reply.sse(*openai_stream(["x"], finish=None, usage=False, done=False), end=End.HANG)
    call = replace(STREAM, timeouts=Timeouts(idle_s=0.05))
    assert (await failure_of(call, reply)).kind is FailureKind.IDLE_TIMEOUT


async def test_role_alone_is_no_first_token() -> None:
    reply = Reply.sse(*sse([frame({"role": "assistant", "content": ""})], done=False), end=End.HANG)
    call = replace(STREAM, timeouts=Timeouts(first_token_s=0.05, idle_s=60))
    assert (await failure_of(call, reply)).kind is FailureKind.FIRST_TOKEN_TIMEOUT


async def test_reasoning_is_a_first_token() -> None:
    reply = Reply.sse(*sse([frame({"reasoning": "hm"})], done=False), end=End.HANG)
    call = replace(STREAM, timeouts=Timeouts(first_token_s=60, idle_s=0.05))
    assert (await failure_of(call, reply)).kind is FailureKind.IDLE_TIMEOUT


# Failures


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(400, openai_error(), FailureKind.INVALID_REQUEST, id="400"),
        pytest.param(400, openai_error("context_length_exceeded"), FailureKind.CONTEXT_LENGTH, id="context"),
        pytest.param(
            400,
            {"object": "error", "message": "maximum context length is 5", "type": "BadRequestError", "code": 400},
            FailureKind.CONTEXT_LENGTH,
            id="context, older vLLM",
        ),
        pytest.param(
            400,
            {"error": {"code": 400, "message": "x", "type": "exceed_context_size_error", "n_ctx": 5}},
            FailureKind.CONTEXT_LENGTH,
            id="context, llama.cpp",
        ),
        pytest.param(400, openai_error("content_policy_violation"), FailureKind.CONTENT_REFUSED, id="content"),
        pytest.param(401, openai_error("invalid_api_key"), FailureKind.AUTHENTICATION, id="401"),
        pytest.param(402, openai_error(message="Insufficient Balance"), FailureKind.BILLING, id="402"),
        pytest.param(403, openai_error("unsupported_country_region_territory"), FailureKind.AUTHENTICATION, id="403"),
        pytest.param(404, openai_error("model_not_found"), FailureKind.MODEL_NOT_FOUND, id="404"),
        pytest.param(404, {"detail": "Not Found"}, FailureKind.MODEL_NOT_FOUND, id="404 of a wrong path"),
        pytest.param(404, {"error": "model 'x' not found"}, FailureKind.MODEL_NOT_FOUND, id="error as text"),
        pytest.param(408, {}, FailureKind.SERVER, id="408"),
        pytest.param(409, {}, FailureKind.SERVER, id="409"),
        pytest.param(413, {}, FailureKind.CONTEXT_LENGTH, id="413"),
        pytest.param(422, {"detail": [{"loc": ["body"], "msg": "x"}]}, FailureKind.INVALID_REQUEST, id="422"),
        pytest.param(429, openai_error("rate_limit_exceeded", type_="tokens"), FailureKind.RATE_LIMIT, id="429"),
        pytest.param(
            429, openai_error("insufficient_quota", type_="insufficient_quota"), FailureKind.BILLING, id="no credit"
        ),
        pytest.param(500, openai_error(type_="server_error"), FailureKind.SERVER, id="500"),
        pytest.param(502, {}, FailureKind.SERVER, id="502"),
        pytest.param(503, openai_error(type_="server_error"), FailureKind.OVERLOAD, id="503 with a type"),
        pytest.param(
            503,
            {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
            FailureKind.OVERLOAD,
            id="loading",
        ),
        pytest.param(503, {}, FailureKind.OVERLOAD, id="503"),
        pytest.param(504, {}, FailureKind.SERVER, id="504"),
        pytest.param(529, {}, FailureKind.OVERLOAD, id="529"),
        pytest.param(302, {}, FailureKind.MALFORMED, id="a redirect"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_error_answer_has_its_kind(status: int, body: object, kind: FailureKind, stream: bool) -> None:
    failure = await failure_of(replace(CALL, stream=stream), Reply.json(body, status=status))
    assert (failure.kind, failure.status) == (kind, status)
    assert "secret" not in str(failure)


async def test_prompt_that_does_not_fit_is_told_with_its_size_where_the_server_counts() -> None:
    counted = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9002, "n_ctx": 8192}
    failure = await failure_of(CALL, Reply.json({"error": {"message": "secret", **counted}}, status=400))
    assert failure.kind is FailureKind.CONTEXT_LENGTH
    assert failure.detail.endswith(": it has 9002 tokens of at most 8192")


async def test_error_page_has_the_kind_of_its_status() -> None:
    failure = await failure_of(CALL, Reply.text("<html>secret</html>", status=502))
    assert (failure.kind, failure.status) == (FailureKind.SERVER, 502)
    assert "secret" not in str(failure)


async def test_error_answer_that_breaks_off_has_the_kind_of_its_status() -> None:
    reply = Reply.raw(b"HTTP/1.1 429 Slow\r\ncontent-length: 100\r\nretry-after: 3\r\n\r\n{")
    failure = await failure_of(CALL, reply)
    assert (failure.kind, failure.retry_after_s) == (FailureKind.RATE_LIMIT, 3.0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({}, None),
    ],
)
async def test_rate_limit_says_how_long_to_wait(headers: Mapping[str, str], seconds: float | None) -> None:
    failure = await failure_of(CALL, Reply.json(openai_error(), status=429, headers=headers))
    assert failure.retry_after_s == seconds


async def test_connection_serves_again_after_an_error() -> None:
    async with serving(Reply.json({}, status=429), Reply.json(openai_answer())) as (server, provider):
        with pytest.raises(ProviderFailure):
            await anext(provider.stream(at(server, CALL)))
        assert text_of([chunk async for chunk in provider.stream(at(server, CALL))]) == "Hello"
        assert server.connections == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Reply.text("<html>log in</html>"), FailureKind.MALFORMED, id="a page"),
        pytest.param(Reply.text("not json", content_type="application/json"), FailureKind.MALFORMED, id="not JSON"),
        pytest.param(Reply.json([1]), FailureKind.MALFORMED, id="a list"),
        pytest.param(Reply.json({"choices": [{"message": {"content": 5}}]}), FailureKind.MALFORMED, id="wrong type"),
        pytest.param(
            Reply(pieces=(b'{"choices":[{"message":{"content":"\xff"}}]}',)), FailureKind.MALFORMED, id="not UTF-8"
        ),
        pytest.param(Reply(pieces=()), FailureKind.EMPTY, id="no body"),
        pytest.param(Reply.json({"choices": []}), FailureKind.EMPTY, id="no choice"),
        pytest.param(Reply.json(openai_answer("")), FailureKind.EMPTY, id="no text"),
        pytest.param(Reply.json(openai_answer(None)), FailureKind.EMPTY, id="null text"),
        pytest.param(Reply.json(openai_error("server_error")), FailureKind.SERVER, id="an error under 200"),
        pytest.param(
            Reply.json(openai_answer(None, message={"refusal": "secret"})), FailureKind.CONTENT_REFUSED, id="a refusal"
        ),
        pytest.param(
            Reply.json(openai_answer("", finish="content_filter")), FailureKind.CONTENT_REFUSED, id="all filtered"
        ),
        pytest.param(
            Reply.json(openai_answer("x", finish="insufficient_system_resource")),
            FailureKind.OVERLOAD,
            id="DeepSeek gave up",
        ),
        pytest.param(Reply.raw(), FailureKind.CONNECTION, id="closed"),
    ],
)
async def test_bad_whole_answer_has_its_kind(reply: Reply, kind: FailureKind) -> None:
    failure = await failure_of(CALL, reply)
    assert failure.kind is kind
    assert "secret" not in str(failure)


BEGUN = openai_stream(["x"], finish=None, usage=False, done=False)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Reply.text("<html>log in</html>"), FailureKind.MALFORMED, id="a page"),
        pytest.param(Reply.sse(), FailureKind.EMPTY, id="no body"),
        pytest.param(Reply.sse("data: [DONE]\n\n"), FailureKind.EMPTY, id="only the end mark"),
        pytest.param(Reply.sse(*openai_stream([])), FailureKind.EMPTY, id="no text"),
        pytest.param(Reply.sse(*BEGUN), FailureKind.CONNECTION, id="no end"),
        pytest.param(Reply.sse(*BEGUN, end=End.BREAK), FailureKind.CONNECTION, id="closed in the middle"),
        pytest.param(Reply.sse(*BEGUN, end=End.CUT), FailureKind.CONNECTION, id="reset in the middle"),
        pytest.param(Reply.sse(*BEGUN, "data: {oops\n\n"), FailureKind.MALFORMED, id="a frame that is not JSON"),
        pytest.param(
            Reply.sse(*BEGUN, b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'),
            FailureKind.MALFORMED,
            id="not UTF-8",
        ),
        pytest.param(Reply.sse(*BEGUN, "data: [1]\n\n"), FailureKind.MALFORMED, id="a frame of another shape"),
        pytest.param(
            Reply.sse(*BEGUN, *sse([openai_error("overloaded_error")])),
            FailureKind.OVERLOAD,
            id="overload in the stream",
        ),
        pytest.param(
            Reply.sse(*BEGUN, *sse([openai_error("rate_limit_exceeded")])),
            FailureKind.RATE_LIMIT,
            id="limit in the stream",
        ),
        pytest.param(
            Reply.sse(*BEGUN, *sse([{"object": "error", "message": "secret", "type": "BadRequestError", "code": 400}])),
            FailureKind.INVALID_REQUEST,
            id="older vLLM's error in the stream",
        ),
        pytest.param(Reply.sse(*BEGUN, *sse([{"error": "secret"}])), FailureKind.SERVER, id="error as text"),
        pytest.param(
            Reply.sse("event: error\n", *sse([{"error": {"code": "503", "message": "secret"}}])),
            FailureKind.OVERLOAD,
            id="status as text",
        ),
        pytest.param(
            Reply.sse(*sse([frame({"refusal": "secret"}), frame(finish="stop"), usage_frame()])),
            FailureKind.CONTENT_REFUSED,
            id="a refusal",
        ),
        pytest.param(Reply.sse(*sse([frame(finish="content_filter")])), FailureKind.CONTENT_REFUSED, id="all filtered"),
        pytest.param(Reply.sse(*BEGUN, *sse([frame(finish="abort")])), FailureKind.SERVER, id="vLLM gave up"),
    ],
)
async def test_bad_stream_has_its_kind(reply: Reply, kind: FailureKind) -> None:
    failure = await failure_of(STREAM, reply)
    assert failure.kind is kind
    assert "secret" not in str(failure)


async def test_text_before_a_cut_was_given() -> None:
    async with serving(Reply.sse(*BEGUN, end=End.BREAK)) as (server, provider):
        stream = provider.stream(at(server, STREAM))
        assert text_of([await anext(stream)]) == "x"
        with pytest.raises(ProviderFailure):
            await anext(stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_refused_answer_still_tells_its_usage(stream: bool) -> None:
    frames = sse([frame({"refusal": "no"}), frame(finish="stop"), usage_frame()])
    reply = Reply.sse(*frames) if stream else Reply.json(openai_answer(None, message={"refusal": "no"}))
    async with serving(reply) as (server, provider):
        chunks: list[Chunk] = []
        with pytest.raises(ProviderFailure):
            async for chunk in provider.stream(at(server, replace(CALL, stream=stream))):
                chunks.append(chunk)
        assert chunks == [Chunk(usage=ALL_USAGE)]


async def test_partly_filtered_answer_says_so() -> None:
    chunks = await chunks_of(STREAM, Reply.sse(*openai_stream(["x"], finish="content_filter")))
    assert chunks[-1].finish_reason is FinishReason.CONTENT_FILTER


# What is sent


async def test_system_prompt_comes_first_and_whole() -> None:
    body = await sent(replace(CALL, system_static="You are ", system_dynamic="Bob."))
    assert body["messages"] == [{"role": "system", "content": "You are Bob."}, {"role": "user", "content": "Hi"}]


async def test_images_go_as_urls() -> None:
    parts = (Text("What?"), Image(data=b"png", media_type="image/png"), Image(url="https://x/y.png"))
    body = await sent(replace(CALL, messages=(Message(role=Role.USER, parts=parts),)))
    data = f"data:image/png;base64,{base64.b64encode(b'png').decode()}"
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    ]


async def test_tool_loop_goes_in_the_formats_own_messages() -> None:
    messages = (
        user("Weather?"),
        Message(role=Role.ASSISTANT, parts=(Text("Let me see."), ToolCall(id="c1", name="f", arguments='{"a":1}'))),
        Message(
            role=Role.TOOL,
            parts=(
                ToolResult(tool_call_id="c1", content="sun"),
                ToolResult(tool_call_id="c2", content="x", is_error=True),
            ),
        ),
    )
    body = await sent(replace(CALL, messages=messages))
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert body["messages"][1:] == [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: x"},
    ]
    bare = Message(role=Role.ASSISTANT, parts=(ToolCall(id="c1", name="f", arguments=""),))
    body = await sent(replace(CALL, messages=(user("Hi"), bare)))
    assert body["messages"][1]["content"] is None
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        (ToolChoice(), None),
        (ToolChoice(mode=ToolMode.NONE), "none"),
        (ToolChoice(mode=ToolMode.REQUIRED), "required"),
        (ToolChoice(mode=ToolMode.NAMED, name="f"), {"type": "function", "function": {"name": "f"}}),
    ],
)
async def test_tools_and_their_choice(choice: ToolChoice, wire: object) -> None:
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}}'
    tools = (Tool(name="f", description="does f", parameters_schema=schema), Tool(name="g"))
    body = await sent(replace(CALL, tools=tools, tool_choice=choice))
    assert body["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "does f", "parameters": json.loads(schema)}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert body.get("tool_choice") == wire


FULL = Parameters(temperature=0.5, top_p=0.9, max_tokens=5000, stop=("a", "b", "c", "d", "e"), seed=7)


@pytest.mark.parametrize(
    ("dialect", "field", "stops"),
    [
        ("openai", "max_completion_tokens", 4),
        ("groq", "max_completion_tokens", 4),
        ("deepseek", "max_tokens", 5),
        ("vllm", "max_tokens", 5),
        ("llamacpp", "max_tokens", 5),
        ("compatible", "max_tokens", 4),
    ],
)
async def test_parameters_have_the_dialects_names(dialect: str, field: str, stops: int) -> None:
    body = await sent(replace(CALL, parameters=FULL), dialect=dialect)
    assert body[field] == 1000  # the model's most
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.5, 0.9, 7)
    assert len(body["stop"]) == stops


async def test_what_the_model_lacks_is_left_out_and_said() -> None:
    call = replace(
        CALL,
        model=PLAIN,
        parameters=structs.replace(FULL, reasoning_effort=ReasoningEffort.HIGH),
        tools=(Tool(name="f"),),
        want_logprobs=True,
        output=JsonOutput(schema='{"type":"object"}'),
    )
    (chunk,) = await chunks_of(call, Reply.json(openai_answer()))
    said = " ".join(chunk.notes)
    for word in ("temperature", "seed", "stop sequences", "reasoning effort", "tools", "log-probabilities", "schema"):
        assert word in said
    body = await sent(call)
    assert not {"temperature", "seed", "tools", "logprobs", "response_format", "reasoning_effort"} & set(body)


async def test_notes_come_once() -> None:
    call = replace(STREAM, model=PLAIN, parameters=Parameters(seed=1))
    chunks = await chunks_of(call, Reply.sse(*openai_stream(["a", "b"])))
    assert [len(chunk.notes) for chunk in chunks if chunk.notes] == [1]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(
            replace(CALL, model=PLAIN, messages=(Message(role=Role.USER, parts=(Image(data=b"x"),)),)), id="an image"
        ),
        pytest.param(
            replace(CALL, model=PLAIN, tools=(Tool(name="f"),), tool_choice=ToolChoice(mode=ToolMode.REQUIRED)),
            id="a tool call",
        ),
        pytest.param(replace(CALL, prefill="x"), id="a prefill at OpenAI"),
        pytest.param(replace(CALL, messages=(user("\ud83d"),)), id="half a character"),
        pytest.param(replace(CALL, tools=(Tool(name="f", parameters_schema="{"),)), id="a schema that is not JSON"),
    ],
)
async def test_what_cannot_be_left_out_is_an_invalid_request(call: ProviderCall) -> None:
    async with serving(Reply.json(openai_answer())) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await anext(provider.stream(at(server, call)))
        assert caught.value.kind is FailureKind.INVALID_REQUEST
        assert not server.requests


STRICT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
LOOSE = {"type": "object", "properties": {"a": {"type": "string"}}}
LIST = {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize(
    ("dialect", "schema", "wire", "in_words"),
    [
        pytest.param("openai", STRICT, ("json_schema", True), False, id="strict"),
        pytest.param("openai", LOOSE, ("json_schema", False), True, id="outside the strict subset"),
        pytest.param("openai", LIST, None, True, id="no object at the root"),
        pytest.param("groq", STRICT, ("json_schema", True), False, id="groq"),
        pytest.param("deepseek", STRICT, ("json_object", None), True, id="deepseek"),
        pytest.param("vllm", LIST, ("json_schema", None), False, id="vllm"),
        pytest.param("llamacpp", LOOSE, ("json_schema", None), False, id="llamacpp"),
        pytest.param("compatible", LOOSE, ("json_object", None), True, id="compatible"),
    ],
)
async def test_schema_goes_as_the_dialect_takes_it(
    dialect: str, schema: object, wire: tuple[str, bool | None] | None, in_words: bool
) -> None:
    body = await sent(replace(CALL, output=JsonOutput(schema=json.dumps(schema), name="my answer")), dialect=dialect)
    system = body["messages"][0]["content"] if body["messages"][0]["role"] == "system" else ""
    assert (json.dumps(schema) in system) is in_words
    if wire is None:
        assert "response_format" not in body
        return
    sent_format = body["response_format"]
    assert sent_format["type"] == wire[0]
    if wire[0] == "json_schema":
        assert sent_format["json_schema"]["schema"] == schema
        assert sent_format["json_schema"]["name"] == "my_answer"
        assert sent_format["json_schema"].get("strict") == wire[1]


async def test_any_json_is_asked_for_as_an_object() -> None:
    body = await sent(replace(CALL, system_static="S.", output=JsonOutput(examples=(("t", '{"x":1}'),))))
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["content"].startswith("S.\n\n")
    assert "JSON" in body["messages"][0]["content"]
    assert '{"x":1}' in body["messages"][0]["content"]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
async def test_labels_are_asked_for_bare(dialect: str) -> None:
    output = LabelOutput(labels=("spam", 'a "ham"'), examples=(("buy now", "spam"),))
    body = await sent(replace(CALL, output=output, want_logprobs=True), dialect=dialect)
    assert 'a "ham"' in body["messages"][0]["content"]
    assert "buy now" in body["messages"][0]["content"]
    assert "response_format" not in body
    if dialect == "vllm":
        assert body["structured_outputs"] == {"choice": ["spam", 'a "ham"']}
    if dialect == "llamacpp":
        assert body["grammar"] == 'root ::= "spam" | "a \\U00000022ham\\U00000022"'
    assert body.get("logprobs") is (None if dialect == "groq" else True)


@pytest.mark.parametrize(
    ("dialect", "path", "extra"),
    [
        ("groq", "/v1/chat/completions", {}),
        ("llamacpp", "/v1/chat/completions", {}),
        ("compatible", "/v1/chat/completions", {}),
        ("deepseek", "/beta/chat/completions", {}),
        ("vllm", "/v1/chat/completions", {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
async def test_prefill_has_the_dialects_form(dialect: str, path: str, extra: Mapping[str, object]) -> None:
    async with serving(Reply.json(openai_answer()), dialect=dialect) as (server, provider):
        async for _ in provider.stream(replace(at(server, CALL), prefill="Once upon")):
            pass
        (seen,) = server.requests
        body: dict[str, Any] = seen.json
        assert seen.path == path
        assert body["messages"][-1]["role"] == "assistant"
        assert body["messages"][-1]["content"] == "Once upon"
        assert body["messages"][-1].get("prefix") is (True if dialect == "deepseek" else None)
        assert {key: body.get(key) for key in extra} == extra


@pytest.mark.parametrize(
    ("dialect", "field"),
    [("openai", "prompt_cache_key"), ("vllm", "cache_salt"), ("groq", ""), ("deepseek", "")],
)
async def test_cache_key_has_the_dialects_field(dialect: str, field: str) -> None:
    body = await sent(replace(CALL, cache_key="hash"), dialect=dialect)
    assert [key for key, value in body.items() if value == "hash"] == ([field] if field else [])


@pytest.mark.parametrize(
    ("dialect", "effort", "fields"),
    [
        ("openai", ReasoningEffort.HIGH, {"reasoning_effort": "high"}),
        ("groq", ReasoningEffort.LOW, {"reasoning_effort": "low", "reasoning_format": "parsed"}),
        ("deepseek", ReasoningEffort.NONE, {"thinking": {"type": "disabled"}}),
        ("deepseek", ReasoningEffort.MEDIUM, {"thinking": {"type": "enabled"}}),
        ("vllm", ReasoningEffort.NONE, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("llamacpp", ReasoningEffort.HIGH, {"chat_template_kwargs": {"enable_thinking": True}}),
    ],
)
async def test_effort_has_the_dialects_fields(
    dialect: str, effort: ReasoningEffort, fields: Mapping[str, object]
) -> None:
    body = await sent(replace(CALL, parameters=Parameters(reasoning_effort=effort)), dialect=dialect)
    assert {key: body.get(key) for key in fields} == fields


async def test_llamacpp_keeps_its_prompt() -> None:
    assert (await sent(CALL, dialect="llamacpp"))["cache_prompt"] is True


async def test_extra_body_comes_last() -> None:
    body = await sent(replace(CALL, extra_body={"model": "other", "service_tier": "flex"}))
    assert (body["model"], body["service_tier"]) == ("other", "flex")


# Vectors

EMBED = EmbedCall(model=MODEL, account=CALL.account, timeouts=Timeouts(), inputs=("a", "b"))


async def test_vectors_come_in_the_order_of_the_inputs() -> None:
    reply = Reply.json(openai_vectors([1.0, 2], [3, 4.5], order=[1, 0]))
    async with serving(reply) as (server, provider):
        account = replace(CALL.account, base_url=f"{server.url}/v1")
        result = await provider.embed(replace(EMBED, account=account, dimensions=2))
        assert result.vectors == ((1.0, 2.0), (3.0, 4.5))
        assert result.usage == Usage(input_tokens=7)
        assert server.requests[0].path == "/v1/embeddings"
        body = {"model": "wire-small", "input": ["a", "b"], "encoding_format": "float", "dimensions": 2}
        assert server.requests[0].json == body


@pytest.mark.parametrize(
    ("dialect", "call", "fields", "notes"),
    [
        pytest.param("openai", replace(EMBED, dimensions=4), {"dimensions": None}, 0, id="the model's own length"),
        pytest.param("openai", replace(EMBED, truncation=Truncation.END), {}, 1, id="no cutting"),
        pytest.param(
            "vllm", replace(EMBED, truncation=Truncation.END), {"truncate_prompt_tokens": -1}, 0, id="cutting"
        ),
        pytest.param("openai", replace(EMBED, input_type=InputType.QUERY), {"input_type": None}, 1, id="input type"),
        pytest.param("openai", replace(EMBED, extra_body={"user": "u"}), {"user": "u"}, 0, id="extra body"),
    ],
)
async def test_embedding_fields(dialect: str, call: EmbedCall, fields: Mapping[str, object], notes: int) -> None:
    async with serving(Reply.json(openai_vectors([1], [2])), dialect=dialect) as (server, provider):
        result = await provider.embed(replace(call, account=replace(CALL.account, base_url=server.url)))
        body = server.requests[0].json
        assert {key: body.get(key) for key in fields} == fields
        assert len(result.notes) == notes


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Reply.json(openai_vectors([1])), FailureKind.MALFORMED, id="one too few"),
        pytest.param(Reply.json(openai_vectors([1], [2], order=[0, 0])), FailureKind.MALFORMED, id="one twice"),
        pytest.param(Reply.text('{"data":[{"index":0,"embedding":[NaN]}]}'), FailureKind.MALFORMED, id="a page"),
        pytest.param(
            Reply.text('{"data":[{"index":0,"embedding":[NaN]}]}', content_type="application/json"),
            FailureKind.MALFORMED,
            id="not a number",
        ),
        pytest.param(Reply(pieces=()), FailureKind.EMPTY, id="no body"),
        pytest.param(Reply.json(openai_error(), status=429), FailureKind.RATE_LIMIT, id="429"),
    ],
)
async def test_bad_vectors_have_their_kind(reply: Reply, kind: FailureKind) -> None:
    async with serving(reply) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await provider.embed(replace(EMBED, account=replace(CALL.account, base_url=server.url)))
        assert caught.value.kind is kind


def test_unknown_dialect_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="compatible"):
        OpenAiProvider(Http(), "opnai")


async def test_adapter_is_a_provider() -> None:
    provider: Provider = OpenAiProvider(Http())
    await provider.aclose()
    await provider.aclose()
