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
from gearshift.core.provider import CacheHint, EmbedCall, ProviderCall, Timeouts
from gearshift.core.providers._anthropic_schema import supported_schema
from gearshift.core.providers.anthropic import AnthropicProvider
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
from gearshift.core.words import FailureKind, FinishReason, ReasoningEffort, Role, ToolMode
from tests.support import anthropic_wire as wire
from tests.support.chunk_folding import Folded, account, folded, some_model
from tests.support.scripted_server import BOUND_S, End, Reply, ScriptedServer, scripted

WEATHER = Tool(
    name="weather",
    description="Tells the weather.",
    parameters_schema='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
)
HELLO = Reply.json(wire.message(wire.text("Hello")))


@asynccontextmanager
async def anthropic(*replies: Reply, name: str = "") -> AsyncGenerator[tuple[ScriptedServer, AnthropicProvider]]:
    async with scripted(*replies) as server:
        http = Http()
        try:
            yield server, AnthropicProvider(http, name=name)
        finally:
            await http.aclose()


def call(server: ScriptedServer, *features: Feature, **options: str) -> ProviderCall:
    return ProviderCall(
        model=some_model("anthropic", *features, options=options),
        account=account(server.url),
        timeouts=Timeouts(),
        messages=(user("Hi"),),
    )


def stream(*events: wire.Event, end: End = End.CLEAN) -> Reply:
    return Reply.sse(wire.frames(events), end=end)


async def body_of(
    change: Callable[[ProviderCall], ProviderCall], *features: Feature, **options: str
) -> dict[str, object]:
    """Give the body that a call sends, with its notes under `notes`."""
    async with anthropic(HELLO) as (server, provider):
        answer = await folded(provider, change(call(server, *features, **options)))
        return {**server.requests[0].json, "notes": answer.notes}


def with_parameters(parameters: Parameters) -> Callable[[ProviderCall], ProviderCall]:
    return lambda given: replace(given, parameters=parameters)


# The request.


async def test_request_carries_key_version_and_path() -> None:
    async with anthropic(HELLO) as (server, provider):
        await folded(provider, call(server))
    seen = server.requests[0]
    assert (seen.method, seen.path) == ("POST", "/v1/messages")
    assert seen.headers["authorization"] == "Bearer sk-test"
    assert seen.headers["anthropic-version"] == "2026-10-21"
    assert seen.headers["content-type"] == "application/json"
    assert seen.json == {
        "model": "claude-opus-5-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }


async def test_headers_of_the_account_are_sent_and_a_missing_key_is_not() -> None:
    async with anthropic(HELLO) as (server, provider):
        given = call(server)
        bare = replace(given.account, api_key="", headers={"X-Api-Key": "other"})
        await folded(provider, replace(given, account=bare))
    assert server.requests[0].headers["x-api-key"] == "other"
    assert "authorization" not in server.requests[0].headers


async def test_max_tokens_is_the_callers_or_capped_by_the_model() -> None:
    def small(given: ProviderCall) -> ProviderCall:
        return replace(given, model=replace(given.model, max_output_tokens=512))

    assert (await body_of(small))["max_tokens"] == 512
    assert (await body_of(with_parameters(Parameters(max_tokens=9))))["max_tokens"] == 9


async def test_static_prompt_ends_with_the_cache_breakpoint_and_variables_follow() -> None:
    def change(given: ProviderCall) -> ProviderCall:
        return replace(
            given,
            system_static="Be brief.",
            system_dynamic="Today is Monday.",
            cache=CacheHint.ONE_HOUR,
            tools=(WEATHER,),
        )

    body = await body_of(change, Feature.CACHE_CONTROL)
    assert body["system"] == [
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "Today is Monday."},
    ]
    assert list(body).index("tools") < list(body).index("system") < list(body).index("messages")


async def test_five_minutes_is_the_breakpoints_default_and_goes_on_tools_without_a_prompt() -> None:
    short = await body_of(
        lambda given: replace(given, system_static="Be brief.", cache=CacheHint.FIVE_MINUTES), Feature.CACHE_CONTROL
    )
    assert short["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    tools = await body_of(
        lambda given: replace(given, tools=(WEATHER,), cache=CacheHint.FIVE_MINUTES), Feature.CACHE_CONTROL
    )
    assert '"cache_control": {"type": "ephemeral"}' in json.dumps(tools["tools"])


