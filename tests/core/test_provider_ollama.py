from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Feature
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http
from gearshift.core.provider import EmbedCall, ProviderCall, Timeouts, TokenLogprob
from gearshift.core.providers.ollama import OllamaProvider
from gearshift.core.request import (
    Image,
    JsonOutput,
    LabelOutput,
    Message,
    Parameters,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    user,
)
from gearshift.core.words import FailureKind, FinishReason, ReasoningEffort, Role, ToolMode, Truncation
from tests.support import ollama_wire as wire
from tests.support.chunk_folding import Folded, account, folded, some_model
from tests.support.scripted_server import BOUND_S, End, Reply, ScriptedServer, scripted

HELLO = Reply.json(wire.whole("Hello"))
WEATHER = Tool(
    name="weather",
    description="Tells the weather.",
    parameters_schema='{"type":"object","properties":{"city":{"type":"string"}}}',
)
CLOCK = Tool(name="now")


@asynccontextmanager
async def ollama(*replies: Reply) -> AsyncGenerator[tuple[ScriptedServer, OllamaProvider]]:
    async with scripted(*replies) as server:
        http = Http()
        try:
            yield server, OllamaProvider(http)
        finally:
            await http.aclose()


def call(server: ScriptedServer, *features: Feature, **options: str) -> ProviderCall:
    return ProviderCall(
        model=some_model("ollama", *features, options=options, wire_id="qwen3"),
        account=account(server.url, api_key=""),
        timeouts=Timeouts(),
        messages=(user("Hi"),),
    )


def stream(*lines: wire.Line, end: End = End.CLEAN) -> Reply:
    return Reply.sse(wire.lines(lines), end=end, content_type="application/x-ndjson")


async def body_of(
    change: Callable[[ProviderCall], ProviderCall], *features: Feature, **options: str
) -> dict[str, object]:
    """Give the body that a call sends, with its notes under `notes`."""
    async with ollama(HELLO) as (server, provider):
        answer = await folded(provider, change(call(server, *features, **options)))
        return {**server.requests[0].json, "notes": answer.notes}


def with_parameters(parameters: Parameters) -> Callable[[ProviderCall], ProviderCall]:
    return lambda given: replace(given, parameters=parameters)


# The request.


async def test_plain_call_says_what_it_must_and_no_more() -> None:
    async with ollama(HELLO) as (server, provider):
        await folded(provider, call(server))
    seen = server.requests[0]
    assert (seen.method, seen.path) == ("POST", "/api/chat")
    assert "authorization" not in seen.headers
    assert seen.json == {
        "model": "qwen3",
        "stream": False,
        "truncate": False,
        "messages": [{"role": "user", "content": "Hi"}],
    }


async def test_key_of_a_hosted_server_is_sent() -> None:
    async with ollama(HELLO) as (server, provider):
        await folded(provider, replace(call(server), account=account(server.url, api_key="k")))
    assert server.requests[0].headers["authorization"] == "Bearer k"


async def test_options_are_named_as_ollama_names_them() -> None:
    parameters = Parameters(temperature=0.2, top_p=0.9, max_tokens=64, stop=("END",), seed=7)
    body = await body_of(with_parameters(parameters), Feature.TEMPERATURE, Feature.SEED, num_ctx="8192")
    assert body["options"] == {
        "num_ctx": 8192,
        "num_predict": 64,
        "temperature": 0.2,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["END"],
    }
    assert body["notes"] == []


async def test_options_that_the_model_does_not_take_are_dropped_with_a_note() -> None:
    body = await body_of(with_parameters(Parameters(temperature=0.2, seed=7)))
    assert "options" not in body
    assert len(str(body["notes"]).split(";")) == 3


