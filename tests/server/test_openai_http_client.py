"""The official `openai` client at the service: it works by changing its base URL."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import openai
import pytest
from pydantic import BaseModel

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Stage
from gearshift.core.config.model import AccessConfig, KeyConfig, LimitsConfig, OpenAiConfig, ServerConfig, TenantConfig
from gearshift.core.events import ToolCallFragment
from gearshift.core.words import Complexity, FailureKind, FinishReason
from tests.support.blueprints import stage
from tests.support.openai_bodies import openai_answer, openai_stream, openai_vectors
from tests.support.openai_clients import AT_ONCE, HELLO, openai_at, url_of
from tests.support.running_server import BOUND_S, RunningServer, of_stages, running_server
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says
from tests.support.scripted_server import End, Reply, scripted
from tests.support.served_config import of_openai, one_openai

HTTP = ServerConfig(port=0, http_port=0, grace_s=5)
AS_IT_COMES = ServerConfig(port=0, http_port=0, grace_s=5, openai=OpenAiConfig(hold_back_tokens=0, hold_back_ms=0))
KEY = "gs_app_" + "1f" * 32
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
        "strict": True,
    },
}


class Order(BaseModel):
    """What the client asks for as a JSON Schema."""

    item: str
    count: int


def keyed(**tenant: Any) -> AccessConfig:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    return AccessConfig(
        keys=(KeyConfig(id="app", sha256=digest, tenant="acme"),), tenants={"acme": TenantConfig(**tenant)}
    )


async def test_whole_answer_has_what_openai_s_has_and_says_who_served() -> None:
    provider = ScriptedProvider(
        [says("Good ", "day", usage=Usage(input_tokens=20, output_tokens=5, reasoning_tokens=2, cache_read_tokens=8))]
    )
    failing = ScriptedProvider([fails(FailureKind.OVERLOAD)])
    async with (
        running_server(of_stages(stage(0), stage(1), server=HTTP), providers={"p0": failing, "p1": provider}) as server,
        openai_at(server) as client,
    ):
        raw = await client.chat.completions.with_raw_response.create(
            model="task:greet", messages=[{"role": "system", "content": "Be kind."}, *HELLO]
        )
    answer = raw.parse()
    message = answer.choices[0].message
    assert (message.role, message.content, answer.choices[0].finish_reason) == ("assistant", "Good day", "stop")
    assert (answer.object, answer.model, answer.id) == ("chat.completion", "m1", f"chatcmpl-{raw.request_id}")
    assert answer.usage is not None and answer.usage.total_tokens == 25
    assert answer.usage.prompt_tokens_details is not None and answer.usage.prompt_tokens_details.cached_tokens == 8
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2
    own: Any = answer.model_extra
    assert own["gearshift"]["position"] == 1 and own["gearshift"]["task"] == "greet"
    assert [each["failure"] for each in own["gearshift"]["attempts"]] == ["overload", None]
    assert raw.headers["x-gearshift-model"] == "m1" and raw.headers["x-gearshift-attempts"] == "2"
    assert float(raw.headers["x-gearshift-cost-usd"]) > 0
    assert provider.calls[0].system_static == "Be kind."


async def test_stream_brings_role_text_finish_and_usage() -> None:
    usage = Usage(input_tokens=20, output_tokens=9)
    config = of_stages(stage(0), server=AS_IT_COMES)
    async with (
        running_server(
            config, providers={"p0": ScriptedProvider([says("Good ", "day ", "to you", usage=usage)])}
        ) as server,
        openai_at(server) as client,
    ):
        stream = await client.chat.completions.create(
            model="chain:generate", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert (deltas[0].role, deltas[0].content) == ("assistant", "")
    assert [delta.content for delta in deltas[1:-1]] == ["Good ", "day ", "to you"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert not chunks[-1].choices and chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 29
    assert {chunk.model for chunk in chunks} == {"m0"} and len({chunk.id for chunk in chunks}) == 1
    own: Any = chunks[-2].model_extra
    assert own["gearshift"]["outcome"] == "accepted"


async def test_tool_calls_come_whole_and_their_results_go_back() -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Bern"}'}},
        {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Rome"}'}},
    ]
    async with (
        scripted(
            Reply.json(openai_answer(None, finish="tool_calls", message={"tool_calls": calls})),
            Reply.json(openai_answer("Sun in both.")),
        ) as upstream,
        running_server(one_openai(upstream.url)) as server,
        openai_at(server) as client,
    ):
        first = await client.chat.completions.create(
            model="gearshift", messages=HELLO, tools=[WEATHER], tool_choice="required"
        )
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls" and message.content is None
        assert message.tool_calls is not None
        results: list[Any] = [
            {"role": "tool", "tool_call_id": each.id, "content": "sun"} for each in message.tool_calls
        ]
        history: list[Any] = [*HELLO, message, *results]
        last = await client.chat.completions.create(model="gearshift", messages=history, tools=[WEATHER])
    assert last.choices[0].message.content == "Sun in both."
    sent: Any = upstream.requests[1].json["messages"]
    assert [each["role"] for each in sent] == ["user", "assistant", "tool", "tool"]
    assert [each["tool_call_id"] for each in sent[2:]] == ["c1", "c2"]
    assert upstream.requests[0].json["tool_choice"] == "required"


def fragments() -> Script:
    return says(
        ToolCallFragment(0, "c1", "weather", '{"pla'),
        ToolCallFragment(0, "", "", 'ce": "Bern"}'),
        ToolCallFragment(1, "c2", "weather", '{"place": "Rome"}'),
        finish=FinishReason.TOOL_CALLS,
    )


async def test_streamed_tool_calls_are_put_together_by_the_client() -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([fragments()])}) as server,
        openai_at(server) as client,
        client.chat.completions.stream(model="gearshift", messages=HELLO, tools=[WEATHER]) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    made = final.choices[0].message.tool_calls
    assert made is not None
    assert [(each.id, json.loads(each.function.arguments)) for each in made] == [
        ("c1", {"place": "Bern"}),
        ("c2", {"place": "Rome"}),
    ]
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
async def test_caller_that_takes_one_tool_call_gets_one(stream: bool) -> None:
    provider = ScriptedProvider([fragments()])
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server,
        openai_at(server) as client,
    ):
        asked: Any = {"model": "gearshift", "messages": HELLO, "tools": [WEATHER], "parallel_tool_calls": False}
        completions: Any = client.chat.completions
        if stream:
            async with completions.stream(**asked) as opened:
                answer = await opened.get_final_completion()
        else:
            answer = await completions.create(**asked)
    assert [each.id for each in answer.choices[0].message.tool_calls] == ["c1"]
    assert provider.calls[0].tool_choice.is_single


@pytest.mark.parametrize("stream", [False, True])
async def test_json_schema_is_kept_to_and_parsed(stream: bool) -> None:
    """The first stage breaks the schema, and the caller sees nothing of it."""
    poor, good = (
        ScriptedProvider([says('{"item": "oil", "count": "many"}')]),
        ScriptedProvider([says('{"item": "oil", ', '"count": 3}')]),
    )
    async with (
        running_server(of_stages(stage(0), strong(), server=HTTP), providers={"p0": poor, "p1": good}) as server,
        openai_at(server) as client,
    ):
        if stream:
            async with client.chat.completions.stream(
                model="gearshift", messages=HELLO, response_format=Order
            ) as opened:
                answer: Any = await opened.get_final_completion()
        else:
            answer = await client.chat.completions.parse(model="gearshift", messages=HELLO, response_format=Order)
    assert answer.choices[0].message.parsed == Order(item="oil", count=3)
    assert answer.model == "m1"
    assert len(poor.calls) == 1


def strong() -> Stage:
    return stage(1, capability=Complexity.HIGH)


async def test_spent_limit_is_a_rate_limit_error_with_the_wait() -> None:
    limits = LimitsConfig(requests_per_minute=1)
    async with (
        running_server(
            of_stages(stage(0), server=HTTP, access=keyed(limits=limits)),
            providers={"p0": ScriptedProvider([says("hi")])},
        ) as server,
        openai_at(server, key=KEY) as client,
    ):
        await client.chat.completions.create(model="gearshift", messages=HELLO)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(
                model="gearshift", messages=HELLO, extra_headers={"x-stainless-timeout": "1"}
            )
    error = caught.value
    assert (error.code, error.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert 0 < int(error.response.headers["retry-after"]) <= 60
    assert error.request_id


async def test_spent_budget_is_an_insufficient_quota() -> None:
    access = keyed(limits=LimitsConfig(usd_per_day=Decimal("0.000001")))
    async with (
        running_server(
            of_stages(stage(0), server=HTTP, access=access), providers={"p0": ScriptedProvider([says("hi")])}
        ) as server,
        openai_at(server, key=KEY) as client,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="gearshift", messages=HELLO)
    assert caught.value.code == "insufficient_quota"


async def test_key_that_is_missing_or_wrong_is_an_authentication_error() -> None:
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0), server=HTTP, access=keyed()), providers={"p0": provider}) as server:
        async with openai_at(server, key="gs_app_" + "00" * 32) as client:
            calls: Iterable[Any] = (
                lambda: client.chat.completions.create(model="gearshift", messages=HELLO),
                lambda: client.chat.completions.create(model="gearshift", messages=HELLO, stream=True),
                lambda: client.embeddings.create(model="gearshift", input="a"),
                lambda: client.models.retrieve("gearshift"),
                lambda: client.responses.create(model="gearshift", input="a"),
            )
            for call in calls:
                with pytest.raises(openai.AuthenticationError) as caught:
                    await call()
                assert caught.value.code == "invalid_api_key"
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        async with openai_at(server, key=KEY) as client:
            await client.chat.completions.create(model="gearshift", messages=HELLO)
        assert server.app.guard.refusals.by_cause == {"unknown": 6}
    assert len(provider.calls) == 1


async def test_wrong_request_is_a_bad_request_that_names_the_field() -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([says("hi")])}) as server,
        openai_at(server) as client,
    ):
        for fields, param in (
            ({"temperature": 3}, "temperature"),
            ({"n": 2}, "n"),
            ({"logprobs": True}, "logprobs"),
            ({"temprature": 1}, "temprature"),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(model="gearshift", messages=HELLO, extra_body=fields)
            assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")


async def test_unknown_model_task_and_path_are_not_found() -> None:
    config = one_openai("http://127.0.0.1:9", more="tasks: {strict: true, declared: {known: {type: generate}}}")
    async with running_server(config) as server, openai_at(server) as client:
        for model in ("gpt-9", "task:unknown"):
            with pytest.raises(openai.NotFoundError) as caught:
                await client.chat.completions.create(model=model, messages=HELLO)
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-9")
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.create(model="task:known", input="hi")
        assert "/v1/chat/completions" in caught.value.message


async def test_base_url_without_its_end_is_told_so() -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([says("hi")])}) as server,
        openai_at(server) as client,
    ):
        short = client.with_options(base_url=url_of(server).removesuffix("/v1"))
        for call in (
            lambda: short.chat.completions.create(model="gearshift", messages=HELLO),
            lambda: short.embeddings.create(model="gearshift", input="a"),
        ):
            with pytest.raises(openai.NotFoundError, match="ends in /v1") as caught:
                await call()
            assert caught.value.code == "unknown_url"


async def test_stream_that_is_held_whole_keeps_the_client_waiting_and_reads_as_any_other() -> None:
    """The client has a response before the model has written a word, and passes over what kept it alive."""
    going_on = anyio.Event()
    provider = ScriptedProvider([replace(says("good ", "day"), waits_for=going_on)])
    quick = ServerConfig(port=0, http_port=0, grace_s=5, openai=OpenAiConfig(stream="hold_all", keep_alive_s=0.05))
    async with (
        running_server(of_stages(stage(0), server=quick), providers={"p0": provider}) as server,
        openai_at(server) as client,
    ):
        patient = client.with_options(timeout=1.0)
        stream = await patient.chat.completions.create(model="gearshift", messages=HELLO, stream=True)
        await anyio.sleep(1.2)  # longer than the client would have waited in silence
        going_on.set()
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "good day"


async def test_exhausted_chain_is_not_tried_again_by_the_client() -> None:
    """The client would try a 503 again by itself, and multiply the chain's own attempts."""
    provider = ScriptedProvider([fails(FailureKind.SERVER)])
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server,
        openai_at(server, retries=3) as client,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="gearshift", messages=HELLO)
    assert caught.value.status_code == 503 and caught.value.code == "chain_exhausted"
    assert len(provider.calls) == 1


