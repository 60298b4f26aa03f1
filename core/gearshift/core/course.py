"""What to do next: the one owner of retries, hops and caps (design 6).

Rules: pure, time and chance are passed in. A course is one call's walk over its plan; it is told how each attempt ended
and answers with the next step. Numbered cases stand where they are decided. It never exceeds a declared cap: not in
attempts, hops, cost or time.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from gearshift.core.blueprint import ChainPolicy
from gearshift.core.config.model import RetryConfig
from gearshift.core.failures import FAILURE_RULES, After, ProviderFailure
from gearshift.core.plan import PlannedStage
from gearshift.core.words import AttemptCause, AttemptRole, Complexity

_LEAST_TIME_S = 0.02
"""With less time left than this no attempt is begun."""


class Try(Struct, frozen=True, kw_only=True):
    """Make an attempt.

    Args:
        delay_s: wait so long first.
        budget_s: the time that this attempt may take before its first token (all of it when unary), so that later
            stages still have theirs.
        remaining_s: the time until the call's end.
        excluded: accounts not to use.
        following: the plan's next stage, None for the last one.
        left_usd: what the cap on cost leaves for it; None where there is no cap.

    """

    index: int
    planned: PlannedStage
    role: AttemptRole
    cause: AttemptCause
    detail: str
    delay_s: float
    budget_s: float
    remaining_s: float
    excluded: frozenset[str]
    following: PlannedStage | None
    left_usd: Decimal | None = None

    @property
    def wait_s(self) -> float:
        """How long it may wait for a limit: to the last stage's end, else only where waiting is cheaper and short."""
        if self.following is None:
            return self.budget_s
        here, later = self.planned.expected_cost, self.following.expected_cost
        return min(self.budget_s / 4, 1.0) if here is not None and later is not None and here < later else 0.0


class Finish(Struct, frozen=True):
    """Make no more attempts. `reason` is one stable word: why; `detail` a sentence."""

    reason: str
    detail: str


Step = Try | Finish


class _Place(Struct):
    index: int = 0
    retries: int = 0
    looked_again: bool = False
    mended: bool = False


