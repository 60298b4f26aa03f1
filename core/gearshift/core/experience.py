"""What became of attempts: how often each stage's answers are accepted, how often it fails, how long it takes.

Rules: pure; time is passed in, seconds since the epoch. Kept for each chain, provider, model and task type. With little data
the estimate is mostly its prior, so that no stage is judged by its first few answers:

    accepted | answered   Beta(3, 1) for the stage over the other task types: a model that somebody put on a chain is believed
                          to do its work three times out of four, and 4 answers weigh as much as that belief; its mean is
                          then the prior of the single task type, with the weight of 8 answers
    failed                Beta(0.2, 9.8): one attempt in fifty

Old outcomes count less, by half after each half-life, and at most 1,000 outcomes count at all, so that a change is seen
within some hundred answers also where there were millions.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from gearshift.core.answer import AttemptRecord
from gearshift.core.failures import FAILURE_RULES, BreakerCount
from gearshift.core.observer import CallContext, Observer
from gearshift.core.words import AttemptOutcome, AttemptRole, TaskType

STAGE_PRIOR = (3.0, 1.0)
"""Accepted and poor answers that a stage is born with."""
TYPE_WEIGHT = 8.0
"""How many answers the stage's own mean weighs against those of one task type."""
FAILURE_PRIOR = (0.2, 10.0)
"""Failures, and attempts, that a stage is born with."""
DEFAULT_HALF_LIFE_S = 24 * 3600.0
_MOST_COUNTED = 1000.0
_MOST_KEPT = 4096

Key = tuple[str, str, str]
"""Chain, provider, model."""


class Odds(Struct, frozen=True, kw_only=True):
    """What is expected of one try of a stage.

    Args:
        accepted: probability that an answer is accepted, given that there is one.
        failed: probability that there is none.
        seconds: how long a try takes; None when never measured.
        answers: how many answers the estimate rests on, decayed; 0 is the prior alone.

    """

    accepted: float
    failed: float
    seconds: float | None
    answers: float


class _Track:
    """Decayed counts."""

    __slots__ = ("accepted", "at", "failed", "poor", "seconds", "timed")

    def __init__(self, at: float) -> None:
        self.accepted: float = 0.0
        self.poor: float = 0.0
        self.failed: float = 0.0
        self.seconds: float = 0.0
        self.timed: float = 0.0
        self.at = at

    def kept(self, at: float, half_life_s: float) -> float:
        """Give the share of the counts that still counts."""
        return math.exp2(-max(0.0, at - self.at) / half_life_s)

    def add(self, outcome: AttemptOutcome, seconds: float | None, weight: float, at: float, half_life_s: float) -> None:
        """Count outcomes of one kind."""
        kept = self.kept(at, half_life_s)
        total = (self.accepted + self.poor + self.failed) * kept + weight
        if total > _MOST_COUNTED:
            kept *= max(0.0, _MOST_COUNTED - weight) / (total - weight) if total > weight else 0.0
        self.accepted *= kept
        self.poor *= kept
        self.failed *= kept
        self.seconds *= kept
        self.timed *= kept
        self.at = max(self.at, at)
        if outcome is AttemptOutcome.ACCEPTED:
            self.accepted += weight
        elif outcome is AttemptOutcome.FAILED:
            self.failed += weight
        else:
            self.poor += weight
        if seconds is not None:
            self.seconds += seconds * weight
            self.timed += weight


class Experience(Observer):
    """What has been measured. Told of attempts as an observer, where some chain is adaptive; outlives reloads.

    Args:
        clock: seconds since the epoch.

    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._tracks: OrderedDict[tuple[Key, TaskType | None], _Track] = OrderedDict()
        self.half_lives_s: Mapping[str, float] = {}
        """By chain; others have the default."""

    def attempt_ended(self, context: CallContext, attempt: AttemptRecord) -> None:
        """Count an attempt; second looks, calls that their caller left and requests at fault say nothing of a stage."""
        if attempt.role is not AttemptRole.ANSWER or attempt.outcome is AttemptOutcome.CANCELLED:
            return
        if attempt.failure is not None and FAILURE_RULES[attempt.failure].breaker is BreakerCount.NONE:
            return
        key = (context.chain, attempt.stage.provider, attempt.stage.model)
        self.count(key, context.resolution.type, attempt.outcome, attempt.total_ms / 1000, 1.0, self._clock())

    def count(
        self, key: Key, kind: TaskType, outcome: AttemptOutcome, seconds: float | None, weight: float, at: float
    ) -> None:
        """Count outcomes, for the task type and for the stage over all types.

        Args:
            seconds: of each; None when not known.
            weight: how many, from 0.

        """
        half_life_s = self.half_lives_s.get(key[0], DEFAULT_HALF_LIFE_S)
        for each in ((key, kind), (key, None)):
            track = self._tracks.get(each)
            if track is None:
                track = self._tracks[each] = _Track(at)
                if len(self._tracks) > _MOST_KEPT:
                    self._tracks.popitem(last=False)
            track.add(outcome, seconds, weight, at, half_life_s)

    def odds(self, key: Key, kind: TaskType, at: float) -> Odds:
        """Give what is expected of one try."""
        half_life_s = self.half_lives_s.get(key[0], DEFAULT_HALF_LIFE_S)
        whole, own = self._tracks.get((key, None)), self._tracks.get((key, kind))
        accepted, poor = STAGE_PRIOR
        failed, attempts = FAILURE_PRIOR
        right = wrong = 0.0
        seconds = None
        if own is not None:
            kept = own.kept(at, half_life_s)
            right, wrong = own.accepted * kept, own.poor * kept
        if whole is not None:
            kept = whole.kept(at, half_life_s)
            # What the type's own answers say is counted once, below.
            accepted += max(0.0, whole.accepted * kept - right)
            poor += max(0.0, whole.poor * kept - wrong)
            failed += whole.failed * kept
            attempts += (whole.accepted + whole.poor + whole.failed) * kept
            timed = own if own is not None and own.timed else whole
            seconds = timed.seconds / timed.timed if timed.timed else None
        mean = accepted / (accepted + poor)
        return Odds(
            accepted=(right + mean * TYPE_WEIGHT) / (right + wrong + TYPE_WEIGHT),
            failed=failed / attempts,
            seconds=seconds,
            answers=right + wrong,
        )

    def seed(self, key: Key, kind: TaskType, outcomes: Iterable[tuple[AttemptOutcome, float]], at: float) -> None:
        """Count what was measured before this process began, from the ledger: outcomes with how many there were."""
        for outcome, weight in outcomes:
            if weight > 0:
                self.count(key, kind, outcome, None, weight, at)
