"""What OpenAI's API says and what the core says, each made of the other: pure functions, no service."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core import errors
from gearshift.core.answer import Answer, Completion, StageRef
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.load import parse_config
from gearshift.core.config.model import OpenAiConfig
from gearshift.core.errors import ConfigError, FieldViolation, InvalidRequestError, RouteError, UnknownTaskError
from gearshift.core.events import AttemptStarted, Checkpoint, Completed, Delta, Event, Retract, Started, TextDelta
from gearshift.core.prompt import fill
from gearshift.core.request import (
    Image,
    JsonOutput,
    LabelOutput,
    ProviderState,
    Resolution,
    Text,
    ToolCall,
    ToolResult,
)
from gearshift.core.words import (
    AttemptCause,
    AttemptRole,
    CheckpointPolicy,
    Complexity,
    FinishReason,
    InputType,
    Outcome,
    ReasoningEffort,
    Role,
    Sensitivity,
    Source,
    TaskType,
    ToolMode,
    Truncation,
)
from gearshift.server.web.openai.answer import completion_body
from gearshift.server.web.openai.chunks import Chunks
from gearshift.server.web.openai.errors import TOLD, failure_of
from gearshift.server.web.openai.names import OpenAiNames
from gearshift.server.web.openai.request import ChatCall, chat_call, embeddings_call
from gearshift.server.web.openai.settings import StreamMode
from tests.support.served_config import one_openai

CONFIG = OpenAiConfig(models={"gpt-4o": "task:letters", "fast": "chain:classify"})
STAGE = StageRef(position=0, provider="p0", model="m0", capability=Complexity.LOW)
RESOLUTION = Resolution(
    task_id="t",
    declared=False,
    type=TaskType.GENERATE,
    type_source=Source.DEFAULT,
    type_confidence=1.0,
    complexity=Complexity.LOW,
    complexity_source=Source.DEFAULT,
    sensitivity=Sensitivity.INTERNAL,
    sensitivity_source=Source.DEFAULT,
    tenant="default",
)
HELLO = [{"role": "user", "content": "hello"}]


def read(**fields: object) -> ChatCall:
    body = {"model": "gearshift", "messages": HELLO, **fields}
    return chat_call(json.dumps(body).encode(), CONFIG, "acme", "r1")


def refused(**fields: object) -> list[str]:
    with pytest.raises(InvalidRequestError) as caught:
        read(**fields)
    return [each.field for each in caught.value.violations]


# -- Requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "task", "kind"),
    [
        ("gearshift", "gearshift", None),
        ("task:email-triage", "email-triage", None),
        ("gpt-4o", "letters", None),
        ("fast", "gearshift", TaskType.CLASSIFY),
        ("chain:reason", "gearshift", TaskType.REASON),
    ],
)
def test_model_name_picks_task_and_type(model: str, task: str, kind: TaskType | None) -> None:
    request = read(model=model).request
    assert (request.task.id, request.task.type, request.tenant) == (task, kind, "acme")


@pytest.mark.parametrize("model", ["gpt-5", "", "chain:", "chain:own", "tasks:x", "GEARSHIFT"])
def test_other_model_names_are_unknown(model: str) -> None:
    with pytest.raises(UnknownTaskError):
        read(model=model)


def test_instructions_become_the_one_system_prompt_wherever_they_stand() -> None:
    request = read(
        messages=[
            {"role": "system", "content": "Be kind."},
            *HELLO,
            {
                "role": "developer",
                "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Really."}],
            },
            {"role": "assistant", "content": "hi"},
            *HELLO,
        ]
    ).request
    assert request.system is not None and request.system.text == "Be kind.\n\nBe brief.\nReally."
    assert [message.role for message in request.messages] == [Role.USER, Role.ASSISTANT, Role.USER]


@pytest.mark.parametrize(
    "text", ["plain", "a {{name}} b", "{{a}} {{ a }} {{text}}", "{% if x %}{{ x }}{% endif %}", "{{", "{{9}}"]
)
def test_prompt_with_braces_of_its_own_reaches_the_model_as_it_was_sent(text: str) -> None:
    system = read(messages=[{"role": "system", "content": text}, *HELLO]).request.system
    assert system is not None and system.text is not None
    filled = fill(system.text, system.variables)
    assert filled.static + filled.dynamic == text


def test_variables_are_kept_apart() -> None:
    messages = [{"role": "system", "content": "Sort for {{who}}."}, *HELLO]
    system = read(messages=messages, metadata={"gearshift.var.who": "Ann"}).request.system
    assert system is not None and (system.text, dict(system.variables)) == ("Sort for {{who}}.", {"who": "Ann"})


def test_turns_with_tools_go_both_ways() -> None:
    called = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    other = {**called, "id": "c2"}
    turns = [
        *HELLO,
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": [],
            "tool_calls": [called, other],
            "gearshift": {"provider": "p0", "model": "m0", "state": "aGk="},
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
    ]
    asked = read(
        messages=turns, tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    )
    _, assistant, results = asked.request.messages
    assert assistant.parts == (ToolCall(id="c1", name="f", arguments="{}"), ToolCall(id="c2", name="f", arguments="{}"))
    assert assistant.provider_state == ProviderState(provider="p0", model="m0", data=b"hi")
    assert results.role is Role.TOOL
    assert results.parts == (ToolResult(tool_call_id="c1", content="one"), ToolResult(tool_call_id="c2", content="two"))
    assert json.loads(asked.request.tools[0].parameters_schema) == {"type": "object"}


@pytest.mark.parametrize("data", [b"signed", b""])
def test_state_that_an_answer_brings_is_read_back_from_history(data: bytes) -> None:
    state = ProviderState(provider="p0", model="m0", data=data)
    completion = Completion(outcome=Outcome.ACCEPTED, served_by=STAGE, provider_state=state)
    answer = Answer(
        request_id="r", text="hi", tool_calls=(), reasoning="", resolution=RESOLUTION, completion=completion
    )
    message = completion_body(answer, created=1, fingerprint="f")["choices"][0]["message"]
    assert read(messages=[*HELLO, message, *HELLO]).request.messages[1].provider_state == state


def test_parameters_are_read() -> None:
    request = read(
        temperature=1,
        top_p=0.5,
        max_tokens=9,
        stop=["a", "b"],
        seed=-4,
        reasoning_effort="xhigh",
        tool_choice="none",
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        user="u",
        store=False,
        n=1,
        logprobs=False,
        frequency_penalty=0,
        logit_bias={},
        modalities=["text"],
        parallel_tool_calls=True,
        service_tier="auto",
        verbosity="medium",
        prompt_cache_key="k",
        stream=None,
        audio=None,
    ).request
    parameters = request.parameters
    assert (parameters.temperature, parameters.top_p, parameters.max_tokens, parameters.seed) == (1, 0.5, 9, -4)
    assert (parameters.stop, parameters.reasoning_effort) == (("a", "b"), ReasoningEffort.HIGH)
    assert request.tool_choice.mode is ToolMode.NONE
    assert request.output == JsonOutput(schema='{"type": "object"}', name="n")
    assert read(response_format={"type": "json_object"}).request.output == JsonOutput()
    assert read(response_format={"type": "text"}).request.output is None
    named = read(tool_choice={"type": "function", "function": {"name": "f"}}).request.tool_choice
    assert (named.mode, named.name, named.is_single) == (ToolMode.NAMED, "f", False)


def test_settings_of_ours_are_read_from_metadata() -> None:
    said = {
        "task": "billing", "task_type": "classify", "complexity": "high", "sensitivity": "restricted",
        "labels": "a, b ,c", "request_id": "mine", "timeout_ms": "1500", "stream": "hold_all", "hold_back_tokens": "9",
        "max_attempts": "2", "max_hops": "0", "max_cost_usd": "0.020", "min_confidence": "0.9",
        "require_valid": "true", "allowed_models": "m0,m1", "no_cache": "1", "no_escalation": "false",
    }  # fmt: skip
    asked = read(metadata={f"gearshift.{name}": value for name, value in said.items()} | {"other": "x"})
    request, policy = asked.request, asked.request.policy
    assert (request.task.id, request.task.type, request.task.complexity) == (
        "billing",
        TaskType.CLASSIFY,
        Complexity.HIGH,
    )
    assert (request.task.sensitivity, request.request_id) == (Sensitivity.RESTRICTED, "mine")
    assert request.output == LabelOutput(labels=("a", "b", "c"))
    assert (policy.max_attempts, policy.max_hops, policy.max_cost_usd) == (2, 0, Decimal("0.020"))
    assert (policy.require_valid, policy.no_cache, policy.no_escalation) == (True, True, False)
    assert policy.allowed_models == {"m0", "m1"}
    assert (asked.settings.timeout_ms, asked.settings.stream, asked.is_repeatable) == (1500, "hold_all", True)


NOT_SERVED: list[tuple[dict[str, Any], list[str]]] = [
    ({"n": 2}, ["n"]),
    ({"logprobs": True, "top_logprobs": 3}, ["logprobs"]),
    ({"frequency_penalty": 0.5, "presence_penalty": -1}, ["frequency_penalty", "presence_penalty"]),
    ({"logit_bias": {"50": 1}}, ["logit_bias"]),
    ({"modalities": ["audio"]}, ["modalities"]),
    ({"audio": {"voice": "x"}}, ["audio"]),
    ({"functions": []}, ["functions"]),
    ({"store": True}, ["store"]),
    ({"service_tier": "flex"}, ["service_tier"]),
    ({"verbosity": "low"}, ["verbosity"]),
    ({"max_tokens": 1, "max_completion_tokens": 1}, ["max_tokens"]),
    ({"stream_options": {"include_usage": True}}, ["stream_options"]),
    ({"seed": "x"}, ["seed"]),
    ({"tool_choice": "always"}, ["tool_choice"]),
    ({"tools": [{"type": "custom", "custom": {}}]}, ["tools[0].type"]),
    ({"response_format": {"type": "json_schema"}}, ["response_format.json_schema"]),
    ({"messages": [{"role": "function", "content": "x"}]}, ["messages[0].role"]),
    ({"messages": [{"content": "x"}]}, ["messages[0].role"]),
    ({"messages": [{"role": "user"}]}, ["messages[0].content"]),
    ({"messages": [{"role": "user", "content": "x", "mood": "y"}]}, ["messages[0].mood"]),
    ({"messages": [{"role": "tool", "content": "x"}]}, ["messages[0].tool_call_id"]),
    ({"messages": [{"role": "assistant", "function_call": {}}]}, ["messages[0].function_call"]),
    ({"metadata": {"gearshift.colour": "x"}}, ["metadata.gearshift.colour"]),
    ({"metadata": {"gearshift.vector_space": "x"}}, ["metadata.gearshift.vector_space"]),
    ({"metadata": {"gearshift.complexity": "huge"}}, ["metadata.gearshift.complexity"]),
    ({"metadata": {"a": 1}}, ["metadata"]),
    ({"temprature": 1}, ["temprature"]),
    ({"model": "chain:embed"}, ["model"]),
]


@pytest.mark.parametrize(("fields", "named"), NOT_SERVED)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, object], named: list[str]) -> None:
    assert refused(**fields) == named


def test_unknown_field_is_told_the_nearest_name() -> None:
    with pytest.raises(InvalidRequestError, match="did you mean `temperature`"):
        read(temprature=1)


def test_vectors_are_asked_for() -> None:
    metadata = {"gearshift.input_type": "query", "gearshift.truncate": "end", "gearshift.vector_space": "s"}
    body = {
        "model": "task:docs",
        "input": ["a", "b"],
        "dimensions": 64,
        "encoding_format": "base64",
        "metadata": metadata,
    }
    asked = embeddings_call(json.dumps(body).encode(), CONFIG, "acme", "r1")
    request = asked.request
    assert (request.task.id, request.inputs, request.dimensions, asked.is_base64) == ("docs", ("a", "b"), 64, True)
    assert (request.input_type, request.truncation, request.vector_space) == (InputType.QUERY, Truncation.END, "s")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": 5}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"model": "chain:reason"}, "model"),
        ({"metadata": {"gearshift.stream": "fail"}}, "metadata.gearshift.stream"),
    ],
)
def test_vectors_of_what_is_not_served_are_refused_by_name(fields: dict[str, object], named: str) -> None:
    body = {"model": "gearshift", "input": "a", **fields}
    with pytest.raises(InvalidRequestError) as caught:
        embeddings_call(json.dumps(body).encode(), CONFIG, "acme", "r1")
    assert [each.field for each in caught.value.violations] == [named]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "function", "name", "url", "id", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["model", "messages", "tools", "tool_choice", "response_format", "stop", "metadata", "stream", "seed", "n"]
)


@given(st.dictionaries(FIELDS, JSON, max_size=5))
def test_any_body_is_read_or_refused_by_name(body: dict[str, object]) -> None:
    for call in (chat_call, embeddings_call):
        try:
            call(json.dumps({"model": "gearshift", "messages": HELLO, **body}).encode(), CONFIG, "acme", "r1")
        except InvalidRequestError as error:
            assert all(each.field and each.description for each in error.violations)
        except UnknownTaskError:
            pass


# -- Errors ------------------------------------------------------------------------------------------------------------


def test_every_error_has_its_way_of_being_told() -> None:
    kinds = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, RouteError)}
    assert kinds == set(TOLD)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("call.messages[0].parts[1].image.url", "messages[1].content[1].image_url.url"),
        ("call.messages[1].parts", "messages[2].content"),
        ("call.messages[2].parts[1].tool_result.content", "messages[4].content"),
        ("call.messages[2].parts[1].tool_result.tool_call_id", "messages[4].tool_call_id"),
        ("call.messages[1].provider_state.data", "messages[2].gearshift.state"),
        ("call.prompt", "messages"),
        ("call.tools[3].parameters_schema", "tools[3].function.parameters"),
        ("call.tools", "tools"),
        ("call.parameters.temperature", "temperature"),
        ("call.parameters.max_tokens", "max_completion_tokens"),
        ("call.output.json.schema", "response_format.json_schema.schema"),
        ("call.output.labels.labels[2]", "metadata.gearshift.labels"),
        ("call.policy.max_cost_usd", "metadata.gearshift.max_cost_usd"),
        ("call.system.variables.who", "metadata.gearshift.var.who"),
        ("call.request_id", "metadata.gearshift.request_id"),
        ("call.task.id", "model"),
        ("stream.hold_back_ms", "metadata.gearshift.hold_back_ms"),
        ("inputs[4]", "input[4]"),
        ("inputs", "input"),
        ("dimensions", "dimensions"),
        ("something.new", "something.new"),
    ],
)
def test_fault_names_the_field_that_the_client_wrote(field: str, name: str) -> None:
    turns: list[object] = [
        {"role": "system", "content": "x"},
        *HELLO,
        {"role": "assistant", "content": "x"},
        {"role": "tool", "tool_call_id": "a", "content": "x"},
        {"role": "tool", "tool_call_id": "b", "content": "x"},
    ]
    names = read(messages=turns).names
    failure = failure_of(InvalidRequestError(FieldViolation(field=field, description="is wrong")), names, "r")
    assert failure.error["param"] == name
    assert failure.error["message"] == f"{name}: is wrong"


@pytest.mark.parametrize(
    ("wait", "headers"),
    [
        (0.0, ("0", "1", "true")),
        (1.2, ("2", "1200", "true")),
        (float("inf"), (None, None, "false")),
        (1e9, ("86400", "86400000", "true")),
    ],
)
def test_wait_is_told_in_both_units(wait: float, headers: tuple[str | None, ...]) -> None:
    error = errors.RateLimitedError("spent", retry_after_s=wait, limit="requests of tenant acme")
    told = failure_of(error, OpenAiNames(), "r").headers
    assert tuple(told.get(name) for name in ("retry-after", "retry-after-ms", "x-should-retry")) == headers


# -- Chunks ------------------------------------------------------------------------------------------------------------


def started(checkpoints: CheckpointPolicy = CheckpointPolicy.NONE) -> Started:
    return Started(
        request_id="r",
        resolution=RESOLUTION,
        plan=(STAGE,),
        skipped=(),
        cached=False,
        checkpoints=checkpoints,
        checkpoints_reason="",
    )


ATTEMPT = AttemptStarted(number=1, stage=STAGE, role=AttemptRole.ANSWER, cause=AttemptCause.FIRST, detail="")
ENDED = Completed(completion=Completion(outcome=Outcome.ACCEPTED, served_by=STAGE, finish_reason=FinishReason.LENGTH))


def delta(number: int, text: str) -> Delta:
    return Delta(number, (TextDelta(text),))


def chunks_of(mode: StreamMode) -> Chunks:
    return Chunks(mode, created=1, fingerprint="f", include_usage=False)


def shown(data: bytes) -> str:
    events = [json.loads(each[6:]) for each in data.decode().split("\n\n") if each and not each.endswith("[DONE]")]
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in events)


def test_continued_text_is_written_up_to_the_last_checkpoint() -> None:
    chunks = chunks_of("continue")
    assert chunks.take([started(CheckpointPolicy.WINDOWS), ATTEMPT, delta(1, "one"), delta(2, " two")]) == b""
    assert shown(chunks.take([Checkpoint(1)])) == "one"
    assert chunks.take([Retract(1, "broke"), delta(3, " and")]) == b""
    assert shown(chunks.take([Checkpoint(3)])) == " and"
    assert chunks.take([delta(4, " so"), ENDED]) == b""
    assert shown(chunks.end()) == " so"


def test_state_comes_with_the_end_of_a_stream() -> None:
    chunks = chunks_of("fail")
    state = ProviderState(provider="p0", model="m0", data=b"hi")
    completion = Completion(outcome=Outcome.ACCEPTED, served_by=STAGE, provider_state=state)
    chunks.take([started(), ATTEMPT, delta(1, "one"), Completed(completion=completion)])
    *_, end, done = chunks.end().decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    assert json.loads(end[6:])["choices"][0]["delta"]["gearshift"] == {"provider": "p0", "model": "m0", "state": "aGk="}


def test_what_was_written_and_is_taken_back_is_an_error() -> None:
    chunks = chunks_of("fail")
    assert shown(chunks.take([started(), ATTEMPT, delta(1, "one"), delta(2, " two")])) == "one two"
    with pytest.raises(RouteError, match="taken back"):
        chunks.take([Retract(1, "differs")])


def test_what_was_held_and_is_taken_back_is_never_seen() -> None:
    chunks = chunks_of("hold_all")
    assert chunks.take([started(), ATTEMPT, delta(1, "one"), Retract(0, "broke"), delta(2, "good"), ENDED]) == b""
    last = chunks.end()
    assert shown(last) == "good" and last.endswith(b"data: [DONE]\n\n")
    assert b'"finish_reason":"length"' in last


def test_stream_without_its_end_is_an_error() -> None:
    chunks = chunks_of("fail")
    chunks.take([started(), ATTEMPT, delta(1, "one")])
    with pytest.raises(RouteError, match="before its answer"):
        chunks.end()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(TEXTS, max_size=12), st.sampled_from(["continue", "fail", "hold_all"]), st.booleans())
def test_written_text_is_the_text_whatever_its_pieces(pieces: list[str], mode: Any, windows: bool) -> None:
    chunks = chunks_of(mode)
    policy = CheckpointPolicy.WINDOWS if windows else CheckpointPolicy.NONE
    data = chunks.take([started(policy), ATTEMPT])
    for number, piece in enumerate(pieces, 1):
        events: list[Event] = [delta(number, piece)]
        if windows and number % 3 == 0:
            events.append(Checkpoint(number))
        data += chunks.take(events)
    data += chunks.take([ENDED]) + chunks.end()
    assert shown(data) == "".join(pieces)


# -- Configuration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("models: {gpt-4o: letters}", "server.openai.models.gpt-4o"),
        ("models: {gpt-4o: 'chain:best'}", "server.openai.models.gpt-4o"),
        ("models: {gearshift: 'task:x'}", "server.openai.models.gearshift"),
        ("stream: regenerate", "server.openai.stream"),
        ("hold_back: 3", "did you mean `hold_back_ms`"),
    ],
)
def test_wrong_configuration_is_told_with_its_place(line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")):
        build(
            parse_config(one_openai("http://127.0.0.1:9", more=f"server: {{openai: {{{line}}}}}"), {}), Catalogue.load()
        )


def test_task_that_is_not_declared_under_strict_is_no_model() -> None:
    more = "tasks: {strict: true, declared: {known: {type: generate}}}\nserver: {openai: {models: {a: 'task:knwon'}}}"
    with pytest.raises(ConfigError, match="did you mean `known`"):
        build(parse_config(one_openai("http://127.0.0.1:9", more=more), {}), Catalogue.load())


def test_image_by_address_is_left_to_the_provider() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    message = read(messages=[{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}]).request.messages[
        0
    ]
    assert message.parts == (Text("what?"), Image(url="https://example.com/a.png"))
