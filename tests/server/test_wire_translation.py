"""Messages to values and back: every field has its place, numbers that nobody knows are refused by name."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from gearshift.core import answer as core_answer
from gearshift.core import events as core_events
from gearshift.core import request as core_request
from gearshift.core import words
from gearshift.core.errors import InvalidRequestError
from gearshift.server.wire import (
    answer_to_wire,
    attempt_to_wire,
    call_from_wire,
    completion_to_wire,
    embed_answer_to_wire,
    embed_from_wire,
    events_to_wire,
    money,
    outcome_from_wire,
    stream_policy_from_wire,
)
from gearshift.v1 import answer_pb2, call_pb2, ops_pb2, router_pb2, stream_pb2, task_pb2

ENUM_HOMES = (answer_pb2, call_pb2, ops_pb2, router_pb2, stream_pb2, task_pb2)


def word_enums() -> list[type[words.WordEnum]]:
    return [
        each
        for each in vars(words).values()
        if isinstance(each, type) and issubclass(each, words.WordEnum) and each is not words.WordEnum
    ]


@pytest.mark.parametrize("kind", [pytest.param(each, id=each.__name__) for each in word_enums()])
def test_enumerations_have_the_same_numbers_on_both_sides(kind: type[words.WordEnum]) -> None:
    homes = [home.DESCRIPTOR.enum_types_by_name.get(kind.__name__) for home in ENUM_HOMES]
    (found,) = [home for home in homes if home is not None]
    prefix = "".join(f"_{each}" if each.isupper() else each.upper() for each in kind.__name__).lstrip("_")
    theirs = {value.name.removeprefix(f"{prefix}_"): value.number for value in found.values if value.number}
    assert {member.name: member.value for member in kind} == theirs


# -- calls -------------------------------------------------------------------------------------------------------------


def whole_call() -> call_pb2.Call:
    """Give a call with every field set; a oneof's other members are in `other_call`."""
    return call_pb2.Call(
        task=task_pb2.Task(
            id="email-triage",
            type=task_pb2.TASK_TYPE_EXTRACT,
            complexity=task_pb2.COMPLEXITY_MEDIUM,
            sensitivity=task_pb2.SENSITIVITY_RESTRICTED,
        ),
        system=call_pb2.SystemPrompt(text="Be {{mood}}.", variables={"mood": "kind"}, static=True),
        messages=[
            call_pb2.Message(
                role=call_pb2.ROLE_USER,
                parts=[
                    call_pb2.Part(text="look"),
                    call_pb2.Part(image=call_pb2.Image(data=b"\x89PNG", media_type="image/png")),
                ],
            ),
            call_pb2.Message(
                role=call_pb2.ROLE_ASSISTANT,
                parts=[call_pb2.Part(tool_call=call_pb2.ToolCall(id="c1", name="look_up", arguments='{"q": 1}'))],
                provider_state=call_pb2.ProviderState(provider="anthropic", model="claude", data=b"\x00\xff"),
            ),
            call_pb2.Message(
                role=call_pb2.ROLE_TOOL,
                parts=[
                    call_pb2.Part(tool_result=call_pb2.ToolResult(tool_call_id="c1", content="nothing", is_error=True))
                ],
            ),
        ],
        prompt="and now?",
        tools=[call_pb2.Tool(name="look_up", description="looks", parameters_schema='{"type": "object"}')],
        tool_choice=call_pb2.ToolChoice(mode=call_pb2.TOOL_MODE_NAMED, name="look_up"),
        output=call_pb2.OutputSpec(
            labels=call_pb2.LabelOutput(
                labels=["billing", "bug"], examples=[call_pb2.LabelExample(text="charged twice", label="billing")]
            )
        ),
        parameters=call_pb2.Parameters(
            temperature=0.5,
            top_p=0.25,
            max_tokens=100,
            stop=["END"],
            seed=7,
            reasoning_effort=call_pb2.REASONING_EFFORT_LOW,
        ),
        request_id="r-1",
        policy=call_pb2.Policy(
            max_attempts=3,
            max_hops=2,
            max_cost_usd="0.02",
            min_confidence=0.9,
            escalation_threshold=0.8,
            require_valid=True,
            require_confidence=True,
            allowed_models=["a", "b"],
            allowed_providers=["p"],
            no_second_look=True,
            no_cache=True,
            no_escalation=True,
        ),
    )


