"""Messages to the core's values and back.

Rules: translation only; numbers of enumerations are the same on both sides (a test compares them), so an enum travels as
its number. Absent and unset are told apart where the contract does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Generic, TypeVar

from google.protobuf.message import Message as ProtobufMessage

from gearshift.core.answer import (
    Answer,
    AttemptRecord,
    Completion,
    Cost,
    EmbedAnswer,
    SkippedStage,
    StageRef,
    Usage,
    Verdict,
)
from gearshift.core.errors import invalid
from gearshift.core.events import (
    AttemptStarted,
    Checkpoint,
    Completed,
    Delta,
    DeltaPart,
    Event,
    ReasoningDelta,
    Retract,
    Started,
    Switch,
    TextDelta,
)
from gearshift.core.ledger import OutcomeReport
from gearshift.core.plan import PlannedStage
from gearshift.core.request import (
    NO_PARAMETERS,
    NO_POLICY,
    EmbedRequest,
    Image,
    JsonOutput,
    LabelOutput,
    Message,
    Output,
    Parameters,
    Part,
    Policy,
    ProviderState,
    Request,
    Resolution,
    StreamPolicy,
    SystemPrompt,
    Task,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from gearshift.core.router import Explanation, new_request_id
from gearshift.core.validation import check_outcome
from gearshift.core.weighing import Weighing
from gearshift.core.words import (
    Complexity,
    InputType,
    OutcomeVerdict,
    ReasoningEffort,
    Role,
    Sensitivity,
    SwitchMode,
    TaskType,
    ToolMode,
    Truncation,
    WordEnum,
)
from gearshift.v1 import answer_pb2, call_pb2, router_pb2, stream_pb2, task_pb2

E = TypeVar("E", bound=WordEnum)
V = TypeVar("V")
W = TypeVar("W", bound=ProtobufMessage)

_AUTO = ToolChoice()
_USD = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


def call_from_wire(call: call_pb2.Call, tenant: str, stream: StreamPolicy | None) -> Request:
    """Give the request of a call.

    Raises:
        InvalidRequestError: it holds an enumeration's number that this version does not know, or a part without content.
    """
    messages = tuple([_message(message, index) for index, message in enumerate(call.messages)]) if call.messages else ()
    if prompt := call.prompt:
        messages = (*messages, Message(role=Role.USER, parts=(Text(prompt),)))
    return Request(
        request_id=call.request_id or new_request_id(),
        tenant=tenant,
        task=_TASKS.value_of(call.task),
        messages=messages,
        system=_system(call.system) if call.HasField("system") else None,
        tools=tuple(
            [
                Tool(name=tool.name, description=tool.description, parameters_schema=tool.parameters_schema)
                for tool in call.tools
            ]
        )
        if call.tools
        else (),
        tool_choice=_tool_choice(call.tool_choice) if call.HasField("tool_choice") else _AUTO,
        output=_output(call.output) if call.HasField("output") else None,
        parameters=_PARAMETERS.value_of(call.parameters) if call.HasField("parameters") else NO_PARAMETERS,
        policy=_policy(call.policy, "call.policy") if call.HasField("policy") else NO_POLICY,
        stream=stream,
    )


def stream_policy_from_wire(policy: call_pb2.StreamPolicy) -> StreamPolicy:
    """Give a stream's policy.

    Raises:
        InvalidRequestError: its mode is not one to ask for.
    """
    mode = _enum(SwitchMode, policy.mode, "stream.mode")
    if mode is SwitchMode.RESTORE:
        raise invalid("stream.mode", "restore is only reported; ask for regenerate, continue or fail")
    return StreamPolicy(
        hold_back_tokens=policy.hold_back_tokens if policy.HasField("hold_back_tokens") else None,
        hold_back_ms=policy.hold_back_ms if policy.HasField("hold_back_ms") else None,
        mode=mode,
        escalate_at_end=policy.escalate_at_end or None,
        preview=policy.preview,
        include_reasoning=policy.include_reasoning,
    )


def embed_from_wire(request: router_pb2.EmbedRequest, tenant: str) -> EmbedRequest:
    """Give the request of an embedding.

    Raises:
        InvalidRequestError: as `call_from_wire`.
    """
    return EmbedRequest(
        request_id=request.request_id or new_request_id(),
        tenant=tenant,
        task=_task(request.task, "task"),
        inputs=tuple(request.inputs),
        input_type=_enum(InputType, request.input_type, "input_type"),
        dimensions=request.dimensions if request.HasField("dimensions") else None,
        truncation=_enum(Truncation, request.truncation, "truncation") or Truncation.ERROR,
        vector_space=request.vector_space,
        allow_space_change=request.allow_space_change,
        policy=_policy(request.policy, "policy") if request.HasField("policy") else NO_POLICY,
    )


def outcome_from_wire(request: router_pb2.ReportOutcomeRequest, tenant: str) -> OutcomeReport:
    """Give the caller's word on an answer.

    Raises:
        InvalidRequestError: a field is missing, unknown or too large.
    """
    if not request.request_id:
        raise invalid("request_id", "is required: the id of the request that was answered")
    verdict = _enum(OutcomeVerdict, request.verdict, "verdict")
    if verdict is None:
        raise invalid("verdict", "is required: accepted, corrected or rejected")
    check_outcome(request.request_id, request.correction)
    return OutcomeReport(
        request_id=request.request_id,
        tenant=tenant,
        verdict=verdict,
        correction=request.correction,
        reported_at=time.time(),
    )


def answer_to_wire(answer: Answer) -> answer_pb2.Answer:
    """Give an answer's message; most are written as bytes instead, by `wire_answer.py`."""
    return answer_pb2.Answer(
        request_id=answer.request_id,
        text=answer.text,
        tool_calls=[_tool_call(call) for call in answer.tool_calls],
        reasoning=answer.reasoning,
        resolution=resolution_to_wire(answer.resolution),
        completion=completion_to_wire(answer.completion),
    )


