"""A call as spans: one for the call, one below it for each upstream call.

Rules: pure. Made when the call has ended, from what was recorded; ids follow from the call's `Trace`, and so are those that
the providers were told. No prompt, answer or key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from gearshift.core.answer import AttemptRecord, Completion
from gearshift.core.observer import CallContext
from gearshift.core.tracing import Trace
from gearshift.core.words import AttemptOutcome, FinishReason, Outcome, TaskType
from gearshift.server.status import CODES
from gearshift.server.telemetry import names
from gearshift.server.telemetry.upstreams import Upstream

Value = str | int | float | bool | tuple[str, ...]

_SERVICE: Final = "gearshift.v1.RouterService"
_STATUSES: Final[Mapping[str, str]] = MappingProxyType(
    {"": "OK", "CANCELLED": "CANCELLED"} | {error.reason: code.name for error, code in CODES.items()}
)
"""The status that a call ended with, by the reason that observers hear."""
_FAULTS: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE"})
"""Those that are the server's fault, by the conventions for gRPC; after others its span is no error."""


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
    context: CallContext,
    trace: Trace,
    completion: Completion,
    error: str,
    now_s: float,
    upstream: Callable[[AttemptRecord], Upstream],
) -> list[Span]:
    """Give a call's spans, its own first.

    Args:
        context / completion / error: as the observer heard them.
        trace: the call's place in a trace.
        now_s: seconds since the epoch.
        upstream: gives who made an attempt.
    """
    ended = int(now_s * 1e9)
    resolution = context.resolution
    embeds = resolution.type is TaskType.EMBED
    method = "Embed" if embeds else "StreamRoute" if context.stream else "Route"
    served = completion.served_by
    status = _STATUSES.get(error, "UNKNOWN")
    is_fault = status in _FAULTS or (not error and completion.outcome is Outcome.FAILED)
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
                names.RPC_STATUS: status,
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
        error=(error.lower() or completion.outcome.word) if is_fault else "",
    )
    spans = [own]
    for attempt in completion.attempts:
        finish = completion.finish_reason if attempt.served else None
        spans.append(_attempt(context, trace, attempt, own, upstream(attempt), finish, embeds=embeds))
    return spans


def _attempt(
    context: CallContext,
    trace: Trace,
    attempt: AttemptRecord,
    own: Span,
    upstream: Upstream,
    finish: FinishReason | None,
    *,
    embeds: bool,
) -> Span:
    operation = names.EMBEDDINGS if embeds else names.CHAT
    began = int(attempt.started_at * 1e9)
    ended = began + int(attempt.total_ms * 1e6)
    usage, stage, failed = attempt.usage, attempt.stage, error_of(attempt)
    first = attempt.first_token_ms
    ended_as = finish.word if finish is not None else names.FAILED if failed and not embeds else ""
    return Span(
        name=f"{operation} {upstream.model}",
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
                names.PROVIDER: upstream.provider,
                names.REQUEST_MODEL: upstream.model,
                names.RESPONSE_MODEL: upstream.model,
                names.REQUEST_STREAM: context.stream or None,
                names.SERVER_ADDRESS: upstream.address or None,
                names.SERVER_PORT: upstream.port or None,
                names.FINISH_REASONS: (ended_as,) if ended_as else None,
                names.FIRST_CHUNK: first / 1000 if first is not None and context.stream else None,
                names.INPUT_TOKENS: usage.input_tokens,
                names.OUTPUT_TOKENS: None if embeds else usage.output_tokens,
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


def error_of(attempt: AttemptRecord) -> str:
    """Give what an attempt failed by, one word; empty when it did not."""
    if attempt.failure is not None:
        return attempt.failure.word
    return attempt.outcome.word if attempt.outcome is AttemptOutcome.CANCELLED else ""


def _told(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    """Leave out what is unknown."""
    return {name: value for name, value in attributes.items() if value is not None}
