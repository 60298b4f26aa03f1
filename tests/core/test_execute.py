"""`Router.execute`: the client's call by context, without a server, to the same names and meanings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import anyio
import pytest

from gearshift.clients import calls
from gearshift.core.errors import ChainExhaustedError, InvalidRequestError
from gearshift.core.execute import TENANT, CallOptions, execute_request
from gearshift.core.request import (
    Message,
    Policy,
    Request,
    SystemPrompt,
    Task,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    user,
)
from gearshift.core.words import Complexity, FailureKind, Outcome, Role, Sensitivity, TaskType, ToolMode
from gearshift.server.access import DEFAULT_TENANT
from gearshift.server.wire import call_from_wire
from gearshift.v1 import call_pb2
from tests.support.blueprints import blueprint, stage
from tests.support.engine import Engine, engine
from tests.support.scripted_provider import Script, fails, says

SCHEMA = {"type": "object", "properties": {"größe": {"type": "integer"}}, "required": ["größe"]}


def options(**given: Any) -> CallOptions:
    return cast("CallOptions", given)


def made(task: str = "generate", prompt: str = "Write a line.", /, **context: Any) -> Request:
    return execute_request(task, prompt, options(**context), request_id="r1")


def one(*scripts: Script) -> Engine:
    return engine(blueprint(stage(0, capability=Complexity.HIGH)), [scripts])


def test_the_context_has_the_names_of_the_clients() -> None:
    assert list(CallOptions.__annotations__) == list(calls.CallOptions.__annotations__)


def test_the_tenant_is_the_one_of_a_service_without_keys() -> None:
    assert TENANT == DEFAULT_TENANT


@pytest.mark.parametrize(
    ("task", "context"),
    [
        pytest.param("generate", {}, id="nothing"),
        pytest.param("email-triage", {}, id="a task's id"),
        pytest.param("classify", {"task": "mood", "task_type": "reason"}, id="a type, and an id for the cost"),
        pytest.param("a", {"task_type": "reason", "complexity": "high", "sensitivity": "restricted"}, id="axes"),
        pytest.param(
            "classify",
            {"labels": ["bug", "praise"], "examples": [("It crashes", "bug"), ["Lovely", "praise"]]},
            id="labels",
        ),
        pytest.param("classify", {"labels": ["1", "2"], "examples": [("One", 1)]}, id="labels that are numbers"),
        pytest.param(
            "extract",
            {"schema": SCHEMA, "schema_name": "size", "examples": [("5 m", {"größe": 5}), ("6 m", '{"größe": 6}')]},
            id="a schema",
        ),
        pytest.param("extract", {"schema": {}}, id="any JSON"),
        pytest.param("extract", {"schema": "true"}, id="a schema as text"),
        pytest.param("a", {"system": "Be short, {{name}}.", "variables": {"name": "Ada"}}, id="a system prompt"),
        pytest.param("a", {"system": "", "static": True}, id="an empty system prompt"),
        pytest.param("a", {"system_key": "k", "static": False}, id="a stored system prompt"),
        pytest.param("a", {"variables": {}}, id="no variables"),
        pytest.param(
            "a",
            {
                "temperature": 0.5,
                "top_p": 1,
                "max_tokens": 7,
                "stop": ["END", "\n"],
                "seed": -3,
                "reasoning_effort": "none",
            },
            id="parameters",
        ),
        pytest.param("a", {"tool_choice": "auto"}, id="free choice of tools"),
        pytest.param("a", {"tool_choice": "required"}, id="any tool"),
        pytest.param("a", {"tool_choice": "look_up"}, id="a tool by name"),
        pytest.param(
            "a",
            {
                "request_id": "mine",
                "max_attempts": 2,
                "max_hops": 0,
                "max_cost_usd": "0.020",
                "min_confidence": 0.75,
                "escalation_threshold": 0.5,
                "require_valid": True,
                "require_confidence": True,
                "allowed_models": ["m", "n"],
                "allowed_providers": ["p"],
                "no_second_look": True,
                "no_cache": True,
                "no_escalation": True,
            },
            id="a policy",
        ),
        pytest.param("a", {"max_cost_usd": Decimal("1e-7")}, id="a small cost"),
    ],
)
def test_a_context_means_what_it_means_over_the_wire(task: str, context: dict[str, Any]) -> None:
    sent = calls.execute_call(task, "Write a line.", cast("calls.CallOptions", context))
    sent.request_id = sent.request_id or "r1"
    assert made(task, **context) == call_from_wire(sent, TENANT, None)


def test_turns_and_tools_mean_what_they_mean_over_the_wire() -> None:
    tool = Tool(name="look_up", description="Looks up.", parameters_schema='{"type": "object"}')
    asked = ToolCall(id="c1", name="look_up", arguments="{}")
    turns = [
        user("How high is it?"),
        Message(role=Role.ASSISTANT, parts=(Text("I look."), asked)),
        Message(role=Role.TOOL, parts=(ToolResult(tool_call_id="c1", content="324 m"),)),
    ]
    over_the_wire = calls.execute_call(
        "generate",
        "And now?",
        {
            "tools": [call_pb2.Tool(name="look_up", description="Looks up.", parameters_schema='{"type": "object"}')],
            "messages": [
                call_pb2.Message(role=call_pb2.ROLE_USER, parts=[call_pb2.Part(text="How high is it?")]),
                call_pb2.Message(
                    role=call_pb2.ROLE_ASSISTANT,
                    parts=[
                        call_pb2.Part(text="I look."),
                        call_pb2.Part(tool_call=call_pb2.ToolCall(id="c1", name="look_up", arguments="{}")),
                    ],
                ),
                call_pb2.Message(
                    role=call_pb2.ROLE_TOOL,
                    parts=[call_pb2.Part(tool_result=call_pb2.ToolResult(tool_call_id="c1", content="324 m"))],
                ),
            ],
        },
    )
    over_the_wire.request_id = "r1"
    here = made("generate", "And now?", messages=turns, tools=[tool])
    assert here == call_from_wire(over_the_wire, TENANT, None)
    assert here.messages == (*turns, user("And now?"))


def test_what_is_not_said_stays_unset() -> None:
    request = execute_request("greet", "hello", None, request_id="r1")
    assert request == Request(request_id="r1", tenant="default", task=Task(id="greet"), messages=(user("hello"),))


def test_a_type_stands_for_its_id_until_the_context_names_one() -> None:
    assert made("classify").task == Task(id="classify", type=TaskType.CLASSIFY)
    assert made("classify", task="mood").task == Task(id="mood", type=TaskType.CLASSIFY)
    assert made("mood", sensitivity="restricted").task == Task(id="mood", sensitivity=Sensitivity.RESTRICTED)


def test_turns_alone_need_no_prompt() -> None:
    assert made("generate", "", messages=(user("hello"),)).messages == (user("hello"),)


@pytest.mark.parametrize(
    ("context", "field", "said"),
    [
        pytest.param({"lables": ["a"]}, "lables", "did you mean 'labels'?", id="a slip"),
        pytest.param({"zzz": 1}, "zzz", "is not known", id="nothing like it"),
        pytest.param({"tenant": "acme"}, "tenant", "who calls is not part of a call", id="a tenant"),
        pytest.param({"stream": {}}, "stream", "is not known", id="a stream's policy"),
        pytest.param({"labels": "bug"}, "labels", "expected `array", id="one label"),
        pytest.param({"labels": ["bug", 2]}, "labels", "expected `str`, got `int`", id="a label that is a number"),
        pytest.param({"max_tokens": "7"}, "max_tokens", "expected `int", id="a number as text"),
        pytest.param({"seed": 2**63}, "seed", "<= 9223372036854775807", id="a seed beyond the contract's"),
        pytest.param({"max_tokens": True}, "max_tokens", "expected `int", id="a number that is a truth"),
        pytest.param({"require_valid": 1}, "require_valid", "expected `bool`", id="a truth that is a number"),
        pytest.param({"variables": {"n": 1}}, "variables", "expected `str`, got `int`", id="a variable's value"),
        pytest.param({"task_type": "clasify"}, "task_type", "'clasify' is not one of classify", id="a type's word"),
        pytest.param({"complexity": "huge"}, "complexity", "not one of low, medium, high", id="a complexity's word"),
        pytest.param({"reasoning_effort": ""}, "reasoning_effort", "not one of none, low", id="an empty word"),
        pytest.param({"max_cost_usd": "cheap"}, "max_cost_usd", "'cheap' is not an amount", id="a cost in words"),
        pytest.param({"max_cost_usd": [1]}, "max_cost_usd", "is not an amount of USD", id="a cost in a list"),
        pytest.param({"system": "a", "system_key": "b"}, "system_key", "exclude each other", id="two systems"),
        pytest.param({"labels": ["a", "b"], "schema": {}}, "schema", "exclude each other", id="two outputs"),
        pytest.param({"examples": [("a", "b")]}, "examples", "need labels or a schema", id="examples of nothing"),
        pytest.param({"schema": [1]}, "schema", "must be a JSON Schema", id="a list as schema"),
        pytest.param({"schema": {"const": {1}}}, "schema", "cannot be written as JSON", id="a set in a schema"),
        pytest.param(
            {"schema": {}, "examples": [("a", object())]}, "examples[0]", "cannot be written", id="an object's example"
        ),
        pytest.param({"examples": [("a",)], "labels": ["a", "b"]}, "examples", "length 2", id="half an example"),
        pytest.param({"messages": "hello"}, "messages", "must be a list of Message", id="a text as messages"),
        pytest.param(
            {"messages": [{"role": "user"}]}, "messages[0]", "request.Message, not dict", id="a turn as dictionary"
        ),
        pytest.param({"tools": [user("x")]}, "tools[0]", "request.Tool, not Message", id="a turn as tool"),
    ],
)
def test_a_wrong_context_is_refused_by_name(context: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        made("greet", **context)
    (violation,) = caught.value.violations
    assert violation.field == f"context.{field}"
    assert said in violation.description


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidRequestError) as names:
        made("greet", lables=[], schemas={})
    assert [each.field for each in names.value.violations] == ["context.lables", "context.schemas"]
    with pytest.raises(InvalidRequestError) as kinds:
        made("greet", seed="1", top_p="1")
    assert [each.field for each in kinds.value.violations] == ["context.seed", "context.top_p"]
    with pytest.raises(InvalidRequestError) as words:
        made("greet", complexity="huge", examples=[("a", "b")])
    assert [each.field for each in words.value.violations] == ["context.complexity", "context.examples"]


def test_vectors_are_asked_for_elsewhere() -> None:
    with pytest.raises(InvalidRequestError, match=r"task: .*use embed\(\)"):
        made("embed")


def test_the_contexts_mapping_is_not_changed() -> None:
    context = options(task="mood", labels=["a", "b"])
    made("classify", **context)
    assert context == {"task": "mood", "labels": ["a", "b"]}


async def test_a_prompt_is_answered() -> None:
    ran = one(says("A ", "line."))
    answer = await ran.router.execute("generate", "Write a line.", {"task": "lines", "max_tokens": 9})
    assert answer.text == "A line."
    assert answer.resolution.task_id == "lines"
    assert answer.completion.outcome is Outcome.ACCEPTED
    (call,) = ran.providers["p0"].calls
    assert call.messages == (user("Write a line."),)
    assert call.parameters.max_tokens == 9
    assert not call.stream
    ran.check_settled()


async def test_labels_reach_the_gate() -> None:
    ran = one(says("praise"))
    answer = await ran.router.execute("classify", "Lovely!", {"labels": ["bug", "praise"]})
    assert answer.text == "praise"
    assert {verdict.gate for verdict in answer.completion.verdicts} >= {"labels"}


async def test_a_call_without_context_is_answered() -> None:
    assert (await one(says("A line.")).router.execute("generate", "Write a line.")).text == "A line."


async def test_ranges_are_checked_as_the_services_are() -> None:
    ran = one(says("unused"))
    with pytest.raises(InvalidRequestError) as caught:
        await ran.router.execute("generate", "", {"temperature": 9, "max_attempts": 0})
    fields = {each.field for each in caught.value.violations}
    assert fields == {"call.prompt", "call.parameters.temperature", "call.policy.max_attempts"}
    assert ran.upstream_calls == 0


async def test_a_failed_chain_raises_what_route_raises() -> None:
    ran = one(fails(FailureKind.SERVER))
    with pytest.raises(ChainExhaustedError) as caught:
        await ran.router.execute("generate", "Write a line.")
    assert [each.failure for each in caught.value.attempts] == [FailureKind.SERVER]
    ran.check_settled()


async def test_a_repeat_of_the_callers_request_id_is_the_same_answer() -> None:
    ran = one(says("A line."))
    async with ran.router:
        first = await ran.router.execute("generate", "Write a line.", {"request_id": "mine"})
        again = await ran.router.execute("generate", "Write a line.", {"request_id": "mine"})
    assert first.request_id == again.request_id == "mine"
    assert ran.upstream_calls == 1


async def test_calls_without_a_request_id_are_calls_of_their_own() -> None:
    ran = one(says("A line."))
    ids = {(await ran.router.execute("generate", "Write a line.")).request_id for _ in range(2)}
    assert len(ids) == ran.upstream_calls == 2


async def test_leaving_a_call_closes_the_upstream() -> None:
    ran = one(Script(hangs=True))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ran.router.execute, "generate", "Write a line.")
            await ran.providers["p0"].hanging.wait()
            tasks.cancel_scope.cancel()
    assert ran.providers["p0"].closed_early == 1
    ran.check_settled()


def test_system_prompt_and_policy_are_the_cores_values() -> None:
    request = made("greet", system="Be short.", max_cost_usd="0.02", tool_choice="none")
    assert request.system == SystemPrompt(text="Be short.")
    assert request.policy == Policy(max_cost_usd=Decimal("0.02"))
    assert request.tool_choice == ToolChoice(mode=ToolMode.NONE)
