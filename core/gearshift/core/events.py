"""The events of a streamed answer, as streams.md has them.

Rules: replaying the events gives exactly the final text; delta numbers rise strictly from 1 over the whole stream and
are never reused; `Completed` is last.
"""

from __future__ import annotations

from dataclasses import dataclass

from gearshift.core.answer import Completion, SkippedStage, StageRef
from gearshift.core.request import Resolution, ToolCall
from gearshift.core.words import AttemptCause, AttemptRole, CheckpointPolicy, SwitchMode


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text to append to the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Reasoning, apart from the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallFragment:
    """A piece of a tool call: `id` and `name` in its first fragment only; `index` counts the calls of one attempt."""

    index: int
    id: str
    name: str
    arguments: str


DeltaPart = TextDelta | ReasoningDelta | ToolCallFragment


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Always first."""

    request_id: str
    resolution: Resolution
    plan: tuple[StageRef, ...]
    skipped: tuple[SkippedStage, ...]
    cached: bool
    checkpoints: CheckpointPolicy
    checkpoints_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """An upstream call begins."""

    number: int
    stage: StageRef
    role: AttemptRole
    cause: AttemptCause
    detail: str


@dataclass(frozen=True, slots=True)
class Delta:
    """New content under one number."""

    number: int
    parts: tuple[DeltaPart, ...]
    passed_through: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Nothing at or before `through` is ever retracted."""

    through: int


@dataclass(frozen=True, slots=True)
class Retract:
    """Every delta after `after` is dropped; 0 drops all."""

    after: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Another attempt takes over."""

    from_stage: StageRef
    to_stage: StageRef
    mode: SwitchMode
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """Always last."""

    completion: Completion
    tool_calls: tuple[ToolCall, ...] = ()


Event = Started | AttemptStarted | Delta | Checkpoint | Retract | Switch | Completed
