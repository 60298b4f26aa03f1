"""What `Router.execute` is given, as a request.

Rules: pure. A context has the names, words and meanings of `gearshift.clients.calls.CallOptions`, with the core's values
in place of messages, so that a program may move between a router of its own and a service; what is not said stays unset.
Ranges are `validation.py`'s to check; here names, kinds and words are. Every fault is told at once. There is no tenant
among the names: who calls is the edge's to say, and a router in this process has one caller.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypedDict, TypeVar

import msgspec

from gearshift.core.errors import FieldViolation, InvalidRequestError, invalid
from gearshift.core.request import (
    JsonOutput,
    LabelOutput,
    Message,
    Output,
    Parameters,
    Policy,
    Request,
    SystemPrompt,
    Task,
    Tool,
    ToolChoice,
    user,
)
from gearshift.core.words import Complexity, ReasoningEffort, Sensitivity, TaskType, ToolMode, WordEnum

TENANT: Final = "default"
"""Who calls in this process; a configuration's limits of this tenant hold."""

TaskTypeName = Literal["classify", "extract", "generate", "reason"]
ComplexityName = Literal["low", "medium", "high"]
SensitivityName = Literal["public", "internal", "restricted"]
EffortName = Literal["none", "low", "medium", "high"]
Json = Mapping[str, Any] | Sequence[Any] | str | int | float | bool | None

W = TypeVar("W", bound=WordEnum)


class CallOptions(TypedDict, total=False):
    """What may stand in the context of `execute`; the client's `call` explains each."""

    task: str
    task_type: TaskTypeName
    complexity: ComplexityName
    sensitivity: SensitivityName
    system: str
    system_key: str
    variables: Mapping[str, str]
    static: bool
    messages: Sequence[Message]
    labels: Sequence[str]
    schema: Mapping[str, Any] | str
    schema_name: str
    examples: Sequence[tuple[str, Json]]
    tools: Sequence[Tool]
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


class _Options(msgspec.Struct, kw_only=True):
    """The same with defaults, for reading; None and Any are checked below."""

    task: str | None = None
    task_type: str | None = None
    complexity: str | None = None
    sensitivity: str | None = None
    system: str | None = None
    system_key: str | None = None
    variables: Mapping[str, str] | None = None
    static: bool = False
    messages: Any = ()
    labels: tuple[str, ...] | None = None
    schema: Any = None
    schema_name: str = ""
    examples: tuple[tuple[str, Any], ...] = ()
    tools: Any = ()
    tool_choice: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    reasoning_effort: str | None = None
    request_id: str = ""
    max_attempts: int | None = None
    max_hops: int | None = None
    max_cost_usd: Any = None
    min_confidence: float | None = None
    escalation_threshold: float | None = None
    require_valid: bool = False
    require_confidence: bool = False
    allowed_models: frozenset[str] = frozenset()
    allowed_providers: frozenset[str] = frozenset()
    no_second_look: bool = False
    no_cache: bool = False
    no_escalation: bool = False


_Faults = list[FieldViolation]


def execute_request(task: str, prompt: str, context: CallOptions | None, *, request_id: str) -> Request:
    """Build the request of `execute`.

    Args:
        task: a task type ("classify", "extract", "generate", "reason"), or a task's id.
        prompt: what the user says, after the context's messages.
        context: anything that CallOptions names; "task" in it names the id that cost is attributed to when `task` is a
            type, which otherwise stands for it.
        request_id: of a call whose context names none.

    Raises:
        InvalidRequestError: a name in the context is unknown, or a value is not of its kind; names each.

    """
    if task == TaskType.EMBED.word:
        raise invalid("task", "execute() answers with text; use embed() for vectors")
    options = _read(dict(context or {}))
    by_type = task in _ANSWERED
    faults: _Faults = []
    request = Request(
        request_id=options.request_id or request_id,
        tenant=TENANT,
        task=Task(
            id=task if options.task is None else options.task,
            type=_word(TaskType, task if by_type else options.task_type, "task_type", faults),
            complexity=_word(Complexity, options.complexity, "complexity", faults),
            sensitivity=_word(Sensitivity, options.sensitivity, "sensitivity", faults),
        ),
        messages=(*_values(Message, options.messages, "messages", faults), *((user(prompt),) if prompt else ())),
        system=_system(options, faults),
        tools=_values(Tool, options.tools, "tools", faults),
        tool_choice=_tool_choice(options.tool_choice),
        output=_output(options, faults),
        parameters=Parameters(
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_tokens,
            stop=options.stop,
            seed=options.seed,
            reasoning_effort=_word(ReasoningEffort, options.reasoning_effort, "reasoning_effort", faults),
        ),
        policy=Policy(
            max_attempts=options.max_attempts,
            max_hops=options.max_hops,
            max_cost_usd=_decimal(options.max_cost_usd, faults),
            min_confidence=options.min_confidence,
            escalation_threshold=options.escalation_threshold,
            require_valid=options.require_valid,
            require_confidence=options.require_confidence,
            allowed_models=options.allowed_models,
            allowed_providers=options.allowed_providers,
            no_second_look=options.no_second_look,
            no_cache=options.no_cache,
            no_escalation=options.no_escalation,
        ),
    )
    if faults:
        raise InvalidRequestError(faults)
    return request