def embed_answer_to_wire(answer: EmbedAnswer) -> router_pb2.EmbedResponse:
    """Give an embedding's message."""
    return router_pb2.EmbedResponse(
        request_id=answer.request_id,
        embeddings=[router_pb2.Embedding(values=vector) for vector in answer.embeddings],
        dimensions=answer.dimensions,
        vector_space=answer.vector_space,
        resolution=resolution_to_wire(answer.resolution),
        completion=completion_to_wire(answer.completion),
    )


def events_to_wire(events: Sequence[Event]) -> router_pb2.StreamRouteResponse:
    """Give the message of one upstream read."""
    if len(events) == 1:
        event = events[0]
        if type(event) is Delta and len(event.parts) == 1 and type(event.parts[0]) is TextDelta:
            # The common case, built in place: three messages fewer are made and copied.
            message = router_pb2.StreamRouteResponse()
            delta = message.events.add().delta
            delta.number = event.number
            delta.parts.add().text = event.parts[0].text
            if event.passed_through:
                delta.passed_through = event.passed_through
            return message
    return router_pb2.StreamRouteResponse(events=[_event(event) for event in events])


def explanation_to_wire(explanation: Explanation) -> router_pb2.ExplainResponse:
    """Give the message of an explanation."""
    call = explanation.call
    first = explanation.stages[0] if explanation.stages else None
    stages = [_planned(planned, explanation) for planned in explanation.stages]
    stages += [
        router_pb2.ExplainedStage(
            stage=stage_to_wire(skipped.stage),
            planned=False,
            reason=skipped.reason,
            detail=skipped.detail,
            breaker=_breaker(explanation, skipped.stage),
            weighed=_weighed(explanation, skipped.stage),
        )
        for skipped in explanation.skipped
    ]
    policy = call.policy
    words = {
        "min_confidence": f"{policy.min_confidence:g}",
        "escalation_threshold": f"{policy.escalation_threshold:g}",
        "require_valid": str(policy.require_valid).lower(),
        "require_confidence": str(policy.require_confidence).lower(),
        "second_look": str(policy.second_look).lower(),
        "max_attempts": str(call.max_attempts),
        "max_hops": str(call.max_hops),
        "max_cost_usd": "none" if call.caps.max_cost_usd is None else f"{call.caps.max_cost_usd:f}",
        "order": "adaptive" if call.resolved.chain.adaptive else "written",
    }
    if call.resolved.chain.refuses_losses:
        words["on_loss"] = "refuse"
    if policy.self_assessment:
        words["self_assessment"] = call.assessment
    if policy.repair:
        words["repair"] = "once"
    stream = explanation.stream
    return router_pb2.ExplainResponse(
        resolution=resolution_to_wire(explanation.resolution),
        chain=call.resolved.chain.name,
        stages=stages,
        estimated_input_tokens=first.input_tokens if first else 0,
        estimated_output_tokens=first.output_tokens if first else 0,
        policy=words,
        checkpoints=stream_pb2.CheckpointPolicy.ValueType(explanation.checkpoints),
        checkpoints_reason=explanation.checkpoints_reason,
        stream=call_pb2.StreamPolicy(
            hold_back_tokens=stream.hold_back_tokens,
            hold_back_ms=stream.hold_back_ms,
            mode=call_pb2.SwitchMode.ValueType(stream.mode or SwitchMode.REGENERATE),
            escalate_at_end=bool(stream.escalate_at_end),
            preview=stream.preview,
            include_reasoning=stream.include_reasoning,
        ),
        adaptive=_adaptive(explanation.weighing),
    )


