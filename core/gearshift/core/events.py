"""The events of a streamed answer, as streams.md has them.

Rules: replaying the events gives exactly the final text; delta numbers rise strictly from 1 over the whole stream and
are never reused; `Completed` is last.
"""

from __future__ import annotations

from msgspec import Struct

from gearshift.core.answer import Completion, SkippedStage, StageRef
from gearshift.core.request import Resolution, ToolCall
from gearshift.core.words import AttemptCause, AttemptRole, CheckpointPolicy, SwitchMode


class TextDelta(Struct, frozen=True):
    """Text to append to the answer."""

    text: str


class ReasoningDelta(Struct, frozen=True):
    """Reasoning, apart from the answer."""

    text: str


class ToolCallFragment(Struct, frozen=True):
    """A piece of a tool call: `id` and `name` in its first fragment only; `index` counts the calls of one attempt."""

    index: int
    id: str
    name: str
    arguments: str


DeltaPart = TextDelta | ReasoningDelta | ToolCallFragment


class Started(Struct, frozen=True, kw_only=True):
    """Always first."""

    request_id: str
    resolution: Resolution
    plan: tuple[StageRef, ...]
    skipped: tuple[SkippedStage, ...]
    cached: bool
    checkpoints: CheckpointPolicy
    checkpoints_reason: str


class AttemptStarted(Struct, frozen=True, kw_only=True):
    """An upstream call begins."""

    number: int
    stage: StageRef
    role: AttemptRole
    cause: AttemptCause
    detail: str


class Delta(Struct, frozen=True):
    """New content under one number."""

    number: int
    parts: tuple[DeltaPart, ...]
    passed_through: int = 0


class Checkpoint(Struct, frozen=True):
    """Nothing at or before `through` is ever retracted."""

    through: int


class Retract(Struct, frozen=True):
    """Every delta after `after` is dropped; 0 drops all."""

    after: int
    reason: str


class Switch(Struct, frozen=True, kw_only=True):
    """Another attempt takes over."""

    from_stage: StageRef
    to_stage: StageRef
    mode: SwitchMode
    reason: str


class Completed(Struct, frozen=True, kw_only=True):
    """Always last."""

    completion: Completion
    tool_calls: tuple[ToolCall, ...] = ()


Event = Started | AttemptStarted | Delta | Checkpoint | Retract | Switch | Completed