_ANSWERED: Final = tuple(kind.word for kind in TaskType if kind is not TaskType.EMBED)


def _read(context: Mapping[str, object]) -> _Options:
    """Check names and kinds: all wrong names at once, then all wrong values."""
    if unknown := [name for name in context if name not in CallOptions.__annotations__]:
        raise InvalidRequestError([_fault(name, _unknown(name)) for name in unknown])
    try:
        return msgspec.convert(context, _Options)
    except msgspec.ValidationError:
        faults = [fault for name, value in context.items() if (fault := _kind_fault(name, value)) is not None]
        raise InvalidRequestError(faults) from None


def _kind_fault(name: str, value: object) -> FieldViolation | None:
    try:
        msgspec.convert({name: value}, _Options)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.max_tokens`": the place is ours to say.
        what = str(error).partition(" - at ")[0]
        return _fault(name, what[:1].lower() + what[1:])
    return None


def _unknown(name: object) -> str:
    if name == "tenant":
        return "who calls is not part of a call; a router in this process serves one tenant"
    near = difflib.get_close_matches(str(name), CallOptions.__annotations__, 1)
    return "is not known" + (f"; did you mean {near[0]!r}?" if near else "")


def _fault(name: object, description: str) -> FieldViolation:
    return FieldViolation(field=f"context.{name}", description=description)


def _word(kind: type[W], word: str | None, name: str, faults: _Faults) -> W | None:
    if word is None:
        return None
    try:
        return kind.from_word(word)
    except KeyError:
        known = ", ".join(member.word for member in kind)
        faults.append(_fault(name, f"{word!r} is not one of {known}"))
        return None


V = TypeVar("V")


def _values(kind: type[V], given: object, name: str, faults: _Faults) -> tuple[V, ...]:
    """Check that these are the core's own values: they are not made out of dictionaries."""
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        faults.append(_fault(name, f"must be a list of {kind.__name__}"))
        return ()
    found: list[V] = []
    for index, each in enumerate(given):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if isinstance(each, kind):
            found.append(each)
        else:
            wrong = type(each).__name__  # pyright: ignore[reportUnknownArgumentType]
            faults.append(_fault(f"{name}[{index}]", f"must be a {kind.__module__}.{kind.__name__}, not {wrong}"))
    return tuple(found)


def _system(options: _Options, faults: _Faults) -> SystemPrompt | None:
    text, key = options.system, options.system_key
    if text is not None and key is not None:
        faults.append(_fault("system_key", "system and system_key exclude each other"))
    if text is None and key is None and not options.variables and not options.static:
        return None
    return SystemPrompt(text=text, key=key, variables=options.variables or {}, static=options.static)


def _tool_choice(choice: str | None) -> ToolChoice:
    if choice is None:
        return ToolChoice()
    if choice in ("auto", "none", "required"):
        return ToolChoice(mode=ToolMode.from_word(choice))
    return ToolChoice(mode=ToolMode.NAMED, name=choice)


def _output(options: _Options, faults: _Faults) -> Output | None:
    labels, schema, examples = options.labels, options.schema, options.examples
    if labels is not None and schema is not None:
        faults.append(_fault("schema", "labels and schema exclude each other"))
    elif labels is not None:
        return LabelOutput(labels=labels, examples=tuple((text, str(label)) for text, label in examples))
    elif schema is not None:
        if not isinstance(schema, str | Mapping):
            faults.append(_fault("schema", "must be a JSON Schema, as a mapping or as text; {} takes any JSON"))
            return None
        return JsonOutput(
            schema=_json(options.schema, "schema", faults) if schema else "",
            name=options.schema_name or "answer",
            examples=tuple(
                (text, _json(document, f"examples[{index}]", faults)) for index, (text, document) in enumerate(examples)
            ),
        )
    elif examples:
        faults.append(_fault("examples", "need labels or a schema"))
    return None


def _json(document: object, name: str, faults: _Faults) -> str:
    """Give a document as JSON text; a string is taken to be that already."""
    if isinstance(document, str):
        return document
    try:
        return json.dumps(document, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        faults.append(_fault(name, f"cannot be written as JSON: {error}"))
        return ""


def _decimal(amount: object, faults: _Faults) -> Decimal | None:
    if amount is None:
        return None
    try:
        if isinstance(amount, Decimal | str | int | float):
            return Decimal(amount)
    except ArithmeticError:
        pass
    faults.append(_fault("max_cost_usd", f"{amount!r} is not an amount of USD, such as '0.02'"))
    return None