def resolution_to_wire(resolution: Resolution) -> task_pb2.Resolution:
    """Give a resolution's message."""
    return task_pb2.Resolution(
        task_id=resolution.task_id,
        declared=resolution.declared,
        type=task_pb2.TaskType.ValueType(resolution.type),
        type_source=task_pb2.Source.ValueType(resolution.type_source),
        type_confidence=resolution.type_confidence,
        complexity=task_pb2.Complexity.ValueType(resolution.complexity),
        complexity_source=task_pb2.Source.ValueType(resolution.complexity_source),
        sensitivity=task_pb2.Sensitivity.ValueType(resolution.sensitivity),
        sensitivity_source=task_pb2.Source.ValueType(resolution.sensitivity_source),
        tenant=resolution.tenant,
    )


def completion_to_wire(completion: Completion) -> answer_pb2.Completion:
    """Give a completion's message."""
    served, state = completion.served_by, completion.provider_state
    message = answer_pb2.Completion(
        outcome=answer_pb2.Outcome.ValueType(completion.outcome),
        served_by=None if served is None else stage_to_wire(served),
        confidence=completion.confidence,
        verdicts=[verdict_to_wire(verdict) for verdict in completion.verdicts],
        attempts=[attempt_to_wire(attempt) for attempt in completion.attempts],
        skipped=_skipped(completion.skipped),
        usage_served=usage_to_wire(completion.usage_served),
        usage_total=usage_to_wire(completion.usage_total),
        cost=_cost(completion.cost),
        digest=completion.digest,
        notes=completion.notes,
        total_ms=completion.total_ms,
        cached=completion.cached,
        prompt_key=completion.prompt_key,
        label_probabilities=completion.label_probabilities,
    )
    if completion.finish_reason is not None:
        message.finish_reason = answer_pb2.FinishReason.ValueType(completion.finish_reason)
    if state is not None:
        message.provider_state.CopyFrom(
            call_pb2.ProviderState(provider=state.provider, model=state.model, data=state.data)
        )
    return message