@pytest.mark.parametrize(
    ("kind", "code"),
    [(FailureKind.CONTEXT_LENGTH, "context_length_exceeded"), (FailureKind.CONTENT_REFUSED, "content_filter")],
)
async def test_what_every_provider_refuses_is_told_as_openai_tells_it(kind: FailureKind, code: str) -> None:
    providers = {"p0": ScriptedProvider([fails(kind)]), "p1": ScriptedProvider([fails(kind)])}
    async with (
        running_server(of_stages(stage(0), stage(1), server=HTTP), providers=providers) as server,
        openai_at(server) as client,
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="gearshift", messages=HELLO)
    assert caught.value.code == code


async def test_stream_that_breaks_after_text_was_sent_is_an_error_in_the_client() -> None:
    dies = Reply.sse(*openai_stream(["Hello ", "fro"], finish=None, usage=False, done=False), end=End.CUT)
    async with (
        scripted(dies) as weak,
        scripted(Reply.sse(*openai_stream(["Good ", "morning"]))) as spare,
        running_server(of_openai({"weak": weak.url, "spare": spare.url}, more=AT_ONCE)) as server,
        openai_at(server) as client,
    ):
        shown = ""
        with pytest.raises(openai.APIError) as caught:
            async for chunk in await client.chat.completions.create(model="gearshift", messages=HELLO, stream=True):
                shown += chunk.choices[0].delta.content or ""
    assert shown == "Hello fro"
    assert caught.value.code == "chain_exhausted"
    assert spare.requests == []


