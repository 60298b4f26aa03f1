"""Bad input gets a code and a sentence that says what to do, and nothing is spent on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest

from gearshift.core.words import Complexity
from gearshift.v1 import call_pb2, ops_pb2, router_pb2, task_pb2
from tests.support.blueprints import stage
from tests.support.running_server import Failed, failure_of, from_yaml, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says
from tests.support.served_config import one_openai

NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A call that must be refused."""

    make: Callable[[call_pb2.Call], object]
    field: str
    says: str
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT


def sets(**fields: Any) -> Callable[[call_pb2.Call], object]:
    """Give what sets fields of a call; a dot in a name is written as two underscores."""

    def change(call: call_pb2.Call) -> None:
        for path, value in fields.items():
            target: Any = call
            *steps, last = path.split("__")
            for step in steps:
                target = getattr(target, step)
            if isinstance(value, list):
                getattr(target, last)[:] = value  # pyright: ignore[reportUnknownArgumentType]
            else:
                setattr(target, last, value)

    return change


def schema(document: object) -> Callable[[call_pb2.Call], object]:
    text = document if isinstance(document, str) else json.dumps(document)
    return sets(output__json__schema=text)


def nested(depth: int) -> str:
    return '{"properties": {"a": ' * depth + "{}" + "}}" * depth


def part(**fields: Any) -> Callable[[call_pb2.Call], object]:
    return lambda call: call.messages.add(parts=[call_pb2.Part(**fields)])


def tool(name: str, parameters_schema: str = "") -> Callable[[call_pb2.Call], object]:
    return lambda call: call.tools.add(name=name, parameters_schema=parameters_schema)


def labels(*given: str) -> Callable[[call_pb2.Call], object]:
    return sets(output__labels__labels=list(given))