async def test_no_breakpoint_without_the_feature_or_the_hint() -> None:
    without = await body_of(lambda given: replace(given, system_static="Be brief.", cache=CacheHint.ONE_HOUR))
    unasked = await body_of(lambda given: replace(given, system_static="Be brief."), Feature.CACHE_CONTROL)
    assert without["system"] == unasked["system"] == [{"type": "text", "text": "Be brief."}]


async def test_turns_of_one_role_are_merged_and_tool_results_come_first() -> None:
    messages = (
        user("What is the weather?"),
        user("In Paris."),
        Message(
            role=Role.ASSISTANT,
            parts=(Text("I look."), ToolCall(id="t1", name="weather", arguments='{"city":"Paris"}')),
        ),
        user("Hurry."),
        Message(role=Role.TOOL, parts=(ToolResult(tool_call_id="t1", content="rain", is_error=True),)),
    )
    body = await body_of(lambda given: replace(given, messages=messages, tools=(WEATHER,)))
    assert body["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is the weather?"}, {"type": "text", "text": "In Paris."}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "rain", "is_error": True},
                {"type": "text", "text": "Hurry."},
            ],
        },
    ]
    assert body["tools"] == [
        {
            "name": "weather",
            "description": "Tells the weather.",
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        }
    ]


async def test_images_go_as_bytes_or_as_an_address() -> None:
    parts = (
        Image(data=b"\x89PNG", media_type="image/png"),
        Image(url="https://example.com/a.png"),
        Text("What is it?"),
    )
    body = await body_of(lambda given: replace(given, messages=(Message(role=Role.USER, parts=parts),)))
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"\x89PNG").decode()}
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": source},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {"type": "text", "text": "What is it?"},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        pytest.param(ToolChoice(), None, id="auto is the default"),
        pytest.param(ToolChoice(mode=ToolMode.NONE), {"type": "none"}, id="none"),
        pytest.param(ToolChoice(mode=ToolMode.REQUIRED), {"type": "any"}, id="any"),
        pytest.param(ToolChoice(mode=ToolMode.NAMED, name="weather"), {"type": "tool", "name": "weather"}, id="one"),
    ],
)
async def test_tool_choice_is_said(choice: ToolChoice, sent: dict[str, str] | None) -> None:
    body = await body_of(lambda given: replace(given, tools=(WEATHER,), tool_choice=choice))
    assert body.get("tool_choice") == sent


async def test_model_that_refuses_forced_tools_is_left_the_choice_and_the_note_says_so() -> None:
    body = await body_of(
        lambda given: replace(given, tools=(WEATHER,), tool_choice=ToolChoice(mode=ToolMode.REQUIRED)),
        forced_tools="no",
    )
    assert "tool_choice" not in body
    assert body["notes"] == ["the model cannot be forced to call a tool here; the choice was left to it"]


async def test_sampling_is_sent_where_the_model_takes_it() -> None:
    both = await body_of(
        with_parameters(Parameters(temperature=0.2, top_p=0.9, stop=("END", " "))), Feature.TEMPERATURE
    )
    assert (both["temperature"], both.get("top_p"), both["stop_sequences"]) == (0.2, None, ["END"])
    high = await body_of(with_parameters(Parameters(temperature=1.7)), Feature.TEMPERATURE)
    assert high["temperature"] == 1.0
    alone = await body_of(with_parameters(Parameters(top_p=0.9)), Feature.TEMPERATURE)
    assert alone["top_p"] == 0.9


async def test_sampling_is_dropped_with_a_note_where_the_model_does_not_take_it() -> None:
    body = await body_of(with_parameters(Parameters(temperature=0.2, seed=7)))
    assert "temperature" not in body
    assert body["notes"] == [
        "the model takes no temperature or top_p; they were dropped",
        "the provider takes no seed; it was dropped",
    ]


