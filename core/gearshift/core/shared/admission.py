"""Leave to call where several processes share the limits.

Rules: while the store is there it decides on the limits of a call, all or none, in one round trip; calls without limits ask
nobody. While it is away this is the admission of one process, on the shares that the buckets keep. Order: within a process
as it is without a store; between processes, what the first in line of each wants is set aside for whoever claimed first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import cast

from gearshift.core.admission import (
    ASK,
    Admission,
    Amounts,
    AnyBucket,
    Guard,
    MachinePermit,
    Permit,
    Refusal,
    has_money_limit,
    is_unpriced,
    unpriced,
)
from gearshift.core.blueprint import AccountSpec, Stage
from gearshift.core.config.model import LimitsConfig
from gearshift.core.line import Lined, Waiter
from gearshift.core.shared.breaker import SharedBreaker
from gearshift.core.shared.buckets import SharedBucket, SharedBudget
from gearshift.core.shared.store import Leave, SharedStore, Verdict
from gearshift.core.words import BreakerState

_POLL_S = 0.05
"""How often who is first in line asks again: places and refunds of other processes are not heard of otherwise."""


class SharedPermit(Permit):
    """Leave to make one call, of which the store hears."""

    __slots__ = ("_store",)

    answers_later = True

    def __init__(
        self,
        guard: Guard,
        extra: Sequence[AnyBucket],
        reserved: Amounts,
        queue_s: float,
        ticket: int,
        at: float,
        *,
        store: SharedStore,
    ) -> None:
        super().__init__(guard, extra, reserved, queue_s, ticket, at)
        self._store = store

    def extend(self, amounts: Amounts, answer: Callable[[bool], None]) -> None:
        """Reserve more for a stream that runs; the store answers a little later."""
        if not self._store.is_up:
            super().extend(amounts, answer)
            return
        metered = cast("Sequence[SharedBucket]", self.metered)

        def heard(verdict: Verdict | None) -> None:
            if verdict is None:
                if not self._settled:
                    super(SharedPermit, self).extend(amounts, answer)
            elif not verdict.is_granted:
                answer(False)
            elif self._settled:
                now = time.monotonic()
                for bucket in metered:
                    bucket.settle(amounts.of(bucket.unit), 0.0, now)
                self._store.owes()
            else:
                self.extended(amounts)
                answer(True)

        self._store.extend(metered, amounts, heard)

    def _put_right(self, used: Amounts, now: float) -> None:
        super()._put_right(used, now)
        self._store.owes()


class SharedMachinePermit(MachinePermit, SharedPermit):
    """Leave to make one call on a machine whose time is paid for, of which the store hears."""

    __slots__ = ()

    def __init__(
        self,
        guard: Guard,
        extra: Sequence[AnyBucket],
        reserved: Amounts,
        queue_s: float,
        ticket: int,
        at: float,
        *,
        store: SharedStore,
    ) -> None:
        SharedPermit.__init__(self, guard, extra, reserved, queue_s, ticket, at, store=store)
        self.begin()


class SharedAdmission(Admission):
    """The guards of every account and model over a shared store."""

    poll_s = _POLL_S

    def __init__(self, store: SharedStore) -> None:
        super().__init__()
        self.store = store
        self._permit = partial(SharedPermit, store=store)
        self._machine_permit = partial(SharedMachinePermit, store=store)

    def admit_nowait(
        self,
        stage: Stage,
        amounts: Amounts,
        extra: Sequence[AnyBucket],
        *,
        excluded: frozenset[str] = frozenset(),
        queue_s: float = 0.0,
        waiter: Waiter | None = None,
        early: bool = False,
    ) -> Permit | Refusal:
        """Give leave where nobody need be asked, else a refusal whose reason is `ASK`: then `admit` asks."""
        if self.store.is_up and not self._is_free(stage, extra):
            return Refusal(ASK, "", 0.0)
        return super().admit_nowait(
            stage, amounts, extra, excluded=excluded, queue_s=queue_s, waiter=waiter, early=early
        )

    async def seed(self, kind: str, name: str, limits: LimitsConfig, spent_usd: Mapping[str, Decimal]) -> bool:
        """Count in budgets what was spent before anybody shared them; tell whether anything was counted.

        Args:
            kind: `account` (its name is provider/account/model), `tenant` or `task`.
            spent_usd: by period, `day` and `month`; from the ledger.

        """
        counted = False
        for bucket in self.store.buckets(kind, name, limits, time.monotonic()):
            if isinstance(bucket, SharedBudget) and bucket.period in spent_usd:
                counted |= await self.store.seed(bucket, float(spent_usd[bucket.period]))
        return counted

    def changed(self) -> None:
        """Hear that limits were settled with outside of a permit; the store is told of it soon."""
        self.store.owes()

    def _is_free(self, stage: Stage, extra: Sequence[AnyBucket]) -> bool:
        """Tell whether the call has no limits, and no breaker that only one process may probe."""
        if extra:
            return False
        now = time.monotonic()
        for spec in stage.provider.accounts:
            guard = self.guard(stage, spec, now)
            if guard.buckets or guard.breaker.state is not BreakerState.CLOSED:
                return False
        return True

    def _fresh(self, stage: Stage, spec: AccountSpec, now: float) -> Guard:
        name = f"{stage.provider.name}/{spec.account.name}/{stage.model.id}"
        breaker = self.store.breaker(name, stage.provider.breaker)
        return Guard(stage, spec, self._buckets("account", name, spec.limits, now), breaker, now)

    def _buckets(self, kind: str, name: str, limits: LimitsConfig, now: float) -> Sequence[AnyBucket]:
        return self.store.buckets(kind, name, limits, now)

    async def _ask(
        self,
        stage: Stage,
        amounts: Amounts,
        extra: Sequence[AnyBucket],
        excluded: frozenset[str],
        queue_s: float,
        waiter: Waiter,
        *,
        early: bool,
    ) -> Permit | Refusal:
        began = time.monotonic()
        if not self.store.is_up:
            return super().admit_nowait(
                stage, amounts, extra, excluded=excluded, queue_s=queue_s, waiter=waiter, early=early
            )
        no_price = is_unpriced(stage, amounts)
        if no_price and has_money_limit(extra):
            return unpriced(stage, "tenant or task")
        refused: Refusal | None = None
        for spec in self._in_turn(stage, excluded):
            guard = self.guard(stage, spec, began)
            if no_price and has_money_limit(guard.buckets):
                refused = refused or unpriced(stage, guard.name)
                continue
            got = await self._reserve(guard, amounts, extra, waiter, early=early)
            if got is None:
                now = time.monotonic()
                ticket = guard.breaker.begin(now, early=early)
                if ticket is not None:
                    guard.figures.in_flight += 1
                    return guard.permit(guard, extra, amounts, queue_s + now - began, ticket, now)
                self._give_back(guard, amounts, extra, now)
                got = Refusal("breaker", guard.breaker.reason, guard.breaker.probe_in(now, early=early) or 1.0)
            if got.reason == ASK:  # it went away meanwhile
                return super().admit_nowait(
                    stage, amounts, extra, excluded=excluded, queue_s=queue_s, waiter=waiter, early=early
                )
            if refused is None or got.wait_s < refused.wait_s:
                refused = got
        return refused or Refusal("limit", f"every account of {stage.provider.name} was tried", float("inf"))

    async def _reserve(
        self, guard: Guard, amounts: Amounts, extra: Sequence[AnyBucket], waiter: Waiter, *, early: bool
    ) -> Refusal | None:
        """Reserve from a guard's limits and those of tenant and task; None when that is done."""
        now = time.monotonic()
        why = guard.closed(now, waiter, early=early)
        if why is not None:
            return why
        buckets = cast("list[SharedBucket]", [*guard.buckets, *extra])
        for bucket in buckets:
            if bucket.line is not None and (ahead := bucket.line.ahead(waiter, bucket.unit)):
                wait = bucket.wait_for(amounts.of(bucket.unit), now, ahead)
                if wait > 0:
                    return Refusal("limit", f"{bucket.unit} of {_whose(guard, bucket)}", wait, (bucket,))
        if buckets:
            verdict = await self.store.reserve(buckets, amounts, in_line=bool(waiter.lines))
            if verdict is None:
                return Refusal(ASK, "", 0.0)
            if not verdict.is_granted:
                return _refusal(guard, buckets, verdict)
        if guard.breaker.state is not BreakerState.CLOSED:
            try:
                leave = await self.store.may_probe(guard.name, early=early)
            except BaseException:
                self._give_back(guard, amounts, extra, time.monotonic())
                raise
            if leave is not None and leave[0] is Leave.WAIT:
                self._give_back(guard, amounts, extra, time.monotonic())
                return Refusal("breaker", guard.breaker.reason, leave[1] or 1.0)
            if leave is not None and leave[0] is Leave.CLOSED and isinstance(guard.breaker, SharedBreaker):
                guard.breaker.close()
        return None

    def _give_back(self, guard: Guard, amounts: Amounts, extra: Sequence[AnyBucket], now: float) -> None:
        for bucket in (*guard.buckets, *extra):
            bucket.settle(amounts.of(bucket.unit), 0.0, now)
        self.store.owes()


def _refusal(guard: Guard, buckets: Sequence[SharedBucket], verdict: Verdict) -> Refusal:
    lacking: tuple[Lined, ...] = ()
    longest = 0.0
    which = buckets[0]
    for bucket, wait in zip(buckets, verdict.waits, strict=True):
        if wait > 0:
            lacking = (*lacking, bucket)
            if wait > longest:
                longest, which = wait, bucket
    return Refusal("limit", f"{which.unit} of {_whose(guard, which)}", longest, lacking)


def _whose(guard: Guard, bucket: AnyBucket) -> str:
    return guard.name if bucket in guard.buckets else "tenant or task"