BAD = {
    # The task.
    "no task id": Bad(make=sets(task__id=""), field="call.task.id", says="is required: the id that cost"),
    "a task id with spaces": Bad(make=sets(task__id="a b"), field="call.task.id", says="must be 1 to 128 of letters"),
    "a task id that is too long": Bad(make=sets(task__id="a" * 129), field="call.task.id", says="1 to 128"),
    "an unknown task type": Bad(
        make=sets(task__type=17), field="call.task.type", says="known: classify, extract, generate, reason, embed"
    ),
    "embed by Route": Bad(make=sets(task__type=task_pb2.TASK_TYPE_EMBED), field="call.task.type", says="call Embed"),
    "a request id with spaces": Bad(make=sets(request_id="a b"), field="call.request_id", says="without spaces"),
    # Messages.
    "an empty call": Bad(make=lambda call: call.Clear(), field="call.task.id", says="is required"),
    "an empty prompt": Bad(make=sets(prompt=" \n"), field="call.prompt", says="send a prompt, or messages"),
    "a message without parts": Bad(
        make=lambda call: call.messages.add(), field="call.messages[0].parts", says="at least one part"
    ),
    "an empty part": Bad(
        make=lambda call: call.messages.add(parts=[call_pb2.Part()]),
        field="call.messages[0].parts[0]",
        says="holds nothing: set text, image",
    ),
    "an oversized text": Bad(
        make=sets(prompt="x" * (8 * 1024 * 1024 + 1)), field="call.messages[0].parts[0].text", says="more than 8388608"
    ),
    "too many messages": Bad(
        make=lambda call: [call.messages.add(parts=[call_pb2.Part(text="x")]) for _ in range(4097)],
        field="call.messages",
        says="are more than 4096",
    ),
    "an image that is no URL of the web": Bad(
        make=part(image=call_pb2.Image(url="file:///etc/passwd")),
        field="call.messages[0].parts[0].image.url",
        says="must begin with https://",
    ),
    "an empty image": Bad(
        make=part(image=call_pb2.Image(media_type="image/png")),
        field="call.messages[0].parts[0].image.data",
        says="is empty",
    ),
    "an image of an unknown type": Bad(
        make=part(image=call_pb2.Image(data=b"x", media_type="image/tiff")),
        field="call.messages[0].parts[0].image.media_type",
        says="must be one of image/gif, image/jpeg",
    ),
    "an oversized image": Bad(
        make=part(image=call_pb2.Image(data=bytes(20 * 1024 * 1024 + 1), media_type="image/png")),
        field="call.messages[0].parts[0].image.data",
        says="is larger than 20971520 bytes",
    ),
    # Output.
    "one label": Bad(make=labels("a"), field="call.output.labels.labels", says="needs 2 to 256 labels"),
    "a label twice": Bad(make=labels("a", "a"), field="call.output.labels.labels", says="stands twice"),
    "an empty label": Bad(make=labels("a", " "), field="call.output.labels.labels[1]", says="1 to 128 characters"),
    "a schema that is no JSON": Bad(make=schema("{"), field="call.output.json.schema", says="JSON"),
    "a schema that is no schema": Bad(make=schema({"type": "strin"}), field="call.output.json.schema", says="type"),
    "a deep schema": Bad(make=schema(nested(2000)), field="call.output.json.schema", says="deep"),
    "a huge schema": Bad(
        make=schema({"enum": ["x" * 1000] * 300}), field="call.output.json.schema", says="larger than 262144 bytes"
    ),
    "a remote reference": Bad(
        make=schema({"$ref": "https://example.com/schema.json"}), field="call.output.json.schema", says="$ref"
    ),
    "a pattern with look-ahead": Bad(
        make=schema({"type": "string", "pattern": "(?=a)b"}), field="call.output.json.schema", says="look"
    ),
    "a pattern with a back-reference": Bad(
        make=schema({"type": "string", "pattern": r"(a+)\1"}), field="call.output.json.schema", says="back"
    ),
    "a pattern that explodes": Bad(
        make=schema({"type": "string", "pattern": "((a{0,1000}){0,1000}){0,1000}"}),
        field="call.output.json.schema",
        says="pattern",
    ),
    "a tool with a bad name": Bad(make=tool("a b"), field="call.tools[0].name", says="1 to 64 of letters"),
    "a tool with a bad schema": Bad(
        make=tool("f", '{"type": 1}'), field="call.tools[0].parameters_schema", says="type"
    ),
    "a tool that is not there": Bad(
        make=sets(tool_choice__mode=call_pb2.TOOL_MODE_NAMED, tool_choice__name="f"),
        field="call.tool_choice.name",
        says="names no tool of this call",
    ),
    # Parameters and policy.
    "a negative temperature": Bad(
        make=sets(parameters__temperature=-1), field="call.parameters.temperature", says="must be 0 to 2"
    ),
    "a temperature that is no number": Bad(
        make=sets(parameters__temperature=float("nan")), field="call.parameters.temperature", says="must be 0 to 2"
    ),
    "an infinite top_p": Bad(
        make=sets(parameters__top_p=float("inf")), field="call.parameters.top_p", says="must be above 0, to 1"
    ),
    "no tokens": Bad(make=sets(parameters__max_tokens=0), field="call.parameters.max_tokens", says="must be 1 to"),
    "negative tokens": Bad(
        make=sets(parameters__max_tokens=-5), field="call.parameters.max_tokens", says="must be 1 to"
    ),
    "absurdly many tokens": Bad(
        make=sets(parameters__max_tokens=2**31 - 1), field="call.parameters.max_tokens", says="must be 1 to 1000000"
    ),
    "an empty stop word": Bad(make=sets(parameters__stop=[""]), field="call.parameters.stop", says="1 to 64"),
    "no attempts": Bad(make=sets(policy__max_attempts=0), field="call.policy.max_attempts", says="at least 1"),
    "a confidence above 1": Bad(
        make=sets(policy__min_confidence=1.5), field="call.policy.min_confidence", says="must be 0 to 1"
    ),
    "a negative cost": Bad(
        make=sets(policy__max_cost_usd="-1"), field="call.policy.max_cost_usd", says="a decimal such as 0.02"
    ),
    "an exploding cost": Bad(
        make=sets(policy__max_cost_usd="1e999999999"), field="call.policy.max_cost_usd", says="a decimal such as 0.02"
    ),
    # The prompt.
    "a missing variable": Bad(
        make=sets(system__text="Hello {{name}}"), field="call.system.variables.name", says="no value was given"
    ),
    "an unknown variable": Bad(
        make=lambda call: (sets(system__text="Hello")(call), call.system.variables.update(nmae="x")),
        field="call.system.variables.nmae",
        says="the prompt has no place {{nmae}}",
    ),
}