def attempt_to_wire(attempt: AttemptRecord) -> answer_pb2.Attempt:
    """Give an attempt's message."""
    message = answer_pb2.Attempt(
        number=attempt.number,
        stage=stage_to_wire(attempt.stage),
        account=attempt.account,
        role=answer_pb2.AttemptRole.ValueType(attempt.role),
        cause=answer_pb2.AttemptCause.ValueType(attempt.cause),
        outcome=answer_pb2.AttemptOutcome.ValueType(attempt.outcome),
        detail=attempt.detail,
        verdicts=[verdict_to_wire(verdict) for verdict in attempt.verdicts],
        usage=usage_to_wire(attempt.usage),
        cost_usd=money(attempt.cost_usd),
        queue_ms=attempt.queue_ms,
        first_token_ms=attempt.first_token_ms,
        total_ms=attempt.total_ms,
    )
    if attempt.failure is not None:
        message.failure = answer_pb2.FailureKind.ValueType(attempt.failure)
    return message


def verdict_to_wire(verdict: Verdict) -> answer_pb2.Verdict:
    """Give a verdict's message."""
    return answer_pb2.Verdict(
        gate=verdict.gate,
        result=answer_pb2.VerdictResult.ValueType(verdict.result),
        confidence=verdict.confidence,
        reason=verdict.reason,
        detail=verdict.detail,
    )


def stage_to_wire(stage: StageRef) -> answer_pb2.StageRef:
    """Give a stage's message."""
    return answer_pb2.StageRef(
        position=stage.position,
        provider=stage.provider,
        model=stage.model,
        capability=task_pb2.Complexity.ValueType(stage.capability),
        label=stage.label,
    )


def usage_to_wire(usage: Usage) -> answer_pb2.Usage:
    """Give a usage's message."""
    return answer_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        source=answer_pb2.UsageSource.ValueType(usage.source),
    )


class _Read(Generic[W, V]):
    """Values that callers send again and again in the same bytes; comparing these is one look instead of a field each.

    Args:
        read: gives a message's value, or raises.
    """

    def __init__(self, read: Callable[[W], V]) -> None:
        self._read = read
        self._known: dict[bytes, V] = {}

    def value_of(self, message: W) -> V:
        """Give the value of a message."""
        data = message.SerializeToString()
        known = self._known.get(data)
        if known is None:
            known = self._read(message)
            if len(data) <= _LONGEST_KEPT:
                if len(self._known) >= _MOST_KEPT:
                    self._known.clear()
                self._known[data] = known
        return known


_MOST_KEPT = 256
_LONGEST_KEPT = 256
"""Bytes of a message whose value is kept."""


def money(amount: Decimal | None) -> str:
    """Give USD as a plain decimal without trailing zeros; empty when it is unknown."""
    if amount is None:
        return ""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _enum(kind: type[E], number: int, field: str) -> E | None:
    """Give the member of a number, None for unset."""
    if number == 0:
        return None
    try:
        return kind(number)
    except ValueError:
        known = ", ".join(member.word for member in kind)
        raise invalid(field, f"{number} is unknown to this version; known: {known}") from None


def _task(task: task_pb2.Task, field: str) -> Task:
    return Task(
        id=task.id,
        type=_enum(TaskType, task.type, f"{field}.type") if task.type else None,
        complexity=_enum(Complexity, task.complexity, f"{field}.complexity") if task.complexity else None,
        sensitivity=_enum(Sensitivity, task.sensitivity, f"{field}.sensitivity") if task.sensitivity else None,
    )


def _system(system: call_pb2.SystemPrompt) -> SystemPrompt:
    kind, variables = system.WhichOneof("source"), system.variables
    return SystemPrompt(
        text=system.text if kind == "text" else None,
        key=system.key if kind == "key" else None,
        variables=dict(variables) if variables else {},
        static=system.static,
    )


def _message(message: call_pb2.Message, index: int) -> Message:
    state = message.provider_state
    return Message(
        role=_enum(Role, message.role, f"call.messages[{index}].role") or Role.USER,
        parts=tuple([_part(part, f"call.messages[{index}].parts[{at}]") for at, part in enumerate(message.parts)]),
        provider_state=ProviderState(provider=state.provider, model=state.model, data=state.data)
        if message.HasField("provider_state")
        else None,
    )