async def test_prompt_is_one_system_message_and_prefill_the_last_turn() -> None:
    body = await body_of(
        lambda given: replace(given, system_static="You help ", system_dynamic="Ada.", prefill="Once"), Feature.PREFILL
    )
    assert body["messages"] == [
        {"role": "system", "content": "You help Ada."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Once"},
    ]


async def test_tool_turns_name_the_tool_that_answered() -> None:
    messages = (
        Message(role=Role.USER, parts=(Text("Look"), Image(data=b"\x89PNG", media_type="image/png"))),
        Message(role=Role.ASSISTANT, parts=(ToolCall(id="c1", name="weather", arguments='{"city":"Paris"}'),)),
        Message(role=Role.TOOL, parts=(ToolResult(tool_call_id="c1", content="rain"),)),
    )
    body = await body_of(lambda given: replace(given, messages=messages, tools=(WEATHER, CLOCK)))
    assert body["messages"] == [
        {"role": "user", "content": "Look", "images": [base64.b64encode(b"\x89PNG").decode()]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": {"city": "Paris"}}}],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "c1", "tool_name": "weather"},
    ]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tells the weather.",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        },
        {
            "type": "function",
            "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}},
        },
    ]


@pytest.mark.parametrize(
    ("choice", "offered", "noted"),
    [
        pytest.param(ToolChoice(), ["weather", "now"], False, id="auto"),
        pytest.param(ToolChoice(mode=ToolMode.NONE), [], False, id="none"),
        pytest.param(ToolChoice(mode=ToolMode.REQUIRED), ["weather", "now"], True, id="any"),
        pytest.param(ToolChoice(mode=ToolMode.NAMED, name="now"), ["now"], True, id="one"),
    ],
)
async def test_tool_choice_is_kept_as_far_as_ollama_can(choice: ToolChoice, offered: list[str], noted: bool) -> None:
    body = await body_of(lambda given: replace(given, tools=(WEATHER, CLOCK), tool_choice=choice))
    assert [tool["function"]["name"] for tool in json.loads(json.dumps(body.get("tools", [])))] == offered
    assert bool(body["notes"]) == noted


@pytest.mark.parametrize(
    ("features", "output", "sent"),
    [
        pytest.param((Feature.JSON_SCHEMA,), JsonOutput(schema='{"type":"object"}'), {"type": "object"}, id="schema"),
        pytest.param((Feature.JSON_SCHEMA,), JsonOutput(), "json", id="any document"),
        pytest.param((Feature.JSON_OBJECT,), JsonOutput(schema='{"type":"object"}'), "json", id="JSON alone"),
        pytest.param((), JsonOutput(schema='{"type":"object"}'), None, id="words alone"),
        pytest.param(
            (Feature.JSON_SCHEMA,), LabelOutput(labels=("a", "b")), {"type": "string", "enum": ["a", "b"]}, id="labels"
        ),
        pytest.param((), LabelOutput(labels=("a", "b")), None, id="labels in words"),
    ],
)
async def test_output_spec_is_a_format_and_words(
    features: tuple[Feature, ...], output: JsonOutput | LabelOutput, sent: object
) -> None:
    body = await body_of(lambda given: replace(given, output=output), *features)
    assert body.get("format") == sent
    messages = body["messages"]
    assert isinstance(messages, list)
    assert messages[0]["role"] == "system"


@pytest.mark.parametrize(
    ("effort", "options", "want_reasoning", "sent"),
    [
        (None, {}, False, None),
        (None, {}, True, True),
        (ReasoningEffort.NONE, {}, True, False),
        (ReasoningEffort.HIGH, {}, False, True),
        (ReasoningEffort.HIGH, {"think": "levels"}, False, "high"),
    ],
)
async def test_reasoning_effort_is_a_switch_or_a_level(
    effort: ReasoningEffort | None, options: dict[str, str], want_reasoning: bool, sent: bool | str | None
) -> None:
    def change(given: ProviderCall) -> ProviderCall:
        return replace(given, want_reasoning=want_reasoning, parameters=Parameters(reasoning_effort=effort))

    assert (await body_of(change, Feature.REASONING, **options)).get("think") == sent
    assert "think" not in await body_of(change)


async def test_extra_body_is_merged_last() -> None:
    body = await body_of(lambda given: replace(given, extra_body={"keep_alive": "10m", "truncate": True}))
    assert (body["keep_alive"], body["truncate"]) == ("10m", True)


def with_image_address(given: ProviderCall) -> ProviderCall:
    return replace(given, messages=(Message(role=Role.USER, parts=(Image(url="https://example.com/a.png"),)),))


def with_half_a_character(given: ProviderCall) -> ProviderCall:
    return replace(given, messages=(user("\ud83d"),))


def with_prefill(given: ProviderCall) -> ProviderCall:
    return replace(given, prefill="Once")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_image_address, "send their bytes"),
        (with_prefill, "cannot continue"),
        (with_half_a_character, "half a char"),
    ],
)
async def test_what_cannot_be_said_is_an_invalid_request(
    change: Callable[[ProviderCall], ProviderCall], words: str
) -> None:
    async with ollama(HELLO) as (server, provider):
        with pytest.raises(ProviderFailure, match=words) as caught:
            await folded(provider, change(call(server)))
    assert caught.value.kind is FailureKind.INVALID_REQUEST
    assert not server.requests