@pytest.mark.parametrize(
    ("effort", "options", "sent"),
    [
        pytest.param(
            ReasoningEffort.LOW,
            {},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            id="adaptive takes a word",
        ),
        pytest.param(ReasoningEffort.NONE, {}, {"thinking": {"type": "disabled"}}, id="off"),
        pytest.param(
            ReasoningEffort.NONE,
            {"thinking_off": "between_tools"},
            {"thinking": {"type": "between_tools"}},
            id="off but between tools",
        ),
        pytest.param(
            ReasoningEffort.NONE, {"thinking_off": "never"}, {"output_config": {"effort": "low"}}, id="cannot be off"
        ),
        pytest.param(
            ReasoningEffort.HIGH,
            {"thinking": "budget"},
            {"thinking": {"type": "enabled", "budget_tokens": 3999}},
            id="budget stays below max_tokens",
        ),
        pytest.param(ReasoningEffort.NONE, {"thinking": "budget"}, {}, id="budget is off by default"),
        pytest.param(None, {}, {}, id="unset is the model's own"),
    ],
)
async def test_reasoning_effort_is_said_as_the_model_takes_it(
    effort: ReasoningEffort | None, options: dict[str, str], sent: dict[str, object]
) -> None:
    body = await body_of(
        with_parameters(Parameters(reasoning_effort=effort, max_tokens=4000)), Feature.REASONING, **options
    )
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == sent


async def test_token_budget_forbids_temperature_and_forced_tools() -> None:
    def change(given: ProviderCall) -> ProviderCall:
        return replace(
            given,
            tools=(WEATHER,),
            tool_choice=ToolChoice(mode=ToolMode.REQUIRED),
            parameters=Parameters(reasoning_effort=ReasoningEffort.LOW, temperature=0.5),
        )

    body = await body_of(change, Feature.REASONING, Feature.TEMPERATURE, thinking="budget")
    assert "temperature" not in body
    assert "tool_choice" not in body


async def test_answer_that_is_continued_is_not_thought_about() -> None:
    def change(given: ProviderCall) -> ProviderCall:
        return replace(given, prefill="Once", parameters=Parameters(reasoning_effort=ReasoningEffort.LOW))

    body = await body_of(change, Feature.REASONING, Feature.PREFILL, thinking="budget")
    assert "thinking" not in body
    assert body["notes"]


async def test_too_small_an_answer_leaves_no_room_for_a_budget() -> None:
    body = await body_of(
        with_parameters(Parameters(reasoning_effort=ReasoningEffort.LOW, max_tokens=100)),
        Feature.REASONING,
        thinking="budget",
    )
    assert "thinking" not in body
    assert body["notes"] == ["max_tokens leaves no room to think; the reasoning effort was dropped"]


async def test_wanted_reasoning_asks_for_summaries() -> None:
    body = await body_of(lambda given: replace(given, want_reasoning=True), Feature.REASONING)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}


async def test_schema_is_enforced_where_the_model_can() -> None:
    output = JsonOutput(schema='{"type":"object","properties":{"n":{"type":"integer","minimum":1}}}')
    body = await body_of(lambda given: replace(given, output=output), Feature.JSON_SCHEMA)
    assert body["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"n": {"type": "integer", "description": '{"minimum":1}'}},
                "additionalProperties": False,
            },
        }
    }
    assert "system" not in body


async def test_schema_and_effort_share_the_output_config() -> None:
    def change(given: ProviderCall) -> ProviderCall:
        return replace(
            given,
            output=JsonOutput(schema='{"type":"array","items":{"type":"string"}}'),
            parameters=Parameters(reasoning_effort=ReasoningEffort.HIGH),
        )

    body = await body_of(change, Feature.JSON_SCHEMA, Feature.REASONING)
    assert body["output_config"] == {
        "effort": "high",
        "format": {"type": "json_schema", "schema": {"type": "array", "items": {"type": "string"}}},
    }


async def test_schema_is_told_in_words_where_the_model_cannot() -> None:
    output = JsonOutput(schema='{"type":"object"}', examples=(("a", '{"b":1}'),))
    body = await body_of(lambda given: replace(given, system_static="Be brief.", output=output))
    assert "output_config" not in body
    system = json.loads(json.dumps(body["system"]))
    assert len(system) == 2
    assert '{"type":"object"}' in system[1]["text"]
    assert '{"b":1}' in system[1]["text"]


async def test_extra_body_is_merged_last() -> None:
    body = await body_of(lambda given: replace(given, extra_body={"max_tokens": 3, "service_tier": "standard_only"}))
    assert (body["max_tokens"], body["service_tier"]) == (3, "standard_only")


def with_half_a_character(given: ProviderCall) -> ProviderCall:
    return replace(given, messages=(user("\ud83d"),))


def with_prefill(given: ProviderCall) -> ProviderCall:
    return replace(given, prefill="Once")