def other_call() -> call_pb2.Call:
    """Give a call with the oneofs' other members."""
    return call_pb2.Call(
        task=task_pb2.Task(id="t"),
        system=call_pb2.SystemPrompt(key="k" * 32),
        messages=[
            call_pb2.Message(
                parts=[call_pb2.Part(image=call_pb2.Image(url="https://example.com/a.png", media_type="image/png"))]
            )
        ],
        output=call_pb2.OutputSpec(
            json=call_pb2.JsonOutput(
                schema='{"type": "object"}', name="person", examples=[call_pb2.JsonExample(text="Ann", json="{}")]
            )
        ),
    )


def paths_of(descriptor: Descriptor, prefix: str = "") -> set[str]:
    """Give the path of every field of a message type, messages in it opened."""
    found: set[str] = set()
    for each in descriptor.fields:
        path = f"{prefix}{each.name}"
        found.add(path)
        if each.message_type is not None and not each.message_type.GetOptions().map_entry:
            found |= paths_of(each.message_type, f"{path}.")
    return found


def set_paths(message: Message, prefix: str = "") -> set[str]:
    """Give the path of every field that a message has set."""
    found: set[str] = set()
    for descriptor, value in message.ListFields():
        path = f"{prefix}{descriptor.name}"
        found.add(path)
        if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
            continue
        for each in value if descriptor.is_repeated else [value]:
            found |= set_paths(each, f"{path}.")
    return found


def test_samples_set_every_field_of_a_call() -> None:
    assert set_paths(whole_call()) | set_paths(other_call()) == paths_of(call_pb2.Call.DESCRIPTOR)


def test_every_field_of_a_call_arrives() -> None:
    stream = core_request.StreamPolicy(preview=True)
    request = call_from_wire(whole_call(), "acme", stream)
    assert request == core_request.Request(
        request_id="r-1",
        tenant="acme",
        task=core_request.Task(
            id="email-triage",
            type=words.TaskType.EXTRACT,
            complexity=words.Complexity.MEDIUM,
            sensitivity=words.Sensitivity.RESTRICTED,
        ),
        system=core_request.SystemPrompt(text="Be {{mood}}.", key=None, variables={"mood": "kind"}, static=True),
        messages=(
            core_request.Message(
                role=words.Role.USER,
                parts=(core_request.Text("look"), core_request.Image(data=b"\x89PNG", media_type="image/png")),
            ),
            core_request.Message(
                role=words.Role.ASSISTANT,
                parts=(core_request.ToolCall(id="c1", name="look_up", arguments='{"q": 1}'),),
                provider_state=core_request.ProviderState(provider="anthropic", model="claude", data=b"\x00\xff"),
            ),
            core_request.Message(
                role=words.Role.TOOL,
                parts=(core_request.ToolResult(tool_call_id="c1", content="nothing", is_error=True),),
            ),
            core_request.user("and now?"),
        ),
        tools=(core_request.Tool(name="look_up", description="looks", parameters_schema='{"type": "object"}'),),
        tool_choice=core_request.ToolChoice(mode=words.ToolMode.NAMED, name="look_up"),
        output=core_request.LabelOutput(labels=("billing", "bug"), examples=(("charged twice", "billing"),)),
        parameters=core_request.Parameters(
            temperature=0.5,
            top_p=0.25,
            max_tokens=100,
            stop=("END",),
            seed=7,
            reasoning_effort=words.ReasoningEffort.LOW,
        ),
        policy=core_request.Policy(
            max_attempts=3,
            max_hops=2,
            max_cost_usd=Decimal("0.02"),
            min_confidence=0.9,
            escalation_threshold=0.8,
            require_valid=True,
            require_confidence=True,
            allowed_models=frozenset({"a", "b"}),
            allowed_providers=frozenset({"p"}),
            no_second_look=True,
            no_cache=True,
            no_escalation=True,
        ),
        stream=stream,
    )


def test_other_members_of_oneofs_arrive() -> None:
    request = call_from_wire(other_call(), "acme", None)
    assert request.system == core_request.SystemPrompt(text=None, key="k" * 32)
    assert request.output == core_request.JsonOutput(
        schema='{"type": "object"}', name="person", examples=(("Ann", "{}"),)
    )
    image = core_request.Image(url="https://example.com/a.png", media_type="image/png")
    assert request.messages == (core_request.Message(role=words.Role.USER, parts=(image,)),)