# The answer.


async def test_whole_answer_is_one_chunk() -> None:
    reply = Reply.json(
        wire.whole("I look.", thinking="Hm.", tool_calls=[wire.tool_call("weather", {"city": "Paris"}, id="c1")])
    )
    async with ollama(reply) as (server, provider):
        answer = await folded(provider, replace(call(server), want_reasoning=True))
    assert len(answer.chunks) == 1
    assert (answer.text, answer.reasoning) == ("I look.", "Hm.")
    assert (answer.tool_calls[0].id, answer.tool_calls[0].name) == ("c1", "weather")
    assert json.loads(answer.tool_calls[0].arguments) == {"city": "Paris"}
    assert answer.usage == Usage(input_tokens=12, output_tokens=7)
    assert answer.finish_reason is FinishReason.TOOL_CALLS


TALK = [
    wire.line(thinking="Let me "),
    wire.line(thinking="think."),
    wire.line("Grüße "),
    wire.line("aus 東京 "),
    wire.line("🙂."),
    wire.line(tool_calls=[wire.tool_call("weather", {"city": "Paris"}), wire.tool_call("now", {})]),
    wire.last(),
]


def check_talk(answer: Folded) -> None:
    assert answer.text == "Grüße aus 東京 🙂."
    assert answer.reasoning == "Let me think."
    assert [(each.name, json.loads(each.arguments)) for each in answer.tool_calls] == [
        ("weather", {"city": "Paris"}),
        ("now", {}),
    ]
    assert len({each.id for each in answer.tool_calls}) == 2
    assert answer.tokens == 3
    assert answer.usage == Usage(input_tokens=12, output_tokens=7)
    assert answer.finish_reason is FinishReason.TOOL_CALLS


async def test_stream_says_the_same_wherever_its_bytes_are_cut() -> None:
    data = wire.lines(TALK)
    cuts = [Reply.sse(data[:at], data[at:], content_type="application/x-ndjson") for at in range(1, len(data))]
    async with ollama(*cuts) as (server, provider):
        given = replace(call(server), stream=True, want_reasoning=True)
        for _ in cuts:
            check_talk(await folded(provider, given))
        assert len(server.requests) == len(cuts)


async def test_each_read_is_a_chunk() -> None:
    gate = asyncio.Event()
    first, rest = wire.lines(TALK[:4]), wire.lines(TALK[4:])
    async with ollama(Reply.sse(first, gate, rest)) as (server, provider):
        answer = Folded()
        async with aclosing(provider.stream(replace(call(server), stream=True))) as chunks:
            with anyio.fail_after(BOUND_S):
                answer.take(await anext(chunks))
                assert (answer.text, answer.tokens, answer.reasoning) == ("Grüße aus 東京 ", 2, "")
                gate.set()
                async for chunk in chunks:
                    answer.take(chunk)
    assert len(answer.chunks) == 2


async def test_connection_is_used_again_after_a_stream() -> None:
    async with ollama(stream(*TALK)) as (server, provider):
        for _ in range(3):
            await folded(provider, replace(call(server), stream=True))
        assert server.connections == 1


async def test_last_line_ends_the_answer_though_the_connection_stays_open() -> None:
    async with ollama(stream(*TALK, end=End.HANG)) as (server, provider):
        with anyio.fail_after(BOUND_S):
            check_talk(await folded(provider, replace(call(server), stream=True, want_reasoning=True)))
        await server.wait_closed_early()


