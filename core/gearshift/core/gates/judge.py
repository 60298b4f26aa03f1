"""All gates on one answer, and what follows (the table of design 7).

Rules: pure. Every gate is asked, so that the answer carries every verdict; a hard failure outranks confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from msgspec import Struct

from gearshift.core.answer import Verdict
from gearshift.core.blueprint import ChainPolicy
from gearshift.core.confidence import Gauge, Sureness, shipped
from gearshift.core.gates.asked import Asked
from gearshift.core.gates.base import Candidate, Gate, WatchingGate
from gearshift.core.gates.coherence import CoherenceGate, Effect, effects_of
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
        slow_after_s: how long they must have been slow.
        stall_s: the longest silence, seconds; 0 leaves it to the provider's timeouts.
    """

    tokens: int = 32
    seconds: float = 1.0
    least_tokens_per_s: float = 0.5
    slow_after_s: float = 2.0
    stall_s: float = 0.0


_WINDOWS = WindowSettings()


class Judge:
    """The gates of one policy.

    Args:
        own: gates besides the built-in ones.
        gauge: measures answers where the policy says so; None takes the package's, which has learned nothing.
    """

    def __init__(
        self,
        policy: ChainPolicy,
        own: Sequence[Gate] = (),
        windows: WindowSettings = _WINDOWS,
        gauge: Gauge | None = None,
    ) -> None:
        effects = effects_of(policy.coherence)
        gates: list[Gate] = [TruncationGate(), LabelsGate()]
        if policy.enforce_schema:
            gates.append(SchemaGate())
        if policy.check_coherence:
            gates += [RefusalGate(), RepetitionGate(), CoherenceGate(effects)]
        self.check_coherence = policy.check_coherence
        """Whether the gates want to know what was asked."""
        self._watch_language = effects["language"] is Effect.REJECT
        self.stall_s = windows.stall_s
        """The longest silence within a stream, seconds; 0 leaves it to the provider's timeouts."""
        self._windows = windows
        self._own_watched = [gate for gate in own if isinstance(gate, WatchingGate)]
        self.measures_answers = policy.confidence == "answer" or policy.self_assessment
        """Whether the gates want to know the model, and what was asked whatever the form of the answer."""
        self._gauge = used = (gauge or Gauge(shipped())) if self.measures_answers else None
        of_answers = used if policy.confidence == "answer" else None
        of_words = used if policy.self_assessment else None
        gates += [*own, ConfidenceGate(policy.min_confidence, policy.escalation_threshold, of_answers, of_words)]
        self._gates = gates
        self._of_text = [gate for gate in gates if not isinstance(gate, LabelsGate | SchemaGate)]
        """Those that have something to say about free text."""
        self._require_confidence = policy.require_confidence
        self._usual: tuple[list[Verdict], Judgement] | None = None
        """What most answers come to: the same verdicts, judged before."""

    @property
    def window_tokens(self) -> int:
        """Tokens of a window."""
        return self._windows.tokens

    def judge(self, candidate: Candidate) -> Judgement:
        """Ask every gate."""
        gates = self._of_text if candidate.output is None and not candidate.tool_calls else self._gates
        verdicts = [verdict for gate in gates if (verdict := gate.judge(candidate)) is not None]
        usual = self._usual
        # Passes are shared, so this compares little more than identities.
        if usual is not None and verdicts == usual[0]:
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

    def agreement(self, model: str, task_type: str, first: Judgement, *, agreed: bool) -> Sureness | None:
        """Give how sure an answer is after a second sample; None where nothing is calibrated or the first was not measured."""
        if self._gauge is None or first.confidence is None:
            return None
        return self._gauge.of_agreement(model, task_type, first.confidence, agreed=agreed)

    def watch(self, asked: Asked | str, now: float) -> Watch:
        """Give what watches one streamed attempt.

        Args:
            asked: what the model was given to read.
            now: when the attempt began, seconds.
        """
        settings = self._windows
        watchers: list[Watcher] = [gate.watch() for gate in self._own_watched]
        if self.check_coherence:
            watchers += [LoopWatcher(), RefusalWatcher(), DropWatcher()]
            if self._watch_language:
                watchers.append(LanguageWatcher(asked))
        if settings.least_tokens_per_s:
            watchers.append(ThroughputWatcher(settings.least_tokens_per_s, settings.slow_after_s))
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