def _part(part: call_pb2.Part, field: str) -> Part:
    match part.WhichOneof("content"):
        case "text":
            return Text(part.text)
        case "image":
            image = part.image
            by_url = image.WhichOneof("source") == "url"
            return Image(
                data=None if by_url else image.data, url=image.url if by_url else None, media_type=image.media_type
            )
        case "tool_call":
            call = part.tool_call
            return ToolCall(id=call.id, name=call.name, arguments=call.arguments)
        case "tool_result":
            result = part.tool_result
            return ToolResult(tool_call_id=result.tool_call_id, content=result.content, is_error=result.is_error)
        case _:
            raise invalid(field, "holds nothing: set text, image, tool_call or tool_result")


def _tool_choice(choice: call_pb2.ToolChoice) -> ToolChoice:
    return ToolChoice(mode=_enum(ToolMode, choice.mode, "call.tool_choice.mode") or ToolMode.AUTO, name=choice.name)


def _output(output: call_pb2.OutputSpec) -> Output | None:
    match output.WhichOneof("kind"):
        case "labels":
            labels = output.labels
            return LabelOutput(
                labels=tuple(labels.labels),
                examples=tuple([(example.text, example.label) for example in labels.examples]),
            )
        case "json":
            json = output.json
            return JsonOutput(
                schema=json.schema,
                name=json.name or "answer",
                examples=tuple([(example.text, example.json) for example in json.examples]),
            )
        case _:
            return None


def _parameters(parameters: call_pb2.Parameters) -> Parameters:
    return Parameters(
        temperature=parameters.temperature if parameters.HasField("temperature") else None,
        top_p=parameters.top_p if parameters.HasField("top_p") else None,
        max_tokens=parameters.max_tokens if parameters.HasField("max_tokens") else None,
        stop=tuple(parameters.stop) if parameters.stop else (),
        seed=parameters.seed if parameters.HasField("seed") else None,
        reasoning_effort=_enum(ReasoningEffort, parameters.reasoning_effort, "call.parameters.reasoning_effort"),
    )


def _policy(policy: call_pb2.Policy, field: str) -> Policy:
    cost: Decimal | None = None
    if policy.max_cost_usd:
        # A decimal's exponent is not let in: written out, 1e999999999 would fill the memory.
        if not _USD.fullmatch(policy.max_cost_usd):
            raise invalid(f"{field}.max_cost_usd", "must be a decimal such as 0.02, at least 0")
        cost = Decimal(policy.max_cost_usd)
    return Policy(
        max_attempts=policy.max_attempts if policy.HasField("max_attempts") else None,
        max_hops=policy.max_hops if policy.HasField("max_hops") else None,
        max_cost_usd=cost,
        min_confidence=policy.min_confidence if policy.HasField("min_confidence") else None,
        escalation_threshold=policy.escalation_threshold if policy.HasField("escalation_threshold") else None,
        require_valid=policy.require_valid,
        require_confidence=policy.require_confidence,
        allowed_models=frozenset(policy.allowed_models),
        allowed_providers=frozenset(policy.allowed_providers),
        no_second_look=policy.no_second_look,
        no_cache=policy.no_cache,
        no_escalation=policy.no_escalation,
    )


def _event(event: Event) -> stream_pb2.Event:
    match event:
        case Delta():
            return stream_pb2.Event(
                delta=stream_pb2.Delta(
                    number=event.number,
                    parts=[_delta_part(part) for part in event.parts],
                    passed_through=event.passed_through,
                )
            )
        case Started():
            return stream_pb2.Event(
                started=stream_pb2.Started(
                    request_id=event.request_id,
                    resolution=resolution_to_wire(event.resolution),
                    plan=[stage_to_wire(stage) for stage in event.plan],
                    skipped=_skipped(event.skipped),
                    cached=event.cached,
                    checkpoints=stream_pb2.CheckpointPolicy.ValueType(event.checkpoints),
                    checkpoints_reason=event.checkpoints_reason,
                )
            )
        case AttemptStarted():
            return stream_pb2.Event(
                attempt=stream_pb2.AttemptStarted(
                    number=event.number,
                    stage=stage_to_wire(event.stage),
                    role=answer_pb2.AttemptRole.ValueType(event.role),
                    cause=answer_pb2.AttemptCause.ValueType(event.cause),
                    detail=event.detail,
                )
            )
        case Checkpoint():
            return stream_pb2.Event(checkpoint=stream_pb2.Checkpoint(through=event.through))
        case Retract():
            return stream_pb2.Event(retract=stream_pb2.Retract(after=event.after, reason=event.reason))
        case Switch():
            return stream_pb2.Event(
                switch=stream_pb2.Switch(
                    from_stage=stage_to_wire(event.from_stage),
                    to_stage=stage_to_wire(event.to_stage),
                    mode=call_pb2.SwitchMode.ValueType(event.mode),
                    reason=event.reason,
                )
            )
        case Completed():
            return stream_pb2.Event(
                completed=stream_pb2.Completed(
                    completion=completion_to_wire(event.completion),
                    tool_calls=[_tool_call(call) for call in event.tool_calls],
                )
            )