class Course:
    """One call's walk over its plan.

    Args:
        ends_at: when the call must have ended, seconds, monotonic; the margin for saying so is already off.

    """

    _is_resorting = False
    """Whether all stages of the plan were tried, so that those whose breaker is open are."""

    def __init__(
        self,
        stages: tuple[PlannedStage, ...],
        policy: ChainPolicy,
        retry: RetryConfig,
        *,
        max_attempts: int,
        max_hops: int,
        max_cost_usd: Decimal | None,
        ends_at: float,
    ) -> None:
        self._stages = stages
        self._policy = policy
        self._retry = retry
        self._max_attempts = max_attempts
        self._max_hops = max_hops
        self._max_cost = max_cost_usd
        self._ends_at = ends_at
        self._place = _Place()
        self._excluded: frozenset[str] = frozenset()
        self._spent: Decimal | None = Decimal(0)
        self._above: Complexity | None = None
        """After a poor answer: the capability that the next stage must exceed, until another attempt was made."""
        self.attempts = 0
        self.hops = 0
        self.passed_over: list[tuple[PlannedStage, str, str]] = []
        """Stages left without an attempt: stage, reason, detail."""
        self.soonest_s: float | None = None
        """The shortest wait that a limit or provider asked for."""

    def extend(self, ends_at: float) -> None:
        """Let the call go on for longer: somebody with a later deadline waits for it too."""
        self._ends_at = ends_at

    def begin(self, now: float) -> Step:
        """Give the first step."""
        return self._try(0, AttemptCause.FIRST, "first stage of the plan", now)

    def spend(self, cost: Decimal | None) -> None:
        """Note what an attempt cost; an unknown cost makes the sum unknown."""
        self._spent = None if cost is None or self._spent is None else self._spent + cost

    def refused(self, reason: str, detail: str, wait_s: float, now: float) -> Step:
        """Say what to do after a limit or breaker gave no leave for the stage."""
        planned = self._stages[self._place.index]
        if not self._is_resorting:  # the plan has told already why those are passed over
            self.passed_over.append((planned, reason, detail))
        if wait_s != float("inf") and (self.soonest_s is None or wait_s < self.soonest_s):
            self.soonest_s = wait_s
        why = f"{detail} gave no leave"
        if self._above is None:
            return self._hop(AttemptCause.FALLBACK, why, now, "limited")
        index = self._first_above(self._above)
        if index is None:
            return Finish("limited", "no stage of higher capability is left")
        return self._hop(AttemptCause.ESCALATION, why, now, "limited", index)

    def failed(self, failure: ProviderFailure, account: str, now: float, chance: float) -> Step:
        """Say what to do after an attempt failed. `chance` is a random number in [0, 1), for jitter."""
        rule = FAILURE_RULES[failure.kind]
        place, stage = self._place, self._stages[self._place.index].stage
        if failure.retry_after_s is not None and (self.soonest_s is None or failure.retry_after_s < self.soonest_s):
            self.soonest_s = failure.retry_after_s
        # 1. The request itself is at fault.
        if rule.then is After.STOP:
            return Finish("stopped", rule.told)
        # 2. The same stage again, on the same account or, where that is hopeless, another.
        if rule.retry_here and place.retries < stage.max_retries:
            others = frozenset({*self._excluded, account})
            more_accounts = len(others) < len(stage.provider.accounts)
            if rule.same_account or more_accounts:
                delay = self._delay(failure.retry_after_s, place.retries, chance)
                excluded = self._excluded
                if more_accounts:
                    excluded = others
                    delay = delay if rule.same_account and failure.retry_after_s is None else 0.0
                # A wait that the provider asked for may be long: on the last stage only the deadline bounds it.
                longest = self._retry.max_s if self._later() else float("inf")
                if delay <= longest and delay < self._share(now, self._later() + 1):
                    self._excluded = excluded
                    place.retries += 1
                    return self._try(place.index, AttemptCause.RETRY, f"{rule.told}: once more", now, delay_s=delay)
        # 3. The next stage.
        return self._hop(AttemptCause.FALLBACK, rule.told, now, "failed")

    def resort(self, ended: Finish, last: tuple[PlannedStage, ...], now: float) -> Step:
        """Go on to the stages whose breaker is open, where all others were tried; else give the end as it is.

        Args:
            ended: what `failed` or `refused` gave.
            last: not in the plan's stages.

        """
        if ended.reason not in ("failed", "limited") or self._later() or self._is_resorting:
            return ended
        self._is_resorting = True
        self._stages += last
        step = self._hop(
            AttemptCause.FALLBACK, f"{ended.detail}: one whose breaker is open is asked", now, ended.reason
        )
        return ended if isinstance(step, Finish) else step

    def poor(self, detail: str, now: float) -> Step:
        """Say what to do after an answer did not pass: only a more capable stage may help."""
        here = self.current.stage.ref.capability
        index = self._first_above(here)
        if index is None:
            return Finish("poor", "no stage of higher capability is left")
        self._above = here
        return self._hop(AttemptCause.ESCALATION, detail, now, "poor", index)

    def again(self, now: float) -> Step:
        """Give the next batch on the same stage: it counts towards no cap on attempts, since nothing failed."""
        return self._try(self._place.index, AttemptCause.FIRST, "the next batch", now, counted=False)

    def once_more(self, detail: str, now: float) -> Step:
        """Try the same stage again, which is not to blame for how its attempt ended."""
        return self._try(self._place.index, AttemptCause.RETRY, detail, now)

    def look_again(self, now: float) -> Try | None:
        """Give the second look, or None when it is not worth it: it must cost at most a quarter of the next stage."""
        place = self._place
        if place.looked_again or not self._policy.second_look or self.attempts >= self._max_attempts:
            return None
        here = self.current
        above = self._first_above(here.stage.ref.capability)
        if above is None:
            return None
        following = self._stages[above]
        if here.expected_cost is None or following.expected_cost is None:
            return None
        if here.expected_cost * 4 > following.expected_cost:
            return None
        step = self._try(
            place.index,
            AttemptCause.SECOND_LOOK,
            "the answer is nearly sure: another sample of the same stage",
            now,
            role=AttemptRole.CHECK,
        )
        if isinstance(step, Finish):
            return None
        place.looked_again = True
        self._above = here.stage.ref.capability
        return step

    def mend(self, detail: str, now: float, extra_usd: Decimal | None) -> Try | None:
        """Give the same stage's one chance to mend its document, or None when a cap leaves it none.

        Args:
            extra_usd: what reading the document and the complaint costs more than the first try; None is unknown.

        """
        place = self._place
        if place.mended:
            return None
        step = self._try(place.index, AttemptCause.RETRY, detail, now)
        if isinstance(step, Finish):
            return None
        if step.left_usd is not None:
            expected = step.planned.expected_cost
            if extra_usd is None or expected is None or expected + extra_usd > step.left_usd:
                return None
        place.mended = True
        return step

    def begun(self) -> None:
        """Note that an attempt was made."""
        self.attempts += 1
        self._above = None

    @property
    def current(self) -> PlannedStage:
        """The stage of the last step."""
        return self._stages[self._place.index]

    @property
    def may_escalate(self) -> bool:
        """Whether a poor answer of the current stage could go anywhere."""
        above = self._first_above(self.current.stage.ref.capability)
        return above is not None and self.hops < self._max_hops and self.attempts < self._max_attempts

    def _first_above(self, capability: Complexity) -> int | None:
        ahead = range(self._place.index + 1, len(self._stages))
        return next((index for index in ahead if self._stages[index].stage.ref.capability > capability), None)

    def _later(self) -> int:
        return len(self._stages) - self._place.index - 1

    def _hop(self, cause: AttemptCause, detail: str, now: float, reason: str, index: int | None = None) -> Step:
        index = self._place.index + 1 if index is None else index
        if index >= len(self._stages):
            return Finish(reason, "no stage is left")
        if self.hops >= self._max_hops:
            return Finish("cap", f"the cap of {self._max_hops} hops is reached")
        step = self._try(index, cause, detail, now, place=_Place(index))
        if isinstance(step, Try):
            self.hops += 1
            self._place = _Place(index)
            self._excluded = frozenset()
        return step

    def _try(
        self,
        index: int,
        cause: AttemptCause,
        detail: str,
        now: float,
        *,
        delay_s: float = 0.0,
        role: AttemptRole = AttemptRole.ANSWER,
        place: _Place | None = None,
        counted: bool = True,
    ) -> Step:
        planned = self._stages[index]
        # 1. Attempts.
        if counted and self.attempts >= self._max_attempts:
            return Finish("cap", f"the cap of {self._max_attempts} attempts is reached")
        # 2. Time.
        remaining = self._ends_at - now - delay_s
        if remaining < _LEAST_TIME_S:
            return Finish("deadline", "the deadline leaves no time for another attempt")
        # 3. Money: what is spent and what this is expected to cost must stay under the cap.
        if self._max_cost is not None and self.attempts:
            if self._spent is None or planned.expected_cost is None:
                return Finish("cap", "what was spent is unknown, so the cost cap cannot be kept")
            if self._spent + planned.expected_cost > self._max_cost:
                return Finish("cap", f"another attempt would pass the cap of {self._max_cost} USD")
        left = len(self._stages) - index
        budget = min(remaining, self._share(now + delay_s, left))
        return Try(
            index=index,
            planned=planned,
            role=role,
            cause=cause,
            detail=detail,
            delay_s=delay_s,
            budget_s=budget,
            remaining_s=remaining,
            excluded=self._excluded if place is None else frozenset(),
            following=self._stages[index + 1] if left > 1 else None,
            left_usd=None if self._max_cost is None else self._max_cost - (self._spent or 0),
        )

    def _share(self, now: float, left: int) -> float:
        """Give the part of the remaining time that one of `left` stages may take: all, 2/3, 1/2, 2/5, ..."""
        return max(0.0, self._ends_at - now) * 2 / (left + 1)

    def _delay(self, retry_after_s: float | None, retries: int, chance: float) -> float:
        """Give the provider's own wait, or full jitter: random(0, min(max, base x 2^n))."""
        if retry_after_s is not None:
            return max(0.0, retry_after_s)
        return chance * min(self._retry.max_s, self._retry.base_s * 2.0 ** min(retries, 32))