@pytest.mark.parametrize(
    ("done_reason", "finish"),
    [("stop", FinishReason.STOP), ("length", FinishReason.LENGTH), ("load", FinishReason.STOP)],
)
async def test_done_reasons_are_mapped(done_reason: str, finish: FinishReason) -> None:
    async with ollama(stream(wire.line("Hi"), wire.last(done_reason))) as (server, provider):
        assert (await folded(provider, replace(call(server), stream=True))).finish_reason is finish


async def test_logprobs_come_with_the_likeliest_rival() -> None:
    lines = [
        wire.line("Yes", logprobs=[wire.logprob("Yes", -0.1, ("No", -2.5))]),
        wire.line("!", logprobs=[wire.logprob("!", -0.5)]),
        wire.last(),
    ]
    async with ollama(stream(*lines)) as (server, provider):
        answer = await folded(provider, replace(call(server), stream=True, want_logprobs=True))
    assert answer.logprobs == [TokenLogprob("Yes", -0.1, -2.5), TokenLogprob("!", -0.5, None)]
    assert (server.requests[0].json["logprobs"], server.requests[0].json["top_logprobs"]) == (True, 2)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_label_is_taken_out_of_its_quotes_with_its_own_logprobs(streamed: bool) -> None:
    scores = [wire.logprob(token, -0.25) for token in ('"', "bill", "ing", '"')]
    pieces = [
        wire.line(token, logprobs=[score]) for token, score in zip(('"', "bill", "ing", '"'), scores, strict=True)
    ]
    whole = Reply.json({**wire.whole('"billing"'), "logprobs": scores})
    async with ollama(stream(*pieces, wire.last()) if streamed else whole) as (server, provider):
        output = LabelOutput(labels=("billing", "other"))
        asked = replace(call(server, Feature.JSON_SCHEMA), stream=streamed, output=output, want_logprobs=True)
        answer = await folded(provider, asked)
    assert answer.text == "billing"
    assert [each.token for each in answer.logprobs] == ["bill", "ing"]


async def test_nulls_are_tolerated() -> None:
    lines: list[wire.Line] = [
        {"message": {"content": None, "thinking": None, "tool_calls": None}, "logprobs": None, "done": None},
        {"message": {"content": "Hi", "images": None}, "error": None},
        {"message": None, "done": True, "done_reason": None, "eval_count": None},
    ]
    async with ollama(stream(*lines)) as (server, provider):
        answer = await folded(provider, replace(call(server), stream=True))
    assert (answer.text, answer.usage, answer.finish_reason) == ("Hi", None, FinishReason.STOP)


# Failures.

SECRET = "secret words of the provider"


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (400, SECRET, FailureKind.INVALID_REQUEST),
        (400, '"qwen3" does not support tools', FailureKind.INVALID_REQUEST),
        (
            400,
            '{"error":{"code":400,"message":"request (8889 tokens) exceeds the available context size (4096 tokens)"}}',
            FailureKind.CONTEXT_LENGTH,
        ),
        (400, "the input length exceeds the context length", FailureKind.CONTEXT_LENGTH),
        (401, "unauthorized", FailureKind.AUTHENTICATION),
        (402, SECRET, FailureKind.BILLING),
        (403, SECRET, FailureKind.AUTHENTICATION),
        (404, "model 'qwen3' not found", FailureKind.MODEL_NOT_FOUND),
        (429, SECRET, FailureKind.RATE_LIMIT),
        (500, "model runner has unexpectedly stopped", FailureKind.SERVER),
        (502, SECRET, FailureKind.SERVER),
        (503, "server busy, please try again. maximum pending requests exceeded", FailureKind.OVERLOAD),
    ],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_error_answers_are_classified_and_never_quoted(
    status: int, words: str, expected: FailureKind, streamed: bool
) -> None:
    async with ollama(Reply.json({"error": words}, status=status)) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=streamed))
    assert caught.value.kind is expected
    assert caught.value.status == status
    assert words not in str(caught.value)