def _delta_part(part: DeltaPart) -> stream_pb2.DeltaPart:
    if isinstance(part, TextDelta):
        return stream_pb2.DeltaPart(text=part.text)
    if isinstance(part, ReasoningDelta):
        return stream_pb2.DeltaPart(reasoning=part.text)
    return stream_pb2.DeltaPart(
        tool_call=stream_pb2.ToolCallFragment(index=part.index, id=part.id, name=part.name, arguments=part.arguments)
    )


def _tool_call(call: ToolCall) -> call_pb2.ToolCall:
    return call_pb2.ToolCall(id=call.id, name=call.name, arguments=call.arguments)


def _skipped(skipped: Iterable[SkippedStage]) -> list[answer_pb2.SkippedStage]:
    return [
        answer_pb2.SkippedStage(stage=stage_to_wire(each.stage), reason=each.reason, detail=each.detail)
        for each in skipped
    ]


def _cost(cost: Cost) -> answer_pb2.Cost:
    return answer_pb2.Cost(
        total_usd=money(cost.total_usd),
        served_usd=money(cost.served_usd),
        strongest_usd=money(cost.strongest_usd),
        strongest_model=cost.strongest_model,
        saved_usd=money(cost.saved_usd),
    )


def _planned(planned: PlannedStage, explanation: Explanation) -> router_pb2.ExplainedStage:
    told = [f"about {planned.input_tokens} tokens in, {planned.output_tokens} out"]
    if planned.is_last_resort:
        told.append("its breaker is open, and no other stage is left")
    if loss := explanation.losses.get(planned.stage.ref.position):
        told.append(loss)
    return router_pb2.ExplainedStage(
        stage=stage_to_wire(planned.stage.ref),
        expected_cost_usd=money(planned.expected_cost),
        planned=True,
        detail="; ".join(told),
        breaker=_breaker(explanation, planned.stage.ref),
        weighed=_weighed(explanation, planned.stage.ref),
    )


def _weighed(explanation: Explanation, stage: StageRef) -> router_pb2.WeighedStage | None:
    known = None if explanation.weighing is None else explanation.weighing.stages.get(stage.position)
    if known is None:
        return None
    return router_pb2.WeighedStage(
        p_accept=known.accepted,
        p_fail=known.failed,
        answers=known.answers,
        seconds=known.seconds,
        cost_with_usd=known.cost_with,
        cost_without_usd=known.cost_without,
    )


def _adaptive(weighing: Weighing | None) -> router_pb2.AdaptiveOrder | None:
    if weighing is None:
        return None
    return router_pb2.AdaptiveOrder(
        expected_usd=weighing.cost,
        written_usd=weighing.written_cost,
        probe_share=weighing.probe_share,
        reason=weighing.reason,
    )


def _breaker(explanation: Explanation, stage: StageRef) -> str:
    return explanation.breakers[stage.position].word


_TASKS: _Read[task_pb2.Task, Task] = _Read(lambda task: _task(task, "call.task"))
_PARAMETERS: _Read[call_pb2.Parameters, Parameters] = _Read(_parameters)