def with_bad_arguments(given: ProviderCall) -> ProviderCall:
    turn = Message(role=Role.ASSISTANT, parts=(ToolCall(id="a", name="b", arguments="[1]"),))
    return replace(given, messages=(turn,))


@pytest.mark.parametrize("change", [with_prefill, with_bad_arguments, with_half_a_character])
async def test_what_cannot_be_said_is_an_invalid_request(change: Callable[[ProviderCall], ProviderCall]) -> None:
    async with anthropic(HELLO) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, change(call(server)))
    assert caught.value.kind is FailureKind.INVALID_REQUEST
    assert not server.requests


async def test_there_are_no_embeddings() -> None:
    async with anthropic(HELLO) as (server, provider):
        given = call(server)
        asked = EmbedCall(model=given.model, account=given.account, timeouts=given.timeouts, inputs=("a",))
        with pytest.raises(ProviderFailure) as caught:
            await provider.embed(asked)
    assert caught.value.kind is FailureKind.INVALID_REQUEST


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        pytest.param("", None, id="any document"),
        pytest.param("{}", None, id="no type"),
        pytest.param('{"type":"object"}', None, id="a free map"),
        pytest.param(
            '{"type":"object","properties":{},"additionalProperties":{"type":"string"}}', None, id="typed map"
        ),
        pytest.param('{"type":"array","prefixItems":[{"type":"string"}]}', None, id="a tuple"),
        pytest.param(
            '{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}}}}}',
            None,
            id="recursion",
        ),
        pytest.param('{"$ref":"https://example.com/s.json"}', None, id="a reference to elsewhere"),
        pytest.param(
            '{"$ref":"#/$defs/n","$defs":{"n":{"type":"string","format":"date"}}}',
            {"$ref": "#/$defs/n", "$defs": {"n": {"type": "string", "format": "date"}}},
            id="a definition",
        ),
        pytest.param(
            '{"type":["string","null"],"maxLength":3}',
            {
                "anyOf": [
                    {"type": "string", "description": '{"maxLength":3}'},
                    {"type": "null", "description": '{"maxLength":3}'},
                ]
            },
            id="several types",
        ),
        pytest.param(
            '{"oneOf":[{"const":1},{"enum":["a",null]}]}',
            {"anyOf": [{"const": 1}, {"enum": ["a", None]}]},
            id="choices",
        ),
        pytest.param(
            '{"type":"object","properties":{"examples":{"type":"array","items":{"type":"number"},"minItems":1}},'
            '"required":["examples"],"$schema":"x"}',
            {
                "type": "object",
                "properties": {"examples": {"type": "array", "items": {"type": "number"}, "minItems": 1}},
                "required": ["examples"],
                "additionalProperties": False,
            },
            id="an object",
        ),
    ],
)
def test_schema_is_said_in_the_providers_dialect_or_not_at_all(schema: str, said: dict[str, object] | None) -> None:
    assert supported_schema(schema) == said


# The answer.