def test_unset_is_not_zero() -> None:
    plain = call_from_wire(call_pb2.Call(task=task_pb2.Task(id="t"), prompt="hi"), "acme", None)
    assert plain.parameters == core_request.Parameters()
    assert plain.policy == core_request.Policy()
    assert plain.request_id
    zeros = call_pb2.Call(
        parameters=call_pb2.Parameters(temperature=0, top_p=0, max_tokens=0, seed=0),
        policy=call_pb2.Policy(max_attempts=0, max_hops=0, min_confidence=0, escalation_threshold=0),
    )
    request = call_from_wire(zeros, "acme", None)
    assert (request.parameters.temperature, request.parameters.max_tokens, request.parameters.seed) == (0, 0, 0)
    assert (request.policy.max_attempts, request.policy.max_hops, request.policy.min_confidence) == (0, 0, 0)


def test_call_without_an_id_gets_one_of_its_own() -> None:
    empty = call_pb2.Call()
    assert call_from_wire(empty, "a", None).request_id != call_from_wire(empty, "a", None).request_id


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.floats(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=20),
)
def test_values_travel_unchanged(
    text: str, variables: dict[str, str], temperature: float, seed: int, data: bytes
) -> None:
    call = call_pb2.Call(
        task=task_pb2.Task(id=text),
        system=call_pb2.SystemPrompt(text=text, variables=variables),
        messages=[call_pb2.Message(parts=[call_pb2.Part(image=call_pb2.Image(data=data, media_type=text))])],
        parameters=call_pb2.Parameters(temperature=temperature, seed=seed),
    )
    request = call_from_wire(call_pb2.Call.FromString(call.SerializeToString()), text, None)
    assert request.task.id == request.tenant == text
    assert request.system is not None
    assert (request.system.text, request.system.variables) == (text, variables)
    assert request.messages[0].parts == (core_request.Image(data=data, media_type=text),)
    given_temperature = request.parameters.temperature
    assert given_temperature is not None
    assert given_temperature == temperature or math.isnan(temperature)
    assert request.parameters.seed == seed


def with_number(path: str, number: int) -> call_pb2.Call:
    """Give a call that holds an unknown number at a path."""
    call = call_pb2.Call(messages=[call_pb2.Message(parts=[call_pb2.Part(text="hi")])])
    target: Any = call
    *steps, last = path.split(".")
    for step in steps:
        target = target.messages[0] if step == "messages" else getattr(target, step)
    setattr(target, last, number)
    return call


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("task.type", "call.task.type"),
        ("task.complexity", "call.task.complexity"),
        ("task.sensitivity", "call.task.sensitivity"),
        ("messages.role", "call.messages[0].role"),
        ("tool_choice.mode", "call.tool_choice.mode"),
        ("parameters.reasoning_effort", "call.parameters.reasoning_effort"),
    ],
)
@pytest.mark.parametrize("number", [99, -1])
def test_unknown_enumeration_number_is_refused_by_name(path: str, field: str, number: int) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        call_from_wire(with_number(path, number), "acme", None)
    (violation,) = caught.value.violations
    assert violation.field == field
    assert f"{number} is unknown to this version; known: " in violation.description


def test_unknown_numbers_outside_a_call_are_refused_by_name() -> None:
    makers: list[tuple[str, Callable[[], object]]] = [
        ("stream.mode", lambda: stream_policy_from_wire(call_pb2.StreamPolicy(mode=typing.cast("Any", 99)))),
        ("stream.mode", lambda: stream_policy_from_wire(call_pb2.StreamPolicy(mode=call_pb2.SWITCH_MODE_RESTORE))),
        ("input_type", lambda: embed_from_wire(router_pb2.EmbedRequest(input_type=typing.cast("Any", 99)), "a")),
        ("truncation", lambda: embed_from_wire(router_pb2.EmbedRequest(truncation=typing.cast("Any", 99)), "a")),
        (
            "verdict",
            lambda: outcome_from_wire(
                router_pb2.ReportOutcomeRequest(request_id="r", verdict=typing.cast("Any", 99)), "a"
            ),
        ),
        ("verdict", lambda: outcome_from_wire(router_pb2.ReportOutcomeRequest(request_id="r"), "a")),
        ("request_id", lambda: outcome_from_wire(router_pb2.ReportOutcomeRequest(verdict=1), "a")),  # type: ignore[arg-type]
    ]
    for field, make in makers:
        with pytest.raises(InvalidRequestError) as caught:
            make()
        assert caught.value.violations[0].field == field


def test_part_that_holds_nothing_is_refused_by_place() -> None:
    call = call_pb2.Call(messages=[call_pb2.Message(parts=[call_pb2.Part(text="hi"), call_pb2.Part()])])
    with pytest.raises(InvalidRequestError, match="set text, image, tool_call or tool_result") as caught:
        call_from_wire(call, "acme", None)
    assert caught.value.violations[0].field == "call.messages[0].parts[1]"


