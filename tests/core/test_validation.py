"""Bad requests are refused, each fault by its field."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from gearshift.core import validation
from gearshift.core.errors import InvalidRequestError
from gearshift.core.request import (
    EmbedRequest,
    Image,
    JsonOutput,
    LabelOutput,
    Message,
    Parameters,
    Policy,
    ProviderState,
    Request,
    StreamPolicy,
    SystemPrompt,
    Task,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    user,
)
from gearshift.core.validation import check_outcome, validate, validate_embed
from gearshift.core.words import Role, ToolMode
from tests.support.changed import changed
from tests.support.engine import request


def fields(call: Request) -> list[str]:
    with pytest.raises(InvalidRequestError) as caught:
        validate(call)
    assert all(len(each.description) > 5 for each in caught.value.violations)
    return [each.field for each in caught.value.violations]


def said(*parts: Text | Image | ToolCall | ToolResult, role: Role = Role.USER) -> Message:
    return Message(role=role, parts=parts)


_BIG = "x" * (validation.MAX_TEXT_CHARACTERS + 1)
_PNG = Image(data=b"x", media_type="image/png")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        pytest.param({"request_id": ""}, "call.request_id", id="no request id"),
        pytest.param({"request_id": "with space"}, "call.request_id", id="a request id with spaces"),
        pytest.param({"request_id": "x" * 129}, "call.request_id", id="a long request id"),
        pytest.param({"request_id": "a\n"}, "call.request_id", id="a request id with a line end"),
        pytest.param({"task_id": ""}, "call.task.id", id="no task id"),
        pytest.param({"task_id": "a b"}, "call.task.id", id="a task id with spaces"),
        pytest.param({"task_id": "x\n"}, "call.task.id", id="a task id with a line end"),
        pytest.param({"prompt": ""}, "call.prompt", id="no prompt"),
        pytest.param({"prompt": " \n"}, "call.prompt", id="a blank prompt"),
        pytest.param({"messages": ()}, "call.prompt", id="no messages"),
        pytest.param({"messages": (said(Text("hi"), role=Role.ASSISTANT),)}, "call.prompt", id="nobody asks"),
        pytest.param({"messages": (user("hi"),) * 4097}, "call.messages", id="too many messages"),
        pytest.param({"messages": (user("hi"), said())}, "call.messages[1].parts", id="a message without parts"),
        pytest.param({"prompt": _BIG}, "call.messages[0].parts[0].text", id="a huge text"),
        pytest.param({"system": SystemPrompt(text=_BIG)}, "call.system.text", id="a huge system prompt"),
        pytest.param(
            {"system": SystemPrompt(text="{{a}}", variables={"a": _BIG})}, "call.system.variables.a", id="a huge value"
        ),
        pytest.param(
            {"messages": (user("hi"), said(ToolResult(tool_call_id="1", content=_BIG), role=Role.TOOL))},
            "call.messages[1].parts[0].tool_result.content",
            id="a huge tool result",
        ),
        pytest.param(
            {"messages": (user("hi"), said(ToolCall(id="1", name="f", arguments=_BIG), role=Role.ASSISTANT))},
            "call.messages[1].parts[0].tool_call.arguments",
            id="huge arguments",
        ),
        pytest.param(
            {"messages": (user("hi"), said(ToolCall(id="1", name="f", arguments="[1]"), role=Role.ASSISTANT))},
            "call.messages[1].parts[0].tool_call.arguments",
            id="arguments that are no object",
        ),
        pytest.param(
            {"messages": (user("hi"), said(ToolCall(id="1", name="f", arguments="{"), role=Role.ASSISTANT))},
            "call.messages[1].parts[0].tool_call.arguments",
            id="arguments that are no JSON",
        ),
        pytest.param(
            {"messages": (user("hi"), said(ToolCall(id="", name="f", arguments=""), role=Role.ASSISTANT))},
            "call.messages[1].parts[0].tool_call.id",
            id="a tool call without an id",
        ),
        pytest.param(
            {"messages": (user("hi"), said(ToolCall(id="1", name="", arguments=""), role=Role.ASSISTANT))},
            "call.messages[1].parts[0].tool_call.name",
            id="a tool call without a name",
        ),
        pytest.param(
            {"messages": (user("hi"), said(ToolResult(tool_call_id="", content="x"), role=Role.TOOL))},
            "call.messages[1].parts[0].tool_result.tool_call_id",
            id="a result of no call",
        ),
        pytest.param({"messages": (said(Image()),)}, "call.messages[0].parts[0].image.data", id="an empty image"),
        pytest.param(
            {"messages": (said(Image(url="http://x/y.png")),)}, "call.messages[0].parts[0].image.url", id="a plain url"
        ),
        pytest.param(
            {"messages": (said(Image(data=b"x", media_type="image/tiff")),)},
            "call.messages[0].parts[0].image.media_type",
            id="an unknown kind of image",
        ),
        pytest.param(
            {"messages": (said(Image(data=b"x" * (20 * 1024 * 1024 + 1), media_type="image/png")),)},
            "call.messages[0].parts[0].image.data",
            id="a huge image",
        ),
        pytest.param(
            {
                "messages": (
                    changed(user("hi"), provider_state=ProviderState(provider="p", model="m", data=b"x" * 1_048_577)),
                )
            },
            "call.messages[0].provider_state.data",
            id="a huge state",
        ),
        pytest.param({"tools": (Tool(name="a b"),)}, "call.tools[0].name", id="a tool's name"),
        pytest.param({"tools": (Tool(name="a"), Tool(name="a"))}, "call.tools[1].name", id="a tool twice"),
        pytest.param({"tools": tuple(Tool(name=f"t{n}") for n in range(129))}, "call.tools", id="too many tools"),
        pytest.param(
            {"tools": (Tool(name="a", parameters_schema="x" * 262_145),)},
            "call.tools[0].parameters_schema",
            id="a huge tool schema",
        ),
        pytest.param({"output": LabelOutput(labels=("a",))}, "call.output.labels.labels", id="one label"),
        pytest.param({"output": LabelOutput(labels=())}, "call.output.labels.labels", id="no labels"),
        pytest.param({"output": LabelOutput(labels=("a", "a"))}, "call.output.labels.labels", id="a label twice"),
        pytest.param({"output": LabelOutput(labels=("a", " b"))}, "call.output.labels.labels[1]", id="spaces around"),
        pytest.param({"output": LabelOutput(labels=("a", ""))}, "call.output.labels.labels[1]", id="an empty label"),
        pytest.param(
            {"output": LabelOutput(labels=("a", "b"), examples=(("x", "c"),))},
            "call.output.labels.examples[0].label",
            id="an example of no label",
        ),
        pytest.param(
            {"output": LabelOutput(labels=("a", "b"), examples=(("x", "a"),) * 257)},
            "call.output.labels.examples",
            id="too many examples",
        ),
        pytest.param({"output": JsonOutput(schema="é" * 131_073)}, "call.output.json.schema", id="a huge schema"),
        pytest.param({"output": JsonOutput(name="a b")}, "call.output.json.name", id="a schema's name"),
        pytest.param({"parameters": Parameters(temperature=-0.1)}, "call.parameters.temperature", id="temperature"),
        pytest.param({"parameters": Parameters(temperature=2.1)}, "call.parameters.temperature", id="hot"),
        pytest.param({"parameters": Parameters(temperature=math.nan)}, "call.parameters.temperature", id="nan"),
        pytest.param({"parameters": Parameters(top_p=0.0)}, "call.parameters.top_p", id="top_p"),
        pytest.param({"parameters": Parameters(max_tokens=0)}, "call.parameters.max_tokens", id="no tokens"),
        pytest.param({"parameters": Parameters(max_tokens=1_000_001)}, "call.parameters.max_tokens", id="absurd"),
        pytest.param({"parameters": Parameters(stop=("",))}, "call.parameters.stop", id="an empty stop word"),
        pytest.param({"parameters": Parameters(stop=("x",) * 9)}, "call.parameters.stop", id="too many stop words"),
        pytest.param({"policy": Policy(max_attempts=0)}, "call.policy.max_attempts", id="no attempts"),
        pytest.param({"policy": Policy(max_hops=-1)}, "call.policy.max_hops", id="negative hops"),
        pytest.param({"policy": Policy(max_cost_usd=Decimal(-1))}, "call.policy.max_cost_usd", id="negative cost"),
        pytest.param({"policy": Policy(max_cost_usd=Decimal("NaN"))}, "call.policy.max_cost_usd", id="no number"),
        pytest.param({"policy": Policy(min_confidence=1.1)}, "call.policy.min_confidence", id="confidence"),
        pytest.param(
            {"policy": Policy(escalation_threshold=math.inf)}, "call.policy.escalation_threshold", id="threshold"
        ),
        pytest.param({"stream": StreamPolicy(hold_back_tokens=-1)}, "stream.hold_back_tokens", id="hold back"),
        pytest.param({"stream": StreamPolicy(hold_back_ms=60_001)}, "stream.hold_back_ms", id="hold back for ever"),
    ],
)
def test_a_fault_is_told_by_its_field(options: dict[str, object], field: str) -> None:
    assert field in fields(request(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choice", "tools", "field"),
    [
        (ToolChoice(mode=ToolMode.NAMED, name="b"), (Tool(name="a"),), "call.tool_choice.name"),
        (ToolChoice(mode=ToolMode.REQUIRED), (), "call.tool_choice.mode"),
    ],
)
def test_a_choice_of_no_tool_is_invalid(choice: ToolChoice, tools: tuple[Tool, ...], field: str) -> None:
    assert fields(changed(request(tools=tools), tool_choice=choice)) == [field]


def test_all_faults_are_told_at_once() -> None:
    call = request(task_id="", parameters=Parameters(temperature=9.0, max_tokens=0), policy=Policy(max_attempts=0))
    assert fields(call) == [
        "call.task.id",
        "call.parameters.temperature",
        "call.parameters.max_tokens",
        "call.policy.max_attempts",
    ]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(request(), id="a prompt"),
        pytest.param(request(messages=(said(_PNG),)), id="an image alone"),
        pytest.param(request(messages=(said(Image(url="https://x/y.png")),)), id="an image by url"),
        pytest.param(
            request(messages=(said(ToolResult(tool_call_id="1", content=""), role=Role.TOOL),)), id="a tool's result"
        ),
        pytest.param(request(task_id="team/email-triage_v1.2"), id="a task id with all its marks"),
        pytest.param(request(parameters=Parameters(temperature=0.0, top_p=1.0, max_tokens=1)), id="the least"),
        pytest.param(request(policy=Policy(max_hops=0, max_cost_usd=Decimal(0), min_confidence=1.0)), id="strict"),
        pytest.param(changed(request(), tool_choice=ToolChoice(mode=ToolMode.NONE)), id="no tools, none wanted"),
        pytest.param(request(stream=StreamPolicy(hold_back_tokens=0, hold_back_ms=0)), id="nothing held"),
    ],
)
def test_what_is_right_passes(call: Request) -> None:
    validate(call)


def embed(**options: object) -> EmbedRequest:
    values: dict[str, object] = {"request_id": "r", "tenant": "t", "task": Task(id="x"), "inputs": ("a",), **options}
    return EmbedRequest(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"inputs": ()}, "inputs"),
        ({"inputs": ("a",) * 2049}, "inputs"),
        ({"inputs": ("a", " ")}, "inputs[1]"),
        ({"inputs": ("a", _BIG)}, "inputs[1]"),
        ({"dimensions": 0}, "dimensions"),
        ({"task": Task(id="")}, "task.id"),
        ({"request_id": ""}, "request_id"),
        ({"policy": Policy(max_attempts=0)}, "policy.max_attempts"),
    ],
)
def test_a_fault_of_an_embedding_is_told_by_its_field(options: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate_embed(embed(**options))
    assert [each.field for each in caught.value.violations] == [field]


def test_an_embedding_that_is_right_passes() -> None:
    validate_embed(embed(dimensions=256))


def test_a_huge_correction_is_refused() -> None:
    check_outcome("r1", "x" * 65_536)
    with pytest.raises(InvalidRequestError):
        check_outcome("r1", "é" * 40_000)


@pytest.mark.parametrize("request_id", ["", "x" * 129, "two words", "é", "x\n"])
def test_what_is_said_of_an_answer_names_its_request(request_id: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_outcome(request_id, "")
    assert [each.field for each in caught.value.violations] == ["request_id"]