async def test_whole_answer_is_one_chunk() -> None:
    counted = wire.usage(
        input_tokens=5,
        output_tokens=40,
        cache_creation_input_tokens=100,
        cache_read_input_tokens=1000,
        cache_creation={"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 70},
        output_tokens_details={"thinking_tokens": 12},
    )
    reply = Reply.json(
        wire.message(
            wire.thinking("Hm.", "sig"),
            wire.text("I look."),
            wire.tool_use("t1", "weather", {"city": "Paris"}),
            stop_reason="tool_use",
            counted=counted,
        )
    )
    async with anthropic(reply) as (server, provider):
        answer = await folded(provider, replace(call(server), want_reasoning=True))
    assert len(answer.chunks) == 1
    assert (answer.text, answer.reasoning, answer.tokens) == ("I look.", "Hm.", 0)
    assert answer.finish_reason is FinishReason.TOOL_CALLS
    assert json.loads(answer.tool_calls[0].arguments) == {"city": "Paris"}
    assert answer.usage == Usage(
        input_tokens=1105,
        output_tokens=40,
        cache_write_tokens=100,
        cache_read_tokens=1000,
        reasoning_tokens=12,
        cache_write_1h_tokens=70,
    )


TALK = [
    wire.start(wire.usage(input_tokens=7, output_tokens=1, cache_creation={"ephemeral_1h_input_tokens": 0})),
    wire.ping(),
    *wire.thinking_block(0, "c2ln", "Let me ", "think."),
    *wire.redacted_block(1, "b3BhcXVl"),
    *wire.text_block(2, "Grüße ", "aus 東京 ", "🙂."),
    wire.ping(),
    *wire.tool_block(3, "t1", "weather", "", '{"ci', 'ty": "Paris"}'),
    *wire.tool_block(4, "t2", "now"),
    *wire.stop("tool_use", output_tokens=33, output_tokens_details={"thinking_tokens": 8}),
]


def check_talk(answer: Folded) -> None:
    assert answer.text == "Grüße aus 東京 🙂."
    assert answer.reasoning == "Let me think."
    assert [(each.id, each.name, each.arguments) for each in answer.tool_calls] == [
        ("t1", "weather", '{"city": "Paris"}'),
        ("t2", "now", "{}"),
    ]
    assert answer.usage == Usage(input_tokens=7, output_tokens=33, reasoning_tokens=8)
    assert answer.finish_reason is FinishReason.TOOL_CALLS
    assert answer.provider_state is not None


async def test_stream_gives_everything_in_one_chunk_when_it_comes_in_one_read() -> None:
    async with anthropic(stream(*TALK)) as (server, provider):
        answer = await folded(provider, replace(call(server), stream=True, want_reasoning=True))
    check_talk(answer)
    assert len(answer.chunks) == 1
    assert server.requests[0].json["stream"] is True


async def test_stream_says_the_same_wherever_its_bytes_are_cut() -> None:
    data = wire.frames(TALK)
    cuts = [Reply.sse(data[:at], data[at:]) for at in range(1, len(data))]
    async with anthropic(*cuts) as (server, provider):
        given = replace(call(server), stream=True, want_reasoning=True)
        for _ in cuts:
            check_talk(await folded(provider, given))
        assert len(server.requests) == len(cuts)


async def test_each_read_is_a_chunk_and_pings_are_none() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    pieces: list[bytes | asyncio.Event] = [
        wire.frames([wire.start(), wire.text_block(0)[0]]),
        gates[0],
        wire.frames([wire.ping()]),
        gates[1],
        wire.frames(wire.text_block(0, "One ", "two")[1:3]),
        gates[2],
        wire.frames([wire.text_block(0)[-1], *wire.stop()]),
    ]
    async with anthropic(Reply.sse(*pieces)) as (server, provider):
        answer = Folded()
        async with aclosing(provider.stream(replace(call(server), stream=True))) as chunks:
            with anyio.fail_after(BOUND_S):
                answer.take(await anext(chunks))
                gates[0].set()
                await anyio.wait_all_tasks_blocked()
                gates[1].set()
                answer.take(await anext(chunks))
                assert answer.text == "One two"
                gates[2].set()
                async for chunk in chunks:
                    answer.take(chunk)
    assert len(answer.chunks) == 3
    assert answer.finish_reason is FinishReason.STOP


async def test_reasoning_is_given_only_when_it_is_wanted() -> None:
    async with anthropic(stream(*TALK)) as (server, provider):
        answer = await folded(provider, replace(call(server), stream=True))
    assert answer.reasoning == ""
    assert answer.text == "Grüße aus 東京 🙂."


async def test_connection_is_used_again_after_a_stream() -> None:
    async with anthropic(stream(*TALK)) as (server, provider):
        for _ in range(3):
            await folded(provider, replace(call(server), stream=True))
        assert server.connections == 1


async def test_end_mark_ends_the_answer_though_the_connection_stays_open() -> None:
    async with anthropic(stream(*TALK, end=End.HANG)) as (server, provider):
        with anyio.fail_after(BOUND_S):
            check_talk(await folded(provider, replace(call(server), stream=True, want_reasoning=True)))
        await server.wait_closed_early()


@pytest.mark.parametrize(
    ("stop_reason", "finish"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("pause_turn", FinishReason.LENGTH),
        ("something_new", FinishReason.STOP),
    ],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_stop_reasons_are_mapped(stop_reason: str, finish: FinishReason, streamed: bool) -> None:
    events = stream(wire.start(), *wire.text_block(0, "Hi"), *wire.stop(stop_reason))
    whole = Reply.json(wire.message(wire.text("Hi"), stop_reason=stop_reason))
    async with anthropic(events if streamed else whole) as (server, provider):
        answer = await folded(provider, replace(call(server), stream=streamed))
    assert answer.finish_reason is finish
    assert bool(answer.notes) == (stop_reason == "pause_turn")


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_refusal_before_any_text_is_a_failure_that_keeps_its_usage(streamed: bool) -> None:
    events = stream(wire.start(), *wire.stop("refusal"))
    whole = Reply.json(wire.message(stop_reason="refusal"))
    async with anthropic(events if streamed else whole) as (server, provider):
        answer = Folded()
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=streamed), answer)
    assert caught.value.kind is FailureKind.CONTENT_REFUSED
    assert answer.finish_reason is None
    assert answer.usage == Usage(input_tokens=10, output_tokens=5)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_label_is_taken_out_of_its_object(streamed: bool) -> None:
    events = stream(wire.start(), *wire.text_block(0, '{"lab', 'el": "bil', 'ling"}'), *wire.stop())
    whole = Reply.json(wire.message(wire.text('{"label": "billing"}')))
    output = LabelOutput(labels=("billing", "other"), examples=(("I paid twice", "billing"),))
    async with anthropic(events if streamed else whole) as (server, provider):
        answer = await folded(provider, replace(call(server, Feature.JSON_SCHEMA), stream=streamed, output=output))
    assert answer.text == "billing"
    config = server.requests[0].json["output_config"]
    assert isinstance(config, dict)
    assert config["format"]["schema"]["properties"]["label"]["enum"] == ["billing", "other"]
    assert "I paid twice" in json.dumps(server.requests[0].json["system"])