@pytest.mark.parametrize(
    "amount", ["free", "-1", "NaN", "Infinity", "1e999999999", "1e-999999999", "0,5", " 1", "1" * 100, "0." + "1" * 99]
)
def test_amount_that_is_no_plain_decimal_is_refused(amount: str) -> None:
    call = call_pb2.Call(policy=call_pb2.Policy(max_cost_usd=amount))
    with pytest.raises(InvalidRequestError, match="must be a decimal such as 0.02") as caught:
        call_from_wire(call, "acme", None)
    assert caught.value.violations[0].field == "call.policy.max_cost_usd"


def test_every_field_of_a_stream_policy_arrives() -> None:
    policy = call_pb2.StreamPolicy(
        hold_back_tokens=0,
        hold_back_ms=5,
        mode=call_pb2.SWITCH_MODE_CONTINUE,
        escalate_at_end=True,
        preview=True,
        include_reasoning=True,
    )
    assert stream_policy_from_wire(policy) == core_request.StreamPolicy(
        hold_back_tokens=0,
        hold_back_ms=5,
        mode=words.SwitchMode.CONTINUE,
        escalate_at_end=True,
        preview=True,
        include_reasoning=True,
    )
    assert stream_policy_from_wire(call_pb2.StreamPolicy()) == core_request.StreamPolicy()


def test_every_field_of_an_embedding_arrives() -> None:
    request = router_pb2.EmbedRequest(
        task=task_pb2.Task(id="search", sensitivity=task_pb2.SENSITIVITY_INTERNAL),
        inputs=["b", "a"],
        input_type=router_pb2.INPUT_TYPE_QUERY,
        dimensions=256,
        truncation=router_pb2.TRUNCATION_END,
        vector_space="voyage-4",
        allow_space_change=True,
        request_id="r-2",
        policy=call_pb2.Policy(max_hops=1),
    )
    assert {field.name for field in request.DESCRIPTOR.fields} == {field.name for field, _ in request.ListFields()}
    assert embed_from_wire(request, "acme") == core_request.EmbedRequest(
        request_id="r-2",
        tenant="acme",
        task=core_request.Task(id="search", sensitivity=words.Sensitivity.INTERNAL),
        inputs=("b", "a"),
        input_type=words.InputType.QUERY,
        dimensions=256,
        truncation=words.Truncation.END,
        vector_space="voyage-4",
        allow_space_change=True,
        policy=core_request.Policy(max_hops=1),
    )


# -- answers -----------------------------------------------------------------------------------------------------------

INTERNAL_FIELDS = {
    ("Usage", "cache_write_1h_tokens"): "a part of cache_write_tokens, for the price alone",
    ("AttemptRecord", "started_at"): "the ledger's",
    ("AttemptRecord", "served"): "told by Completion.served_by",
    ("Verdict", "measured"): "the ledger's, for calibration",
}
RENAMED = {"AttemptRecord": "Attempt"}
MESSAGES: dict[str, Descriptor] = {
    name: descriptor for home in ENUM_HOMES for name, descriptor in home.DESCRIPTOR.message_types_by_name.items()
}


def is_value(kind: object) -> bool:
    """Tell whether it is a class of the core's values."""
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, Struct))


def fields_of(kind: Any) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return list(kind.__struct_fields__)


def changed(value: Any, **fields: object) -> Any:
    """Give a value with other fields."""
    return type(value)(**{name: getattr(value, name) for name in fields_of(value)} | fields)


