"""How sure the model is of its answer.

Rules: a label's confidence is its scored probability, or the product of its tokens' probabilities; a document's is the
geometric mean over the tokens that carry values. The probability of a wording says little about its truth, so free text is
measured only where a gauge reads the answer itself (`confidence: answer`), which also calibrates what log-probabilities say, or where the model was asked
for its own word (`self_assessment`). No measure is UNMEASURED, never a guess; the score is kept all the same, so that outcomes teach what it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import structs

from gearshift.core.answer import Verdict
from gearshift.core.confidence import ANSWER, Gauge, Sureness
from gearshift.core.gates.base import Candidate
from gearshift.core.provider import TokenLogprob
from gearshift.core.words import VerdictResult

_STRUCTURE = frozenset(' \t\r\n{}[]:,"')

_UNMEASURED = Verdict(
    gate="confidence", result=VerdictResult.UNMEASURED, reason="no_measure", detail="nothing to measure it by"
)
_NOT_SAID = Verdict(
    gate="confidence",
    result=VerdictResult.UNMEASURED,
    reason="not_said",
    detail="the model was asked how sure it is, and did not say so in the form asked for",
)


class ConfidenceGate:
    """Judges by log-probabilities, by the answer, by its model's own word.

    Args:
        minimum: accepted from here on (`min_confidence`).
        threshold: poor below this (`escalation_threshold`).
        gauge: measures answers by themselves, and calibrates; None leaves log-probabilities as they stand.
        of_words: calibrates what models that were asked say of their answers; None where none is asked.

    """

    name = "confidence"

    def __init__(
        self, minimum: float, threshold: float, gauge: Gauge | None = None, of_words: Gauge | None = None
    ) -> None:
        self._minimum = minimum
        self._threshold = threshold
        self._gauge = gauge
        self._of_words = of_words

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        confidence = measure(candidate)
        found: Sureness | None = None
        if self._gauge is not None:
            found = _gauged(self._gauge, candidate, confidence)
        if self._of_words is not None and confidence is None and candidate.stated is not None and candidate.stated >= 0:
            found = self._of_words.of_word(candidate.model, candidate.task_type.word, candidate.stated, found)
        if self._gauge is not None or found is not None:
            confidence = None if found is None else found.confidence
        if confidence is None:
            return self._unmeasured(candidate)
        if confidence >= self._minimum:
            result, reason = VerdictResult.PASS, ""
        elif confidence >= self._threshold:
            result, reason = VerdictResult.UNSURE, "nearly_sure"
        else:
            result, reason = VerdictResult.LOW, "low_confidence"
        return Verdict(
            gate=self.name,
            result=result,
            confidence=confidence,
            reason=reason,
            detail=f"{confidence:.3f}, accepted from {self._minimum:g}, escalated below {self._threshold:g}{_told(found)}",
            measured=None if found is None else (found.measure, found.score),
        )

    def _unmeasured(self, candidate: Candidate) -> Verdict:
        verdict = _UNMEASURED if candidate.stated is None else _NOT_SAID
        if self._gauge is None or candidate.asked is None or not candidate.text:
            return verdict
        return structs.replace(verdict, measured=(ANSWER, self._gauge.score(candidate.asked.text, candidate.text)))


def _gauged(gauge: Gauge, candidate: Candidate, probability: float | None) -> Sureness | None:
    kind = candidate.task_type.word
    if probability is not None:
        return gauge.of_probability(candidate.model, kind, probability)
    if candidate.asked is None or not candidate.text:
        return None
    return gauge.of_answer(candidate.model, kind, candidate.asked.text, candidate.text, structured=candidate.structured)


def _told(found: Sureness | None) -> str:
    return "" if found is None else f"; measured by {found.measure}, {found.outcomes} outcomes known"


def measure(candidate: Candidate) -> float | None:
    """Give the confidence, 0 to 1, or None when nothing tells."""
    if candidate.output is None:
        return None
    if candidate.labels:
        if candidate.label_probabilities:
            return _share(candidate.label_probabilities.get(candidate.text, 0.0))
        return _product(candidate.logprobs, candidate.text) if candidate.logprobs else None
    if candidate.is_json and candidate.logprobs:
        carrying = [token.logprob for token in candidate.logprobs if not _STRUCTURE.issuperset(token.token)]
        return _bounded(sum(carrying) / len(carrying)) if carrying else None
    return None


def _product(tokens: Sequence[TokenLogprob], label: str) -> float | None:
    """Give the probability of the tokens that spell the label, without white space and marks around it."""
    spelled = [token.logprob for token in tokens if any(map(str.isalnum, token.token))]
    return _bounded(sum(spelled)) if spelled and label else None


def _bounded(logprob: float) -> float | None:
    return None if math.isnan(logprob) else math.exp(min(0.0, logprob))


def _share(probability: float) -> float | None:
    return None if math.isnan(probability) else min(1.0, max(0.0, probability))