async def test_stream_that_breaks_before_text_was_sent_goes_on_elsewhere_unseen() -> None:
    dies = Reply.sse(*openai_stream(["Hello ", "fro"], finish=None, usage=False, done=False), end=End.CUT)
    async with (
        scripted(dies) as weak,
        scripted(Reply.sse(*openai_stream(["Good ", "morning"]))) as spare,
        running_server(of_openai({"weak": weak.url, "spare": spare.url})) as server,
        openai_at(server) as client,
    ):
        stream = await client.chat.completions.create(model="gearshift", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Good morning"
    assert {chunk.model for chunk in chunks} == {"m-spare"}


async def test_client_that_leaves_a_stream_closes_the_upstream_and_pays_for_what_was_used() -> None:
    frames = openai_stream(["Hello ", "from "], finish=None, usage=False, done=False)
    async with (
        scripted(Reply.sse(*frames).ending(End.HANG)) as upstream,
        running_server(one_openai(upstream.url, more=AT_ONCE)) as server,
        openai_at(server) as client,
    ):
        async with await client.chat.completions.create(model="gearshift", messages=HELLO, stream=True) as stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
        began = asyncio.get_running_loop().time()
        await upstream.wait_closed_early()
        assert asyncio.get_running_loop().time() - began < 1
        await server.seen.wait()
        assert server.app.guard.in_flight == 0
    _, completion, error = server.seen.ended[0]
    assert error == "CANCELLED"
    assert completion.attempts[0].usage.output_tokens > 0 and completion.attempts[0].cost_usd


async def test_client_that_leaves_before_the_answer_stops_the_call() -> None:
    provider = ScriptedProvider([Script(hangs=True)])
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server,
        openai_at(server) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(partial(client.chat.completions.create, model="gearshift", messages=HELLO))
        with anyio.fail_after(BOUND_S):
            await provider.hanging.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await server.seen.wait()
    assert server.seen.ended[0][2] == "CANCELLED"
    assert (provider.running, provider.closed_early) == (0, 1)


async def test_vectors_come_in_order_in_either_encoding() -> None:
    vectors = openai_vectors([0.25, -1.5], [0.5, 2.0])
    async with (
        scripted(Reply.json(vectors)) as upstream,
        running_server(one_openai(upstream.url)) as server,
        openai_at(server) as client,
    ):
        packed = await client.embeddings.create(model="chain:embed", input=["a", "b"])
        plain = await client.embeddings.create(model="gearshift", input=["a", "b"], encoding_format="float")
        with pytest.raises(openai.BadRequestError) as caught:
            await client.embeddings.create(model="gearshift", input=[[1, 2], [3]])
    assert (
        [each.embedding for each in packed.data]
        == [each.embedding for each in plain.data]
        == [[0.25, -1.5], [0.5, 2.0]]
    )
    assert [each.index for each in packed.data] == [0, 1]
    assert packed.model == "e-up" and packed.usage.prompt_tokens == 7
    assert caught.value.param == "input" and "token ids" in caught.value.message


async def test_vectors_with_an_id_of_the_callers_own_are_one_call() -> None:
    async with (
        scripted(Reply.json(openai_vectors([0.25, -1.5]))) as upstream,
        running_server(one_openai(upstream.url)) as server,
        openai_at(server) as client,
    ):
        mine = {"metadata": {"gearshift.request_id": "mine"}}
        first = await client.embeddings.create(model="chain:embed", input="a", extra_body=mine)
        again = await client.embeddings.create(model="chain:embed", input="a", extra_body=mine)
        with pytest.raises(openai.BadRequestError, match="another call"):
            await client.embeddings.create(model="chain:embed", input="b", extra_body=mine)
    assert first.data[0].embedding == again.data[0].embedding == [0.25, -1.5]


async def test_models_are_those_that_the_key_may_use() -> None:
    declared = {
        "triage": "{type: classify, output: {labels: [bug, praise]}}",
        "letters": "{type: generate}",
        "notes": "{type: generate, sensitivity: internal}",
    }
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    more = "\n".join(
        [
            "tasks:",
            "  declared:",
            *(f"    {name}: {text}" for name, text in declared.items()),
            "server: {openai: {models: {gpt-4o: 'task:letters', gpt-4o-mini: 'task:triage'}}}",
            "access:",
            f"  keys: [{{id: app, sha256: {digest}, tenant: acme}}]",
            "  tenants: {acme: {tasks: [letters, notes], clearance: public}}",
        ]
    )
    async with (
        running_server(one_openai("http://127.0.0.1:9", more=more)) as server,
        openai_at(server, key=KEY) as client,
    ):
        names = [each.id async for each in client.models.list()]
        one = await client.models.retrieve("task:letters")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("task:triage")
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model="task:triage", messages=HELLO)
    assert names == ["task:letters", "gpt-4o"]
    assert (one.object, one.owned_by) == ("model", "gearshift")


