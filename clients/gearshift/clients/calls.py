"""Builds calls, so that callers rarely touch protobuf.

Rules: words are the contract's in lower case ("classify", "high", "restricted"); what is not said stays unset, so that
declaration and chain decide. Ranges are the server's to check; here only what could not be sent is refused.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal, TypedDict

from gearshift.v1 import call_pb2, router_pb2, task_pb2

TaskTypeName = Literal["classify", "extract", "generate", "reason", "embed"]
ComplexityName = Literal["low", "medium", "high"]
SensitivityName = Literal["public", "internal", "restricted"]
EffortName = Literal["none", "low", "medium", "high"]
ModeName = Literal["regenerate", "continue", "fail"]
InputTypeName = Literal["query", "document"]
TruncationName = Literal["error", "end"]
Json = Mapping[str, Any] | Sequence[Any] | str | int | float | bool | None

TASK_TYPES: Final = ("classify", "extract", "generate", "reason")
"""The task types that Route and StreamRoute serve."""


class CallOptions(TypedDict, total=False):
    """What may stand in the context of `execute`: the arguments of `call`, except its task and prompt."""

    task: str
    task_type: TaskTypeName
    complexity: ComplexityName
    sensitivity: SensitivityName
    system: str
    system_key: str
    variables: Mapping[str, str]
    static: bool
    messages: Sequence[call_pb2.Message]
    labels: Sequence[str]
    schema: Mapping[str, Any] | str
    schema_name: str
    examples: Sequence[tuple[str, Json]]
    tools: Sequence[call_pb2.Tool]
    tool_choice: str
    temperature: float
    top_p: float
    max_tokens: int
    stop: Sequence[str]
    seed: int
    reasoning_effort: EffortName
    request_id: str
    max_attempts: int
    max_hops: int
    max_cost_usd: Decimal | str
    min_confidence: float
    escalation_threshold: float
    require_valid: bool
    require_confidence: bool
    allowed_models: Sequence[str]
    allowed_providers: Sequence[str]
    no_second_look: bool
    no_cache: bool
    no_escalation: bool


def call(
    task: str,
    prompt: str = "",
    *,
    task_type: TaskTypeName | None = None,
    complexity: ComplexityName | None = None,
    sensitivity: SensitivityName | None = None,
    system: str | None = None,
    system_key: str | None = None,
    variables: Mapping[str, str] | None = None,
    static: bool = False,
    messages: Sequence[call_pb2.Message] = (),
    labels: Sequence[str] | None = None,
    schema: Mapping[str, Any] | str | None = None,
    schema_name: str = "",
    examples: Sequence[tuple[str, Json]] = (),
    tools: Sequence[call_pb2.Tool] = (),
    tool_choice: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    stop: Sequence[str] = (),
    seed: int | None = None,
    reasoning_effort: EffortName | None = None,
    request_id: str = "",
    max_attempts: int | None = None,
    max_hops: int | None = None,
    max_cost_usd: Decimal | str | None = None,
    min_confidence: float | None = None,
    escalation_threshold: float | None = None,
    require_valid: bool = False,
    require_confidence: bool = False,
    allowed_models: Sequence[str] = (),
    allowed_providers: Sequence[str] = (),
    no_second_look: bool = False,
    no_cache: bool = False,
    no_escalation: bool = False,
) -> call_pb2.Call:
    """Build one call.

    Args:
        task: the id that cost is attributed to, such as "email-triage".
        prompt: short for one user message after messages.
        task_type: what kind of work it is; None leaves it to declaration, output and classifier.
        complexity: the capability that a model must have.
        sensitivity: the clearance that a provider must have; can only raise what is declared.
        system: the static instructions, with `{{name}}` where a variable goes.
        system_key: the key of stored instructions, instead of system.
        variables: the values for the `{{name}}` places.
        static: the instructions hold no values of one request, whatever they look like.
        messages: the conversation, oldest first.
        labels: the answer is exactly one of these.
        schema: the answer is JSON that fits this JSON Schema; `{}` takes any JSON.
        schema_name: what the schema is called.
        examples: worked examples, as (text, label) or (text, document).
        tools: what the model may ask to be called.
        tool_choice: "auto", "none", "required", or the name of a tool.
        temperature: 0 to 2.
        top_p: above 0, to 1.
        max_tokens: the most model tokens to write.
        stop: stop words; the answer ends before one.
        seed: makes sampling repeatable where the model can.
        reasoning_effort: how much the model may think first.
        request_id: a repeat within the server's window joins the running call or returns its result.
        max_attempts: the most upstream calls.
        max_hops: the most changes of stage.
        max_cost_usd: the most to spend, USD.
        min_confidence: confidence to accept without a second look, 0 to 1.
        escalation_threshold: confidence under which an answer escalates, 0 to 1.
        require_valid: nothing accepted raises ABORTED, instead of the best answer marked as not accepted.
        require_confidence: an answer whose confidence cannot be measured escalates.
        allowed_models: only these models.
        allowed_providers: only these providers.
        no_second_look: never sample twice.
        no_cache: neither read nor write the response cache.
        no_escalation: return a poor answer as it is.

    Raises:
        ValueError: two arguments exclude each other, or a word is not the contract's.

    """
    made = call_pb2.Call(task=_task(task, task_type, complexity, sensitivity), prompt=prompt, request_id=request_id)
    made.messages.extend(messages)
    made.tools.extend(tools)
    if tool_choice is not None:
        made.tool_choice.CopyFrom(_tool_choice(tool_choice))
    if (made_system := _system(system, system_key, variables, static)) is not None:
        made.system.CopyFrom(made_system)
    if (output := _output(labels, schema, schema_name, examples)) is not None:
        made.output.CopyFrom(output)
    parameters = call_pb2.Parameters(temperature=temperature, top_p=top_p, max_tokens=max_tokens, stop=stop, seed=seed)
    if reasoning_effort is not None:
        parameters.reasoning_effort = _word(call_pb2.ReasoningEffort, "REASONING_EFFORT", reasoning_effort)
    if parameters.ByteSize():
        made.parameters.CopyFrom(parameters)
    policy = call_pb2.Policy(
        max_attempts=max_attempts,
        max_hops=max_hops,
        max_cost_usd="" if max_cost_usd is None else _decimal(max_cost_usd),
        min_confidence=min_confidence,
        escalation_threshold=escalation_threshold,
        require_valid=require_valid,
        require_confidence=require_confidence,
        allowed_models=allowed_models,
        allowed_providers=allowed_providers,
        no_second_look=no_second_look,
        no_cache=no_cache,
        no_escalation=no_escalation,
    )
    if policy.ByteSize():
        made.policy.CopyFrom(policy)
    return made


def execute_call(task: str, prompt: str, context: CallOptions | None) -> call_pb2.Call:
    """Build the call of `execute`: task is a task type, or the id of a declared task.

    Raises:
        ValueError: the context holds a name that `call` does not know, or the task is "embed".

    """
    if task == "embed":
        raise ValueError("execute() answers with text; use embed() for vectors")
    options: dict[str, Any] = dict(context or {})
    for name in options:
        if name not in CallOptions.__annotations__:
            near = difflib.get_close_matches(name, CallOptions.__annotations__, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"the context holds {name!r}, which is not known{hint}")
    if task in TASK_TYPES:
        options["task_type"] = task
    return call(options.pop("task", task), prompt, **options)


def stream_policy(
    *,
    hold_back_tokens: int | None = None,
    hold_back_ms: int | None = None,
    mode: ModeName | None = None,
    escalate_at_end: bool = False,
    preview: bool = False,
    include_reasoning: bool = False,
) -> call_pb2.StreamPolicy:
    """Build how a stream is held back and switched.

    Args:
        hold_back_tokens: hold each attempt's text until this many tokens came; 0 shows them at once.
        hold_back_ms: hold no longer than this, milliseconds.
        mode: what happens after a broken or poor attempt; None is as the task or the service says, else regenerate.
        escalate_at_end: a poor final confidence retracts and escalates too.
        preview: send partial JSON, labels and tool calls before they are accepted.
        include_reasoning: send the model's reasoning as well.

    """
    return call_pb2.StreamPolicy(
        hold_back_tokens=hold_back_tokens,
        hold_back_ms=hold_back_ms,
        mode=call_pb2.SWITCH_MODE_UNSPECIFIED if mode is None else _word(call_pb2.SwitchMode, "SWITCH_MODE", mode),
        escalate_at_end=escalate_at_end,
        preview=preview,
        include_reasoning=include_reasoning,
    )


def embed_request(
    task: str,
    inputs: Sequence[str],
    *,
    input_type: InputTypeName | None = None,
    dimensions: int | None = None,
    truncation: TruncationName | None = None,
    vector_space: str = "",
    allow_space_change: bool = False,
    sensitivity: SensitivityName | None = None,
    request_id: str = "",
    policy: call_pb2.Policy | None = None,
) -> router_pb2.EmbedRequest:
    """Build a request for vectors; the arguments are those of `Client.embed`."""
    if isinstance(inputs, str):
        raise TypeError("inputs is a list of texts, not one text")
    request = router_pb2.EmbedRequest(
        task=_task(task, None, None, sensitivity),
        inputs=inputs,
        dimensions=dimensions,
        vector_space=vector_space,
        allow_space_change=allow_space_change,
        request_id=request_id,
        policy=policy,
    )
    if input_type is not None:
        request.input_type = _word(router_pb2.InputType, "INPUT_TYPE", input_type)
    if truncation is not None:
        request.truncation = _word(router_pb2.Truncation, "TRUNCATION", truncation)
    return request


def _task(task: str, task_type: str | None, complexity: str | None, sensitivity: str | None) -> task_pb2.Task:
    made = task_pb2.Task(id=task)
    if task_type is not None:
        made.type = _word(task_pb2.TaskType, "TASK_TYPE", task_type)
    if complexity is not None:
        made.complexity = _word(task_pb2.Complexity, "COMPLEXITY", complexity)
    if sensitivity is not None:
        made.sensitivity = _word(task_pb2.Sensitivity, "SENSITIVITY", sensitivity)
    return made


def _system(
    text: str | None, key: str | None, variables: Mapping[str, str] | None, static: bool
) -> call_pb2.SystemPrompt | None:
    if text is not None and key is not None:
        raise ValueError("system and system_key exclude each other")
    if text is None and key is None and not variables and not static:
        return None
    made = call_pb2.SystemPrompt(variables=variables or {}, static=static)
    if text is not None:
        made.text = text
    if key is not None:
        made.key = key
    return made


def _output(
    labels: Sequence[str] | None,
    schema: Mapping[str, Any] | str | None,
    schema_name: str,
    examples: Sequence[tuple[str, Json]],
) -> call_pb2.OutputSpec | None:
    if labels is not None and schema is not None:
        raise ValueError("labels and schema exclude each other")
    if labels is not None:
        if isinstance(labels, str):
            raise TypeError("labels is a list of labels, not one text")
        shown = [call_pb2.LabelExample(text=text, label=str(label)) for text, label in examples]
        return call_pb2.OutputSpec(labels=call_pb2.LabelOutput(labels=labels, examples=shown))
    if schema is not None:
        text = schema if isinstance(schema, str) else json.dumps(schema, ensure_ascii=False) if schema else ""
        worked = [call_pb2.JsonExample(text=text, json=_document(document)) for text, document in examples]
        return call_pb2.OutputSpec(json=call_pb2.JsonOutput(schema=text, name=schema_name, examples=worked))
    if examples:
        raise ValueError("examples need labels or a schema")
    return None


def _document(document: Json) -> str:
    """Give an example's document as JSON text; a string is taken to be that already."""
    return document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)


def _tool_choice(choice: str) -> call_pb2.ToolChoice:
    if choice in ("auto", "none", "required"):
        return call_pb2.ToolChoice(mode=_word(call_pb2.ToolMode, "TOOL_MODE", choice))
    return call_pb2.ToolChoice(mode=call_pb2.TOOL_MODE_NAMED, name=choice)


def _decimal(amount: Decimal | str) -> str:
    """Give an amount as the contract writes it, without an exponent."""
    try:
        value = Decimal(amount)
    except ArithmeticError:
        raise ValueError(f"{amount!r} is not an amount of USD, such as '0.02'") from None
    if not value.is_finite():
        raise ValueError(f"{amount!r} is not an amount of USD, such as '0.02'")
    return format(value, "f")


def _word(enum: Any, prefix: str, word: str) -> Any:
    """Give the value of a lower-case word of an enum."""
    try:
        return enum.Value(f"{prefix}_{word.upper()}")
    except ValueError:
        names = (name.removeprefix(f"{prefix}_").lower() for name in enum.DESCRIPTOR.values_by_name)
        known = ", ".join(name for name in names if name != "unspecified")
        raise ValueError(f"{word!r} is not one of {known}") from None
