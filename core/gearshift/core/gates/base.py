"""What a gate sees and says.

Rules: a gate is synchronous and pure, looks at one candidate answer and gives one verdict, or None when it has nothing
to say about this kind of answer. Own gates plug in by the same protocol (entry points `gearshift.gates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from msgspec import Struct

from gearshift.core.answer import Verdict
from gearshift.core.gates.asked import Asked
from gearshift.core.provider import TokenLogprob
from gearshift.core.request import JsonOutput, LabelOutput, Output, ToolCall
from gearshift.core.schema import Schema
from gearshift.core.words import FinishReason, TaskType, VerdictResult

if TYPE_CHECKING:
    from gearshift.core.gates.window.base import Watcher


class Candidate(Struct, frozen=True, kw_only=True):
    """A complete answer, or the text so far.

    Args:
        text: final text, code fences around JSON already removed.
        raw: the text as the model wrote it; tokens in `logprobs` spell this.
        length_asked: the caller set max_tokens, so that an answer of that length is what was asked for.
        schema: the compiled schema of a JSON output that has one.
        restricted: verdicts must not quote the text.
        asked: what the model was given to read; None leaves out the gates that compare with it.
        model: as the configuration calls it; empty where no gate asks.
        stated: the model's own word on how sure it is: 0 to 1, NOT_SAID, or None where it was not asked.

    """

    text: str
    raw: str
    task_type: TaskType
    output: Output | None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    logprobs: Sequence[TokenLogprob] = ()
    label_probabilities: Mapping[str, float] | None = None
    length_asked: bool = False
    schema: Schema | None = None
    restricted: bool = False
    asked: Asked | None = None
    model: str = ""
    stated: float | None = None

    @property
    def structured(self) -> bool:
        """Whether the answer has a form that can be checked: a label, JSON or tool calls."""
        return self.output is not None or bool(self.tool_calls)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels asked for, or none."""
        return self.output.labels if isinstance(self.output, LabelOutput) else ()

    @property
    def is_json(self) -> bool:
        """Whether a JSON document was asked for."""
        return isinstance(self.output, JsonOutput)


class Gate(Protocol):
    """One validation of an answer."""

    @property
    def name(self) -> str:
        """The gate's name in verdicts, metrics and the ledger."""
        ...

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        ...


@runtime_checkable
class WatchingGate(Gate, Protocol):
    """A gate that also watches answers while they are being written."""

    def watch(self) -> Watcher:
        """Give what watches one attempt."""
        ...


def passed(gate: str, reason: str = "") -> Verdict:
    """Give a pass."""
    return Verdict(gate=gate, result=VerdictResult.PASS, reason=reason)


def doubted(gate: str, reason: str, detail: str) -> Verdict:
    """Give a soft failure: the answer is not accepted, but may be the best there is."""
    return Verdict(gate=gate, result=VerdictResult.LOW, reason=reason, detail=detail)


def failed(gate: str, reason: str, detail: str) -> Verdict:
    """Give a hard failure."""
    return Verdict(gate=gate, result=VerdictResult.FAIL, reason=reason, detail=detail)