async def test_name_that_is_configured_stands_for_its_task() -> None:
    more = "server: {openai: {models: {gpt-4o: 'task:letters'}, task: house}}"
    async with (
        scripted(Reply.json(openai_answer("hi"))) as upstream,
        running_server(one_openai(upstream.url, more=more)) as server,
        openai_at(server) as client,
    ):
        for model in ("gpt-4o", "gearshift", "chain:reason"):
            await client.chat.completions.create(model=model, messages=HELLO)
    told = [(context.resolution.task_id, context.resolution.type.word) for context, _, _ in server.seen.ended]
    assert [each[0] for each in told] == ["letters", "house", "house"]
    assert told[2][1] == "reason"


async def test_synchronous_client_works_as_well() -> None:
    def ask(server: RunningServer) -> tuple[str, str, list[str]]:
        http = openai.DefaultHttpxClient(trust_env=False)
        with openai.OpenAI(
            base_url=url_of(server), api_key="none", max_retries=0, timeout=BOUND_S, http_client=http
        ) as client:
            answer = client.chat.completions.create(model="gearshift", messages=HELLO)
            stream = client.chat.completions.create(model="gearshift", messages=HELLO, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            names = [each.id for each in client.models.list()]
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="gearshift", messages=HELLO, temperature=9)
            return answer.choices[0].message.content or "", text, names

    async with running_server(
        of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([says("one ", "two")])}
    ) as server:
        answered, streamed, names = await anyio.to_thread.run_sync(ask, server)
    assert (answered, streamed) == ("one two", "one two")
    assert names[0] == "gearshift"


async def test_settings_in_metadata_reach_the_router() -> None:
    provider = ScriptedProvider([says("bug")])
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server,
        openai_at(server) as client,
    ):
        answer = await client.chat.completions.create(
            model="task:triage",
            messages=[{"role": "developer", "content": "Sort for {{who}}."}, *HELLO],
            reasoning_effort="minimal",
            max_completion_tokens=50,
            seed=4,
            stop="END",
            metadata={
                "gearshift.labels": "bug, praise",
                "gearshift.complexity": "low",
                "gearshift.sensitivity": "public",
                "gearshift.var.who": "Ann",
                "gearshift.request_id": "mine-1",
                "gearshift.max_cost_usd": "0.5",
                "my-own": "kept to myself",
            },
        )
    assert answer.choices[0].message.content == "bug" and answer.id == "chatcmpl-mine-1"
    call = provider.calls[0]
    assert (call.parameters.max_tokens, call.parameters.seed, call.parameters.stop) == (50, 4, ("END",))
    assert call.system_static + call.system_dynamic == "Sort for Ann."
    context = server.seen.ended[0][0]
    assert (context.resolution.type.word, context.resolution.complexity.word) == ("classify", "low")
