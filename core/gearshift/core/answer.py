"""What comes back: usage, verdicts, attempts and the completion that holds them.

Rules: values only. Money is decimal USD; None means that the price is unknown, which is never zero. Times are
milliseconds here, since they are for people and ledgers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from msgspec import Struct

from gearshift.core.request import ProviderState, Resolution, ToolCall
from gearshift.core.words import (
    AttemptCause,
    AttemptOutcome,
    AttemptRole,
    Complexity,
    FailureKind,
    FinishReason,
    Outcome,
    UsageSource,
    VerdictResult,
)


class Usage(Struct, frozen=True, kw_only=True):
    """Model tokens. Input includes what was written to and read from the provider's cache; output includes reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    reasoning_tokens: int = 0
    source: UsageSource = UsageSource.REPORTED
    cache_write_1h_tokens: int = 0
    """The part of cache_write_tokens that was written for an hour, which costs more."""

    def __add__(self, other: Usage) -> Usage:
        """Give the sum; its source is the least trusted of the two."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            source=max(self.source, other.source),
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
        )


NO_USAGE = Usage()


class StageRef(Struct, frozen=True, kw_only=True):
    """A stage of a chain, by its place (from 0), provider, model and declared capability."""

    position: int
    provider: str
    model: str
    capability: Complexity
    label: str = ""


class Verdict(Struct, frozen=True, kw_only=True):
    """One gate's word on one answer; `detail` never quotes the answer of a restricted task."""

    gate: str
    result: VerdictResult
    confidence: float | None = None
    reason: str = ""
    detail: str = ""
    measured: tuple[str, float] | None = None
    """What a calibrated confidence came from, and its log-odds before calibration; the ledger keeps it to learn from."""


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """One upstream call and what came of it: the ledger's row, less the request's own columns."""

    number: int
    stage: StageRef
    account: str
    role: AttemptRole
    cause: AttemptCause
    outcome: AttemptOutcome
    failure: FailureKind | None
    detail: str
    verdicts: tuple[Verdict, ...]
    usage: Usage
    cost_usd: Decimal | None
    queue_ms: float
    first_token_ms: float | None
    total_ms: float
    started_at: float
    """Seconds since the epoch."""
    served: bool = False


class SkippedStage(Struct, frozen=True, kw_only=True):
    """A stage that was not tried; `reason` is one stable word, `detail` a sentence."""

    stage: StageRef
    reason: str
    detail: str


class Cost(Struct, frozen=True, kw_only=True):
    """What a call cost, beside what its served usage would have cost on the chain's strongest model."""

    total_usd: Decimal | None = None
    served_usd: Decimal | None = None
    strongest_usd: Decimal | None = None
    strongest_model: str = ""
    saved_usd: Decimal | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """Everything known when a call has ended."""

    outcome: Outcome
    served_by: StageRef | None = None
    finish_reason: FinishReason | None = None
    confidence: float | None = None
    verdicts: tuple[Verdict, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()
    skipped: tuple[SkippedStage, ...] = ()
    usage_served: Usage = NO_USAGE
    usage_total: Usage = NO_USAGE
    cost: Cost = Cost()
    digest: str = ""
    provider_state: ProviderState | None = None
    notes: tuple[str, ...] = ()
    total_ms: float = 0.0
    cached: bool = False
    prompt_key: str = ""
    label_probabilities: Mapping[str, float] = {}


class Answer(Struct, frozen=True, kw_only=True):
    """The whole answer to one call."""

    request_id: str
    text: str
    tool_calls: tuple[ToolCall, ...]
    reasoning: str
    resolution: Resolution
    completion: Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedAnswer:
    """The vectors, one a text in the order of the inputs, all of `dimensions` finite numbers."""

    request_id: str
    embeddings: tuple[tuple[float, ...], ...]
    dimensions: int
    vector_space: str
    resolution: Resolution
    completion: Completion
