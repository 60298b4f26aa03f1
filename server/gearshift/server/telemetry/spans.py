"""A call as spans: one for the call, one below it for each upstream call.

Rules: pure. Made when the call has ended, from what was recorded; ids follow from the call's `Trace`, and so are those that
the providers were told. No prompt, answer or key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gearshift.core.answer import AttemptRecord, Completion
from gearshift.core.observer import CallContext
from gearshift.core.tracing import Trace
from gearshift.core.words import AttemptOutcome, Outcome, TaskType, WordEnum
from gearshift.server.telemetry import names

Value = str | int | float | bool | tuple[str, ...]

_SERVICE = "gearshift.v1.RouterService"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """Something at one moment of a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span; times are nanoseconds since the epoch, ids whole numbers, 0 is none."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int
    is_parent_remote: bool
    is_server: bool
    began_ns: int
    ended_ns: int
    state: str
    attributes: Mapping[str, Value]
    events: tuple[SpanEvent, ...] = ()
    error: str = field(default="")
    """What went wrong, one word; empty when nothing did."""


def spans_of(
    context: CallContext, trace: Trace, completion: Completion, error: str, now_s: float, provider: Callable[[str], str]
) -> list[Span]:
    """Give a call's spans, its own first.

    Args:
        context / completion / error: as the observer heard them.
        trace: the call's place in a trace.
        now_s: seconds since the epoch.
        provider: gives the conventions' name of a provider by its name in the configuration.
    """
    ended = int(now_s * 1e9)
    resolution = context.resolution
    embeds = resolution.type is TaskType.EMBED
    method = "Embed" if embeds else "StreamRoute" if context.stream else "Route"
    served = completion.served_by
    own = Span(
        name=f"{_SERVICE}/{method}",
        trace_id=int(trace.trace_id, 16),
        span_id=trace.span_id(),
        parent_id=int(trace.parent_id, 16) if trace.parent_id else 0,
        is_parent_remote=bool(trace.parent_id),
        is_server=True,
        began_ns=ended - int(completion.total_ms * 1e6),
        ended_ns=ended,
        state=trace.state,
        attributes=_told(
            {
                names.RPC_SYSTEM: "grpc",
                names.RPC_METHOD: f"{_SERVICE}/{method}",
                names.REQUEST_ID: context.request_id,
                names.TENANT: resolution.tenant,
                names.TASK: resolution.task_id,
                names.TASK_TYPE: resolution.type.word,
                names.COMPLEXITY: resolution.complexity.word,
                names.CHAIN: context.chain,
                names.OUTCOME: completion.outcome.word,
                names.ATTEMPTS: len(completion.attempts),
                names.CACHED: completion.cached,
                names.RESPONSE_MODEL: served.model if served is not None else None,
                names.POSITION: served.position if served is not None else None,
                names.CONFIDENCE: completion.confidence,
                names.COST: float(completion.cost.total_usd) if completion.cost.total_usd is not None else None,
                names.SAVED: float(completion.cost.saved_usd) if completion.cost.saved_usd is not None else None,
                names.ERROR_TYPE: error.lower() or None,
            }
        ),
        error=error.lower() or (completion.outcome.word if completion.outcome is Outcome.FAILED else ""),
    )
    operation = names.EMBEDDINGS if embeds else names.CHAT
    finish = completion.finish_reason
    spans = [own]
    for attempt in completion.attempts:
        spans.append(_attempt(context, trace, attempt, own, operation, provider, finish if attempt.served else None))
    return spans


def _attempt(
    context: CallContext,
    trace: Trace,
    attempt: AttemptRecord,
    own: Span,
    operation: str,
    provider: Callable[[str], str],
    finish: WordEnum | None,
) -> Span:
    began = int(attempt.started_at * 1e9)
    ended = began + int(attempt.total_ms * 1e6)
    usage, stage = attempt.usage, attempt.stage
    failed = attempt.failure.word if attempt.failure is not None else ""
    if not failed and attempt.outcome is AttemptOutcome.CANCELLED:
        failed = attempt.outcome.word
    first = attempt.first_token_ms
    return Span(
        name=f"{operation} {stage.model}",
        trace_id=own.trace_id,
        span_id=trace.span_id(attempt.number),
        parent_id=own.span_id,
        is_parent_remote=False,
        is_server=False,
        began_ns=began,
        ended_ns=ended,
        state=trace.state,
        attributes=_told(
            {
                names.OPERATION: operation,
                names.PROVIDER: provider(stage.provider),
                names.REQUEST_MODEL: stage.model,
                names.RESPONSE_MODEL: stage.model,
                names.REQUEST_STREAM: context.stream,
                names.FINISH_REASONS: (finish.word,) if finish is not None else None,
                names.FIRST_CHUNK: first / 1000 if first is not None and context.stream else None,
                names.INPUT_TOKENS: usage.input_tokens,
                names.OUTPUT_TOKENS: usage.output_tokens,
                names.CACHE_READ_TOKENS: usage.cache_read_tokens or None,
                names.CACHE_WRITE_TOKENS: usage.cache_write_tokens or None,
                names.REASONING_TOKENS: usage.reasoning_tokens or None,
                names.ERROR_TYPE: failed or None,
                names.POSITION: stage.position,
                names.ACCOUNT: attempt.account,
                names.ATTEMPT: attempt.number,
                names.CAUSE: attempt.cause.word,
                names.OUTCOME: attempt.outcome.word,
                names.QUEUE: attempt.queue_ms,
                names.COST: float(attempt.cost_usd) if attempt.cost_usd is not None else None,
                names.USAGE_SOURCE: usage.source.word,
            }
        ),
        events=tuple(
            SpanEvent(
                name=names.VERDICT_EVENT,
                at_ns=ended,
                attributes=_told(
                    {
                        names.GATE: verdict.gate,
                        names.GATE_RESULT: verdict.result.word,
                        names.CONFIDENCE: verdict.confidence,
                    }
                ),
            )
            for verdict in attempt.verdicts
        ),
        error=failed,
    )


def _told(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    """Leave out what is unknown."""
    return {name: value for name, value in attributes.items() if value is not None}
