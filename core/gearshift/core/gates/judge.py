"""All gates on one answer, and what follows (the table of design 7).

Rules: pure. Every gate is asked, so that the answer carries every verdict; a hard failure outranks confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from msgspec import Struct

from gearshift.core.answer import Verdict
from gearshift.core.blueprint import ChainPolicy
from gearshift.core.gates.base import Candidate, Gate, WatchingGate
from gearshift.core.gates.confidence import ConfidenceGate
from gearshift.core.gates.labels import LabelsGate
from gearshift.core.gates.refusal import RefusalGate
from gearshift.core.gates.repetition import RepetitionGate
from gearshift.core.gates.schema import SchemaGate
from gearshift.core.gates.truncation import TruncationGate
from gearshift.core.gates.window.base import Watcher
from gearshift.core.gates.window.drops import DropWatcher
from gearshift.core.gates.window.languages import LanguageWatcher
from gearshift.core.gates.window.loops import LoopWatcher
from gearshift.core.gates.window.refusals import RefusalWatcher
from gearshift.core.gates.window.throughput import ThroughputWatcher
from gearshift.core.gates.window.watch import Watch
from gearshift.core.words import VerdictResult


class Finding(Enum):
    """What the gates come to."""

    ACCEPT = "accept"
    UNSURE = "unsure"
    """Between the thresholds: a second look, or escalate."""
    POOR = "poor"
    """A low confidence, or one that cannot be measured though it is required."""
    HARD = "hard"
    """The answer cannot be used."""


class Judgement(Struct, frozen=True, kw_only=True):
    """The verdicts on an answer and what they come to.

    Args:
        valid: no hard failure: it may be returned as the best, should nothing be accepted.
        summary: a sentence on why it was not accepted; empty when it was.

    """

    finding: Finding
    verdicts: tuple[Verdict, ...]
    confidence: float | None
    valid: bool
    summary: str


class WindowSettings(Struct, frozen=True, kw_only=True):
    """How a stream is watched.

    Args:
        tokens / seconds: a window's size, whichever is reached first.
        least_tokens_per_s: slower streams are left; 0 leaves none.
    """

    tokens: int = 32
    seconds: float = 1.0
    least_tokens_per_s: float = 0.5


_WINDOWS = WindowSettings()


class Judge:
    """The gates of one policy.

    Args:
        own: gates besides the built-in ones.
    """

    def __init__(self, policy: ChainPolicy, own: Sequence[Gate] = (), windows: WindowSettings = _WINDOWS) -> None:
        gates: list[Gate] = [TruncationGate(), LabelsGate()]
        if policy.enforce_schema:
            gates.append(SchemaGate())
        if policy.check_coherence:
            gates += [RefusalGate(), RepetitionGate()]
        self._check_coherence = policy.check_coherence
        self._windows = windows
        self._own_watched = [gate for gate in own if isinstance(gate, WatchingGate)]
        gates += [*own, ConfidenceGate(policy.min_confidence, policy.escalation_threshold)]
        self._gates = gates
        self._require_confidence = policy.require_confidence
        self._usual: tuple[list[Verdict], Judgement] | None = None
        """What most answers come to: the same verdicts, judged before."""

    def judge(self, candidate: Candidate) -> Judgement:
        """Ask every gate."""
        verdicts = [verdict for gate in self._gates if (verdict := gate.judge(candidate)) is not None]
        usual = self._usual
        if (
            usual is not None and verdicts == usual[0]
        ):  # passes are shared, so this compares little more than identities
            return usual[1]
        confidence: float | None = None
        hard: Verdict | None = None
        soft: Verdict | None = None
        for verdict in verdicts:
            if verdict.confidence is not None:
                confidence = verdict.confidence if confidence is None else min(confidence, verdict.confidence)
            if verdict.result is VerdictResult.FAIL:
                hard = hard or verdict
            elif verdict.result is not VerdictResult.PASS and (soft is None or _weight(verdict) > _weight(soft)):
                soft = verdict
        finding = Finding.ACCEPT
        if hard is not None:
            finding = Finding.HARD
        elif soft is not None:
            finding = self._soft(soft, confidence)
        cause = hard or soft
        judgement = Judgement(
            finding=finding,
            verdicts=tuple(verdicts),
            confidence=confidence,
            valid=hard is None,
            summary="" if finding is Finding.ACCEPT or cause is None else f"{cause.gate}: {cause.detail}",
        )
        if finding is Finding.ACCEPT and confidence is None:
            self._usual = (verdicts, judgement)
        return judgement

    def watch(self, prompt: str, now: float) -> Watch:
        """Give what watches one streamed attempt.

        Args:
            prompt: what the caller wrote.
            now: when the attempt began, seconds.
        """
        settings = self._windows
        watchers: list[Watcher] = [gate.watch() for gate in self._own_watched]
        if self._check_coherence:
            watchers += [LoopWatcher(), RefusalWatcher(), LanguageWatcher(prompt), DropWatcher()]
        if settings.least_tokens_per_s:
            watchers.append(ThroughputWatcher(settings.least_tokens_per_s))
        return Watch(watchers, tokens=settings.tokens, seconds=settings.seconds, now=now)

    def _soft(self, verdict: Verdict, confidence: float | None) -> Finding:
        if verdict.result is VerdictResult.LOW:
            return Finding.POOR
        if verdict.result is VerdictResult.UNSURE:
            return Finding.UNSURE
        return Finding.POOR if self._require_confidence and confidence is None else Finding.ACCEPT


_WEIGHTS = {VerdictResult.LOW: 3, VerdictResult.UNSURE: 2, VerdictResult.UNMEASURED: 1}


def _weight(verdict: Verdict) -> int:
    return _WEIGHTS.get(verdict.result, 0)