async def test_label_that_was_not_wrapped_is_given_as_it_is() -> None:
    async with anthropic(stream(wire.start(), *wire.text_block(0, "billing, I think"), *wire.stop())) as (
        server,
        provider,
    ):
        asked = replace(call(server, Feature.JSON_SCHEMA), stream=True, output=LabelOutput(labels=("billing",)))
        assert (await folded(provider, asked)).text == "billing, I think"


@pytest.mark.parametrize("cuts", [("\n\nupon",), ("\n", "\nupon"), ("\n", "\n", "upon"), ("upon",)], ids=repr)
async def test_prefill_is_sent_without_its_last_white_space_which_is_not_repeated(cuts: tuple[str, ...]) -> None:
    async with anthropic(stream(wire.start(), *wire.text_block(0, *cuts), *wire.stop())) as (server, provider):
        asked = replace(call(server, Feature.PREFILL), stream=True, prefill="Once\n\n")
        assert (await folded(provider, asked)).text == "upon"
    messages = server.requests[0].json["messages"]
    assert isinstance(messages, list)
    assert messages[-1] == {"role": "assistant", "content": [{"type": "text", "text": "Once"}]}


# Signed thinking.


async def turn_sent_back(
    events: list[wire.Event], *, provider: str = "claude", model: str = ""
) -> tuple[object, list[str]]:
    """Give the assistant turn that goes back after a stream, and the notes of that call."""
    async with anthropic(stream(*events), HELLO, name="claude") as (server, adapter):
        given = call(server)
        first = await folded(adapter, replace(given, stream=True))
        assert first.provider_state is not None
        state = ProviderState(provider=provider, model=model or given.model.id, data=first.provider_state)
        parts = (*((Text(first.text),) if first.text else ()), *first.tool_calls)
        results = tuple(ToolResult(tool_call_id=each.id, content="ok") for each in first.tool_calls)
        turns = (
            user("Hi"),
            Message(role=Role.ASSISTANT, parts=parts, provider_state=state),
            Message(role=Role.TOOL, parts=results or (Text("go on"),)),
        )
        second = await folded(adapter, replace(given, messages=turns))
        turn = json.loads(server.requests[1].body)["messages"][1]
        return turn["content"], second.notes


THOUGHTFUL = [
    wire.start(),
    *wire.thinking_block(0, "sig0", "First."),
    *wire.redacted_block(1, "opaque"),
    *wire.text_block(2, "I look."),
    *wire.thinking_block(3, "sig3", ""),
    *wire.tool_block(4, "t1", "weather", "{}"),
    *wire.thinking_block(5, "sig5", "Then."),
    *wire.tool_block(6, "t2", "weather", "{}"),
    *wire.stop("tool_use"),
]


async def test_signed_thinking_goes_back_where_it_stood() -> None:
    content, notes = await turn_sent_back(THOUGHTFUL)
    assert content == [
        {"type": "thinking", "thinking": "First.", "signature": "sig0"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "text", "text": "I look."},
        {"type": "thinking", "thinking": "", "signature": "sig3"},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {}},
        {"type": "thinking", "thinking": "Then.", "signature": "sig5"},
        {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
    ]
    assert notes == []


