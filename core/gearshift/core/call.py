"""A call that has been understood and planned: what the chain runs.

Rules: frozen; made once by the router, so that unary, streaming and Explain see the same decision.
"""

from __future__ import annotations

from msgspec import Struct

from gearshift.core.admission import AnyBucket
from gearshift.core.blueprint import ChainPolicy, Stage
from gearshift.core.catalogue import Feature
from gearshift.core.confidence.assessment import RELEASED, is_told_otherwise
from gearshift.core.gates import Judge
from gearshift.core.observer import CallContext
from gearshift.core.plan import Caps, Plan
from gearshift.core.prompt import FilledPrompt
from gearshift.core.request import JsonOutput, LabelOutput, Parameters, Request, StreamPolicy
from gearshift.core.resolve import Resolved
from gearshift.core.schema import Schema
from gearshift.core.words import CheckpointPolicy, SwitchMode


class PreparedCall(Struct, frozen=True, kw_only=True):
    """A call, ready to run.

    Args:
        assessed: its models are asked how sure they are, but where log-probabilities tell.
        not_assessed: why they are not, though the policy would have it.
        ends_at: when it must have ended, seconds, monotonic; the margin for saying so is already off.
        began: when it arrived, seconds, monotonic.
        strongest: the chain's strongest stage, which costs are compared with.
        characters / images: of everything that the model will read.

    """

    request: Request
    resolved: Resolved
    plan: Plan
    policy: ChainPolicy
    caps: Caps
    stream: StreamPolicy
    context: CallContext
    judge: Judge
    prompt: FilledPrompt
    prompt_key: str
    notes: tuple[str, ...]
    parameters: Parameters
    schema: Schema | None
    buckets: tuple[AnyBucket, ...]
    cache_key: str
    strongest: Stage
    max_attempts: int
    max_hops: int
    characters: int
    images: int
    began: float
    ends_at: float
    assessed: bool = False
    not_assessed: str = ""

    @property
    def structured(self) -> bool:
        """Whether the answer has a form (label, JSON, possible tool calls) that is never spliced."""
        return bool(self.resolved.output is not None or self.request.tools)

    @property
    def hold_all(self) -> bool:
        """Whether attempts are held until their end gate."""
        return holds_all(self.request, self.resolved)

    @property
    def assessment(self) -> str:
        """Where the policy wants it: whether the models of this call are asked how sure they are, and why not."""
        why = self.not_assessed
        output, stages = self.resolved.output, self.plan.stages
        if not why and all(is_told_otherwise(output, each.stage.model.features) for each in stages) and stages:
            why = "log-probabilities or the label's form tell"
        if why == RELEASED:
            return "asked for whole answers, not in streams that are released before their end"
        return f"not asked: {why}" if why else "asked"

    def checkpoints(self) -> tuple[CheckpointPolicy, str]:
        """Say whether checkpoints come before the end, and why (streams.md 1, 8)."""
        mode = self.stream.mode
        if self.request.stream is None or mode is SwitchMode.REGENERATE:
            return CheckpointPolicy.NONE, "the mode regenerates, so nothing is final before the end"
        if mode is SwitchMode.FAIL:
            if self.hold_all:
                return CheckpointPolicy.NONE, "the whole answer is held until its end"
            if self.resolved.output is not None:
                return CheckpointPolicy.NONE, "a preview may differ from the label or document that is cut out of it"
            return CheckpointPolicy.WINDOWS, "a failed stream keeps what was sent, so nothing is ever taken back"
        if self.structured:
            return CheckpointPolicy.NONE, "labels, JSON and tool calls are never spliced"
        if self.stream.escalate_at_end:
            return CheckpointPolicy.NONE, "a poor end may still retract everything"
        lacking = [each.stage for each in self.plan.stages if Feature.PREFILL not in each.stage.model.features]
        if lacking:
            return CheckpointPolicy.NONE, f"{lacking[0].model.id} cannot continue another model's text"
        return CheckpointPolicy.WINDOWS, "every stage of the plan can continue from a checkpoint"


def holds_all(request: Request, resolved: Resolved) -> bool:
    """Tell whether attempts are held until their end gate."""
    if request.stream is None:
        return True
    by_form = isinstance(resolved.output, LabelOutput | JsonOutput) or bool(request.tools)
    by_type = resolved.resolution.type.word in ("classify", "extract")
    return (by_form or by_type) and not request.stream.preview