async def refused(call: call_pb2.Call, provider: ScriptedProvider, **options: Any) -> list[Failed]:
    """Give how Route, StreamRoute and Explain refuse a call."""
    found: list[Failed] = []
    sizes = [("grpc.max_send_message_length", 64 << 20)]
    async with running_server(of_stages(stage(0)), providers={"p0": provider}, channel_options=sizes) as server:
        for answering in (
            server.route(call, **options),
            server.stream(call, **options),
            server.router.Explain(router_pb2.ExplainRequest(call=call)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answering
            found.append(failure_of(caught.value))
        assert server.app.guard.in_flight == 0
        assert server.seen.ended == []
    assert provider.calls == []
    return found


@pytest.mark.parametrize("bad", [pytest.param(each, id=name) for name, each in BAD.items()])
async def test_bad_call_is_refused_with_what_to_do(bad: Bad) -> None:
    call = plain_call()
    bad.make(call)
    for failed in await refused(call, ScriptedProvider([says("never")])):
        assert failed.code is bad.code
        assert bad.says in failed.fields[bad.field]
        assert bad.field in failed.message


async def test_all_faults_of_a_call_are_told_at_once() -> None:
    call = plain_call(" ", task_id="")
    call.parameters.temperature = 3
    (failed, *_) = await refused(call, ScriptedProvider([says("never")]))
    assert set(failed.fields) >= {"call.task.id", "call.parameters.temperature"}


async def test_unknown_prompt_key_is_told_apart() -> None:
    call = plain_call()
    call.system.key = "0" * 32
    for failed in await refused(call, ScriptedProvider([says("never")])):
        assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROMPT_NOT_CACHED")
        assert "send the prompt's text again" in failed.message


async def test_restricted_call_without_a_cleared_provider_is_refused_with_each_stage_s_reason() -> None:
    call = plain_call()
    call.task.sensitivity = task_pb2.SENSITIVITY_RESTRICTED
    provider = ScriptedProvider([says("never")])
    async with running_server(of_stages(stage(0), stage(1)), providers={"p0": provider, "p1": provider}) as server:
        for answering in (server.route(call), server.stream(call)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answering
            failed = failure_of(caught.value)
            assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_STAGE")
            assert "p0/m0: " in failed.message and "p1/m1: " in failed.message
            assert "restricted" in failed.message
        explained = await server.router.Explain(router_pb2.ExplainRequest(call=call))
    assert [(each.planned, each.reason) for each in explained.stages] == [(False, "clearance")] * 2
    assert provider.calls == []


async def test_call_that_nothing_is_capable_of_is_refused() -> None:
    call = plain_call()
    call.task.complexity = task_pb2.COMPLEXITY_HIGH
    async with running_server(of_stages(stage(0, capability=Complexity.LOW)), providers={}) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(call)
    failed = failure_of(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_STAGE")
    assert "high" in failed.message


async def test_undeclared_task_under_strict_is_not_found_with_the_nearest_name() -> None:
    config = from_yaml(one_openai(NOWHERE, more="tasks: {strict: true, declared: {email-triage: {type: generate}}}"))
    async with running_server(config) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call(task_id="email-triag"))
        with pytest.raises(grpc.aio.AioRpcError) as conflicting:
            await server.route(
                call_pb2.Call(
                    task=task_pb2.Task(id="email-triage", type=task_pb2.TASK_TYPE_CLASSIFY), prompt="which kind?"
                )
            )
    failed = failure_of(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_TASK")
    assert "email-triage" in failed.message
    assert failure_of(conflicting.value).fields == {
        "call.task.type": "the task email-triage is declared as generate; leave the type unset or send that"
    }


async def test_message_beyond_grpc_s_limit_is_refused_with_both_sizes() -> None:
    sizes = [("grpc.max_send_message_length", 64 << 20)]
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0)), providers={"p0": provider}, channel_options=sizes) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call("x" * (32 << 20)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "33554432" in (caught.value.details() or "")
        # The connection and the service are as they were.
        assert (await server.route(plain_call())).answer.text == "hi"


def embed(**fields: Any) -> router_pb2.EmbedRequest:
    chosen: dict[str, Any] = {"task": task_pb2.Task(id="search"), "inputs": ["a"]} | fields
    return router_pb2.EmbedRequest(**chosen)


@pytest.mark.parametrize(
    ("request_", "field", "told"),
    [
        pytest.param(embed(inputs=[]), "inputs", "at least one text", id="nothing"),
        pytest.param(embed(inputs=["a", " "]), "inputs[1]", "must not be empty", id="an empty text"),
        pytest.param(embed(inputs=["a"] * 2049), "inputs", "send several calls", id="too many texts"),
        pytest.param(embed(dimensions=0), "dimensions", "1 to 65536", id="no dimensions"),
        pytest.param(embed(dimensions=2**32 - 1), "dimensions", "1 to 65536", id="absurd dimensions"),
        pytest.param(embed(task=task_pb2.Task()), "task.id", "is required", id="no task"),
    ],
)
async def test_bad_embedding_is_refused(request_: router_pb2.EmbedRequest, field: str, told: str) -> None:
    provider = ScriptedProvider([says("never")])
    async with running_server(of_stages(stage(0)), providers={"p0": provider}) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.router.Embed(request_)
    failed = failure_of(caught.value)
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert told in failed.fields[field]
    assert provider.embed_calls == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("short", "only prompts longer than 500 are kept", id="too short to be worth keeping"),
        pytest.param("x" * 2000, "is larger than the prompt cache", id="larger than the cache"),
    ],
)
async def test_prompt_that_cannot_be_kept_is_refused(text: str, told: str) -> None:
    async with running_server(one_openai(NOWHERE, more="caching: {max_bytes: 1000}")) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.router.PutPrompt(router_pb2.PutPromptRequest(task_id="greet", text=text))
    assert told in failure_of(caught.value).fields["text"]


async def test_request_id_of_another_call_is_refused() -> None:
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0)), providers={"p0": provider}) as server:
        first = await server.route(plain_call(request_id="r-1"))
        again = await server.route(plain_call(request_id="r-1"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call("another", request_id="r-1"))
    assert first == again
    assert len(provider.calls) == 1
    assert "r-1 was used for another call" in failure_of(caught.value).fields["call.request_id"]


async def test_no_network_is_an_exhausted_chain_that_says_so() -> None:
    async with running_server(one_openai("http://127.0.0.1:1")) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call())
        status = await server.ops.GetStatus(ops_pb2.GetStatusRequest())
    failed = failure_of(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "CHAIN_EXHAUSTED")
    assert "up/m-up: " in failed.message and "could not be reached" in failed.message
    assert status.calls_ended == 1


async def test_unknown_outcome_report_is_refused() -> None:
    async with running_server(of_stages(stage(0)), providers={}) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.router.ReportOutcome(
                router_pb2.ReportOutcomeRequest(
                    request_id="r", verdict=router_pb2.OUTCOME_VERDICT_CORRECTED, correction="x" * 65_537
                )
            )
    assert failure_of(caught.value).fields == {"correction": "is larger than 65536 bytes"}