async def test_a_turn_never_ends_with_a_thought() -> None:
    content, _ = await turn_sent_back(
        [wire.start(), *wire.text_block(0, "Done."), *wire.thinking_block(1, "sig", "Late."), *wire.stop()]
    )
    assert content == [
        {"type": "thinking", "thinking": "Late.", "signature": "sig"},
        {"type": "text", "text": "Done."},
    ]


@pytest.mark.parametrize("other", [{"provider": "another"}, {"model": "anthropic/another"}], ids=["provider", "model"])
async def test_signed_thinking_of_others_is_left_out_and_the_note_says_so(other: dict[str, str]) -> None:
    content, notes = await turn_sent_back(THOUGHTFUL, **other)
    assert "thinking" not in json.dumps(content)
    assert notes == ["signed thinking of another provider or model was left out"]


# Failures.

SECRET = "secret words of the provider"

STATUSES = [
    (400, "invalid_request_error", SECRET, FailureKind.INVALID_REQUEST),
    (400, "invalid_request_error", "prompt is too long: 208656 tokens > 200000 maximum", FailureKind.CONTEXT_LENGTH),
    (
        400,
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        FailureKind.CONTEXT_LENGTH,
    ),
    (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.", FailureKind.BILLING),
    (401, "authentication_error", SECRET, FailureKind.AUTHENTICATION),
    (402, "billing_error", SECRET, FailureKind.BILLING),
    (403, "permission_error", SECRET, FailureKind.AUTHENTICATION),
    (404, "not_found_error", SECRET, FailureKind.MODEL_NOT_FOUND),
    (408, "timeout_error", SECRET, FailureKind.SERVER),
    (409, "conflict_error", SECRET, FailureKind.SERVER),
    (412, "", SECRET, FailureKind.INVALID_REQUEST),
    (413, "request_too_large", SECRET, FailureKind.CONTEXT_LENGTH),
    (422, "invalid_request_error", SECRET, FailureKind.INVALID_REQUEST),
    (429, "rate_limit_error", SECRET, FailureKind.RATE_LIMIT),
    (499, "", SECRET, FailureKind.SERVER),
    (500, "api_error", SECRET, FailureKind.SERVER),
    (501, "", SECRET, FailureKind.SERVER),
    (503, "", SECRET, FailureKind.OVERLOAD),
    (504, "timeout_error", SECRET, FailureKind.SERVER),
    (529, "overloaded_error", SECRET, FailureKind.OVERLOAD),
]


@pytest.mark.parametrize(("status", "kind", "words", "expected"), STATUSES)
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_error_answers_are_classified_and_never_quoted(
    status: int, kind: str, words: str, expected: FailureKind, streamed: bool
) -> None:
    async with anthropic(Reply.json(wire.error(kind, words), status=status)) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=streamed))
    assert caught.value.kind is expected
    assert caught.value.status == status
    assert words not in str(caught.value)


@pytest.mark.parametrize(("status", "expected"), [(429, FailureKind.RATE_LIMIT), (502, FailureKind.SERVER)])
async def test_error_answers_of_proxies_are_classified_by_status(status: int, expected: FailureKind) -> None:
    async with anthropic(Reply.text("<html>no</html>", status=status)) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, call(server))
    assert caught.value.kind is expected


async def test_error_answer_that_breaks_off_is_classified_by_status() -> None:
    broken = Reply.raw(b"HTTP/1.1 529 Overloaded\r\ncontent-length: 50\r\n\r\n{", end=End.CLOSE)
    async with anthropic(broken) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, call(server))
    assert caught.value.kind is FailureKind.OVERLOAD


async def test_error_where_the_whole_answer_should_be_is_classified() -> None:
    async with anthropic(Reply.json(wire.error("overloaded_error"))) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, call(server))
    assert caught.value.kind is FailureKind.OVERLOAD


async def test_wait_that_the_provider_asks_for_is_kept() -> None:
    reply = Reply.json(wire.error("rate_limit_error"), status=429, headers={"retry-after": "17"})
    async with anthropic(reply) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, call(server))
    assert caught.value.retry_after_s == 17