def value_of(hint: Any) -> Any:
    """Give a value of a type that is not its default, dataclasses filled in whole."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if is_value(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{name: value_of(hints[name]) for name in fields_of(hint)})
    if type(None) in inner:
        return value_of(next(each for each in inner if each is not type(None)))
    if origin is tuple:
        return (value_of(inner[0]),)
    if origin is not None and "Mapping" in str(origin):
        return {"key": value_of(inner[1])}
    if isinstance(hint, type) and issubclass(hint, words.WordEnum):
        return list(hint)[-1]
    plain: dict[Any, Any] = {
        str: "text",
        int: 7,
        float: 0.5,
        bool: True,
        bytes: b"bytes",
        Decimal: Decimal("0.0125"),
    }
    if hint in plain:
        return plain[hint]
    return value_of(inner[0])  # a union of dataclasses: its members have tests of their own


OURS = [
    each
    for home in (core_answer, core_events)
    for each in vars(home).values()
    if is_value(each) and each.__module__ == home.__name__
]
INLINED = {"TextDelta", "ReasoningDelta", "EmbedAnswer"}


@pytest.mark.parametrize(
    "kind", [pytest.param(each, id=each.__name__) for each in OURS if each.__name__ not in INLINED]
)
def test_every_field_of_what_comes_back_has_its_place_on_the_wire(kind: type) -> None:
    message = MESSAGES[RENAMED.get(kind.__name__, kind.__name__)]
    ours = set(fields_of(kind))
    internal = {name for owner, name in INTERNAL_FIELDS if owner == kind.__name__}
    assert ours - internal == {field.name for field in message.fields}


def test_whole_answer_leaves_no_field_of_the_wire_empty() -> None:
    given = answer_to_wire(value_of(core_answer.Answer))
    assert set_paths(given) == paths_of(answer_pb2.Answer.DESCRIPTOR)
    attempt = given.completion.attempts[0]
    assert attempt.cost_usd == "0.0125"
    assert attempt.failure == answer_pb2.FAILURE_KIND_OVERRUN
    assert given.completion.label_probabilities == {"key": 0.5}


def test_whole_embedding_leaves_no_field_of_the_wire_empty() -> None:
    answer = changed(value_of(core_answer.EmbedAnswer), embeddings=((0.5, 1.0), (0.25, 2.0)))
    given = embed_answer_to_wire(answer)
    assert set_paths(given) == paths_of(router_pb2.EmbedResponse.DESCRIPTOR)
    assert [list(each.values) for each in given.embeddings] == [[0.5, 1.0], [0.25, 2.0]]


@pytest.mark.parametrize("kind", [pytest.param(each, id=each.__name__) for each in typing.get_args(core_events.Event)])
def test_whole_event_leaves_no_field_of_the_wire_empty(kind: type) -> None:
    (event,) = events_to_wire([value_of(kind)]).events
    which = event.WhichOneof("kind")
    assert which is not None
    descriptor = next(field for field in event.DESCRIPTOR.fields if field.name == which)
    assert descriptor.message_type is not None
    missing = paths_of(descriptor.message_type) - set_paths(getattr(event, which))
    # A part holds one of its kinds; the others have their own test.
    assert {path for path in missing if not path.startswith("parts.")} == set()


def test_parts_of_a_delta_keep_their_order_and_kind() -> None:
    delta = core_events.Delta(
        3,
        (
            core_events.ReasoningDelta("hm"),
            core_events.TextDelta("so"),
            core_events.ToolCallFragment(index=1, id="c1", name="f", arguments="{"),
        ),
        passed_through=2,
    )
    (event,) = events_to_wire([delta]).events
    assert event.delta == stream_pb2.Delta(
        number=3,
        passed_through=2,
        parts=[
            stream_pb2.DeltaPart(reasoning="hm"),
            stream_pb2.DeltaPart(text="so"),
            stream_pb2.DeltaPart(tool_call=stream_pb2.ToolCallFragment(index=1, id="c1", name="f", arguments="{")),
        ],
    )


@given(st.text(), st.integers(1, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_short_way_of_a_text_delta_gives_what_the_long_way_gives(text: str, number: int, passed: int) -> None:
    delta = core_events.Delta(number, (core_events.TextDelta(text),), passed_through=passed)
    alone = events_to_wire([delta])
    beside = events_to_wire([delta, core_events.Checkpoint(number)])
    assert alone.events[0] == beside.events[0]
    assert alone.SerializeToString()


def test_unknown_figures_stay_unknown() -> None:
    attempt = changed(
        value_of(core_answer.AttemptRecord), cost_usd=None, first_token_ms=None, failure=None, verdicts=()
    )
    given = attempt_to_wire(attempt)
    assert given.cost_usd == ""
    assert not given.HasField("first_token_ms")
    assert given.failure == answer_pb2.FAILURE_KIND_UNSPECIFIED
    completion = completion_to_wire(core_answer.Completion(outcome=words.Outcome.FAILED))
    assert not completion.HasField("served_by")
    assert not completion.HasField("confidence")
    assert not completion.HasField("provider_state")
    assert completion.cost == answer_pb2.Cost()


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, ""),
        (Decimal(0), "0"),
        (Decimal("0.00"), "0"),
        (Decimal(100), "100"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1E-9"), "0.000000001"),
        (Decimal("1E+2"), "100"),
    ],
)
def test_money_is_a_plain_decimal(amount: Decimal | None, text: str) -> None:
    assert money(amount) == text