async def test_missing_model_says_how_to_get_it() -> None:
    async with ollama(Reply.json({"error": "model 'qwen3' not found"}, status=404)) as (server, provider):
        with pytest.raises(ProviderFailure, match="gearshift models pull"):
            await folded(provider, call(server))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("an error was encountered while running the model", FailureKind.SERVER),
        ("model 'qwen3' not found", FailureKind.MODEL_NOT_FOUND),
        ("the prompt is longer than the context length currently available", FailureKind.CONTEXT_LENGTH),
        ({"message": "overloaded", "code": 503}, FailureKind.OVERLOAD),
    ],
)
async def test_error_line_inside_a_stream_is_classified(error: object, expected: FailureKind) -> None:
    async with ollama(stream(wire.line("Once"), {"error": error})) as (server, provider):
        answer = Folded()
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=True), answer)
    assert caught.value.kind is expected
    assert answer.text == "Once", "what came in the same read is not lost"


@pytest.mark.parametrize("end", [End.CLEAN, End.CLOSE, End.CUT])
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_answer_without_its_end_is_a_lost_connection(end: End, streamed: bool) -> None:
    async with ollama(stream(wire.line("Once"), end=end)) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=streamed))
    assert caught.value.kind is FailureKind.CONNECTION


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply.text("<html>sign in</html>"), id="a page"),
        pytest.param(Reply.sse("{oh\n", content_type="application/x-ndjson"), id="half JSON"),
        pytest.param(Reply.sse('{"message":3}\n', content_type="application/x-ndjson"), id="wrong types"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_answer_that_cannot_be_read_is_malformed(reply: Reply, streamed: bool) -> None:
    async with ollama(reply) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=streamed))
    assert caught.value.kind is FailureKind.MALFORMED


async def test_server_that_is_not_there_is_a_lost_connection() -> None:
    async with ollama(HELLO) as (server, _):
        given = call(server)
    http = Http()
    with pytest.raises(ProviderFailure) as caught:
        await folded(OllamaProvider(http), given)
    await http.aclose()
    assert caught.value.kind is FailureKind.CONNECTION


# Embeddings.


def embed_call(server: ScriptedServer, **options: str) -> EmbedCall:
    given = call(server, **options)
    return EmbedCall(model=given.model, account=given.account, timeouts=given.timeouts, inputs=("a", "b"))


async def test_embeddings_come_in_order_with_their_usage() -> None:
    async with ollama(Reply.json(wire.embedded([0.5, 1.0], [0.25, 2]))) as (server, provider):
        result = await provider.embed(replace(embed_call(server, num_ctx="2048"), dimensions=2))
    assert result.vectors == ((0.5, 1.0), (0.25, 2.0))
    assert result.usage == Usage(input_tokens=9)
    assert server.requests[0].path == "/api/embed"
    assert server.requests[0].json == {
        "model": "qwen3",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 2,
        "options": {"num_ctx": 2048},
    }


async def test_truncation_is_asked_for_only_when_allowed() -> None:
    async with ollama(Reply.json(wire.embedded([0.5], [0.25]))) as (server, provider):
        await provider.embed(replace(embed_call(server), truncation=Truncation.END))
    assert server.requests[0].json["truncate"] is True


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(
            Reply.json({"error": "the input length exceeds the context length"}, status=400),
            FailureKind.CONTEXT_LENGTH,
            id="too long",
        ),
        pytest.param(Reply.json({"error": "model 'x' not found"}, status=404), FailureKind.MODEL_NOT_FOUND, id="404"),
        pytest.param(Reply.json({}), FailureKind.MALFORMED, id="none"),
        pytest.param(Reply.json({"embeddings": [["x"]]}), FailureKind.MALFORMED, id="words"),
    ],
)
async def test_embedding_failures_are_classified(reply: Reply, expected: FailureKind) -> None:
    async with ollama(reply) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await provider.embed(embed_call(server))
    assert caught.value.kind is expected


# Cancellation.


async def test_closing_the_generator_closes_the_upstream() -> None:
    async with ollama(stream(wire.line("Once"), end=End.HANG)) as (server, provider):
        async with aclosing(provider.stream(replace(call(server), stream=True))) as chunks:
            await anext(chunks)
        await server.wait_closed_early()


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_cancelling_the_call_closes_the_upstream(streamed: bool) -> None:
    async with ollama(Reply(framing="none", end=End.HANG)) as (server, provider):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(folded, provider, replace(call(server), stream=streamed))
            with anyio.fail_after(BOUND_S):
                await server.asked.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await server.wait_closed_early()