async def test_spent_limit_is_billing_whatever_its_status() -> None:
    reply = Reply.json(wire.error("rate_limit_error", code="enforced_spend_limit_reached"), status=429)
    async with anthropic(reply) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, call(server))
    assert caught.value.kind is FailureKind.BILLING


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", FailureKind.OVERLOAD),
        ("rate_limit_error", FailureKind.RATE_LIMIT),
        ("api_error", FailureKind.SERVER),
        ("authentication_error", FailureKind.AUTHENTICATION),
        ("permission_error", FailureKind.AUTHENTICATION),
        ("invalid_request_error", FailureKind.INVALID_REQUEST),
        ("not_found_error", FailureKind.MODEL_NOT_FOUND),
        ("request_too_large", FailureKind.CONTEXT_LENGTH),
        ("billing_error", FailureKind.BILLING),
        ("timeout_error", FailureKind.SERVER),
        ("something_new", FailureKind.SERVER),
    ],
)
async def test_error_inside_a_stream_is_classified_by_its_type(kind: str, expected: FailureKind) -> None:
    events = [wire.start(), *wire.text_block(0, "Once")[:2], wire.error(kind)]
    async with anthropic(stream(*events)) as (server, provider):
        answer = Folded()
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=True), answer)
    assert caught.value.kind is expected
    assert SECRET not in str(caught.value)
    assert answer.text == "Once", "what came in the same read is not lost"


@pytest.mark.parametrize("end", [End.CLEAN, End.CLOSE, End.CUT])
async def test_stream_without_its_end_is_a_lost_connection(end: End) -> None:
    events = [wire.start(), *wire.text_block(0, "Once")[:2]]
    async with anthropic(stream(*events, end=end)) as (server, provider):
        answer = Folded()
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=True), answer)
    assert caught.value.kind is FailureKind.CONNECTION
    assert answer.finish_reason is None


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply.text("<html>sign in</html>"), id="a page"),
        pytest.param(Reply.sse("data: {oh\n\n"), id="half JSON"),
        pytest.param(Reply.sse('data: {"type":"message_start","message":3}\n\n'), id="wrong types"),
    ],
)
async def test_stream_that_cannot_be_read_is_malformed(reply: Reply) -> None:
    async with anthropic(reply) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=True))
    assert caught.value.kind is FailureKind.MALFORMED


@pytest.mark.parametrize("body", ["{}", "[]", "no", '{"content": 4}'])
async def test_whole_answer_that_cannot_be_read_is_malformed(body: str) -> None:
    async with anthropic(Reply.text(body, content_type="application/json")) as (server, provider):
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, call(server))
    assert caught.value.kind is FailureKind.MALFORMED


async def test_nulls_and_unknown_things_are_passed_over() -> None:
    events: list[wire.Event] = [
        {"type": "message_start", "message": {"usage": None, "content": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": None, "citations": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "server_tool_use", "id": "s", "input": {}},
        },
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "something_new", "delta": None},
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": None}},
        {"type": "message_stop"},
    ]
    async with anthropic(stream(*events)) as (server, provider):
        answer = await folded(provider, replace(call(server), stream=True))
    assert (answer.text, answer.tool_calls, answer.finish_reason) == ("Hi", [], FinishReason.STOP)


# Cancellation.


async def test_closing_the_generator_closes_the_upstream() -> None:
    events = [wire.start(), *wire.text_block(0, "Once")[:2]]
    async with anthropic(stream(*events, end=End.HANG)) as (server, provider):
        async with aclosing(provider.stream(replace(call(server), stream=True))) as chunks:
            await anext(chunks)
        await server.wait_closed_early()


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_cancelling_the_call_closes_the_upstream(streamed: bool) -> None:
    reply = Reply(pieces=(), framing="none", end=End.HANG)
    async with anthropic(reply) as (server, provider):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(folded, provider, replace(call(server), stream=streamed))
            with anyio.fail_after(BOUND_S):
                await server.asked.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await server.wait_closed_early()


async def test_pings_do_not_keep_a_silent_stream_alive() -> None:
    go_on = asyncio.Event()
    pings = wire.frames([wire.ping()] * 3)
    async with anthropic(Reply.sse(wire.frames([wire.start()]), pings, go_on, end=End.HANG)) as (server, provider):
        short = Timeouts(first_token_s=0.2, idle_s=30, total_s=30)
        with pytest.raises(ProviderFailure) as caught:
            await folded(provider, replace(call(server), stream=True, timeouts=short))
    assert caught.value.kind is FailureKind.FIRST_TOKEN_TIMEOUT
